"""The one letterbox: an image or mask scaled to fit a frame and padded in the middle of it."""

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

_WORDS = {2: np.uint16, 4: np.uint32, 8: np.uint64}
"""Numbers as long as a pixel, by bytes."""

_CV2_MAX_CHANNELS = 128  # CV_CN_MAX of OpenCV 5; 512 before


@dataclass(frozen=True, slots=True)
class LetterboxGeometry:
    """Where an image lies in its letterbox.

    A point of the image, in pixels, lies at ``(x * width / image_width + left, y * height / image_height + top)``.

    Attributes:
        frame_hw: height and width of what it is padded to, in pixels.
        ratio: what the long side was multiplied by; the short side's factor differs by its rounding.
        height: height of the scaled image in pixels.
        width: width of the scaled image in pixels.
        top: rows of padding above it.
        left: columns of padding left of it.
    """

    frame_hw: tuple[int, int]
    ratio: float
    height: int
    width: int
    top: int
    left: int


def letterbox_geometry(
    height: int, width: int, imgsz: int, frame_hw: tuple[int, int] | None = None
) -> LetterboxGeometry:
    """Return where Ultralytics' validation dataset puts an image of this size.

    Source: Ultralytics 8.4, ``BaseDataset.load_image`` (long side to imgsz, short side rounded up) and then
    ``LetterBox(scaleup=False)`` (centred, the odd pixel of padding below and right).

    Args:
        height: the image's height in pixels.
        width: the image's width in pixels.
        imgsz: what the long side is scaled to, in pixels.
        frame_hw: height and width of what the scaled image is padded to, each at least the image's: the shape of a
            batch with ``rect=True``. None: the square of side ``imgsz``, as with ``rect=False``.

    Raises:
        ValueError: a side is smaller than 1, or the frame is smaller than the scaled image.
    """
    if min(height, width, imgsz) < 1:
        raise ValueError(f"letterbox of {height} x {width} in {imgsz}: every side must be at least 1")
    ratio = imgsz / max(height, width)
    # min: the product of the long side may come out a rounding error above imgsz.
    scaled_height = min(math.ceil(height * ratio), imgsz)
    scaled_width = min(math.ceil(width * ratio), imgsz)
    frame_height, frame_width = frame_hw or (imgsz, imgsz)
    if frame_height < scaled_height or frame_width < scaled_width:
        raise ValueError(f"{scaled_height} x {scaled_width} does not fit {frame_height} x {frame_width}")
    return LetterboxGeometry(
        frame_hw=(frame_height, frame_width),
        ratio=ratio,
        height=scaled_height,
        width=scaled_width,
        top=(frame_height - scaled_height) // 2,
        left=(frame_width - scaled_width) // 2,
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
    return pad_to_frame(scale_to_fit(image, geometry, interpolation), geometry, fill)


def scale_to_fit(image: NDArray[Any], geometry: LetterboxGeometry, interpolation: Interpolation) -> NDArray[Any]:
    """Return an image at the size that it has in its letterbox: the first half of `letterbox`.

    Args:
        image: HxW or HxWxC, of the dtypes that `letterbox` takes.
        geometry: of an image of this size.
        interpolation: "bilinear" for images; "nearest" (pixel centres) for masks.

    Returns:
        (geometry.height, geometry.width) with the image's channels and dtype; the image itself where it has that size.
    """
    size_wh = (geometry.width, geometry.height)
    if image.shape[:2] == (geometry.height, geometry.width):
        return image
    if image.ndim == 2 or 1 < image.shape[2] <= _CV2_MAX_CHANNELS:
        return cv2.resize(np.ascontiguousarray(image), size_wh, interpolation=_FLAGS[interpolation])
    scaled = np.empty((geometry.height, geometry.width, image.shape[2]), image.dtype)
    for first in range(0, image.shape[2], _CV2_MAX_CHANNELS):
        channels = slice(first, first + _CV2_MAX_CHANNELS)
        resized = cv2.resize(np.ascontiguousarray(image[..., channels]), size_wh, interpolation=_FLAGS[interpolation])
        scaled[..., channels] = resized.reshape(scaled[..., channels].shape)  # cv2 drops a single channel's axis
    return scaled


def pad_to_frame(scaled: NDArray[Any], geometry: LetterboxGeometry, fill: float | tuple[float, ...]) -> NDArray[Any]:
    """Return a scaled image in the middle of its frame: the second half of `letterbox`.

    Args:
        scaled: HxW or HxWxC, as `scale_to_fit` returns it.
        geometry: the one that it was scaled by.
        fill: value of the padding, in the image's own scale; or one a channel.

    Returns:
        (*geometry.frame_hw) with the image's channels and dtype, C-contiguous, a new array.
    """
    padded = _filled((*geometry.frame_hw, *scaled.shape[2:]), fill, scaled.dtype)
    bottom, right = geometry.top + geometry.height, geometry.left + geometry.width
    padded[geometry.top : bottom, geometry.left : right] = scaled
    return padded


def _filled(shape: tuple[int, ...], fill: float | tuple[float, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a new array of one value, or of one value a channel."""
    if not isinstance(fill, tuple):
        return np.full(shape, fill, dtype)
    pixel = np.array(fill, dtype)
    word = _WORDS.get(pixel.nbytes)
    if word is None:
        return np.full(shape, pixel, dtype)
    return np.full(shape[:2], pixel.view(word)[0]).view(dtype).reshape(shape)  # several times as fast
