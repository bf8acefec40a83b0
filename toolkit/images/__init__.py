"""Image and mask files in, arrays out: colour order, bit depth, EXIF, alpha and palettes decided in one place."""

from toolkit.images.decoding import MAX_PIXELS, Decoded, ExifPolicy, load_image, read_size
from toolkit.images.files import ImageError
from toolkit.images.letterboxing import Interpolation, LetterboxGeometry, letterbox, letterbox_geometry
from toolkit.images.masks import MaskValues, load_mask, resize_mask

__all__ = [
    "MAX_PIXELS",
    "Decoded",
    "ExifPolicy",
    "ImageError",
    "Interpolation",
    "LetterboxGeometry",
    "MaskValues",
    "letterbox",
    "letterbox_geometry",
    "load_image",
    "load_mask",
    "read_size",
    "resize_mask",
]
