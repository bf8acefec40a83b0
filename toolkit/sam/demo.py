"""A small input for the ``mvtk sam`` commands, made from real photographs.

``python -m toolkit.sam.demo OUT`` writes into the new or empty folder OUT:

- ``images/``, ``masks/``, ``boxes/`` and ``summary.json``: about seventy pieces of photographs of coins, galaxies and
  printed lines, with one mask and one box an object. Pieces of one photograph are of one group, so that a split keeps
  them on one side;
- ``label-studio.json``: the same as an export of Label Studio: brush masks and, for the lines, rectangles;
- ``coco.json``: the same as a COCO file with compressed run lengths.

The last two name the images as ``images`` holds them. Photographs and masks are those of :mod:`toolkit.dataset.demo`:
the masks are computed, and good enough to see a small model learn, not to train one for use.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from toolkit.annotations.brush_rle import encode_brush_rle
from toolkit.annotations.yolo import YoloBox, format_labels
from toolkit.core.files import make_folder, write_bytes
from toolkit.dataset.demo import Scene, encode_image, require_empty, run_demo, scenes
from toolkit.sam.layout import BOXES, IMAGES, MASKS, SUMMARY, Summary, format_summary, mask_name
from toolkit.sam.mask_bounds import mask_boxes

CLASS_NAMES: Final = ("coin", "galaxy or star", "text line")
_PIECES_A_PHOTOGRAPH: Final = 12
_MIN_AREA_PX: Final = 80
_MIN_VISIBLE: Final = 0.4
"""Objects of which a cut leaves less are no objects of the piece."""
_MAX_INSTANCES: Final = 12


class Cut(NamedTuple):
    """How a photograph is cut, in pixels.

    Attributes:
        height: of a piece; 0: all of the photograph's height, in one row.
        width: of a piece.
        step: from one piece to the next; where it is less than the width, pieces overlap.
    """

    height: int
    width: int
    step: int


_CUTS: Final = {"coin": Cut(0, 128, 32), "galaxy or star": Cut(128, 128, 64), "text line": Cut(0, 192, 64)}


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A piece of a photograph.

    Attributes:
        id: the photograph's name and the piece's number.
        group: the photograph.
        image: HxW (grey) or HxWx3 (RGB) uint8.
        masks_nhw: (N, H, W) bool.
        class_id: of all objects in it.
    """

    id: str
    group: str
    image: NDArray[np.uint8]
    masks_nhw: NDArray[np.bool_]
    class_id: int


def write_demo(output: Path) -> int:
    """Write the demonstration input into ``output`` and return how many pieces it has.

    Raises:
        MissingExtraError: scikit-image is not installed.
        MvtkError: ``output`` is not an empty folder, or cannot be written.
    """
    require_empty(output)
    cut = list(pieces())
    for folder in (IMAGES, MASKS, BOXES):
        make_folder(output / folder)
    for piece in cut:
        write_bytes(output / IMAGES / f"{piece.id}.png", encode_image(piece.image, ".png"))
        for number, mask_hw in enumerate(piece.masks_nhw):
            write_bytes(output / MASKS / mask_name(piece.id, number), encode_image(_as_255(mask_hw), ".png"))
        write_bytes(output / BOXES / f"{piece.id}.txt", format_labels(_labels(piece)).encode())
    summary = Summary(tuple(piece.id for piece in cut), CLASS_NAMES, {piece.id: piece.group for piece in cut})
    write_bytes(output / SUMMARY, format_summary(summary).encode())
    tasks = [_task(piece, number) for number, piece in enumerate(cut, start=1)]
    write_bytes(output / "label-studio.json", json.dumps(tasks).encode())
    write_bytes(output / "coco.json", json.dumps(_coco(cut)).encode())
    return len(cut)


def pieces() -> Iterator[Piece]:
    """Yield the pieces of all photographs, always the same.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    for _, scene in scenes():
        if scene.class_name in CLASS_NAMES:
            yield from _cut(scene)


def _cut(scene: Scene) -> Iterator[Piece]:
    """Yield the dozen pieces in which most pixels belong to objects, from the upper left one on."""
    height, width = scene.mask_hw.shape
    cut = _CUTS[scene.class_name]
    piece_h = cut.height or height
    masks = _object_masks(scene)
    found: list[tuple[tuple[slice, slice], NDArray[np.bool_]]] = []
    for top in range(0, height - piece_h + 1, cut.step):
        for left in range(0, width - cut.width + 1, cut.step):
            window = slice(top, top + piece_h), slice(left, left + cut.width)
            seen = [mask_hw[window] for mask_hw in masks if _is_seen(mask_hw, mask_hw[window])]
            if 0 < len(seen) <= _MAX_INSTANCES:
                found.append((window, np.stack(seen)))
    fullest = sorted(range(len(found)), key=lambda place: -np.count_nonzero(found[place][1]))[:_PIECES_A_PHOTOGRAPH]
    for number, place in enumerate(sorted(fullest), start=1):
        window, masks_nhw = found[place]
        yield Piece(
            f"{scene.stem}-{number}",
            scene.stem,
            scene.image[window],
            masks_nhw,
            CLASS_NAMES.index(scene.class_name),
        )


def _object_masks(scene: Scene) -> list[NDArray[np.bool_]]:
    """Return a mask an object: for lines of text, which are many regions, what is in the line's box."""
    if scene.class_name != "text line":
        count, regions_hw = cv2.connectedComponents(scene.mask_hw.astype(np.uint8))
        return [regions_hw == region for region in range(1, count)]
    masks = []
    for left, top, right, bottom in scene.boxes_xyxy:
        mask_hw = np.zeros_like(scene.mask_hw)
        mask_hw[top:bottom, left:right] = True
        masks.append(mask_hw)
    return masks


def _is_seen(mask_hw: NDArray[np.bool_], part_hw: NDArray[np.bool_]) -> bool:
    visible = np.count_nonzero(part_hw)
    return bool(visible >= max(_MIN_AREA_PX, _MIN_VISIBLE * np.count_nonzero(mask_hw)))


def _as_255(mask_hw: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return mask_hw.astype(np.uint8) * np.uint8(255)


def _labels(piece: Piece) -> list[YoloBox]:
    height, width = piece.masks_nhw.shape[1:]
    return [
        YoloBox(
            piece.class_id,
            (left + right) / 2 / width,
            (top + bottom) / 2 / height,
            (right - left) / width,
            (bottom - top) / height,
        )
        for left, top, right, bottom in mask_boxes(piece.masks_nhw).tolist()
    ]


def _task(piece: Piece, number: int) -> dict[str, Any]:
    """Return a piece as a task of Label Studio, with the keys that its exports have."""
    name = f"{piece.id}.png"
    results = [_result(piece, place) for place in range(len(piece.masks_nhw))]
    annotation = {"id": number, "was_cancelled": False, "result": results}
    return {"id": number, "data": {"image": f"/data/upload/1/{number:08x}-{name}"}, "annotations": [annotation]}


def _result(piece: Piece, place: int) -> dict[str, Any]:
    """Return one object as a region of Label Studio: a rectangle in percentages for a line, else a brush mask."""
    height, width = piece.masks_nhw.shape[1:]
    name = CLASS_NAMES[piece.class_id]
    is_line = name == "text line"
    kind = "rectanglelabels" if is_line else "brushlabels"
    shape: dict[str, Any]
    if is_line:
        left, top, right, bottom = mask_boxes(piece.masks_nhw)[place].tolist()
        corner = {"x": 100 * left / width, "y": 100 * top / height}
        shape = {**corner, "width": 100 * (right - left) / width, "height": 100 * (bottom - top) / height}
        shape["rotation"] = 0
    else:
        shape = {"format": "rle", "rle": list(encode_brush_rle(_as_255(piece.masks_nhw[place])))}
    return {
        "id": f"{piece.id}-{place}",
        "type": kind,
        "from_name": "label",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {**shape, kind: [name]},
    }


def _coco(cut: Sequence[Piece]) -> dict[str, Any]:
    """Return the pieces as the content of a COCO file."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, piece in enumerate(cut, start=1):
        height, width = piece.masks_nhw.shape[1:]
        images.append({"id": image_id, "file_name": f"{piece.id}.png", "width": width, "height": height})
        for mask_hw, (left, top, right, bottom) in zip(
            piece.masks_nhw, mask_boxes(piece.masks_nhw).tolist(), strict=True
        ):
            rle = coco_mask.encode(np.asfortranarray(mask_hw.astype(np.uint8)))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": piece.class_id + 1,
                    "bbox": [left, top, right - left, bottom - top],
                    "area": int(mask_hw.sum()),
                    "iscrowd": 0,
                    "segmentation": {"size": [height, width], "counts": rle["counts"].decode()},
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASS_NAMES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def main(arguments: Sequence[str]) -> int:
    """Write the demonstration input into the folder given; see :func:`toolkit.dataset.demo.run_demo`."""
    return run_demo(
        arguments, "toolkit.sam.demo", write_demo, "pieces of photographs with masks and boxes, and the same as exports"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
