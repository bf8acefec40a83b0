"""The arrays of a mask-attention NPZ in one shape: channels last, a plain mask, scales that are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.core.errors import MvtkError
from toolkit.npz.pair_options import RGB_AND_MASK
from toolkit.npz.reading import load_npz_data

_FULL_SCALE: Final[dict[np.dtype[Any], int]] = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}
_GREY, _RGB = 1, 3


class PreprocessError(MvtkError):
    """Arrays of a mask-attention NPZ that cannot become a model's input."""


def load_pair_arrays(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return image and mask of a mask-attention NPZ, read strictly.

    Returns:
        the image HxWxC, and the mask HxW, each in its stored values and the machine's own byte order: OpenCV and torch
        know no other.

    Raises:
        MvtkError: the file cannot be read, or has no image and mask.
        PreprocessError: image and mask differ in size.
    """
    image, mask = (array.astype(array.dtype.newbyteorder("="), copy=False) for array in load_npz_data(path))
    mask_hw = _mask_plane(path, mask)
    return _channels_last(path, image, mask_hw.shape), mask_hw


def load_rgb_and_mask(path: Path) -> NDArray[np.uint8]:
    """Return image and mask of a mask-attention NPZ as four 8-bit channels, as training reads them.

    8-bit values stay as they are; 16-bit ones and floats in [0, 1] are rounded to 8 bits. A mask whose values are none
    above 1 becomes 0 and 255. A grey image is repeated to three channels.

    Returns:
        (H, W, 4) uint8: red, green, blue, mask.

    Raises:
        MvtkError: as `load_pair_arrays`; or the image has neither one nor three channels.
        PreprocessError: a dtype or value has no known scale.
    """
    return join_rgb_and_mask(path, *load_pair_arrays(path))


def join_rgb_and_mask(path: Path, image_hwc: NDArray[Any], mask_hw: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an image and its mask as four 8-bit channels; see `load_rgb_and_mask`.

    Args:
        path: names the pair in errors.
        image_hwc: HxWx1 or HxWx3.
        mask_hw: HxW.

    Raises:
        MvtkError: the image has neither one nor three channels.
        PreprocessError: a dtype or value has no known scale.
    """
    channels = image_hwc.shape[2]
    if channels not in (_GREY, _RGB):
        raise PreprocessError(
            f"{path}: image of {channels} channels", "training takes grey and RGB images: store it as one of them"
        )
    pixels_hwc, mask_8bit_hw = _to_8bit(path, image_hwc), _mask_to_8bit(path, mask_hw)
    joined_hwc = np.empty((*mask_hw.shape, RGB_AND_MASK), np.uint8)
    # OpenCV joins channels several times as fast as NumPy's assignments.
    sources = [0, 0, 0, 1, 0, 2, 1, 3] if channels == _GREY else [0, 0, 1, 1, 2, 2, 3, 3]
    cv2.mixChannels([np.ascontiguousarray(pixels_hwc), np.ascontiguousarray(mask_8bit_hw)], [joined_hwc], sources)
    return joined_hwc


def scale_image(path: Path, image_hwc: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Return an image whose values are known to be in a range, and that range's upper end.

    Returns:
        the image as it is and 255 or 65535 for unsigned integers; as floats in [0, 1] and 1 for bool and floats.

    Raises:
        PreprocessError: a dtype or value has no known scale.
    """
    full_scale = _FULL_SCALE.get(image_hwc.dtype)
    return (_unit_floats(path, "image", image_hwc), 1) if full_scale is None else (image_hwc, full_scale)


def scale_mask(path: Path, mask_hw: NDArray[Any]) -> NDArray[np.float32]:
    """Return a mask as float32 in [0, 1]: values as they are where none is above 1, else scaled by their dtype.

    Raises:
        PreprocessError: a dtype or value has no known scale.
    """
    if _is_binary(mask_hw):
        return mask_hw.astype(np.float32)
    full_scale = _FULL_SCALE.get(mask_hw.dtype)
    if full_scale is None:
        return _unit_floats(path, "mask", mask_hw).astype(np.float32)
    scaled_hw: NDArray[np.float32] = mask_hw.astype(np.float32) / np.float32(full_scale)
    return scaled_hw


def _mask_to_8bit(path: Path, mask_hw: NDArray[Any]) -> NDArray[np.uint8]:
    if mask_hw.dtype == np.uint8:
        scaled_hw: NDArray[np.uint8] = mask_hw * np.uint8(255) if _is_binary(mask_hw) else mask_hw
        return scaled_hw
    return np.rint(scale_mask(path, mask_hw) * 255).astype(np.uint8)


def _to_8bit(path: Path, image_hwc: NDArray[Any]) -> NDArray[np.uint8]:
    scaled_hwc, full_scale = scale_image(path, image_hwc)
    if full_scale == 255:
        return scaled_hwc
    return np.rint(scaled_hwc.astype(np.float64) * (255 / full_scale)).astype(np.uint8)


def _is_binary(mask_hw: NDArray[Any]) -> bool:
    return mask_hw.dtype.kind in "iu" and bool(mask_hw.min() >= 0) and bool(mask_hw.max() <= 1)


def _mask_plane(path: Path, mask: NDArray[Any]) -> NDArray[Any]:
    if mask.ndim != 3 or mask.shape[2] != 1 or mask.size == 0:
        raise PreprocessError(f"{path}: mask of shape {mask.shape}", "expected HxW or HxWx1, not empty")
    return mask[..., 0]


def _channels_last(path: Path, image: NDArray[Any], size_hw: tuple[int, ...]) -> NDArray[Any]:
    if image.ndim == 2 and image.shape == size_hw:
        return image[..., None]
    if image.ndim == 3 and image.shape[:2] == size_hw and image.shape[2] > 0:
        return image
    if image.ndim == 3 and image.shape[1:] == size_hw and image.shape[0] > 0:
        return image.transpose(1, 2, 0)
    raise PreprocessError(
        f"{path}: image of shape {image.shape} and mask of {size_hw[0]} x {size_hw[1]} pixels do not fit together",
        "expected an image of HxW, HxWxC or CxHxW with the mask's H and W",
    )


def _unit_floats(path: Path, key: str, values: NDArray[Any]) -> NDArray[Any]:
    """Return bool and float values that are in [0, 1], as float32 or float64."""
    if values.dtype.kind not in "bf":
        raise PreprocessError(
            f"{path}: {key} of dtype {values.dtype}, whose range is not known",
            "store it as uint8 (0 to 255), uint16 (0 to 65535) or float (0 to 1)",
        )
    floats = values.astype(np.float64 if values.dtype == np.float64 else np.float32)
    low, high = floats.min(), floats.max()
    if not (low >= 0 and high <= 1):  # also where one is NaN
        raise PreprocessError(
            f"{path}: {key} holds floats from {low:g} to {high:g}", "scale them to 0 to 1, or store them as uint8"
        )
    return floats
