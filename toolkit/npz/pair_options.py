"""How an image and its mask become an NPZ file: the choices, without what makes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from toolkit.images.policies import MAX_PIXELS, ExifPolicy, MaskValues

RGB_AND_MASK: Final = 4
"""Channels of an RGB image with its mask."""

Compression = Literal["fast", "zlib", "none"]


@dataclass(frozen=True, slots=True)
class PairOptions:
    """How an image and its mask are read.

    Attributes:
        mask_values: "auto": a two-valued mask becomes 0/255; "keep": values as decoded.
        keep_mode: keep the files' own channels and depth.
        exif: "ignore" or "apply" the EXIF orientation of both.
        to_8bit: scale a 16-bit image to 8 bits instead of refusing it.
        resize_mask: resize a mask of another size than its image, to the nearest pixel, instead of refusing it.
        max_pixels: a file with more pixels is refused as a decompression bomb.
    """

    mask_values: MaskValues = "auto"
    keep_mode: bool = False
    exif: ExifPolicy = "ignore"
    to_8bit: bool = False
    resize_mask: bool = False
    max_pixels: int = MAX_PIXELS
