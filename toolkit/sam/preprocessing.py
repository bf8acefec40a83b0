"""Images, masks and boxes as SAM's networks take them: what transformers' ``SamProcessor`` does, an array at a time.

The processor takes one mask an image, and pads masks with zeros that a loss must not see; here each instance is a mask
of its own, and targets end where the image ends. For SAM2 the same steps give what ``Sam2Processor`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from toolkit.core.extras import require_extra
from toolkit.sam.geometry import ResizeGeometry

if TYPE_CHECKING:
    from torch import Tensor

PREPROCESSING: Final = "uint8 antialiased bilinear resize, ImageNet normalisation, zero padding"
"""What :func:`prepare_image` does, as part of the key under which embeddings are cached: change both together."""

IMAGE_MEAN_RGB: Final = (0.485, 0.456, 0.406)
IMAGE_STD_RGB: Final = (0.229, 0.224, 0.225)
"""ImageNet's mean and standard deviation, of values from 0 to 1; every SAM was trained with them."""

_RANGE: Final = 255.0


def prepare_image(image_hwc: npt.NDArray[np.uint8], geometry: ResizeGeometry) -> Tensor:
    """Return an image as the encoder takes it: resized, normalised, and padded with zeros.

    Args:
        image_hwc: (H, W, 3) uint8, RGB, of the geometry's size.
        geometry: of this image and the model.

    Returns:
        (3, S, S) float32, S being ``geometry.input_size``.
    """
    if image_hwc.dtype != np.uint8 or image_hwc.shape != (geometry.height, geometry.width, 3):
        raise ValueError(
            f"expected is ({geometry.height}, {geometry.width}, 3) uint8, not {image_hwc.shape} {image_hwc.dtype}"
        )
    transforms = require_extra("torchvision.transforms.v2", "sam")
    import torch

    # torch takes neither negative strides nor, without a warning, read-only arrays.
    pixels_chw = torch.from_numpy(np.require(image_hwc, requirements=["C", "W"])).permute(2, 0, 1).contiguous()
    height, width = geometry.resized_hw
    bilinear = transforms.InterpolationMode.BILINEAR
    resized_chw = transforms.functional.resize(pixels_chw, [height, width], interpolation=bilinear, antialias=True)
    # Rescaling and normalisation in one step, as in transformers: two would round twice.
    mean_chw = torch.tensor(IMAGE_MEAN_RGB).mul_(_RANGE).view(3, 1, 1)
    std_chw = torch.tensor(IMAGE_STD_RGB).mul_(_RANGE).view(3, 1, 1)
    square_chw = torch.zeros((3, geometry.input_size, geometry.input_size))
    square_chw[:, :height, :width] = resized_chw.to(torch.float32).sub_(mean_chw).div_(std_chw)
    return square_chw


def prepare_targets(masks_nhw: npt.NDArray[np.bool_], geometry: ResizeGeometry) -> Tensor:
    """Return masks at the size of the logits' valid area, nearest, as the processor scales ``segmentation_maps``.

    An instance of a few pixels may lose all of them.

    Args:
        masks_nhw: (N, H, W) bool, of the geometry's size, N may be 0.
        geometry: of this image and the model.

    Returns:
        (N, h, w) bool, (h, w) being ``geometry.valid_low_hw``: no padding.
    """
    if masks_nhw.shape[1:] != (geometry.height, geometry.width):
        raise ValueError(f"expected is (N, {geometry.height}, {geometry.width}), not {masks_nhw.shape}")
    import torch
    from torch.nn.functional import interpolate

    masks = torch.from_numpy(np.require(masks_nhw.astype(np.uint8, copy=False), requirements=["C", "W"]))
    return interpolate(masks[:, None], geometry.valid_low_hw, mode="nearest-exact")[:, 0].bool()


def prepare_boxes(boxes_xyxy: npt.NDArray[np.floating], geometry: ResizeGeometry) -> Tensor:
    """Return boxes as the prompt encoder takes them.

    Args:
        boxes_xyxy: (N, 4), x1, y1, x2, y2 in pixels of the image, N may be 0.
        geometry: of this image and the model.

    Returns:
        (N, 4) float32, in pixels of the encoder's input.
    """
    import torch

    return torch.from_numpy(geometry.scale_boxes(boxes_xyxy).astype(np.float32))
