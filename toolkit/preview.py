"""Preview drawings: mask overlays, labelled boxes and contact sheets. Arrays in, 8-bit RGB arrays or a PNG out."""

from __future__ import annotations

import functools
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from toolkit.core.errors import MvtkError, OptionError, one_line
from toolkit.core.files import atomic_write

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Rectangle = tuple[int, int, int, int]

CLASS_COLOURS: tuple[Colour, ...] = (
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (0, 158, 115),  # bluish green
    (240, 228, 66),  # yellow
    (213, 94, 0),  # vermilion
    (204, 121, 167),  # reddish purple
    (0, 114, 178),  # blue
)
"""Colours that stay apart for colour-blind readers (Okabe and Ito, 2008); class k has colour k modulo their number."""

MASK_COLOUR: Colour = (255, 64, 129)
"""Of a mask's overlay: pink, which neither grey radiographs nor most photographs hold."""

_BACKGROUND: Colour = (30, 31, 34)
_TITLE_COLOUR: Colour = (236, 236, 236)
_CAPTION_COLOUR: Colour = (190, 192, 196)
_GAP_PX = 12
_CAPTION_PX = 13
_TITLE_PX = 16
_MIN_LABEL_PX = 12
_CHIP_PADDING_PX = 3
_MAX_CHIP_SHARE = 0.1
_VISIBLE_COVERAGE = 0.05
_PIXELATED_FROM = 3.0
_OTHER_SUFFIXES = frozenset({".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pdf", ".svg"})


class PreviewError(MvtkError):
    """Arrays that cannot be drawn."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture of a contact sheet; mask and boxes are drawn over it at the size it has there.

    Attributes:
        image: HxW or HxWxC of any dtype, shown as `display_image` does.
        caption: one line below it, shortened in the middle where it does not fit.
        mask: HxW or HxWx1 of any dtype, the image's height and width; None draws no mask.
        boxes_xyxy: (n, 4) in the image's pixels; None draws no boxes.
        labels: n texts, one a box.
        class_ids: n numbers that choose the boxes' colours.
    """

    image: NDArray[Any]
    caption: str = ""
    mask: NDArray[Any] | None = None
    boxes_xyxy: NDArray[Any] | None = None
    labels: Sequence[str] = ()
    class_ids: Sequence[int] = ()


def save_png(path: str | os.PathLike[str], image_hwc: NDArray[np.uint8], *, overwrite: bool = False) -> None:
    """Write an HxWx3 uint8 RGB array as PNG, atomically.

    Raises:
        OptionError: the file's name says that it is an image of another kind.
        MvtkError: the file exists and ``overwrite`` is false, or it cannot be written.
    """
    if Path(path).suffix.lower() in _OTHER_SUFFIXES:
        raise OptionError(f"--output {path} is not named like a PNG file", "give it the suffix .png")
    buffer = io.BytesIO()
    Image.fromarray(image_hwc).save(buffer, "PNG")
    with atomic_write(Path(path), overwrite=overwrite) as file:
        file.write(buffer.getvalue())


def require_drawable(path: Path, image: NDArray[Any], mask: NDArray[Any]) -> None:
    """Check that an image (HxW or HxWxC) and its mask (HxW or HxWx1) from ``path`` can be drawn over each other.

    Raises:
        PreviewError: they cannot; the line names the file and both shapes.
    """
    is_picture = image.ndim in (2, 3) and 0 not in image.shape
    is_plane = mask.ndim == 2 or (mask.ndim == 3 and mask.shape[2] == 1)
    if not (is_picture and is_plane and mask.shape[:2] == image.shape[:2]):
        raise PreviewError(f"{path}: an image of shape {image.shape} with a mask of shape {mask.shape} cannot be drawn")


def display_image(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return any image array as one that a screen shows.

    uint8 stays; bool becomes 0 and 255; floats in [0, 1] are scaled by 255; any other value range is stretched from
    its lowest to its highest finite value. Of one or two channels the first is shown grey, of more the first three
    as RGB.

    Args:
        image: HxW or HxWxC.

    Returns:
        HxWx3 uint8 RGB.

    Raises:
        PreviewError: the array is empty or has another number of axes.
    """
    if image.ndim not in (2, 3) or image.size == 0:
        raise PreviewError(f"an image of shape {image.shape} cannot be drawn", "expected HxW or HxWxC, not empty")
    planes_hwc = image[..., None] if image.ndim == 2 else image
    planes_hwc = planes_hwc[..., :3] if planes_hwc.shape[2] >= 3 else planes_hwc[..., :1].repeat(3, axis=2)
    return np.ascontiguousarray(_to_8bit(planes_hwc))


def overlay_mask(
    image_hwc: NDArray[np.uint8], mask: NDArray[Any], colour: Colour = MASK_COLOUR, alpha: float = 0.4
) -> NDArray[np.uint8]:
    """Lay a translucent mask with an outline around it over an image.

    The outline lies outside the mask, so that structures of one pixel's width show both it and themselves.

    Args:
        image_hwc: HxWx3 uint8 RGB.
        mask: HxW or HxWx1 of any dtype and range: its maximum is drawn with ``alpha``, lower values more faintly.
        colour: RGB of fill and outline.
        alpha: opacity of the fill, 0 to 1.

    Returns:
        A new HxWx3 uint8 RGB array.

    Raises:
        PreviewError: the mask's size is not the image's.
    """
    coverage_hw = _coverage(mask, image_hwc.shape[:2])
    return _blend(image_hwc, coverage_hw, colour, alpha)


def draw_boxes(
    image_hwc: NDArray[np.uint8], boxes_xyxy: NDArray[Any], labels: Sequence[str], class_ids: Sequence[int]
) -> NDArray[np.uint8]:
    """Draw boxes with their labels on chips.

    Boxes are clipped at the border. Chips stay inside the image and off each other, and cover no more than a tenth of
    it: where many boxes crowd, the largest ones have theirs, and those that find no room at their box are left out.

    Args:
        image_hwc: HxWx3 uint8 RGB.
        boxes_xyxy: (n, 4): left, top, right, bottom in pixels, right and bottom exclusive.
        labels: n texts; an empty one draws no chip.
        class_ids: n numbers; each chooses a colour of `CLASS_COLOURS`.

    Returns:
        A new HxWx3 uint8 RGB array.
    """
    height, width = image_hwc.shape[:2]
    canvas = Image.fromarray(image_hwc)
    draw = ImageDraw.Draw(canvas)
    line_px = max(2, round(max(height, width) / 320))
    font = _font(max(_MIN_LABEL_PX, round(max(height, width) / 32)))
    boxes = [_pixel_box(box, height, width) for box in np.asarray(boxes_xyxy, np.float64)]
    colours = [CLASS_COLOURS[class_id % len(CLASS_COLOURS)] for class_id in class_ids]
    for (left, top, right, bottom), colour in zip(boxes, colours, strict=True):
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=(0, 0, 0), width=line_px + 2)
        draw.rectangle((left, top, right, bottom), outline=colour, width=line_px)
    taken: list[Rectangle] = []
    room_px = _MAX_CHIP_SHARE * height * width
    for index in sorted(range(len(boxes)), key=lambda index: -_area_px(boxes[index])):
        text = _shorten(one_line(labels[index]), font, width - 2 * _CHIP_PADDING_PX)
        chip = _free_chip(index, boxes, text, font, taken, (width, height)) if text else None
        if chip is not None and (not taken or _area_px(chip) <= room_px):
            taken.append(chip)
            room_px -= _area_px(chip)
            _draw_chip(draw, chip, text, colours[index], font)
    return np.array(canvas)


def contact_sheet(
    tiles: Sequence[Tile], columns: int | None = None, tile_px: int = 320, title: str = ""
) -> NDArray[np.uint8]:
    """Arrange pictures in a grid, each scaled to its cell with its aspect kept, its caption below.

    Args:
        tiles: the pictures, row by row.
        columns: pictures a row; None makes the grid about square.
        tile_px: longest side of a picture on the sheet.
        title: one line above all of them.

    Returns:
        HxWx3 uint8 RGB.

    Raises:
        PreviewError: there are no tiles, or one cannot be drawn.
    """
    if not tiles:
        raise PreviewError("there is nothing to draw", "give at least one picture")
    columns = min(columns or math.ceil(math.sqrt(len(tiles))), len(tiles))
    pictures = [_draw_tile(tile, tile_px) for tile in tiles]
    rows = [range(first, min(first + columns, len(tiles))) for first in range(0, len(tiles), columns)]
    heights = [max(pictures[index].shape[0] for index in row) for row in rows]
    caption_px = _CAPTION_PX + 8 if any(tile.caption for tile in tiles) else 0
    title_px = _TITLE_PX + 14 if title else 0

    width = columns * (tile_px + _GAP_PX) + _GAP_PX
    height = title_px + sum(row_px + caption_px + _GAP_PX for row_px in heights) + _GAP_PX
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    title_font = _font(_TITLE_PX)
    title = _shorten(one_line(title), title_font, width - 2 * _GAP_PX)
    draw.text((_GAP_PX, _GAP_PX), title, fill=_TITLE_COLOUR, font=title_font)
    top = title_px + _GAP_PX
    for row, row_px in zip(rows, heights, strict=True):
        for column, index in enumerate(row):
            left = _GAP_PX + column * (tile_px + _GAP_PX)
            picture = pictures[index]
            # Centred, and down to the caption, which would else look lost below a flat picture in a tall row.
            corner = (left + (tile_px - picture.shape[1]) // 2, top + row_px - picture.shape[0])
            sheet.paste(Image.fromarray(picture), corner)
            _draw_caption(draw, tiles[index].caption, (left + tile_px // 2, top + row_px + 4), tile_px)
        top += row_px + caption_px + _GAP_PX
    return np.array(sheet)


def stacked(sheets: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return HxWx3 sheets one below the other; narrow ones are widened by their background."""
    width = max(sheet.shape[1] for sheet in sheets)
    return np.vstack([np.pad(sheet, ((0, 0), (0, width - sheet.shape[1]), (0, 0)), mode="edge") for sheet in sheets])


def image_mask_overlay(
    image: NDArray[Any], mask: NDArray[Any], caption: str = "", panel_px: int = 480
) -> NDArray[np.uint8]:
    """Show an image, its mask and the mask laid over the image, side by side.

    Args:
        image: HxW or HxWxC of any dtype.
        mask: HxW or HxWx1 of any dtype and range, shown by its maximum.
        caption: one line above, such as the file's name.
        panel_px: longest side of each picture.

    Returns:
        HxWx3 uint8 RGB.

    Raises:
        PreviewError: an array cannot be drawn, or the mask's size is not the image's.
    """
    coverage_hw = _coverage(mask, image.shape[:2])
    panels = [Tile(image, "image"), Tile(coverage_hw, "mask"), Tile(image, "overlay", mask=mask)]
    return contact_sheet(panels, columns=len(panels), tile_px=panel_px, title=caption)


def _to_8bit(values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    floats = values.astype(np.float64)
    finite = np.isfinite(floats)
    low, high = (floats[finite].min(), floats[finite].max()) if finite.any() else (0.0, 0.0)
    if values.dtype.kind in "bf" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    scale = 255 / (high - low) if high > low else 0.0
    stretched: NDArray[np.uint8] = np.rint((np.where(finite, floats, low) - low) * scale).astype(np.uint8)
    return stretched


def _coverage(mask: NDArray[Any], size_hw: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a mask as HxW float32 from 0 to 1, its maximum being 1."""
    mask_hw = mask[..., 0] if mask.ndim == 3 and mask.shape[2] == 1 else mask
    if mask_hw.shape != size_hw:
        raise PreviewError(f"a mask of shape {mask.shape} cannot be laid over an image of shape {tuple(size_hw)}")
    floats = np.nan_to_num(mask_hw.astype(np.float32), nan=0.0, posinf=1.0, neginf=0.0).clip(min=0)
    highest = floats.max(initial=0)
    coverage_hw: NDArray[np.float32] = floats / highest if highest > 0 else floats
    return coverage_hw


def _blend(
    image_hwc: NDArray[np.uint8], coverage_hw: NDArray[np.float32], colour: Colour, alpha: float
) -> NDArray[np.uint8]:
    paint = np.array(colour, np.float32)
    opacity = (coverage_hw * np.float32(alpha))[..., None]
    blended: NDArray[np.uint8] = np.rint(image_hwc * (1 - opacity) + paint * opacity).astype(np.uint8)
    inside = (coverage_hw > _VISIBLE_COVERAGE).astype(np.uint8)
    outline_px = max(1, round(max(coverage_hw.shape) / 480))
    reach = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * outline_px + 1, 2 * outline_px + 1))
    outline = (cv2.dilate(inside, reach) > 0) & (inside == 0)
    blended[outline] = colour
    return blended


def _draw_tile(tile: Tile, tile_px: int) -> NDArray[np.uint8]:
    """Scale a tile's image to ``tile_px`` on its long side and draw its mask and boxes at that size."""
    height, width = tile.image.shape[:2]
    picture = _resize(display_image(tile.image), tile_px)
    if tile.mask is not None:
        coverage_hw = _resize(_coverage(tile.mask, (height, width)), tile_px)
        picture = _blend(picture, coverage_hw, MASK_COLOUR, 0.4)
    if tile.boxes_xyxy is not None:
        scale_xy = (picture.shape[1] / width, picture.shape[0] / height)
        boxes_xyxy = np.asarray(tile.boxes_xyxy, np.float64).reshape(-1, 4) * (scale_xy * 2)
        picture = draw_boxes(picture, boxes_xyxy, tile.labels, tile.class_ids)
    return picture


def _resize(pixels: NDArray[Any], long_side_px: int) -> NDArray[Any]:
    ratio = long_side_px / max(pixels.shape[:2])
    height, width = (max(1, round(side * ratio)) for side in pixels.shape[:2])
    if ratio < 1:
        flag = cv2.INTER_AREA
    elif ratio < _PIXELATED_FROM and pixels.ndim == 3:
        flag = cv2.INTER_CUBIC
    else:  # masks keep their values; a thumbnail shows its pixels rather than a blur
        flag = cv2.INTER_NEAREST_EXACT
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=flag))


def _pixel_box(box_xyxy: NDArray[np.float64], height: int, width: int) -> Rectangle:
    """Return the first and last column and row of a box, within the image, as (left, top, right, bottom)."""
    x1, y1, x2, y2 = np.nan_to_num(box_xyxy).clip(0, (width, height, width, height))
    left, top = min(int(x1), width - 1), min(int(y1), height - 1)
    return left, top, max(left, math.ceil(x2) - 1), max(top, math.ceil(y2) - 1)


def _area_px(rectangle: Rectangle) -> int:
    left, top, right, bottom = rectangle
    return (right - left) * (bottom - top)


def _free_chip(
    index: int, boxes: Sequence[Rectangle], text: str, font: Font, taken: Sequence[Rectangle], size_wh: tuple[int, int]
) -> Rectangle | None:
    """Return a place for a chip at ``boxes[index]``: off the ``taken`` ones, hiding as few boxes as can be.

    None where there is no room.
    """
    chip_w = math.ceil(font.getlength(text)) + 2 * _CHIP_PADDING_PX
    chip_h = math.ceil(_ascent(font) * 1.3) + 2 * _CHIP_PADDING_PX  # letters reach 0.3 of a capital below the line
    chips = [_inside(corner, chip_w, chip_h, size_wh) for corner in _chip_corners(boxes[index], chip_w, chip_h)]
    free = [chip for chip in chips if not any(_overlap(chip, other) for other in taken)]
    left, top, right, bottom = boxes[index]
    hides_own_box = (right - left) * (bottom - top) < 3 * chip_w * chip_h
    kept_clear = boxes if hides_own_box else [*boxes[:index], *boxes[index + 1 :]]
    return min(free, key=lambda chip: sum(_overlap(chip, box) for box in kept_clear), default=None)


def _draw_chip(draw: ImageDraw.ImageDraw, chip: Rectangle, text: str, colour: Colour, font: Font) -> None:
    left, top, right, bottom = chip
    draw.rectangle((left, top, right - 1, bottom - 1), fill=colour)
    red, green, blue = colour
    is_light = 0.299 * red + 0.587 * green + 0.114 * blue > 120
    baseline_xy = (left + _CHIP_PADDING_PX, top + _CHIP_PADDING_PX + _ascent(font))
    draw.text(baseline_xy, text, fill=(0, 0, 0) if is_light else (255, 255, 255), font=font, anchor="ls")


def _chip_corners(box: Rectangle, chip_w: int, chip_h: int) -> list[tuple[int, int]]:
    """Where a chip may have its upper left corner, best first: above the box, within it, below it, beside it."""
    left, top, right, bottom = box
    return [
        (left, top - chip_h),
        (left, top),
        (right + 1 - chip_w, top - chip_h),
        (right + 1 - chip_w, top),
        (left, bottom + 1),
        (left, bottom + 1 - chip_h),
        (right + 1 - chip_w, bottom + 1),
        (right + 1, top),
        (left - chip_w, top),
    ]


def _inside(corner: tuple[int, int], chip_w: int, chip_h: int, size_wh: tuple[int, int]) -> Rectangle:
    left = max(0, min(corner[0], size_wh[0] - chip_w))
    top = max(0, min(corner[1], size_wh[1] - chip_h))
    return left, top, left + chip_w, top + chip_h


def _overlap(first: Rectangle, second: Rectangle) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


@functools.lru_cache(maxsize=32)
def _font(size_px: int) -> Font:
    return ImageFont.load_default(size_px)


def _ascent(font: Font) -> int:
    """Return a capital letter's height in pixels, so that all chips of a font are equally high."""
    return round(-font.getbbox("H", anchor="ls")[1])


def _draw_caption(draw: ImageDraw.ImageDraw, text: str, top_centre_xy: tuple[int, int], width_px: int) -> None:
    font = _font(_CAPTION_PX)
    draw.text(top_centre_xy, _shorten(one_line(text), font, width_px), fill=_CAPTION_COLOUR, font=font, anchor="ma")


def _shorten(text: str, font: Font, width_px: int) -> str:
    """Return ``text`` with its middle replaced by an ellipsis until it is no wider than ``width_px``."""
    if font.getlength(text) <= width_px:
        return text
    low, high = 0, len(text) - 1  # characters kept: `low` fits (nothing is the least), more than `high` never does
    while low < high:
        kept = (low + high + 1) // 2
        low, high = (kept, high) if font.getlength(_elide(text, kept)) <= width_px else (low, kept - 1)
    return _elide(text, low)


def _elide(text: str, kept: int) -> str:
    tail = kept // 2
    return f"{text[: kept - tail]}…{text[len(text) - tail :]}"
