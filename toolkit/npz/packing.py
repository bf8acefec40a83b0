"""Pack one image file and one mask file into a mask-attention NPZ file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from toolkit.core.errors import MvtkError
from toolkit.images.decoding import load_image
from toolkit.images.masks import load_mask, resize_mask
from toolkit.npz.pair_options import Compression, PairOptions
from toolkit.npz.writing import Buffer, encode_npz


def load_pair(
    image_path: Path, mask_path: Path, options: PairOptions
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """Return an image and its mask as the arrays of a mask-attention NPZ file, and warnings.

    Returns:
        ``image`` HxWx3 uint8 RGB and ``mask`` HxW uint8 (with ``keep_mode``: the files' own channels and depth), and
        texts that are equal for equal causes.

    Raises:
        ImageError: a file cannot be read; see `load_image` and `load_mask`.
        MvtkError: the sizes differ and ``resize_mask`` is false.
    """
    image = load_image(
        image_path,
        exif=options.exif,
        to_8bit=options.to_8bit,
        keep_mode=options.keep_mode,
        max_pixels=options.max_pixels,
    )
    mask = load_mask(
        mask_path,
        values=options.mask_values,
        exif=options.exif,
        keep_mode=options.keep_mode,
        max_pixels=options.max_pixels,
    )
    pixels, mask_hw = image.pixels, mask.pixels
    (height, width), (mask_height, mask_width) = pixels.shape[:2], mask_hw.shape[:2]
    if (height, width) != (mask_height, mask_width):
        if not options.resize_mask:
            raise MvtkError(
                f"{mask_path}: the mask is {mask_width}x{mask_height} and its image {width}x{height}",
                "use --resize-mask to resize it to the nearest pixel",
            )
        mask_hw = resize_mask(mask_hw, height, width)
    mask_warnings = tuple(f"{warning} (mask)" for warning in mask.warnings)
    return {"image": pixels, "mask": mask_hw}, image.warnings + mask_warnings


def encode_pair(
    image_path: Path, mask_path: Path, options: PairOptions, compression: Compression
) -> tuple[list[Buffer], tuple[int, int], tuple[str, ...]]:
    """Return the bytes of an image and mask NPZ file in pieces, the image's (width, height), and warnings.

    Raises:
        MvtkError: as :func:`load_pair`.
    """
    arrays, warnings = load_pair(image_path, mask_path, options)
    height, width = arrays["image"].shape[:2]
    return encode_npz(arrays, compression), (width, height), warnings
