"""Image and mask files in, arrays out: colour order, bit depth, EXIF, alpha and palettes decided in one place."""

from typing import TYPE_CHECKING

from toolkit.core.lazy import lazy_names

if TYPE_CHECKING:
    from toolkit.images.decoding import Decoded, load_image, read_size
    from toolkit.images.files import ImageError
    from toolkit.images.letterboxing import (
        Interpolation,
        LetterboxGeometry,
        letterbox,
        letterbox_geometry,
        pad_to_frame,
        scale_to_fit,
    )
    from toolkit.images.masks import load_mask, resize_mask
    from toolkit.images.policies import MAX_PIXELS, ExifPolicy, MaskValues

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
    "pad_to_frame",
    "read_size",
    "resize_mask",
    "scale_to_fit",
]

__getattr__ = lazy_names(
    __name__,
    {
        "decoding": ("Decoded", "load_image", "read_size"),
        "files": ("ImageError",),
        "letterboxing": (
            "Interpolation",
            "LetterboxGeometry",
            "letterbox",
            "letterbox_geometry",
            "pad_to_frame",
            "scale_to_fit",
        ),
        "masks": ("load_mask", "resize_mask"),
        "policies": ("MAX_PIXELS", "ExifPolicy", "MaskValues"),
    },
)
