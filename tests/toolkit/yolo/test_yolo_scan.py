"""What the look at a dataset before training finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.yolo_datasets import write_guided_dataset, write_plain_dataset
from toolkit.core.errors import InputProblemsError
from toolkit.npz import save_npz
from toolkit.yolo.scan import ScannedSplit, require_sound, scan_split
from toolkit.yolo.source import find_source


def scan(root: Path, classes: int = 1) -> ScannedSplit:
    source = find_source(root, ("train",))
    return scan_split(source.splits["train"], classes, source.kind)


def label(root: Path, number: int, text: str) -> None:
    (root / f"labels/train/{number:04d}.txt").write_text(text)


def test_sizes_and_labels_of_every_pair(tmp_path: Path) -> None:
    root = write_guided_dataset(tmp_path / "data")
    label(root, 0, "0 0.5 0.25 0.5 0.5\n")
    label(root, 1, "0 0 0 1 0 1 0.5\n")
    label(root, 2, "")
    (root / "labels/train/0003.txt").unlink()
    scanned = scan(root)
    assert [image.size_hw for image in scanned.images] == [(64, 64)] * 4
    np.testing.assert_array_equal(scanned.images[0].boxes_cxcywh, np.float32([[0.5, 0.25, 0.5, 0.5]]))
    np.testing.assert_array_equal(scanned.images[1].boxes_cxcywh, np.float32([[0.5, 0.25, 1, 0.5]]))
    np.testing.assert_array_equal(scanned.images[1].outlines_xy[0], np.float32([[0, 0], [1, 0], [1, 0.5]]))
    assert (scanned.objects, scanned.empty, scanned.without_labels, scanned.problems) == (2, 1, 1, ())
    assert list(scanned.remarks("train")) == [
        "train: 1 of 4 images have no label file: they count as backgrounds",
    ]


def test_every_problem_is_said_with_its_place(tmp_path: Path) -> None:
    root = write_guided_dataset(tmp_path / "data")
    label(root, 0, "0 0.5 0.5 0.1 0.1\n1 0.5 0.5 0.1 0.1\nx\n")
    label(root, 1, "0 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1 0.1\n")
    (root / "images/train/0002.npz").write_bytes(b"PK")
    scanned = scan(root)
    assert len(scanned.images) == 2
    assert scanned.left_out == 1
    lines = [problem.removeprefix(f"{root}/") for problem in scanned.problems]
    assert lines[0] == "labels/train/0000.txt:2: class '1' is beyond the 1 name"
    assert lines[1].startswith("labels/train/0000.txt:3: 1 fields: a box has 5")
    assert lines[2].startswith("images/train/0002.npz: ")
    with pytest.raises(InputProblemsError) as caught:
        require_sound(find_source(root, ("train", "val")))
    assert len(caught.value.problems) == 3


PAIRS: list[tuple[Any, Any, str]] = [
    (np.zeros((8, 6), np.uint8), np.zeros((8, 6), np.uint8), ""),
    (np.zeros((8, 6, 1), np.uint8), np.zeros((8, 6, 1), np.uint8), ""),
    (np.zeros((3, 8, 6), np.uint8), np.zeros((8, 6), np.uint8), ""),
    (np.zeros((8, 6, 3), np.float32), np.ones((8, 6), np.float32), ""),
    (np.zeros((8, 6, 4), np.uint8), np.zeros((8, 6), np.uint8), "has shape \\(8, 6, 4\\) beside a mask of 8 x 6"),
    (np.zeros((8, 6, 3), np.uint8), np.zeros((6, 8), np.uint8), "beside a mask of 6 x 8"),
    (np.zeros((8, 6, 3), np.uint8), np.zeros((8, 6, 2), np.uint8), "member 'mask' has shape"),
    (np.zeros((8, 6, 3), np.uint8), np.zeros((0, 6), np.uint8), "member 'mask' has shape"),
    (np.zeros((8, 6, 3), np.uint8), None, "has no member 'mask'"),
]


@pytest.mark.parametrize(("image", "mask", "message"), PAIRS)
def test_shapes_of_pairs(tmp_path: Path, image: Any, mask: Any, message: str) -> None:
    root = write_guided_dataset(tmp_path / "data", train=1, val=1)
    arrays = {"image": image} if mask is None else {"image": image, "mask": mask}
    save_npz(root / "images/train/0000.npz", arrays, overwrite=True)
    scanned = scan(root)
    if message:
        with pytest.raises(InputProblemsError, match=message):
            require_sound(find_source(root, ("train",)))
    else:
        assert scanned.images[0].size_hw == (8, 6)


def test_a_pickled_mask_is_refused_unread(tmp_path: Path) -> None:
    root = write_guided_dataset(tmp_path / "data", train=1, val=1)
    np.savez(root / "images/train/0000.npz", image=np.zeros((4, 4, 3), np.uint8), mask=np.array([None], object))
    assert "pickled and is not read" in scan(root).problems[0]


def test_no_object_at_all(tmp_path: Path) -> None:
    root = write_guided_dataset(tmp_path / "data")
    for path in (root / "labels/train").iterdir():
        path.unlink()
    with pytest.raises(
        InputProblemsError, match="no training image has an object: the label files are missing or empty"
    ):
        require_sound(find_source(root, ("train", "val")))


def test_a_thousand_problems_are_twenty_lines_and_a_number(tmp_path: Path) -> None:
    root = write_guided_dataset(tmp_path / "data", train=1)
    label(root, 0, "x\n" * 1000)
    with pytest.raises(InputProblemsError) as caught:
        require_sound(find_source(root, ("train",)))
    assert len(caught.value.problems) == 21
    assert caught.value.problems[-1] == "and 980 more"


def test_plain_images_are_upright_and_whole(tmp_path: Path) -> None:
    root = write_plain_dataset(tmp_path / "data", train=1)
    folder = root / "images/train"
    turned = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 40, 3), np.uint8))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "0000.jpg", exif=exif)
    (folder / "0000.png").unlink()
    assert scan(root).images[0].size_hw == (40, 20)
    assert cv2.imread(str(folder / "0000.jpg")).shape == (40, 20, 3)
    whole = (folder / "0000.jpg").read_bytes()
    (folder / "0000.jpg").write_bytes(whole[:-40])
    scan_split.cache_clear()
    assert scan(root).problems == (f"{folder / '0000.jpg'}: the JPEG file is cut short; copy it again",)
    assert (folder / "0000.jpg").read_bytes() == whole[:-40]
