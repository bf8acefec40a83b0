"""Mask files as arrays: what counts as the mask in a file, and what its values become."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.images.decoding import Decoded, decode, scale_16bit_to_8bit
from toolkit.images.files import ImageError
from toolkit.images.policies import MAX_PIXELS, ExifPolicy, MaskValues

SCALED_TO_8_BITS = "16-bit values scaled to 8 bits"

# ITU-R BT.601 luma weights in 1/65536, as Pillow uses them. They sum to 65536: grey stays exactly what it was.
_LUMA_WEIGHTS = (19595, 38470, 7471)


def load_mask(
    path: str | os.PathLike[str],
    *,
    values: MaskValues = "auto",
    exif: ExifPolicy = "ignore",
    keep_mode: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Decoded:
    """Read a mask file as one 8-bit channel.

    Which channel is the mask:

    - grey of any depth: itself;
    - colour or palette: the luminance (BT.601, exact where R = G = B); palette indices never;
    - with alpha (RGBA, grey and alpha, palette with transparency), where the colours are one constant: alpha if it
      varies; an empty mask if alpha is 0 everywhere. In any other case the luminance of the colours, and alpha is
      ignored.

    What its values become with ``values="auto"``, decided on the values as stored:

    - at most two different values: the lower becomes 0, the higher 255; a constant mask stays 0, or becomes 255;
    - more, none above 255: as they are;
    - more, of 16 bits: round(v / 257); floats in [0, 1]: round(255 v); other floats and 32-bit values above 255 are
      an error, as are negative values and NaN.

    With ``values="keep"`` they stay as they are, and what is no whole number from 0 to 255 is an error. A 1-bit file
    has the values 0 and 1; grey of 2 or 4 bits comes from the decoder spread over 0 to 255.

    Args:
        path: the file.
        values: see above.
        exif: as for `load_image`.
        keep_mode: return what the file holds, in its own channels and depth: a palette file gives its indices, as
            class-index masks need, and ``values`` is ignored.
        max_pixels: largest width times height to decode.

    Returns:
        HxW uint8, unless ``keep_mode``.

    Raises:
        ImageError: the file cannot be read, is damaged, cut short or too large, or its values fit none of the above.
    """
    decoded = decode(path, exif=exif, max_pixels=max_pixels, palette="indices" if keep_mode else "colours")
    if keep_mode:
        return decoded
    mask_hw = _mask_channel(decoded.pixels)
    _check_values(Path(path), mask_hw)
    if values == "keep":
        return Decoded(_keep_values(Path(path), mask_hw), decoded.warnings)
    values_hw = _auto_values(Path(path), mask_hw)
    is_scaled = mask_hw.dtype == np.uint16 and mask_hw.max() > 255 and not np.isin(values_hw, (0, 255)).all()
    return Decoded(values_hw, (*decoded.warnings, *([SCALED_TO_8_BITS] if is_scaled else [])))


def resize_mask(mask_hw: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Resize a mask to the nearest pixel, without new values.

    Pixel centres are compared, so the mask stays where a linear resize puts its image: OpenCV's INTER_NEAREST_EXACT.
    Its INTER_NEAREST compares upper left corners and moves the mask by up to half a source pixel.

    Args:
        mask_hw: HxW or HxWxC, any dtype that OpenCV holds (8 and 16-bit integers, float32, float64).
        height: new height in pixels, at least 1.
        width: new width in pixels, at least 1.

    Returns:
        The mask of the new height and width, same channels and dtype, C-contiguous.
    """
    resized = cv2.resize(mask_hw, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.ascontiguousarray(resized).reshape(height, width, *mask_hw.shape[2:])


def _mask_channel(samples: NDArray[Any]) -> NDArray[Any]:
    if samples.ndim == 2:
        return samples
    if samples.shape[2] == 3:
        return _luminance(samples)
    colours, alpha_hw = samples[..., :-1], samples[..., -1]
    if (colours == colours[0, 0]).all():
        first_alpha = alpha_hw[0, 0]
        if first_alpha == 0 or (alpha_hw != first_alpha).any():
            return np.ascontiguousarray(alpha_hw)
    return _luminance(colours)


def _luminance(colours: NDArray[Any]) -> NDArray[Any]:
    if colours.shape[2] == 1:
        return np.ascontiguousarray(colours[..., 0])
    wide = colours.astype(np.uint32)  # 65535 * 65536 + 32768 still fits
    red, green, blue = _LUMA_WEIGHTS
    luma = (wide[..., 0] * red + wide[..., 1] * green + wide[..., 2] * blue + 0x8000) >> 16
    return luma.astype(colours.dtype)


def _check_values(path: Path, mask_hw: NDArray[Any]) -> None:
    if mask_hw.dtype.kind == "f" and not np.isfinite(mask_hw).all():
        raise ImageError(f"{path}: the mask holds values that are not finite")
    if mask_hw.min() < 0:
        raise ImageError(f"{path}: the mask holds negative values (down to {mask_hw.min()})")


def _auto_values(path: Path, mask_hw: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = mask_hw.min(), mask_hw.max()
    is_high = mask_hw == high
    if low == high:
        return np.full(mask_hw.shape, 255 if high > 0 else 0, np.uint8)
    if (is_high | (mask_hw == low)).all():
        two_valued: NDArray[np.uint8] = np.multiply(is_high, 255, dtype=np.uint8)
        return two_valued
    if mask_hw.dtype.kind == "f":
        if high > 1:
            raise ImageError(f"{path}: the mask holds floats above 1 (up to {high})", "scale them to 0 to 1 first")
        scaled: NDArray[np.uint8] = np.rint(mask_hw * 255.0).astype(np.uint8)
        return scaled
    if high <= 255:
        return mask_hw.astype(np.uint8)
    if mask_hw.dtype == np.uint16:
        return scale_16bit_to_8bit(mask_hw)
    raise ImageError(f"{path}: the mask holds 32-bit values up to {high}", "scale them to 0 to 255 first")


def _keep_values(path: Path, mask_hw: NDArray[Any]) -> NDArray[np.uint8]:
    kept: NDArray[np.uint8] = np.clip(mask_hw, 0, 255).astype(np.uint8)
    if not np.array_equal(kept, mask_hw):
        raise ImageError(
            f"{path}: the mask's values (up to {mask_hw.max()}) are not all whole numbers from 0 to 255",
            "let them be scaled: --mask-values auto",
        )
    return kept
