"""The two ways to decode the images of a dataset: RGB, 8 bits, as stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.images.decoding import load_image
from toolkit.images.files import JPEG_START, ImageError, check_jpeg, decoder_errors, open_regular_file
from toolkit.images.png import PNG_SIGNATURE, check_png

ImageLoader = Literal["pil", "cv2"]


def load_with_pil(path: str) -> NDArray[np.uint8]:
    """Return an image as toolkit.images reads it; 16-bit samples are scaled, EXIF orientation is ignored.

    Returns:
        (H, W, 3) uint8 RGB, for many files read-only.

    Raises:
        ImageError: the file cannot be read, is damaged, or has samples whose range is not known.
    """
    pixels: NDArray[np.uint8] = load_image(path, to_8bit=True, writable=False).pixels
    return pixels


def load_with_cv2(path: str) -> NDArray[np.uint8]:
    """Return an image as OpenCV reads it; of 16-bit samples the upper 8 bits, EXIF orientation is ignored.

    Returns:
        (H, W, 3) uint8 RGB, writable.

    Raises:
        ImageError: the file cannot be read or is damaged.
    """
    file_path = Path(path)
    with open_regular_file(file_path) as file, decoder_errors(file_path):
        content = file.read()
    # OpenCV returns the part that it could decode of a file cut short.
    if content.startswith(PNG_SIGNATURE):
        check_png(file_path, content)
    elif content.startswith(JPEG_START):
        check_jpeg(file_path, content)
    with decoder_errors(file_path):
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if pixels is None:
        raise ImageError(f"{path}: damaged, or of a kind that OpenCV does not read", 'try image_loader="pil"')
    return np.asarray(pixels, np.uint8)


IMAGE_LOADERS: Final[Mapping[ImageLoader, Callable[[str], NDArray[np.uint8]]]] = {
    "pil": load_with_pil,
    "cv2": load_with_cv2,
}
