"""Image files before their pixels: a safe open, errors that name the file, and damage that decoders let pass."""

from __future__ import annotations

import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageFile, UnidentifiedImageError

from toolkit.core.errors import MvtkError

READABLE_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")
"""The formats that are read: those whose bit depth is known here. Pillow hands JPEG 2000, AVIF and PPM files of more
than 8 bits out as 8-bit without a word, and runs Ghostscript on EPS."""

MAX_FILE_BYTES = 4 * 1024**3
"""Larger files are refused unread. No format read here can be larger, other than BigTIFF."""

JPEG_START = b"\xff\xd8"
_JPEG_SCAN = b"\xff\xda"
_JPEG_END = b"\xff\xd9"

# warnings.catch_warnings swaps a list that the whole process shares: two threads in it at once could leave all
# warnings switched off for good.
_warnings_lock = threading.Lock()


class ImageError(MvtkError):
    """A file that cannot be used as the image or mask it should be: missing, damaged, too large, of a wrong kind."""


@contextmanager
def open_regular_file(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading, without ever waiting on a pipe or a device.

    Yields:
        The open binary file.

    Raises:
        ImageError: the file is missing, may not be read, is empty, too large or no regular file.
    """
    try:
        # O_NONBLOCK: opening a FIFO that nobody writes to would otherwise wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file") from error
    except OSError as error:
        raise ImageError(f"{path}: cannot be opened ({error.strerror})") from error
    except ValueError as error:
        raise ImageError(f"{path}: not a file name ({error})") from error
    try:
        _check_regular(path, os.fstat(descriptor))
    except ImageError:
        os.close(descriptor)
        raise
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _check_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{path}: a folder, not an image file")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{path}: not a regular file")
    if status.st_size == 0:
        raise ImageError(f"{path}: the file is empty")
    if status.st_size > MAX_FILE_BYTES:
        raise ImageError(
            f"{path}: {status.st_size} bytes are more than the limit of {MAX_FILE_BYTES} for an image file"
        )


@contextmanager
def decoder_errors(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises inside the block into an `ImageError` that names ``path``.

    Pillow's plugins raise a dozen exception types on hostile input, so all of them are caught: keep nothing but
    decoding in the block.

    Raises:
        ImageError: the block raised.
    """
    try:
        yield
    except MvtkError:
        raise
    except MemoryError as error:
        raise ImageError(f"{path}: not enough memory to decode it") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: not a readable image", "expected PNG, JPEG, TIFF, BMP, GIF or WebP") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path}: too many pixels ({error})") from error
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ImageError(f"{path}: damaged or of an unsupported kind ({reason})") from error


@contextmanager
def silent_decoder() -> Iterator[None]:
    """Keep Pillow's warnings about odd metadata from reaching the caller inside the block."""
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def open_image(file: BinaryIO) -> ImageFile.ImageFile:
    """Open an image as far as its header, without a warning; use inside `decoder_errors`."""
    with silent_decoder():
        return Image.open(file, formats=READABLE_FORMATS)


def check_jpeg(path: Path, content: bytes) -> None:
    """Check that a JPEG file has its end marker, without which Pillow takes it all the same.

    Raises:
        ImageError: it has none.
    """
    # From the end, where it usually is.
    if content.rfind(_JPEG_END, _jpeg_scan_start(content)) < 0:
        raise ImageError(f"{path}: the file is truncated (no JPEG end marker)")


def _jpeg_scan_start(content: bytes) -> int:
    """Return where the first scan begins (ITU-T T.81, annex B), or the file's end.

    The segments before it are stepped over, as a thumbnail among them has an end marker of its own.
    """
    position = len(JPEG_START)
    while content[position : position + 2] != _JPEG_SCAN and position < len(content):
        if content[position : position + 2] == b"\xff\xff":  # a fill byte
            position += 1
        else:
            position += 2 + max(int.from_bytes(content[position + 2 : position + 4], "big"), 2)
    return position
