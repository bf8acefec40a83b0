"""Decoding image files into arrays of a known channel order and depth."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from toolkit.images.files import (
    JPEG_START,
    ImageError,
    check_jpeg,
    decoder_errors,
    open_image,
    open_regular_file,
    silent_decoder,
)
from toolkit.images.png import PNG_SIGNATURE, check_png, decode_plain_png
from toolkit.images.policies import MAX_PIXELS, ExifPolicy

PalettePolicy = Literal["colours", "indices"]

EXIF_IGNORED = "EXIF orientation ignored"
FIRST_FRAME_ONLY = "only the first frame is used"

_ORIENTATION_TAG = 0x0112
_TIFF_BITS_PER_SAMPLE = 258
_TIFF_PHOTOMETRIC = 262
_TIFF_WHITE_IS_ZERO = 0
_PNG_BIT_DEPTH_OFFSET = 24
_PNG_COLOUR_TYPE_OFFSET = 25
_PNG_GREY_ALPHA = 4

# Colour codings that no consumer of an array expects, and what they become.
_CONVERTED_MODES = {
    "CMYK": "RGB",
    "YCbCr": "RGB",
    "RGBX": "RGB",
    "RGBa": "RGBA",
    "La": "LA",
    "LAB": "RGB",
    "HSV": "RGB",
}


@dataclass(frozen=True, slots=True)
class Decoded:
    """Pixels and what the user should know about how they were read.

    Attributes:
        pixels: the array that was asked for, C-contiguous, and writable unless that was not needed.
        warnings: short texts without the path, equal for equal causes, so that they can be counted.
    """

    pixels: NDArray[Any]
    warnings: tuple[str, ...] = ()


def load_image(
    path: str | os.PathLike[str],
    *,
    exif: ExifPolicy = "ignore",
    to_8bit: bool = False,
    keep_mode: bool = False,
    max_pixels: int = MAX_PIXELS,
    writable: bool = True,
) -> Decoded:
    """Read an image file (PNG, JPEG, TIFF, BMP, GIF, WebP).

    Grey becomes three equal channels, a palette its colours, CMYK and YCbCr RGB. Alpha is dropped and the colours
    under it are kept as stored. 16-bit samples need ``to_8bit``: round(v / 257), which maps 65535 to 255.

    Args:
        path: the file.
        exif: "ignore" gives the pixels as stored, with a warning where the file asks for a rotation; "apply" gives
            them upright.
        to_8bit: scale 16-bit samples to 8 bits rather than refuse them.
        keep_mode: return the file's own channels and depth, and ignore ``to_8bit``: HxW grey (bool, uint8, uint16,
            int32 or float32), HxWx2 grey and alpha, HxWx3 RGB or HxWx4 RGBA (uint8 or uint16).
        max_pixels: largest width times height to decode.
        writable: False spares the copy that makes the pixels of some files writable, for who copies them anyway.

    Returns:
        HxWx3 uint8 RGB, unless ``keep_mode``.

    Raises:
        ImageError: the file cannot be read, is damaged, cut short or too large; its samples have more than 8 bits.
    """
    decoded = decode(path, exif=exif, max_pixels=max_pixels, writable=writable)
    if keep_mode:
        return decoded
    return Decoded(_as_rgb(_as_8bit(Path(path), decoded.pixels, to_8bit=to_8bit)), decoded.warnings)


def read_size(path: str | os.PathLike[str], exif: ExifPolicy = "ignore") -> tuple[int, int]:
    """Read an image's (height, width) from its header.

    With ``exif="apply"`` a PNG is decoded, since its EXIF data may follow the pixels.

    Raises:
        ImageError: the file cannot be read or is no image.
    """
    path = Path(path)
    with open_regular_file(path) as file, decoder_errors(path):
        image = open_image(file)
        width, height = image.size
        stored_turned = isinstance(image, TiffImageFile)  # Pillow gives a TIFF's size after its rotation
        if stored_turned != (exif == "apply") and _orientation(image) >= 5:
            height, width = width, height
    return height, width


def decode(
    path: str | os.PathLike[str],
    *,
    exif: ExifPolicy = "ignore",
    max_pixels: int = MAX_PIXELS,
    palette: PalettePolicy = "colours",
    writable: bool = True,
) -> Decoded:
    """Decode a file's first frame, with the channels and depth it has.

    Args:
        path: the file.
        exif: as for `load_image`.
        max_pixels: as for `load_image`.
        palette: whether a palette image gives its colours or its indices.
        writable: as for `load_image`.

    Returns:
        Pixels as `load_image` describes for ``keep_mode``; HxW uint8 for palette indices.

    Raises:
        ImageError: the file cannot be read, is damaged, cut short or too large.
    """
    path = Path(path)
    with open_regular_file(path) as file, decoder_errors(path):
        content = file.read()
    if content.startswith(PNG_SIGNATURE):
        check_png(path, content)
        plain = decode_plain_png(path, content, max_pixels)
        if plain is not None:
            return Decoded(plain)
    elif content.startswith(JPEG_START):
        check_jpeg(path, content)
    with decoder_errors(path):
        image = open_image(io.BytesIO(content))
        _check_size(path, image, max_pixels)
        warnings = [FIRST_FRAME_ONLY] if getattr(image, "is_animated", False) else []
        orientation, is_upright = _load(image)
        samples = _samples(path, image, palette)
        if is_upright:
            samples = _turn(samples, {6: 8, 8: 6}.get(orientation, orientation))
        if _has_hidden_depth(image, content):
            samples = _decode_16bit_colour(path, content, samples)
    if orientation != 1 and exif == "ignore":
        warnings.append(EXIF_IGNORED)
    if exif == "apply":
        samples = _turn(samples, orientation)
    pixels = np.ascontiguousarray(samples)
    return Decoded(pixels.copy() if writable and not pixels.flags.writeable else pixels, tuple(warnings))


def _check_size(path: Path, image: ImageFile.ImageFile, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(f"{path}: {width} x {height} pixels are more than the limit of {max_pixels}")
    if width * height == 0:
        raise ImageError(f"{path}: the image has no pixels ({width} x {height})")


def _load(image: ImageFile.ImageFile) -> tuple[int, bool]:
    """Decode the pixels; return the EXIF orientation and whether Pillow has already applied it."""
    if isinstance(image, TiffImageFile):
        # Pillow turns a TIFF upright and forgets its orientation while it loads.
        orientation = _orientation(image)
        with silent_decoder():
            image.load()
        return orientation, True
    image.load()
    return _orientation(image), False


def _orientation(image: ImageFile.ImageFile) -> int:
    """Return the EXIF orientation, 1 to 8; anything else in the file counts as 1, as it does in viewers."""
    if image.format == "JPEG" and not {"exif", "xmp"} & image.info.keys():
        return 1  # nothing to parse: Pillow keeps both when it reads the header
    with silent_decoder():
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    return orientation if orientation in range(1, 9) else 1


def _turn(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn stored pixels upright: the eight cases of the EXIF tag Orientation (CIPA DC-008, 4.6.5)."""
    match orientation:
        case 2:
            return pixels[:, ::-1]
        case 3:
            return pixels[::-1, ::-1]
        case 4:
            return pixels[::-1]
        case 5:
            return pixels.swapaxes(0, 1)
        case 6:
            return pixels.swapaxes(0, 1)[:, ::-1]
        case 7:
            return pixels.swapaxes(0, 1)[::-1, ::-1]
        case 8:
            return pixels.swapaxes(0, 1)[::-1]
        case _:
            return pixels


def _samples(path: Path, image: ImageFile.ImageFile, palette: PalettePolicy) -> NDArray[Any]:
    """Return a loaded image's samples as Pillow holds them, in native byte order."""
    if isinstance(image, TiffImageFile) and _bits_per_sample_tiff(image) > 8:
        _check_black_is_zero(path, image)
    if image.mode in ("P", "PA"):
        return _palette_samples(image, palette)
    mode = _CONVERTED_MODES.get(image.mode)
    samples = np.asarray(image.convert(mode) if mode else image)
    return samples.astype(samples.dtype.newbyteorder("="), copy=False)


def _palette_samples(image: Image.Image, palette: PalettePolicy) -> NDArray[Any]:
    if palette == "indices":
        indices = np.array(image)
        return indices if image.mode == "P" else indices[..., 0]
    has_alpha = image.mode == "PA" or "transparency" in image.info
    return np.array(image.convert("RGBA" if has_alpha else "RGB"))


def _check_black_is_zero(path: Path, image: TiffImageFile) -> None:
    # Pillow inverts such files up to 8 bits and hands deeper ones out as they are.
    if image.tag_v2.get(_TIFF_PHOTOMETRIC) == _TIFF_WHITE_IS_ZERO:
        raise ImageError(
            f"{path}: a TIFF of more than 8 bits in which 0 is white", "save it with black as 0, or as PNG"
        )


def _bits_per_sample_tiff(image: TiffImageFile) -> int:
    return int(max(image.tag_v2.get(_TIFF_BITS_PER_SAMPLE, (1,))))


def _has_hidden_depth(image: ImageFile.ImageFile, content: bytes) -> bool:
    """Whether the file holds 16-bit colour, of which Pillow gives the high bytes without a word."""
    if image.mode not in ("RGB", "RGBA", "RGBa", "RGBX", "CMYK"):
        return False
    if isinstance(image, TiffImageFile):
        return _bits_per_sample_tiff(image) > 8
    return image.format == "PNG" and content[_PNG_BIT_DEPTH_OFFSET] > 8


def _decode_16bit_colour(path: Path, content: bytes, high_bytes: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Decode 16-bit RGB or RGBA (or grey and alpha) with OpenCV.

    Args:
        path: the file's name, for the error.
        content: all bytes of the file.
        high_bytes: Pillow's HxWxC reading of the same file: it has found the file whole, and what OpenCV gives must
            agree with it in orientation, channels and upper 8 bits.
    """
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    channels = high_bytes.shape[2]
    if pixels is None or pixels.dtype != np.uint16 or pixels.shape[:2] != high_bytes.shape[:2] or pixels.ndim != 3:
        raise ImageError(f"{path}: 16-bit colour of an unsupported kind", "save it as a 16-bit RGB PNG")
    rgb = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]][..., :channels].astype(np.uint16)
    if not np.array_equal(rgb >> 8, high_bytes):
        raise ImageError(f"{path}: 16-bit colour that two decoders read differently", "save it as a 16-bit RGB PNG")
    is_grey = content.startswith(PNG_SIGNATURE) and content[_PNG_COLOUR_TYPE_OFFSET] == _PNG_GREY_ALPHA
    return rgb[..., [0, 3]] if is_grey else rgb


def _as_8bit(path: Path, pixels: NDArray[Any], *, to_8bit: bool) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype == np.uint16:
        if not to_8bit:
            raise ImageError(f"{path}: 16-bit samples", "use --to-8bit to scale it to 8 bits")
        return scale_16bit_to_8bit(pixels)
    raise ImageError(
        f"{path}: 32-bit {'float' if pixels.dtype.kind == 'f' else 'integer'} samples, whose range is not known",
        "scale it to 8 or 16 bits first",
    )


def scale_16bit_to_8bit(values: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return round(v / 257): 0 to 65535 become 0 to 255, exactly; no value lies half-way, as 257 is odd."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _as_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        return np.ascontiguousarray(pixels[..., :3])
    grey_hw = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., 0])
    return np.asarray(cv2.cvtColor(grey_hw, cv2.COLOR_GRAY2RGB), np.uint8)
