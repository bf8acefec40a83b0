"""Mirrored and turned variants of an image with its masks and boxes: augmentation whose embeddings can be kept.

The encoder does not commute with them (its position embeddings know left from right): each variant of an image is
encoded by itself. There are eight, the symmetries of the square, of which four keep height and width.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from toolkit.sam.samples import SamInstances, SamSample

CacheVariants: TypeAlias = Literal["none", "flips", "dihedral"]
SampleT = TypeVar("SampleT", SamSample, SamInstances)
ScalarT = TypeVar("ScalarT", bound=np.generic)

IDENTITY: Final = "identity"


@dataclass(frozen=True, slots=True)
class _Symmetry:
    """First rows and columns are exchanged, then rows are reversed, then columns."""

    transpose: bool
    flip_y: bool
    flip_x: bool


_SYMMETRIES: Final = {
    IDENTITY: _Symmetry(transpose=False, flip_y=False, flip_x=False),
    "flip_x": _Symmetry(transpose=False, flip_y=False, flip_x=True),
    "flip_y": _Symmetry(transpose=False, flip_y=True, flip_x=False),
    "rotate_180": _Symmetry(transpose=False, flip_y=True, flip_x=True),
    "transpose": _Symmetry(transpose=True, flip_y=False, flip_x=False),
    "rotate_90": _Symmetry(transpose=True, flip_y=True, flip_x=False),
    "rotate_270": _Symmetry(transpose=True, flip_y=False, flip_x=True),
    "transverse": _Symmetry(transpose=True, flip_y=True, flip_x=True),
}
"""Turns are counter-clockwise, as ``numpy.rot90``'s."""

_NAMES: Final[dict[CacheVariants, tuple[str, ...]]] = {
    "none": (IDENTITY,),
    "flips": tuple(name for name, symmetry in _SYMMETRIES.items() if not symmetry.transpose),
    "dihedral": tuple(_SYMMETRIES),
}


def variant_names(choice: CacheVariants) -> tuple[str, ...]:
    """Return the names of the variants that ``--cache-variants`` means; the first is the image as it is."""
    return _NAMES[choice]


def vary_image(image_hwc: NDArray[ScalarT], variant: str) -> NDArray[ScalarT]:
    """Return an image (H, W, C) mirrored or turned: a view."""
    return _vary(image_hwc, variant, (0, 1))


def vary_masks(masks_nhw: NDArray[ScalarT], variant: str) -> NDArray[ScalarT]:
    """Return masks (N, H, W) mirrored or turned as their image: a view."""
    return _vary(masks_nhw, variant, (1, 2))


def vary_boxes(boxes_xyxy: NDArray[ScalarT], variant: str, height: int, width: int) -> NDArray[ScalarT]:
    """Return boxes mirrored or turned as their image.

    Args:
        boxes_xyxy: (N, 4) in pixels, the right and lower edges exclusive.
        variant: its name.
        height: of the image before, in pixels.
        width: of the image before, in pixels.

    Returns:
        (N, 4), left above right again.
    """
    symmetry = _SYMMETRIES[variant]
    boxes: NDArray[Any] = boxes_xyxy.copy()
    if symmetry.transpose:
        boxes, height, width = boxes[:, [1, 0, 3, 2]], width, height
    if symmetry.flip_y:
        boxes[:, [1, 3]] = height - boxes[:, [3, 1]]
    if symmetry.flip_x:
        boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    return boxes


def vary_sample(sample: SampleT, variant: str) -> SampleT:
    """Return a sample, with or without its image, mirrored or turned; its masks and image are views."""
    height, width = sample.masks_nhw.shape[1:]
    masks_nhw = vary_masks(sample.masks_nhw, variant)
    boxes_xyxy = vary_boxes(sample.boxes_xyxy, variant, height, width)
    if isinstance(sample, SamSample):
        image_hwc = vary_image(sample.image_hwc, variant)
        return replace(sample, image_hwc=image_hwc, masks_nhw=masks_nhw, boxes_xyxy=boxes_xyxy)
    return replace(sample, masks_nhw=masks_nhw, boxes_xyxy=boxes_xyxy)


def _vary(array: NDArray[ScalarT], variant: str, axes: tuple[int, int]) -> NDArray[ScalarT]:
    """Return a view of ``array``, ``axes`` being those of its rows and columns."""
    symmetry = _SYMMETRIES[variant]
    if symmetry.transpose:
        array = array.swapaxes(*axes)
    flipped = (symmetry.flip_y, symmetry.flip_x)
    return np.flip(array, tuple(itertools.compress(axes, flipped)))
