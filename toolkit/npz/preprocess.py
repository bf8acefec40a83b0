"""A mask-attention NPZ as the input of a YOLO model with one more channel than its images have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit.core.errors import MvtkError
from toolkit.core.extras import require_extra
from toolkit.images import letterbox
from toolkit.npz.reading import load_npz_data

if TYPE_CHECKING:
    import torch

_FILL_8BIT = 114
"""Grey of Ultralytics' padding, of 255."""

_FULL_SCALE: dict[np.dtype[Any], int] = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}


class PreprocessError(MvtkError):
    """Arrays of a mask-attention NPZ that cannot become a model's input."""


def preprocess_npz_for_yolo(npz_path: str | os.PathLike[str], imgsz: int | None = 640) -> torch.Tensor:
    """Read a mask-attention NPZ as a model's input batch of one.

    Args:
        npz_path: the NPZ file, with the keys ``image`` and ``mask`` (or ``arr_0`` and ``arr_1``).
        imgsz: side of the letterbox square in pixels; None keeps the image's size.

    Returns:
        (1, C+1, imgsz, imgsz) float32 in [0, 1]; see `preprocess_npz_array`.

    Raises:
        MissingExtraError: torch is not installed.
        MvtkError: as `preprocess_npz_array`.
    """
    require_extra("torch", "torch")
    import torch

    return torch.from_numpy(preprocess_npz_array(npz_path, imgsz))


def preprocess_npz_array(npz_path: str | os.PathLike[str], imgsz: int | None = 640) -> NDArray[np.float32]:
    """Read a mask-attention NPZ as a model's input batch of one, without torch.

    The image's values are scaled by their dtype: uint8 by 255, uint16 by 65535; floats must be in [0, 1] already,
    bool counts as 0 and 1. The mask's are used as they are when none is above 1, and are scaled by dtype otherwise.
    Image and mask are letterboxed alike (`toolkit.images.letterbox`): the image bilinear in its stored dtype, before
    scaling, padded with 114 of 255; the mask nearest, padded with 0.

    Args:
        npz_path: the NPZ file, with the keys ``image`` (HxW, HxWxC or CxHxW) and ``mask`` (HxW or HxWx1). An image is
            taken as CxHxW when its last two axes have the mask's size and its first two do not.
        imgsz: side of the letterbox square in pixels; None keeps the image's size.

    Returns:
        (1, C+1, imgsz, imgsz) float32 in [0, 1], C-contiguous: the image's channels in their stored order (RGB in
        files that mvtk wrote), then the mask.

    Raises:
        MvtkError: the file cannot be read, or has no image and mask.
        PreprocessError: image and mask differ in size, or a dtype or value has no known scale.
    """
    path = Path(npz_path)
    # OpenCV and torch know nothing but the machine's own byte order.
    image, mask = (array.astype(array.dtype.newbyteorder("="), copy=False) for array in load_npz_data(path))
    mask_hw = _mask_plane(path, mask)
    image_hwc = _channels_last(path, image, mask_hw.shape)
    scaled_image_hwc = _letterbox_image(path, image_hwc, imgsz)
    scaled_mask_hw = _scale_mask(path, mask_hw)
    if imgsz is not None:
        scaled_mask_hw = letterbox(scaled_mask_hw, imgsz, interpolation="nearest", fill=0)
    planes_chw = np.concatenate([scaled_image_hwc.transpose(2, 0, 1), scaled_mask_hw[None]])
    return np.ascontiguousarray(planes_chw[None])


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


def _letterbox_image(path: Path, image_hwc: NDArray[Any], imgsz: int | None) -> NDArray[np.float32]:
    """Return the image as HxWxC float32 in [0, 1], letterboxed in its stored dtype."""
    full_scale = _FULL_SCALE.get(image_hwc.dtype)
    if full_scale is None:
        image_hwc = _unit_floats(path, "image", image_hwc)
    if imgsz is not None:
        fill = _FILL_8BIT * (full_scale or 1) / 255  # 114, 114 * 257, or 114 / 255
        image_hwc = letterbox(image_hwc, imgsz, interpolation="bilinear", fill=fill)
    scaled_hwc: NDArray[np.float32] = image_hwc.astype(np.float32) / np.float32(full_scale or 1)
    return scaled_hwc


def _scale_mask(path: Path, mask_hw: NDArray[Any]) -> NDArray[np.float32]:
    if mask_hw.dtype.kind in "iu" and mask_hw.min() >= 0 and mask_hw.max() <= 1:
        return mask_hw.astype(np.float32)
    full_scale = _FULL_SCALE.get(mask_hw.dtype)
    if full_scale is None:
        return _unit_floats(path, "mask", mask_hw).astype(np.float32)
    scaled_hw: NDArray[np.float32] = mask_hw.astype(np.float32) / np.float32(full_scale)
    return scaled_hw


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
