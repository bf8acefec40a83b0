"""PNG files as chunks: checked to their end, and decoded fast where they are plain.

Source: PNG specification, third edition, 5 (datastream structure) and 11.2 (IHDR, IDAT).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import cv2
import deflate
import numpy as np
from numpy.typing import NDArray

from toolkit.images.files import ImageError

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_RGB: Final = 2
_CHANNELS: Final = {0: 1, _RGB: 3}
"""Samples a pixel of the colour types that are decoded here: grey and RGB."""
_HEADER_BYTES: Final = 13
_COLOUR_TYPE_OFFSET: Final = 17
"""Of the header chunk, from its length field."""
_MEANINGFUL_CHUNKS: Final = {b"tRNS", b"acTL", b"eXIf"}
_TEXT_CHUNKS: Final = {b"tEXt", b"zTXt", b"iTXt"}
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


def decode_plain_png(path: Path, content: bytes, max_pixels: int) -> NDArray[np.uint8] | None:
    """Decode an 8-bit grey or RGB PNG that is nothing but its pixels; None for any other, which Pillow decodes.

    libdeflate inflates the pixel data three times as fast as the zlib of decoders, and checks that they end where they
    should. OpenCV then reads them from a PNG that stores them as they are, and undoes the row filters.

    Args:
        path: the file's name, for errors.
        content: a file that :func:`check_png` has passed.
        max_pixels: largest width times height to decode.

    Returns:
        HxW grey or HxWx3 RGB uint8. None also where transparency, animation, interlacing or EXIF data call for a full
        decoder, for a larger image, and for data that libdeflate does not vouch for.
    """
    chunks = list(_chunks(path, content))
    size = _filtered_size(content[chunks[0].data], max_pixels)
    if size is None or any(_changes_pixels(chunk, content) for chunk in chunks):
        return None
    view = memoryview(content)
    try:
        rows = deflate.zlib_decompress(b"".join(view[chunk.data] for chunk in chunks if chunk.kind == b"IDAT"), size)
    except deflate.DeflateError:
        return None
    if len(rows) != size:
        return None
    header = content[chunks[0].start : chunks[0].end]
    stored = b"".join((PNG_SIGNATURE, header, *_chunk(b"IDAT", _stored(memoryview(rows))), *_chunk(b"IEND", [])))
    flag = cv2.IMREAD_COLOR_RGB if header[_COLOUR_TYPE_OFFSET] == _RGB else cv2.IMREAD_GRAYSCALE
    pixels = cv2.imdecode(np.frombuffer(stored, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if pixels is None else np.asarray(pixels, np.uint8)


def _changes_pixels(chunk: _Chunk, content: bytes) -> bool:
    """Tell whether a chunk may matter for how the image looks; ImageMagick hides EXIF data in texts."""
    return chunk.kind in _MEANINGFUL_CHUNKS or (
        chunk.kind in _TEXT_CHUNKS and content[chunk.data].startswith(b"Raw profile")
    )


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
    """Return the bytes of all rows, each with its filter type; None for other than plain 8-bit grey or RGB."""
    if len(header) != _HEADER_BYTES:
        return None
    width, height = (int.from_bytes(header[start : start + 4], "big") for start in (0, 4))
    depth, colour_type, compression, filtering, interlacing = header[8:]
    channels = _CHANNELS.get(colour_type)
    if depth != 8 or channels is None or compression or filtering or interlacing:
        return None
    return height * (1 + width * channels) if 0 < width * height <= max_pixels else None


def _chunk(kind: bytes, data: Sequence[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """Yield the pieces of a chunk."""
    yield struct.pack(">I", sum(len(piece) for piece in data))
    yield kind
    yield from data
    crc = deflate.crc32(kind)
    for piece in data:
        crc = deflate.crc32(piece, crc)
    yield struct.pack(">I", crc)


def _stored(rows: memoryview) -> list[bytes | memoryview]:
    """Return a zlib stream of stored blocks, in pieces (RFC 1950, RFC 1951 3.2.4)."""
    pieces: list[bytes | memoryview] = [_ZLIB_HEADER]
    for start in range(0, len(rows), _MAX_STORED_BLOCK):
        block = rows[start : start + _MAX_STORED_BLOCK]
        is_last = start + _MAX_STORED_BLOCK >= len(rows)
        pieces += [struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF), block]
    return [*pieces, struct.pack(">I", deflate.adler32(rows))]
