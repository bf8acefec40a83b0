"""The one letterbox: an image or mask scaled to fit a square and padded in the middle of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Interpolation = Literal["bilinear", "nearest"]

_FLAGS: dict[Interpolation, int] = {
    "bilinear": cv2.INTER_LINEAR,
    # Compares pixel centres, as INTER_LINEAR does: INTER_NEAREST would move a mask against its image.
    "nearest": cv2.INTER_NEAREST_EXACT,
}

_CV2_MAX_CHANNELS = 128  # CV_CN_MAX of OpenCV 5; 512 before


@dataclass(frozen=True, slots=True)
class LetterboxGeometry:
    """Where an image lies in its letterbox square.

    A point of the image, in pixels, lies at ``(x * width / image_width + left, y * height / image_height + top)``.

    Attributes:
        imgsz: side of the square in pixels.
        ratio: what the long side was multiplied by; the short side's factor differs by its rounding.
        height: height of the scaled image in pixels.
        width: width of the scaled image in pixels.
        top: rows of padding above it.
        left: columns of padding left of it.
    """

    imgsz: int
    ratio: float
    height: int
    width: int
    top: int
    left: int


def letterbox_geometry(height: int, width: int, imgsz: int) -> LetterboxGeometry:
    """Return where Ultralytics' validation dataset with ``rect=False`` puts an image of this size.

    Source: Ultralytics 8.4, ``BaseDataset.load_image`` (long side to imgsz, short side rounded up) and then
    ``LetterBox(scaleup=False)`` (centred, the odd pixel of padding below and right).

    Args:
        height: the image's height in pixels.
        width: the image's width in pixels.
        imgsz: side of the square in pixels.

    Raises:
        ValueError: a side is smaller than 1.
    """
    if min(height, width, imgsz) < 1:
        raise ValueError(f"letterbox of {height} x {width} in {imgsz}: every side must be at least 1")
    ratio = imgsz / max(height, width)
    # min: the product of the long side may come out a rounding error above imgsz.
    scaled_height = min(math.ceil(height * ratio), imgsz)
    scaled_width = min(math.ceil(width * ratio), imgsz)
    return LetterboxGeometry(
        imgsz=imgsz,
        ratio=ratio,
        height=scaled_height,
        width=scaled_width,
        top=(imgsz - scaled_height) // 2,
        left=(imgsz - scaled_width) // 2,
    )


def letterbox(
    image: NDArray[Any],
    imgsz: int,
    *,
    interpolation: Interpolation,
    fill: float,
) -> NDArray[Any]:
    """Scale an image to fit a square of side ``imgsz`` and pad it in the middle of it.

    Bit for bit what Ultralytics' validation dataset gives (see `letterbox_geometry`) for 8-bit images with
    ``interpolation="bilinear"`` and ``fill=114``.

    Args:
        image: HxW or HxWxC, any channel order. bilinear takes uint8, uint16, int16, float32 and float64; nearest
            takes bool, 8 and 16-bit integers, float16, float32 and float64.
        imgsz: side of the square in pixels.
        interpolation: "bilinear" for images; "nearest" (pixel centres) for masks.
        fill: value of the padding, in the image's own scale.

    Returns:
        (imgsz, imgsz) or (imgsz, imgsz, C), the same dtype, C-contiguous.

    Raises:
        ValueError: a side is smaller than 1.
    """
    geometry = letterbox_geometry(image.shape[0], image.shape[1], imgsz)
    padded = np.full((imgsz, imgsz, *image.shape[2:]), fill, image.dtype)
    inner = padded[geometry.top : geometry.top + geometry.height, geometry.left : geometry.left + geometry.width]
    if inner.shape == image.shape:
        inner[:] = image
    elif image.ndim == 2:
        inner[:] = cv2.resize(image, (geometry.width, geometry.height), interpolation=_FLAGS[interpolation])
    else:
        for first in range(0, image.shape[2], _CV2_MAX_CHANNELS):
            channels = slice(first, first + _CV2_MAX_CHANNELS)
            block = np.ascontiguousarray(image[..., channels])
            resized = cv2.resize(block, (geometry.width, geometry.height), interpolation=_FLAGS[interpolation])
            inner[..., channels] = resized.reshape(inner[..., channels].shape)  # cv2 drops a single channel's axis
    return padded
