"""What becomes of boxes that no image can have: NaN, without area, or beyond the image's edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

BoxPolicy = Literal["clip", "drop", "error"]
"""clip: cut boxes at the image's edges and drop those that have nothing left; drop: drop every faulty box; error."""

EDGE_TOLERANCE_PX: Final = 0.01
"""How far beyond the image an edge may be without being called a fault: annotations are rounded to three decimals."""

KEYPOINT_PADDING: Final = 0.1
"""What a box around keypoints adds on each side, as a fraction of its width or height."""

NOT_A_NUMBER: Final = "box with NaN or infinity"
NO_AREA: Final = "box of no area"
OUTSIDE: Final = "box outside the image"
BEYOND_EDGE: Final = "box beyond the image's edge"


@dataclass(frozen=True, slots=True)
class CheckedBoxes:
    """Boxes after the policy.

    Attributes:
        boxes_xywh: (m, 4) float64, all rows of the input; where ``kept`` is false they mean nothing.
        kept: (m,) bool.
        faults: the kind of fault and the rows that have it; a box has one at most.
    """

    boxes_xywh: NDArray[np.float64]
    kept: NDArray[np.bool_]
    faults: dict[str, NDArray[np.int64]]


def check_boxes(boxes_xywh: NDArray[np.float64], image_sizes_wh: NDArray[np.int64], policy: BoxPolicy) -> CheckedBoxes:
    """Find the boxes that no image can have, and clip or leave them out.

    Whether a box is finite and has an area is judged by the float32 numbers that a file has of it. Under ``"error"``
    faulty boxes are left out too: whoever asked for it makes an error of the faults.

    Args:
        boxes_xywh: (m, 4): left, top, width, height in pixels.
        image_sizes_wh: (m, 2): each box's image; 0, 0 where unknown: such a box cannot be outside.
        policy: what to do.
    """
    limits = np.where(image_sizes_wh > 0, image_sizes_wh, np.inf)
    with np.errstate(invalid="ignore", over="ignore"):
        finite = stored_finite(boxes_xywh)
        starts, ends = boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]
        clipped_starts = np.clip(starts, 0, limits)
        clipped_xywh = np.concatenate((clipped_starts, np.clip(ends, 0, limits) - clipped_starts), axis=1)
        empty = finite & ~_span_area(boxes_xywh)
        sound = finite & ~empty
        nothing_left = sound & ~_span_area(clipped_xywh)
        excess = np.maximum(-starts, ends - limits).max(axis=1, initial=-np.inf)
    beyond = sound & ~nothing_left & (excess > EDGE_TOLERANCE_PX)
    over = sound & ~nothing_left & (excess > 0)
    faults = {NOT_A_NUMBER: ~finite, NO_AREA: empty, OUTSIDE: nothing_left, BEYOND_EDGE: beyond}
    kept = sound & ~nothing_left
    if policy != "clip":
        kept &= ~beyond
    # Only boxes that are over an edge are touched: the others keep their exact numbers.
    boxes = boxes_xywh
    if over.any():
        boxes = boxes_xywh.copy()
        boxes[over] = clipped_xywh[over]
    return CheckedBoxes(boxes, kept, {kind: np.flatnonzero(rows) for kind, rows in faults.items() if rows.any()})


def stored_finite(rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which rows of numbers, (m, k), are neither NaN nor infinite when they are float32, as files have them."""
    with np.errstate(over="ignore"):
        finite: NDArray[np.bool_] = np.all(np.isfinite(rows.astype(np.float32)), axis=1)
    return finite


def _span_area(boxes_xywh: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which boxes begin before they end, on both axes, when they are float32."""
    stored_xywh = boxes_xywh.astype(np.float32)
    spans: NDArray[np.bool_] = np.all(stored_xywh[:, :2] + stored_xywh[:, 2:] > stored_xywh[:, :2], axis=1)
    return spans


def boxes_around(
    keypoints_xyv: NDArray[np.float64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the box around each object's labelled keypoints, padded by 10 % on each side and clipped at 0.

    Args:
        keypoints_xyv: (k, 3): x, y, visibility; those of visibility 0 do not count.
        counts: (m,): how many keypoints each object has, in order.

    Returns:
        (m, 4) float64 XYWH, and (m,) bool: whether the object has one, that is labelled points that span an area.
    """
    objects = np.repeat(np.arange(len(counts)), counts)
    labelled = (keypoints_xyv[:, 2] > 0) & stored_finite(keypoints_xyv)
    low = np.full((len(counts), 2), np.inf)
    high = np.full((len(counts), 2), -np.inf)
    np.minimum.at(low, objects[labelled], keypoints_xyv[labelled, :2])
    np.maximum.at(high, objects[labelled], keypoints_xyv[labelled, :2])
    has_box: NDArray[np.bool_] = np.all(high > low, axis=1)
    low[~has_box], high[~has_box] = 0, 0
    padding = (high - low) * KEYPOINT_PADDING
    starts = np.maximum(low - padding, 0)
    return np.concatenate((starts, high + padding - starts), axis=1), has_box
