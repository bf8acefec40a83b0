"""A small input for the ``mvtk yolo`` commands, made from real photographs: only the mask tells what to find.

``python -m toolkit.yolo.demo OUT`` writes into the new or empty folder OUT:

- ``photographs/``: a YOLO dataset of images and labels: pieces of photographs of coins, galaxies and printed lines;
- ``masks/``: for each piece a mask over some of its objects. Labels name these alone, so that a detector that sees the
  image without its mask cannot tell them from the others.

A piece comes several times with other objects marked. Validation is on photographs that are not trained on. Photographs
and masks are those of :mod:`toolkit.sam.demo`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from toolkit.annotations.yolo import YoloBox, format_labels
from toolkit.annotations.yolo_data_yaml import format_data_yaml
from toolkit.core.files import make_folder, write_bytes
from toolkit.dataset.demo import encode_image, require_empty, run_demo
from toolkit.sam.demo import CLASS_NAMES, Piece, pieces
from toolkit.sam.mask_bounds import mask_boxes

_VALIDATION: Final = frozenset({"coins_2", "deep_field_4"})
_VARIANTS: Final = {"train": 4, "val": 2}
"""How often each piece comes, with other objects marked."""


def write_demo(output: Path) -> int:
    """Write the demonstration input into ``output`` and return how many images it has.

    Raises:
        MissingExtraError: scikit-image is not installed.
        MvtkError: ``output`` is not an empty folder, or cannot be written.
    """
    require_empty(output)
    random = np.random.default_rng(0)
    photographs, masks = output / "photographs", output / "masks"
    for folder in (masks, *(photographs / kind / split for kind in ("images", "labels") for split in _VARIANTS)):
        make_folder(folder)
    count = 0
    for piece in pieces():
        split = "val" if piece.group in _VALIDATION else "train"
        for variant in range(_VARIANTS[split]):
            name = f"{piece.id}_{variant}"
            is_marked = random.random(len(piece.masks_nhw)) < 0.5
            mask_hw = np.where(piece.masks_nhw[is_marked].any(axis=0), 255, 0).astype(np.uint8)
            write_bytes(photographs / "images" / split / f"{name}.png", encode_image(piece.image, ".png"))
            write_bytes(photographs / "labels" / split / f"{name}.txt", _labels(piece, is_marked).encode())
            write_bytes(masks / f"{name}_seg.png", encode_image(mask_hw, ".png"))
            count += 1
    text = format_data_yaml(dict(enumerate(CLASS_NAMES)), list(_VARIANTS), channels=3)
    write_bytes(photographs / "data.yaml", text.encode())
    return count


def _labels(piece: Piece, is_marked: NDArray[np.bool_]) -> str:
    height, width = piece.masks_nhw.shape[1:]
    boxes = []
    for left, top, right, bottom in mask_boxes(piece.masks_nhw[is_marked]).tolist():
        centre = ((left + right) / 2 / width, (top + bottom) / 2 / height)
        boxes.append(YoloBox(piece.class_id, *centre, (right - left) / width, (bottom - top) / height))
    return format_labels(boxes)


def main(arguments: Sequence[str]) -> int:
    """Write the demonstration input into the folder given; see :func:`toolkit.dataset.demo.run_demo`."""
    return run_demo(arguments, "toolkit.yolo.demo", write_demo, "images with masks over some of their objects")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
