"""A mask-attention NPZ as the input of a YOLO model with one more channel than its images have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit.core.extras import require_extra
from toolkit.images import letterbox
from toolkit.npz.pair_arrays import load_pair_arrays, scale_image, scale_mask

if TYPE_CHECKING:
    import torch

_FILL_8BIT = 114
"""Grey of Ultralytics' padding, of 255."""


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
    image_hwc, mask_hw = load_pair_arrays(path)
    scaled_image_hwc = _letterbox_image(path, image_hwc, imgsz)
    scaled_mask_hw = scale_mask(path, mask_hw)
    if imgsz is not None:
        scaled_mask_hw = letterbox(scaled_mask_hw, imgsz, interpolation="nearest", fill=0)
    planes_chw = np.concatenate([scaled_image_hwc.transpose(2, 0, 1), scaled_mask_hw[None]])
    return np.ascontiguousarray(planes_chw[None])


def _letterbox_image(path: Path, image_hwc: NDArray[Any], imgsz: int | None) -> NDArray[np.float32]:
    """Return the image as HxWxC float32 in [0, 1], letterboxed in its stored dtype."""
    image_hwc, full_scale = scale_image(path, image_hwc)
    if imgsz is not None:
        fill = _FILL_8BIT * full_scale / 255  # 114, 114 * 257, or 114 / 255
        image_hwc = letterbox(image_hwc, imgsz, interpolation="bilinear", fill=fill)
    scaled_hwc: NDArray[np.float32] = image_hwc.astype(np.float32) / np.float32(full_scale)
    return scaled_hwc
