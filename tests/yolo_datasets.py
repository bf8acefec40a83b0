"""YOLO datasets to train on: pairs of image and mask in which the mask alone tells objects from distractors."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.annotations.yolo import YoloBox, format_labels
from toolkit.annotations.yolo_data_yaml import format_data_yaml
from toolkit.npz import save_npz


def guided_pair(
    random: np.random.Generator, side_px: int, discs: int = 4
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[YoloBox]]:
    """Return an image of equal discs on noise, a mask that covers half of them, and the boxes of those.

    Returns:
        (side_px, side_px, 3) uint8, (side_px, side_px) uint8 of 0 and 255, and a box a covered disc.
    """
    image = random.integers(60, 120, (side_px, side_px, 3), dtype=np.uint8)
    mask = np.zeros((side_px, side_px), np.uint8)
    boxes = []
    cell = side_px // 3
    places = random.permutation(9)[:discs]
    for number, place in enumerate(places):
        radius = int(random.integers(cell // 4, cell // 2 - 1))
        row, column = divmod(int(place), 3)
        centre = (column * cell + cell // 2, row * cell + cell // 2)
        cv2.circle(image, centre, radius, tuple(int(value) for value in random.integers(180, 255, 3)), -1)
        if number < discs // 2:
            cv2.circle(mask, centre, radius, 255, -1)
            box = ((centre[0] + 0.5) / side_px, (centre[1] + 0.5) / side_px, *((2 * radius + 1) / side_px,) * 2)
            boxes.append(YoloBox(0, *box))
    return image, mask, boxes


def write_guided_dataset(root: Path, *, train: int = 4, val: int = 2, side_px: int = 64, seed: int = 0) -> Path:
    """Write a dataset of such pairs (NPZ) with its data YAML; return its folder."""
    random = np.random.default_rng(seed)
    for split, count in (("train", train), ("val", val)):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for number in range(count):
            image, mask, boxes = guided_pair(random, side_px)
            save_npz(root / "images" / split / f"{number:04d}.npz", {"image": image, "mask": mask})
            (root / "labels" / split / f"{number:04d}.txt").write_text(format_labels(boxes))
    (root / "data.yaml").write_text(format_data_yaml({0: "marked disc"}, ["train", "val"]))
    return root


def write_plain_dataset(root: Path, *, train: int = 4, val: int = 2, side_px: int = 64, seed: int = 0) -> Path:
    """Write the images of such a dataset as PNG files, without their masks; return its folder."""
    random = np.random.default_rng(seed)
    for split, count in (("train", train), ("val", val)):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for number in range(count):
            image, _, boxes = guided_pair(random, side_px)
            cv2.imwrite(str(root / "images" / split / f"{number:04d}.png"), image[..., ::-1])
            (root / "labels" / split / f"{number:04d}.txt").write_text(format_labels(boxes))
    (root / "data.yaml").write_text(format_data_yaml({0: "marked disc"}, ["train", "val"], channels=3))
    return root
