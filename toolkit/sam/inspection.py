"""What can be wrong with one sample of SAM training data, and what is only odd."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from toolkit.images import ImageError, load_image
from toolkit.sam.layout import BOXES, MASKS, SampleFiles
from toolkit.sam.mask_bounds import mask_boxes
from toolkit.sam.samples import UNREADABLE, SampleProblem, read_boxes, read_masks

# What problems are counted under, beside those of samples.py.
BOX_OFF_MASK: Final = "box is not that of its mask"
SAME_MASK: Final = "same mask twice"

# What is odd.
NO_INSTANCES: Final = "image without instances"
SAME_BOX: Final = "same box twice, with different masks"
FULL_MASK: Final = "mask covers the whole image"
THIN: Final = "instance thinner than a pixel of the mask decoder's output"

_LOW_RESOLUTION_PX: Final = 256
"""The side of the square of logits that SAM's mask decoder gives, and is trained on."""
_ROUNDING_PX: Final = 2.0
"""Boxes whose edges are all so near to those of their masks are right, however small the IoU of tiny ones is."""


@dataclass(slots=True)
class SampleReport:
    """What one sample is like.

    Attributes:
        problems: what must be mended before training.
        warnings: what is odd, without the file's name.
        content: a hash of the image's pixels; empty where they cannot be read.
        class_ids: of the boxes without a problem.
        mask_count: the number of mask files.
        ious: of each box with the bounding box of its mask, 0 to 1; empty where they cannot be compared.
    """

    problems: list[SampleProblem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    content: str = ""
    class_ids: tuple[int, ...] = ()
    mask_count: int = 0
    ious: tuple[float, ...] = ()


def examine_sample(files: SampleFiles, class_count: int | None, min_iou: float) -> SampleReport:
    """Read a sample in full.

    Args:
        files: its files.
        class_count: how many classes there are; None: any class will do.
        min_iou: a box that overlaps its mask's bounding box less is a problem, if it is off by more than 2 pixels.
    """
    report = SampleReport(mask_count=len(files.mask_names))
    try:
        decoded = load_image(files.image, to_8bit=True, writable=False)
    except ImageError as error:
        report.problems.append(SampleProblem(UNREADABLE, error.message))
        return report
    report.warnings += decoded.warnings
    report.content = _content_hash(decoded.pixels)
    height, width = decoded.pixels.shape[:2]
    rows = read_boxes(files, class_count, (height, width), report.problems)
    report.class_ids = tuple(rows.class_ids.tolist())
    masks = read_masks(files, (height, width), report.problems, report.warnings)
    masks_nhw = np.stack(masks) if masks else np.zeros((0, height, width), np.bool_)
    report.warnings += _odd_masks(masks_nhw)
    report.problems += _repeated_masks(files, masks_nhw)
    if len(rows.boxes_xyxy) == rows.row_count == len(masks):
        _compare(files, rows.boxes_xyxy, masks_nhw, min_iou, report)
    report.warnings = list(dict.fromkeys(report.warnings))
    return report


def box_ious(first_xyxy: NDArray[np.float32], second_xyxy: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the IoU of each box of one list with each of another.

    Args:
        first_xyxy: (N, 4): left, top, right, bottom, right and bottom exclusive.
        second_xyxy: (M, 4).

    Returns:
        (N, M) float64, 0 to 1; 0 where both boxes have no area.
    """
    first, second = first_xyxy.astype(np.float64)[:, None], second_xyxy.astype(np.float64)[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    overlap = sides.clip(min=0).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).clip(min=0).prod(axis=-1) for boxes in (first, second)]
    union = areas[0] + areas[1] - overlap
    ious: NDArray[np.float64] = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return ious


def _compare(
    files: SampleFiles,
    boxes_xyxy: NDArray[np.float32],
    masks_nhw: NDArray[np.bool_],
    min_iou: float,
    report: SampleReport,
) -> None:
    """Compare each box with the bounding box of its mask."""
    bounds_xyxy = mask_boxes(masks_nhw)
    ious = box_ious(boxes_xyxy, bounds_xyxy)
    report.ious = tuple(np.diagonal(ious).tolist())
    if not report.ious:
        report.warnings.append(NO_INSTANCES)
        return
    if len(np.unique(boxes_xyxy, axis=0)) < len(boxes_xyxy):
        report.warnings.append(SAME_BOX)
    far = np.abs(boxes_xyxy - bounds_xyxy).max(axis=1) > _ROUNDING_PX
    off = np.flatnonzero((np.diagonal(ious) < min_iou) & far & masks_nhw.any(axis=(1, 2)))
    if not off.size:
        return
    listed = ", ".join(f"{files.mask_names[k]} {report.ious[k]:.2f}" for k in off)
    text = f"{BOXES}/{files.boxes.name}: IoU of box and mask below {min_iou:g}: {listed}"
    if (ious.max(axis=0) >= min_iou).all():
        text += "; the boxes are in another order than the masks"
    report.problems.append(SampleProblem(BOX_OFF_MASK, text))


def _odd_masks(masks_nhw: NDArray[np.bool_]) -> Iterator[str]:
    if not len(masks_nhw):
        return
    if masks_nhw.all(axis=(1, 2)).any():
        yield FULL_MASK
    bounds_xyxy = mask_boxes(masks_nhw)
    sides_px = bounds_xyxy[:, 2:] - bounds_xyxy[:, :2]
    is_thin = (sides_px * _LOW_RESOLUTION_PX < max(masks_nhw.shape[1:])).any(axis=1)
    if (is_thin & (sides_px[:, 0] > 0)).any():
        yield THIN


def _repeated_masks(files: SampleFiles, masks_nhw: NDArray[np.bool_]) -> Iterator[SampleProblem]:
    """Yield a problem for each mask that equals an earlier one; what is wrong with empty ones is said elsewhere."""
    first_of: dict[bytes, str] = {}
    for name, mask_hw in zip(files.mask_names, masks_nhw, strict=True):
        if mask_hw.any():
            digest = hashlib.blake2b(np.packbits(mask_hw).data, digest_size=16).digest()
            first = first_of.setdefault(digest, name)
            if first != name:
                yield SampleProblem(SAME_MASK, f"{MASKS}/{name}: the same mask as {first}")


def _content_hash(image_hwc: NDArray[np.uint8]) -> str:
    shape = "x".join(map(str, image_hwc.shape))
    digest = hashlib.blake2b(shape.encode(), digest_size=16)
    digest.update(image_hwc.data)
    return digest.hexdigest()


def listed_ious(ious: Sequence[float], shown: int = 64) -> str:
    """Return IoUs as text, in the order of the masks."""
    more = ",…" if len(ious) > shown else ""
    return ",".join(f"{iou:.2f}" for iou in ious[:shown]) + more
