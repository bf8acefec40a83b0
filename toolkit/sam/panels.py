"""Pictures of predicted masks: over their image, and against the truth. 8-bit RGB arrays in and out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from toolkit.images import resize_mask
from toolkit.preview import CLASS_COLOURS, Colour, Tile, contact_sheet
from toolkit.sam.mask_bounds import mask_window
from toolkit.sam.metrics import mask_iou

AGREED_COLOUR: Final[Colour] = (0, 158, 115)
MISSED_COLOUR: Final[Colour] = (86, 180, 233)
EXCESS_COLOUR: Final[Colour] = (213, 94, 0)
"""Of pixels in both masks, in the truth only and in the prediction only: stay apart for colour-blind readers."""

_FILL: Final = 0.45
_DIFFERENCE_FILL: Final = 0.65
_OUTLINE_SHARE: Final = 1 / 480
"""An outline's width as a share of the picture's longer side."""
_PANEL_PX: Final = 320
_LABEL_PX: Final = 12
_LABEL_MARGIN_PX: Final = 2
_TEXT_COLOUR: Final[Colour] = (255, 255, 255)


def prediction_panel(
    image_hwc: NDArray[np.uint8],
    truth_nhw: NDArray[np.bool_],
    predicted_nhw: NDArray[np.bool_],
    boxes_xyxy: NDArray[np.float32],
    *,
    title: str = "",
    panel_px: int = _PANEL_PX,
) -> NDArray[np.uint8]:
    """Show the image with its boxes, the truth, the prediction with each instance's IoU, and where they differ.

    Several samples' panels of one ``panel_px`` make one picture with :func:`toolkit.preview.stacked`.

    Args:
        image_hwc: (H, W, 3) uint8 RGB.
        truth_nhw: (N, H, W) bool.
        predicted_nhw: (N, H, W) bool, in the order of the truth.
        boxes_xyxy: (N, 4) prompts in pixels.
        title: one line above; the mean IoU is added to it.
        panel_px: longest side of each of the four pictures.

    Returns:
        (H', W', 3) uint8 RGB.
    """
    ious = mask_iou(predicted_nhw, truth_nhw)
    indices = list(range(len(ious)))
    shown_hwc = _resized(image_hwc, panel_px)
    scale_xy = np.array(shown_hwc.shape[1::-1]) / image_hwc.shape[1::-1]
    shown_boxes = boxes_xyxy * np.tile(scale_xy, 2)
    truth_shown, predicted_shown = (_resized_masks(masks, shown_hwc.shape[:2]) for masks in (truth_nhw, predicted_nhw))
    labels = [f"{iou:.2f}" for iou in ious]
    mean = f"mean IoU {ious.mean():.3f} of {len(ious)}" if len(ious) else "no instances"
    tiles = [
        Tile(shown_hwc, "image and boxes", boxes_xyxy=shown_boxes, labels=[""] * len(ious), class_ids=indices),
        Tile(paint_instances(shown_hwc, truth_shown), "truth"),
        Tile(write_labels(paint_instances(shown_hwc, predicted_shown), shown_boxes, labels), "prediction, IoU"),
        Tile(paint_difference(shown_hwc, truth_shown, predicted_shown), "green both, blue missed, orange too much"),
    ]
    return contact_sheet(tiles, len(tiles), panel_px, f"{title}: {mean}" if title else mean)


def paint_instances(
    image_hwc: NDArray[np.uint8], masks_nhw: NDArray[np.bool_], colour_ids: Sequence[int] | None = None
) -> NDArray[np.uint8]:
    """Lay translucent masks with outlines over an image; the later of two masks lies on top.

    Args:
        image_hwc: (H, W, 3) uint8 RGB.
        masks_nhw: (N, H, W) bool.
        colour_ids: N numbers, each chooses a colour of ``CLASS_COLOURS``; None: each instance has its own.

    Returns:
        a new (H, W, 3) uint8 RGB array.
    """
    painted_hwc = image_hwc.copy()
    reach = _outline_reach(image_hwc.shape[:2])
    for mask_hw, colour_id in zip(masks_nhw, range(len(masks_nhw)) if colour_ids is None else colour_ids, strict=True):
        window = mask_window(mask_hw, reach.shape[0])
        part_hwc, inside = painted_hwc[window], mask_hw[window]
        if inside.size:
            colour = CLASS_COLOURS[colour_id % len(CLASS_COLOURS)]
            _blend(part_hwc, inside, colour, _FILL)
            part_hwc[(cv2.dilate(inside.astype(np.uint8), reach) > 0) & ~inside] = colour
    return painted_hwc


def paint_difference(
    image_hwc: NDArray[np.uint8], truth_nhw: NDArray[np.bool_], predicted_nhw: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Colour, over the image in grey, the pixels where truth and prediction agree and differ.

    Instances are compared one by one: a pixel that one instance's prediction lacks is missed, whatever the others are.
    Where instances overlap, what is missed lies above what is too much, and both above what is agreed.

    Args:
        image_hwc: (H, W, 3) uint8 RGB.
        truth_nhw: (N, H, W) bool.
        predicted_nhw: (N, H, W) bool.

    Returns:
        a new (H, W, 3) uint8 RGB array.
    """
    grey_hw = cv2.cvtColor(image_hwc, cv2.COLOR_RGB2GRAY)
    painted_hwc = np.repeat(np.asarray(grey_hw, np.uint8)[..., None], 3, axis=2)
    agreed = _union(truth_nhw & predicted_nhw)
    excess = _union(predicted_nhw & ~truth_nhw)
    missed = _union(truth_nhw & ~predicted_nhw)
    _blend(painted_hwc, agreed & ~excess & ~missed, AGREED_COLOUR, _DIFFERENCE_FILL)
    _blend(painted_hwc, excess & ~missed, EXCESS_COLOUR, _DIFFERENCE_FILL)
    _blend(painted_hwc, missed, MISSED_COLOUR, _DIFFERENCE_FILL)
    return painted_hwc


def write_labels(
    image_hwc: NDArray[np.uint8], boxes_xyxy: NDArray[np.float32], labels: Sequence[str], text_px: int = _LABEL_PX
) -> NDArray[np.uint8]:
    """Write a label above, below or in each box, within the image, where none lies yet; large boxes first.

    Args:
        image_hwc: (H, W, 3) uint8 RGB.
        boxes_xyxy: (N, 4) in pixels of the image.
        labels: N texts; one that finds no room is left out.
        text_px: height of the text.

    Returns:
        a new (H, W, 3) uint8 RGB array.
    """
    canvas = Image.fromarray(image_hwc)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(text_px)
    is_taken = np.zeros(image_hwc.shape[:2], np.bool_)
    areas_px = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1)
    for index in np.argsort(-areas_px, kind="stable").tolist():
        width_px = math.ceil(font.getlength(labels[index])) + 2 * _LABEL_MARGIN_PX
        places = _label_places(boxes_xyxy[index], (text_px + _LABEL_MARGIN_PX, width_px), image_hwc.shape[:2])
        place = next((place for place in places if not is_taken[place].any()), None)
        if place is not None:
            is_taken[place] = True
            corner = (place[1].start + _LABEL_MARGIN_PX, place[0].start)
            draw.text(corner, labels[index], fill=_TEXT_COLOUR, font=font, stroke_width=2, stroke_fill=(0, 0, 0))
    return np.array(canvas)


def _label_places(
    box_xyxy: NDArray[np.float32], label_hw: tuple[int, int], size_hw: tuple[int, ...]
) -> list[tuple[slice, slice]]:
    """Return the rows and columns, within the image, of a label above, below and in the middle of a box."""
    left, top, right, bottom = box_xyxy.tolist()
    height, width = label_hw
    x = max(0, min(round((left + right - width) / 2), size_hw[1] - width))
    rows = (max(0, min(round(y), size_hw[0] - height)) for y in (top - height, bottom, (top + bottom - height) / 2))
    return [(slice(y, y + height), slice(x, x + width)) for y in rows]


def _union(masks_nhw: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(np.logical_or.reduce(masks_nhw, axis=0))


def _resized(image_hwc: NDArray[np.uint8], long_side_px: int) -> NDArray[np.uint8]:
    ratio = long_side_px / max(image_hwc.shape[:2])
    height, width = (max(1, round(side * ratio)) for side in image_hwc.shape[:2])
    method = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image_hwc, (width, height), interpolation=method), np.uint8)


def _resized_masks(masks_nhw: NDArray[np.bool_], size_hw: tuple[int, ...]) -> NDArray[np.bool_]:
    height, width = size_hw
    resized = [resize_mask(mask_hw.astype(np.uint8), height, width) > 0 for mask_hw in masks_nhw]
    return np.array(resized, np.bool_).reshape(-1, height, width)


def _outline_reach(size_hw: tuple[int, ...]) -> NDArray[np.uint8]:
    width_px = max(1, round(max(size_hw) * _OUTLINE_SHARE))
    side = 2 * width_px + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def _blend(picture_hwc: NDArray[np.uint8], where_hw: NDArray[np.bool_], colour: Colour, opacity: float) -> None:
    """Mix a colour into some pixels of a picture, in place."""
    mixed = picture_hwc[where_hw] * (1 - opacity) + np.array(colour) * opacity
    picture_hwc[where_hw] = np.rint(mixed).astype(np.uint8)
