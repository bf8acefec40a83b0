"""Preview pictures of metadata files: images with their boxes or keypoints, and a teacher's crops."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from toolkit.core.errors import MvtkError
from toolkit.core.files import require_apart
from toolkit.images.files import ImageError
from toolkit.metadata.collating import Sample
from toolkit.metadata.description import class_name
from toolkit.metadata.image_loading import load_with_pil
from toolkit.metadata.lazy import LazyNPYDataset, crop_to_box
from toolkit.metadata.reading import MetadataFile, open_metadata
from toolkit.preview import CLASS_COLOURS, Colour, Tile, contact_sheet, save_png

_VISIBLE: Final = 2
_NOTICE_GREY: Final = 60
_NOTICE_COLOUR: Final = (236, 236, 236)
_NOTICE_ASPECT: Final = 0.75
_NOTICE_SHARE: Final = 1 / 20
_POINT_SHARE: Final = 1 / 100
_MIN_POINT_RADIUS_PX: Final = 2
_BLACK: Final = (0, 0, 0)
_SUBPIXEL_BITS: Final = 4
"""cv2 draws circles at multiples of a sixteenth of a pixel."""


def save_metadata_preview(
    path: Path,
    output: Path,
    *,
    samples: int = 12,
    columns: int = 4,
    tile_px: int = 320,
    overwrite: bool = False,
    root_dir: Path | None = None,
    seed: int = 0,
) -> tuple[int, list[str]]:
    """Draw samples that are spread over a file: boxes with class names, keypoints, or a teacher's crops.

    A hidden keypoint (visibility 1) is a ring, a visible one a disc; those not labelled are left out. A sample whose
    image cannot be shown is a grey tile that says so.

    Args:
        path: the metadata file.
        output: the PNG to write.
        samples: how many samples; one is drawn by lot from each of as many equal stretches of the file.
        columns: tiles in a row.
        tile_px: a tile's longer side in pixels.
        overwrite: replace ``output``.
        root_dir: the folder that the image paths are relative to; None for the one that the file names.
        seed: of the lot.

    Returns:
        How many samples were drawn, and remarks, one line each: images that cannot be shown, or whose size is not the
        one that the file has.

    Raises:
        MetadataError: the file is damaged or of the old layout.
        MvtkError: it has no samples, or a file cannot be read or written.
    """
    file = open_metadata(path)
    if not len(file):
        raise MvtkError(f"{path}: it has no samples", "there is nothing to draw")
    dataset = LazyNPYDataset(path, root_dir=root_dir, with_classes=True)
    indices = spread_indices(len(file), samples, seed)
    require_apart(output, [path, *(Path(dataset.get_metadata(index)["image_path"]) for index in indices)])
    remarks: list[str] = []
    tiles = [_tile(file, dataset.get_metadata(index), index, tile_px, remarks) for index in indices]
    title = f"{path.name}: {len(tiles)} of {len(file)} {file.kind} samples"
    save_png(output, contact_sheet(tiles, columns, tile_px, title), overwrite=overwrite)
    return len(tiles), remarks


def spread_indices(count: int, wanted: int, seed: int) -> list[int]:
    """Return ``wanted`` of the indices below ``count``, all if they are fewer: one from each of equal stretches."""
    wanted = min(wanted, count)
    bounds = [part * count // wanted for part in range(wanted + 1)]
    lots = np.random.default_rng(seed)
    return [int(lots.integers(start, stop)) for start, stop in itertools.pairwise(bounds)]


def draw_keypoints(
    image_hwc: NDArray[np.uint8], keypoints_xyv: NDArray[np.floating[Any]], colour: Colour
) -> NDArray[np.uint8]:
    """Draw keypoints: a disc for a visible one, a ring for a hidden one, nothing for one that is not labelled.

    Args:
        image_hwc: (H, W, 3) uint8 RGB, at the size at which it will be looked at.
        keypoints_xyv: (n, 3) x, y in the image's pixels, visibility 0, 1 or 2; those outside are left out.
        colour: RGB.

    Returns:
        A new (H, W, 3) uint8 RGB array.
    """
    canvas = np.ascontiguousarray(image_hwc).copy()
    height, width = canvas.shape[:2]
    radius_px = max(_MIN_POINT_RADIUS_PX, round(max(height, width) * _POINT_SHARE))
    for x, y, visibility in keypoints_xyv.tolist():
        if visibility <= 0 or not (0 <= x <= width and 0 <= y <= height):
            continue
        centre = (round(x * 2**_SUBPIXEL_BITS), round(y * 2**_SUBPIXEL_BITS))
        is_hidden = visibility < _VISIBLE
        # A ring is a little wider, so that the image shows in it.
        radius = (radius_px + is_hidden) * 2**_SUBPIXEL_BITS
        # The black rim keeps a point apart from an image of its own colour.
        rims = ((_BLACK, 3), (colour, 1)) if is_hidden else ((_BLACK, 2), (colour, cv2.FILLED))
        for rim_colour, thickness in rims:
            cv2.circle(canvas, centre, radius, rim_colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
    return canvas


def _tile(file: MetadataFile, metadata: Sample, index: int, tile_px: int, remarks: list[str]) -> Tile:
    """Return the picture of one sample; what is to be said about it goes to ``remarks``."""
    image_path = metadata["image_path"]
    caption = f"{index}: {Path(image_path).name}"
    try:
        image_hwc = load_with_pil(image_path)
    except ImageError as error:
        remarks.append(f"sample {index}: {error}")
        is_missing = isinstance(error.__cause__, FileNotFoundError)
        return Tile(_notice("no such image" if is_missing else "image not readable", tile_px), caption)
    stored_wh = tuple(file.image_sizes_wh[index].tolist())
    if all(stored_wh) and stored_wh != image_hwc.shape[1::-1]:
        found, stored = (f"{width} x {height}" for width, height in (image_hwc.shape[1::-1], stored_wh))
        remarks.append(f"sample {index}: {image_path} is {found}, not {stored} as the file says")
    names = file.info.class_names
    if file.kind == "landmarker":
        return _keypoints_tile(image_hwc, metadata, caption, tile_px)
    if file.kind == "teacher":
        part_hwc = crop_to_box(image_hwc, metadata["bbox"])
        name = class_name(names, metadata["class_id"])
        part_hwc = part_hwc if part_hwc.size else _notice("the box holds no pixel", tile_px)
        return Tile(part_hwc, f"{caption} {name}".strip())
    class_ids = metadata["class_ids"].tolist()
    boxes_xyxy = metadata["bboxes"].astype(np.float64)
    boxes_xyxy[:, 2:] += boxes_xyxy[:, :2]
    labels = [class_name(names, class_id) for class_id in class_ids]
    return Tile(image_hwc, caption, boxes_xyxy=boxes_xyxy, labels=labels, class_ids=class_ids)


def _keypoints_tile(image_hwc: NDArray[np.uint8], metadata: Sample, caption: str, tile_px: int) -> Tile:
    """Return an image, at the size that it has on the sheet, with its keypoints."""
    height, width = image_hwc.shape[:2]
    scale = tile_px / max(height, width)
    size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    flag = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    picture_hwc = np.asarray(cv2.resize(image_hwc, size_wh, interpolation=flag), np.uint8)
    keypoints_xyv = metadata["keypoints"] * (size_wh[0] / width, size_wh[1] / height, 1)
    colour = CLASS_COLOURS[metadata["class_id"] % len(CLASS_COLOURS)]
    return Tile(draw_keypoints(picture_hwc, keypoints_xyv, colour), caption)


def _notice(text: str, tile_px: int) -> NDArray[np.uint8]:
    """Return a grey picture that says why there is none."""
    grey = (_NOTICE_GREY, _NOTICE_GREY, _NOTICE_GREY)
    picture = Image.new("RGB", (tile_px, max(1, round(tile_px * _NOTICE_ASPECT))), grey)
    font = ImageFont.load_default(max(10, tile_px * _NOTICE_SHARE))
    middle_xy = (picture.width / 2, picture.height / 2)
    ImageDraw.Draw(picture).text(middle_xy, text, fill=_NOTICE_COLOUR, font=font, anchor="mm")
    return np.array(picture)
