"""PNG files as chunks: checked to their end, and with their pixels inflated beforehand.

Source: PNG specification, third edition, 5 (datastream structure) and 11.2 (IHDR, IDAT).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import deflate

from toolkit.images.files import ImageError

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples a pixel by colour type: grey, RGB, palette, grey and alpha, RGBA."""
_MAX_STORED_BLOCK: Final = 65535
_ZLIB_HEADER: Final = b"\x78\x01"


class _Chunk(NamedTuple):
    kind: bytes
    start: int
    end: int

    @property
    def data(self) -> slice:
        return slice(self.start + 8, self.end - 4)


def check_png(path: Path, content: bytes) -> None:
    """Check that a PNG file is whole and every chunk's CRC right, which Pillow does not do for the pixels.

    Raises:
        ImageError: a chunk is cut short, its CRC is wrong, or the header or end chunk is missing.
    """
    for index, chunk in enumerate(_chunks(path, content)):
        if index == 0 and chunk.kind != b"IHDR":
            raise ImageError(f"{path}: damaged PNG (it does not begin with its header)")
        crc = int.from_bytes(content[chunk.end - 4 : chunk.end], "big")
        if deflate.crc32(memoryview(content)[chunk.start + 4 : chunk.end - 4]) != crc:
            name = chunk.kind.decode("ascii", "backslashreplace")
            raise ImageError(f"{path}: damaged PNG (wrong checksum in its {name} chunk)")


def with_stored_pixels(path: Path, content: bytes, max_pixels: int) -> bytes:
    """Return the same PNG image with its pixel data inflated, so that a decoder need only copy them.

    libdeflate inflates three times as fast as the zlib of decoders, and checks that the data end where they should.
    What it cannot vouch for comes back as it was: interlaced, animated and very large images, and damaged data.

    Args:
        path: the file's name, for errors.
        content: a file that :func:`check_png` has passed.
        max_pixels: largest width times height to inflate.
    """
    chunks = list(_chunks(path, content))
    size = _filtered_size(content[chunks[0].data], max_pixels)
    pixels = [chunk for chunk in chunks if chunk.kind == b"IDAT"]
    if size is None or not pixels or any(chunk.kind == b"acTL" for chunk in chunks):
        return content
    view = memoryview(content)
    try:
        rows = deflate.zlib_decompress(b"".join(view[chunk.data] for chunk in pixels), size)
    except deflate.DeflateError:
        return content
    if len(rows) != size:
        return content
    stored = b"".join(_stored_blocks(memoryview(rows)))
    checksum = struct.pack(">I", deflate.crc32(stored, deflate.crc32(b"IDAT")))
    head = (view[: pixels[0].start], struct.pack(">I", len(stored)), b"IDAT", stored, checksum)
    rest = [chunk for chunk in chunks if chunk.start > pixels[0].start and chunk.kind != b"IDAT"]
    return b"".join((*head, *(view[chunk.start : chunk.end] for chunk in rest)))


def _chunks(path: Path, content: bytes) -> Iterator[_Chunk]:
    """Yield the chunks up to and with the end chunk."""
    position = len(PNG_SIGNATURE)
    kind = b""
    while kind != b"IEND":
        end = position + 12 + int.from_bytes(content[position : position + 4], "big")  # length, type, data, CRC
        if end > len(content):
            raise ImageError(f"{path}: the file is truncated (a PNG chunk is cut short)")
        kind = content[position + 4 : position + 8]
        yield _Chunk(kind, position, end)
        position = end


def _filtered_size(header: bytes, max_pixels: int) -> int | None:
    """Return the bytes of all rows, each with its filter type; None for an image that is not to be inflated here."""
    if len(header) != 13:
        return None
    width, height = (int.from_bytes(header[start : start + 4], "big") for start in (0, 4))
    depth, colour_type, compression, filtering, interlacing = header[8:]
    channels = _CHANNELS.get(colour_type)
    if channels is None or compression or filtering or interlacing or not 0 < width * height <= max_pixels:
        return None
    return height * (1 + (width * channels * depth + 7) // 8)


def _stored_blocks(rows: memoryview) -> Iterator[bytes | memoryview]:
    """Yield a zlib stream of stored blocks (RFC 1950, RFC 1951 3.2.4)."""
    yield _ZLIB_HEADER
    for start in range(0, len(rows), _MAX_STORED_BLOCK):
        block = rows[start : start + _MAX_STORED_BLOCK]
        is_last = start + _MAX_STORED_BLOCK >= len(rows)
        yield struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF)
        yield block
    yield struct.pack(">I", deflate.adler32(rows))
