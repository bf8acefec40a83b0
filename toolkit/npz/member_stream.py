"""The decoded bytes of one member, in order, held against its CRC-32 and sizes at the end."""

from __future__ import annotations

import struct
import zlib
from abc import ABC, abstractmethod
from typing import Final

import deflate

from toolkit.npz.errors import NpzError
from toolkit.npz.source import ByteSource
from toolkit.npz.zip_members import WRONG_CHECKSUM, locate_data, member_error
from toolkit.npz.zip_records import STORED, Member

# libdeflate inflates twice as fast as zlib, but only whole: larger members are inflated piece by piece.
_MAX_WHOLE_BYTES: Final = 64 << 20
_CHUNK_BYTES: Final = 256 << 10
# Such a member is read in one system call, where its header alone would take three.
_SMALL_BYTES: Final = 4 << 10
_GZIP_HEADER: Final = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"


class MemberStream(ABC):
    """Reads a member from its first byte to its last; the CRC-32 is taken on the way.

    Nothing that was read may be trusted before :meth:`finish` has returned.
    """

    def __init__(self, source: ByteSource, member: Member, data_offset: int) -> None:
        self._source = source
        self._member = member
        self._data_offset = data_offset
        self._crc32 = 0
        self.remaining = member.size

    def read(self, length: int) -> bytes:
        """Return the next ``length`` bytes, fewer only where the member ends.

        Raises:
            NpzError: the file ends too early, or the compressed data are damaged.
        """
        data = bytearray(min(length, self.remaining))
        self.read_into(memoryview(data))
        return bytes(data)

    def read_into(self, view: memoryview) -> None:
        """Fill ``view`` (bytes, not longer than :attr:`remaining`) with what comes next; errors as :meth:`read`."""
        if len(view):
            self._fill(view)
            self._crc32 = deflate.crc32(view, self._crc32)
            self.remaining -= len(view)

    def finish(self) -> None:
        """Read what remains, without keeping it, and check that the whole member was sound.

        Raises:
            NpzError: the CRC-32 or a size is not what the records say, or as :meth:`read`.
        """
        scratch = memoryview(bytearray(min(self.remaining, _CHUNK_BYTES)))
        while self.remaining:
            self.read_into(scratch[: self.remaining])
        if self._crc32 != self._member.crc32:
            raise self._damaged(WRONG_CHECKSUM)

    @abstractmethod
    def _fill(self, view: memoryview) -> None:
        """Fill ``view`` with the next decoded bytes."""

    def _damaged(self, problem: str) -> NpzError:
        return member_error(self._source, self._member, problem)


def open_stream(source: ByteSource, member: Member, *, start_only: bool = False) -> MemberStream:
    """Return the stream of ``member``.

    Args:
        source: the file.
        member: the member to read.
        start_only: only the first bytes will be read, so a small member is not inflated whole either.

    Raises:
        NpzError: as :func:`locate_data`, or the file ends too early.
    """
    data_offset = locate_data(source, member)
    if member.method == STORED:
        if member.size <= _SMALL_BYTES:
            return _DecodedStream(source, member, data_offset, source.read(data_offset, member.size))
        return _StoredStream(source, member, data_offset)
    if not start_only and member.size <= _MAX_WHOLE_BYTES:
        data = _inflate_whole(source, member, data_offset)
        if data is not None:
            return _DecodedStream(source, member, data_offset, data)
    # zlib reads what is large, and finds out what is wrong with the rest.
    return _InflatingStream(source, member, data_offset)


class _StoredStream(MemberStream):
    """Data that lie in the file as they are: read straight to where they are wanted."""

    def _fill(self, view: memoryview) -> None:
        self._source.read_into(self._data_offset + self._member.size - self.remaining, view)


class _InflatingStream(MemberStream):
    """Deflated data, inflated piece by piece by zlib: never more than asked for, whatever the data try."""

    def __init__(self, source: ByteSource, member: Member, data_offset: int) -> None:
        super().__init__(source, member, data_offset)
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._next_offset = data_offset
        self._compressed_left = member.compressed_size

    def _fill(self, view: memoryview) -> None:
        done = 0
        while done < len(view):
            piece = self._inflate(min(len(view) - done, _CHUNK_BYTES))
            view[done : done + len(piece)] = piece
            done += len(piece)
            if not piece and (self._inflater.eof or not self._compressed_left):
                raise self._damaged("its compressed data end too early")

    def finish(self) -> None:
        """Check also that the compressed data end where the decoded ones do."""
        super().finish()
        # The end-of-block code may still lie ahead, or wait inside zlib; more data must not.
        while not self._inflater.eof:
            exhausted = not self._compressed_left and not self._inflater.unconsumed_tail
            if self._inflate(1):
                raise self._damaged("its compressed data hold more than its size")
            if exhausted:
                break
        if not self._inflater.eof or self._inflater.unused_data or self._compressed_left:
            raise self._damaged("its compressed data do not end where its records say")

    def _inflate(self, limit: int) -> bytes:
        data = self._inflater.unconsumed_tail
        if not data and not self._inflater.eof:
            count = min(self._compressed_left, _CHUNK_BYTES)
            data = bytes(self._source.read(self._next_offset, count))
            self._next_offset += count
            self._compressed_left -= count
        try:
            return self._inflater.decompress(data, limit)
        except zlib.error as error:
            raise self._damaged("its compressed data are damaged") from error


class _DecodedStream(MemberStream):
    """Data that are in memory already, all at once."""

    def __init__(self, source: ByteSource, member: Member, data_offset: int, data: bytearray) -> None:
        super().__init__(source, member, data_offset)
        self._data = memoryview(data)

    def _fill(self, view: memoryview) -> None:
        start = self._member.size - self.remaining
        view[:] = self._data[start : start + len(view)]


def _inflate_whole(source: ByteSource, member: Member, data_offset: int) -> bytearray | None:
    """Return the decoded data of ``member``, or None where libdeflate cannot vouch for them.

    libdeflate does not say where a raw stream ended. In a gzip file, though, CRC-32 and size must follow the stream:
    set behind the last compressed byte they are found only if the stream ends right there and gave what they say.
    """
    footer = struct.pack("<LL", member.crc32, member.size)
    data_end = len(_GZIP_HEADER) + member.compressed_size
    gzip_file = bytearray(data_end + len(footer))
    gzip_file[: len(_GZIP_HEADER)] = _GZIP_HEADER
    gzip_file[data_end:] = footer
    source.read_into(data_offset, memoryview(gzip_file)[len(_GZIP_HEADER) : data_end])
    if gzip_file.find(footer, len(_GZIP_HEADER)) != data_end:
        return None
    try:
        data: bytearray = deflate.gzip_decompress(gzip_file)
    except deflate.DeflateError:
        return None
    return data
