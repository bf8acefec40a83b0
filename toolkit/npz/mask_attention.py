"""What image and mask of a mask-attention NPZ must be like (the project's format document, "Mask-attention NPZ")."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

_IMAGE_CHANNELS: Final = (1, 3, 4)
_FLOAT_NAMES: Final = ("float16", "float32", "float64")
_IMAGE_DTYPES: Final = ("uint8", "uint16", *_FLOAT_NAMES)
_MASK_DTYPES: Final = ("bool", *_IMAGE_DTYPES)


def pair_problems(image_key: str, image: npt.NDArray[Any], mask_key: str, mask: npt.NDArray[Any]) -> list[str]:
    """Return what is wrong with an image and its mask, one line each.

    Args:
        image_key: the image's name, for the lines.
        image: should be (H, W) or (H, W, C), C one of 1, 3, 4, of uint8, uint16 or floats in [0, 1].
        mask_key: the mask's name.
        mask: should be (H, W) or (H, W, 1) with the image's H and W, of bool or an image's dtypes.
    """
    problems = []
    if not _is_plane(image.shape, _IMAGE_CHANNELS):
        problems.append(f"member '{image_key}' has shape {image.shape}, not (H, W) or (H, W, C) with C = 1, 3 or 4")
    if not _is_plane(mask.shape, (1,)):
        problems.append(f"member '{mask_key}' has shape {mask.shape}, not (H, W) or (H, W, 1)")
    if not problems and image.shape[:2] != mask.shape[:2]:
        sizes = f"{image.shape[0]}x{image.shape[1]} and {mask.shape[0]}x{mask.shape[1]}"
        problems.append(f"members '{image_key}' and '{mask_key}' differ in height x width: {sizes}")
    problems += _value_problems(image_key, image, _IMAGE_DTYPES)
    problems += _value_problems(mask_key, mask, _MASK_DTYPES)
    return problems


def _is_plane(shape: tuple[int, ...], channels: tuple[int, ...]) -> bool:
    return len(shape) in (2, 3) and 0 not in shape[:2] and (len(shape) == 2 or shape[2] in channels)


def _value_problems(key: str, array: npt.NDArray[Any], dtypes: tuple[str, ...]) -> list[str]:
    if array.dtype.name not in dtypes:
        return [f"member '{key}' has dtype {array.dtype}, not one of {', '.join(dtypes)}"]
    if array.dtype.name not in _FLOAT_NAMES or array.size == 0:
        return []
    if not np.isfinite(array).all():
        return [f"member '{key}' holds values that are not finite"]
    low, high = array.min(), array.max()
    if low < 0 or high > 1:
        return [f"member '{key}' holds floats from {low:g} to {high:g}, outside [0, 1]"]
    return []
