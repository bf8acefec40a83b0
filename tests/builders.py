"""Makers of real image files of every odd kind, for tests: each writes one file and returns its path."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ORIENTATION_TAG = 0x0112


def gradient(height: int = 24, width: int = 32) -> NDArray[np.uint8]:
    """An HxWx3 uint8 RGB picture without symmetry: every turn, flip and channel swap of it is another picture."""
    y, x = np.mgrid[0:height, 0:width]
    red = 255 * x // max(width - 1, 1)
    green = 255 * y // max(height - 1, 1)
    return np.stack([red, green, (red + 2 * green) // 3], axis=2).astype(np.uint8)


def blob_mask(height: int = 24, width: int = 32, *, high: int = 255) -> NDArray[np.uint8]:
    """An HxW uint8 mask, 0 and ``high``, without symmetry."""
    mask_hw = np.zeros((height, width), np.uint8)
    mask_hw[height // 4 : height // 2, width // 3 : -1] = high
    mask_hw[height // 2 : -2, width // 3 : width // 2] = high
    return mask_hw


def write_image(path: Path, pixels: NDArray[Any], mode: str | None = None, **save_options: Any) -> Path:
    """Write an array with Pillow, converted to ``mode`` (such as "CMYK") where one is given."""
    image = Image.fromarray(pixels)
    path.parent.mkdir(parents=True, exist_ok=True)
    (image.convert(mode) if mode else image).save(path, **save_options)
    return path


def write_oriented(path: Path, pixels: NDArray[Any], orientation: int, **save_options: Any) -> Path:
    """Write ``pixels`` as stored, with an EXIF orientation that says how to turn them."""
    exif = Image.Exif()
    exif[_ORIENTATION_TAG] = orientation
    return write_image(path, pixels, exif=exif, **save_options)


def write_palette(
    path: Path, indices_hw: NDArray[np.uint8], colours: list[tuple[int, int, int]], alphas: bytes | None = None
) -> Path:
    """Write a palette PNG (or GIF, TIFF, BMP); ``alphas`` gives each palette entry its transparency (PNG)."""
    image = Image.fromarray(indices_hw).convert("L")
    palette_image = Image.frombytes("P", image.size, image.tobytes())
    palette_image.putpalette([value for colour in colours for value in colour])
    palette_image.save(path, **({} if alphas is None else {"transparency": alphas}))
    return path


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One PNG chunk with its right checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bytes(width: int, height: int, bit_depth: int, colour_type: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG of unfiltered ``rows`` (each with its leading filter byte 0); ``extra`` holds chunks before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    return b"".join(
        [
            PNG_SIGNATURE,
            png_chunk(b"IHDR", header),
            extra,
            png_chunk(b"IDAT", zlib.compress(rows)),
            png_chunk(b"IEND", b""),
        ]
    )


def write_png16(path: Path, pixels: NDArray[np.uint16]) -> Path:
    """Write HxW grey, HxWx2 grey and alpha, HxWx3 RGB or HxWx4 RGBA of 16 bits as PNG, which Pillow cannot write."""
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[1 if pixels.ndim == 2 else pixels.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    path.write_bytes(png_bytes(pixels.shape[1], pixels.shape[0], 16, colour_type, rows))
    return path


def write_tiff16(path: Path, rgb_hwc: NDArray[np.uint16]) -> Path:
    """Write 16-bit RGB as a compressed TIFF, which Pillow cannot write."""
    encoded = cv2.imencode(".tiff", np.ascontiguousarray(rgb_hwc[..., ::-1]))[1]
    path.write_bytes(encoded.tobytes())
    return path


def write_frames(path: Path, frames: list[NDArray[np.uint8]]) -> Path:
    """Write an animated GIF, PNG or WebP, or a TIFF of several pages."""
    first, *others = [Image.fromarray(frame) for frame in frames]
    first.save(path, save_all=True, append_images=others)
    return path


def write_bomb(path: Path, width: int = 30_000, height: int = 30_000) -> Path:
    """Write a tiny PNG whose header announces ``width`` x ``height`` pixels."""
    path.write_bytes(png_bytes(width, height, 8, 0, b"\0"))
    return path


def write_text_bomb(path: Path) -> Path:
    """Write a 1x1 PNG of grey and alpha with a compressed text chunk that unpacks to 64 MiB."""
    text = b"Comment\0\0" + zlib.compress(bytes(64 * 1024 * 1024), 9)
    path.write_bytes(png_bytes(1, 1, 8, 4, b"\0\x80\xff", png_chunk(b"zTXt", text)))
    return path


def encoded(pixels: NDArray[Any], image_format: str, **save_options: Any) -> bytes:
    """An array as the bytes of an image file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, **save_options)
    return buffer.getvalue()
