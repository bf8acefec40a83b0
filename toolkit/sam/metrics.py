"""How well predicted masks match the true ones: IoU, Dice and the boundary F-measure, an instance.

Masks are compared pair by pair: the prompt box says which truth a prediction is for, so nothing is matched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.sam.mask_bounds import mask_window

SizeName: TypeAlias = Literal["small", "medium", "large"]

SIZE_NAMES: Final[tuple[SizeName, ...]] = ("small", "medium", "large")
SMALL_BELOW_PX: Final = 32**2
LARGE_FROM_PX: Final = 96**2
"""COCO's limits of a mask's area; https://cocodataset.org/#detection-eval."""

BOUNDARY_TOLERANCE: Final = 0.008
"""How far a boundary may be off, as a fraction of the image's diagonal: the value of Perazzi et al. and DAVIS."""


@dataclass(frozen=True, slots=True, eq=False)
class MaskScores:
    """The scores of n predicted masks, each (n,) float64 from 0 (nothing in common) to 1 (equal)."""

    iou: NDArray[np.float64]
    dice: NDArray[np.float64]
    boundary_f: NDArray[np.float64]


def score_masks(
    predicted_nhw: NDArray[np.bool_], truth_nhw: NDArray[np.bool_], boundary_tolerance: float = BOUNDARY_TOLERANCE
) -> MaskScores:
    """Return all scores of predictions against the truths of the same index; see the functions below."""
    intersection, predicted_px, truth_px = _areas(predicted_nhw, truth_nhw)
    return MaskScores(
        iou=_ratio(intersection, predicted_px + truth_px - intersection),
        dice=_ratio(2 * intersection, predicted_px + truth_px),
        boundary_f=boundary_f(predicted_nhw, truth_nhw, boundary_tolerance),
    )


def mask_iou(predicted_nhw: NDArray[np.bool_], truth_nhw: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return intersection over union (the Jaccard index) of each pair, (N,); 1 where both masks are empty.

    Args:
        predicted_nhw: (N, H, W) bool.
        truth_nhw: of the same shape.
    """
    intersection, predicted_px, truth_px = _areas(predicted_nhw, truth_nhw)
    return _ratio(intersection, predicted_px + truth_px - intersection)


def mask_dice(predicted_nhw: NDArray[np.bool_], truth_nhw: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the Dice coefficient, 2 * intersection / (sum of the areas), of each pair, (N,); 1 where both are empty.

    Args:
        predicted_nhw: (N, H, W) bool.
        truth_nhw: of the same shape.
    """
    intersection, predicted_px, truth_px = _areas(predicted_nhw, truth_nhw)
    return _ratio(2 * intersection, predicted_px + truth_px)


def boundary_f(
    predicted_nhw: NDArray[np.bool_], truth_nhw: NDArray[np.bool_], tolerance: float = BOUNDARY_TOLERANCE
) -> NDArray[np.float64]:
    """Return the boundary F-measure of each pair, (N,).

    Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation" (CVPR 2016), as
    DAVIS' ``f_boundary.py`` computes it: precision is the share of the predicted boundary's pixels within the
    tolerance of the true boundary, recall the reverse, F their harmonic mean. Boundaries are one pixel wide and have
    no part along the image's border. A mask without a boundary is empty or the whole image: two of them score 1, one
    of them scores 0, and an empty mask against one that is not scores 0.

    The tolerance is a fraction of the image, not of the object: it forgives more of a small object's boundary, which
    is why scores are also reported by size.

    Args:
        predicted_nhw: (N, H, W) bool.
        truth_nhw: of the same shape.
        tolerance: fraction of the image's diagonal; rounded up to whole pixels.
    """
    _require_pairs(predicted_nhw, truth_nhw)
    radius_px = math.ceil(tolerance * math.hypot(*truth_nhw.shape[1:]))
    pairs = zip(predicted_nhw, truth_nhw, strict=True)
    return np.array([_boundary_f(predicted, truth, radius_px) for predicted, truth in pairs], np.float64)


def mask_boundary(mask_hw: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a mask's boundary, (H, W) bool: those that differ from one right, below, or both.

    It is one pixel wide, on the upper and left side outside the mask and on the others inside: DAVIS' ``seg2bmap``.
    """
    extended = np.pad(mask_hw, ((0, 1), (0, 1)), mode="edge")
    here = extended[:-1, :-1]
    different: NDArray[np.bool_] = (here ^ extended[:-1, 1:]) | (here ^ extended[1:, :-1]) | (here ^ extended[1:, 1:])
    return different


def size_name(area_px: int) -> SizeName:
    """Return the size of a mask of so many pixels: small below 32², large from 96² on."""
    if area_px < SMALL_BELOW_PX:
        return "small"
    return "large" if area_px >= LARGE_FROM_PX else "medium"


def _areas(
    predicted_nhw: NDArray[np.bool_], truth_nhw: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the pixels of each pair's intersection, of each prediction and of each truth."""
    _require_pairs(predicted_nhw, truth_nhw)
    return _count(predicted_nhw & truth_nhw), _count(predicted_nhw), _count(truth_nhw)


def _require_pairs(predicted_nhw: NDArray[np.bool_], truth_nhw: NDArray[np.bool_]) -> None:
    if predicted_nhw.shape != truth_nhw.shape or predicted_nhw.ndim != 3:
        raise ValueError(f"masks of shape {predicted_nhw.shape} against {truth_nhw.shape}, not both (N, H, W)")


def _count(masks_nhw: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.array([np.count_nonzero(mask_hw) for mask_hw in masks_nhw], np.int64)


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return ``part / whole``, and 1 where both are 0."""
    return np.divide(part, whole, out=np.ones(len(whole)), where=whole > 0)


def _boundary_f(predicted_hw: NDArray[np.bool_], truth_hw: NDArray[np.bool_], radius_px: int) -> float:
    if not (predicted_hw.any() and truth_hw.any()):
        return float(predicted_hw.any() == truth_hw.any())
    # One pixel around the masks: the boundaries in the window are then those in the image.
    window = mask_window(predicted_hw | truth_hw, margin_px=1)
    predicted, truth = mask_boundary(predicted_hw[window]), mask_boundary(truth_hw[window])
    if not (predicted.any() and truth.any()):
        return float(predicted.any() == truth.any())
    precision = np.mean(_near(truth, radius_px)[predicted])
    recall = np.mean(_near(predicted, radius_px)[truth])
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def _near(boundary_hw: NDArray[np.bool_], radius_px: int) -> NDArray[np.bool_]:
    """Return which pixels are at most ``radius_px`` from a boundary: its dilation by a disk."""
    distances_hw = cv2.distanceTransform((~boundary_hw).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    near: NDArray[np.bool_] = np.asarray(distances_hw) <= radius_px + 1e-3
    return near
