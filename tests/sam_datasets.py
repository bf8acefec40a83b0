"""Small SAM datasets on disk: bright discs and rectangles on a dark ground, each with its mask and box."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.builders import write_image
from toolkit.annotations.yolo import YoloBox, format_labels
from toolkit.images import load_image, load_mask

CLASS_NAMES = ("disc", "rectangle")


def make_dataset(
    root: Path,
    counts: Mapping[str, int] | Sequence[int] = (1, 2, 3),
    *,
    size_hw: tuple[int, int] = (64, 96),
    seed: int = 0,
    suffix: str = ".png",
    class_names: Sequence[str] = CLASS_NAMES,
    groups: Mapping[str, str] | None = None,
) -> Path:
    """Write a valid dataset and return its folder.

    Args:
        root: the folder to make.
        counts: how many instances each image has, by id; a list gives the ids "image_0", "image_1", …
        size_hw: height and width of the images in pixels.
        seed: chooses shapes, places and noise.
        suffix: of the image files.
        class_names: for ``summary.json``; instances are of the classes 0 and 1 in turn where there are two.
        groups: for ``summary.json``.
    """
    by_id = counts if isinstance(counts, Mapping) else {f"image_{k}": count for k, count in enumerate(counts)}
    for folder in ("images", "masks", "boxes"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for sample_id, count in by_id.items():
        masks = [shape_mask(size_hw, number, rng) for number in range(count)]
        write_image(root / "images" / f"{sample_id}{suffix}", draw_image(masks, size_hw, rng))
        write_instances(root, sample_id, masks, [number % max(len(class_names), 1) for number in range(count)])
    write_summary(root, list(by_id), class_names=class_names, groups=groups)
    return root


def make_nuclei_dataset(shared_data: Path, root: Path, *, piece_px: int = 128, min_area_px: int = 30) -> Path:
    """Write the nuclei of ``dsb2018`` as a dataset, cut into square pieces, and return its folder.

    Args:
        shared_data: the folder with the real sample data.
        root: the folder to make.
        piece_px: side of the pieces; those of one image are of one group, and overlap where it is no multiple of it.
        min_area_px: smaller nuclei, and what a cut leaves smaller, are left out; so are pieces without any.
    """
    for folder in ("images", "masks", "boxes"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    groups: dict[str, str] = {}
    for source in sorted((shared_data / "dsb2018" / "stage1_train").iterdir()):
        [image_path] = (source / "images").iterdir()
        image_hwc = load_image(image_path).pixels
        masks = [load_mask(path).pixels > 0 for path in sorted((source / "masks").iterdir())]
        tops, lefts = (_piece_starts(side_px, piece_px) for side_px in image_hwc.shape[:2])
        for top in tops:
            for left in lefts:
                window = slice(top, top + piece_px), slice(left, left + piece_px)
                seen = [mask_hw[window] for mask_hw in masks if np.count_nonzero(mask_hw[window]) >= min_area_px]
                if seen:
                    sample_id = f"{source.name[:8]}-{top}-{left}"
                    write_image(root / "images" / f"{sample_id}.png", image_hwc[window])
                    write_instances(root, sample_id, seen)
                    groups[sample_id] = source.name[:8]
    write_summary(root, list(groups), class_names=["nucleus"], groups=groups)
    return root


def write_instances(
    root: Path, sample_id: str, masks: Sequence[NDArray[np.bool_]], class_ids: Sequence[int] | None = None
) -> None:
    """Write the masks of one image and their bounding boxes."""
    for number, mask_hw in enumerate(masks):
        write_image(root / "masks" / f"{sample_id}_{number}.png", mask_hw.astype(np.uint8) * 255)
    classes = class_ids or [0] * len(masks)
    boxes = [bounding_box(mask_hw, class_id) for mask_hw, class_id in zip(masks, classes, strict=True)]
    (root / "boxes" / f"{sample_id}.txt").write_text(format_labels(boxes))


def write_summary(
    root: Path,
    ids: Sequence[str],
    *,
    class_names: Sequence[str] = CLASS_NAMES,
    groups: Mapping[str, str] | None = None,
) -> None:
    """Write ``summary.json``."""
    content: dict[str, object] = {"task_ids": list(ids)}
    if class_names:
        content["class_names"] = list(class_names)
    if groups is not None:
        content["groups"] = dict(groups)
    (root / "summary.json").write_text(json.dumps(content))


def shape_mask(size_hw: tuple[int, int], number: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """An HxW bool mask of a disc (even numbers) or a rectangle (odd ones), wholly inside the image."""
    height, width = size_hw
    y, x = np.mgrid[0:height, 0:width]
    half_h, half_w = rng.integers(max(2, min(size_hw) // 10), max(3, min(size_hw) // 4), size=2)
    half_h = half_w if number % 2 == 0 else half_h
    centre_y = rng.integers(half_h + 1, height - half_h - 1)
    centre_x = rng.integers(half_w + 1, width - half_w - 1)
    if number % 2 == 0:
        return np.asarray((y - centre_y) ** 2 + (x - centre_x) ** 2 <= half_w**2)
    return np.asarray((abs(y - centre_y) <= half_h) & (abs(x - centre_x) <= half_w))


def draw_image(
    masks: Sequence[NDArray[np.bool_]], size_hw: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """An HxWx3 uint8 RGB picture: each mask in a bright colour of its own, with noise."""
    canvas = np.full((*size_hw, 3), 40.0)
    for mask_hw in masks:
        canvas[mask_hw] = rng.integers(140, 230, size=3)
    canvas += rng.normal(0, 8, size=canvas.shape)
    return canvas.clip(0, 255).astype(np.uint8)


def bounding_box(mask_hw: NDArray[np.bool_], class_id: int = 0) -> YoloBox:
    """The box around a mask, as fractions of the image."""
    height, width = mask_hw.shape
    rows, columns = np.flatnonzero(mask_hw.any(axis=1)), np.flatnonzero(mask_hw.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    return YoloBox(
        class_id,
        float((left + right) / 2 / width),
        float((top + bottom) / 2 / height),
        float((right - left) / width),
        float((bottom - top) / height),
    )


def _piece_starts(side_px: int, piece_px: int) -> list[int]:
    """Where pieces begin that cover a side: the last one ends where it does."""
    return sorted({*range(0, side_px - piece_px + 1, piece_px), side_px - piece_px})
