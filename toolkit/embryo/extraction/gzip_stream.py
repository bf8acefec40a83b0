"""The content of a gzip file (RFC 1952), piece by piece, held against its checksums."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isal import igzip_lib

_MOST_PIECE_BYTES: Final = 256 << 10
_LEAST_PIECE_BYTES: Final = 64 << 10
_IsalError: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment]  # its stub declares an instance
_MAGIC: Final = b"\x1f\x8b"


class GzipError(Exception):
    """What is wrong with a gzip file, without its name."""


def decompressed(compressed: Iterator[bytes], most_bytes: int) -> Iterator[bytes]:
    """Yield what a gzip file holds, in pieces of 64 to 320 KiB; the last may be shorter.

    Several gzip parts behind one another count as one file, as parallel compressors write them. What else follows is
    refused. CRC-32 and length of each part are checked at its end.

    Args:
        compressed: the file's bytes, piece by piece.
        most_bytes: how much it may hold at most.

    Raises:
        GzipError: the file is damaged, cut short, followed by something else, or holds too much.
    """
    part = _Part(not_gzip="it is not a gzip file")
    total = 0
    gathered = b""
    for data in compressed:
        rest = data
        while rest or not part.needs_input:
            if part.ended:
                part = _Part(not_gzip="what follows in it is not gzip data")
            piece, rest = part.decompress(rest)
            total += len(piece)
            if total > most_bytes:
                raise GzipError(f"it holds more than {most_bytes} bytes, which its size does not warrant")
            # Short pieces cost more than their bytes: a file can be made of as many as it has bytes.
            gathered = gathered + piece if gathered else piece
            if len(gathered) >= _LEAST_PIECE_BYTES:
                yield gathered
                gathered = b""
    if gathered:
        yield gathered
    if not part.ended:
        raise GzipError("it is cut short: its compressed data end too early")


class _Part:
    """One gzip part: header, deflated data, trailer; ``not_gzip`` is what is wrong where there is none."""

    def __init__(self, not_gzip: str) -> None:
        self._not_gzip = not_gzip
        self._inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        self._start = b""

    @property
    def ended(self) -> bool:
        return self._inflater.eof

    @property
    def needs_input(self) -> bool:
        return self._inflater.eof or self._inflater.needs_input

    def decompress(self, data: bytes) -> tuple[bytes, bytes]:
        """Return a piece of the content, and what follows the part in ``data``."""
        if len(self._start) < len(_MAGIC):
            self._start += data[: len(_MAGIC)]
            if not _MAGIC.startswith(self._start[: len(_MAGIC)]):
                raise GzipError(self._not_gzip)
        try:
            piece: bytes = self._inflater.decompress(data, _MOST_PIECE_BYTES)
        except _IsalError as error:
            raise GzipError("its compressed data are damaged") from error
        return piece, self._inflater.unused_data if self._inflater.eof else b""
