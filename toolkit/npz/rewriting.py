"""Replacing single members of an NPZ file; all others are carried over byte for byte, whatever they hold."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from typing import Final

import deflate
import numpy.typing as npt

from toolkit.core.files import atomic_write, explain_os_error
from toolkit.npz.errors import NpzError
from toolkit.npz.pair_options import Compression
from toolkit.npz.reading import NpzReader
from toolkit.npz.source import ByteSource
from toolkit.npz.writing import Buffer, encode_member
from toolkit.npz.zip_directory import read_comment
from toolkit.npz.zip_members import WRONG_CHECKSUM, locate_data, member_error
from toolkit.npz.zip_records import STORED, Member, closing_records

# Smaller pieces cost more system calls, larger ones fall out of the processor's cache before they are written.
_PIECE_BYTES: Final = 1 << 20
_WRITE_BITS: Final = 0o222


class ChangedMeanwhileError(NpzError):
    """The file is not any more what was opened: what was computed for it may not fit what is there now."""


def rewrite_npz(reader: NpzReader, arrays: Mapping[str, npt.ArrayLike], *, compression: Compression = "none") -> int:
    """Replace or add ``arrays`` in the file that ``reader`` has open: the very file that was looked at is rewritten.

    A replaced member keeps its place; new ones come last, in the order of ``arrays``. Every other member keeps its
    bytes and what the directory says of it, a pickled one too, and the archive keeps its comment. The same file and
    arrays give the same bytes, and doing it twice gives those of doing it once.

    Nothing that is carried over is decoded. Of stored members the CRC-32 is checked on the way, of deflated ones it is
    not: ``mvtk npz verify`` does that. Memory does not grow with the file, only with ``arrays``.

    The file appears whole or stays as it was (:func:`toolkit.core.files.atomic_write`). Another hard link to it keeps
    the old content. The reader goes on reading the old file; to rewrite again, open the new one.

    Args:
        reader: the open file.
        arrays: the arrays by key; key ``x`` replaces the member ``x.npy``, or ``x`` where it was stored by that name.
        compression: how ``arrays`` are written, see :func:`toolkit.npz.encode_npz`.

    Returns:
        the new file's length in bytes.

    Raises:
        ChangedMeanwhileError: the file is not at its path any more, or was changed since it was opened.
        NpzError: the file is damaged or read-only, or NumPy would confuse a new member with one that is there.
        StopRunError: no space is left.
        MvtkError: the file cannot be written, or as in :func:`toolkit.npz.encode_npz`.
    """
    source = reader.source
    _require_unchanged(source)
    require_rewritable(reader)
    for key in arrays:
        if f"{key}.npy" in reader.members:
            problem = f"NumPy could not tell a new member '{key}.npy' from '{key}.npy.npy', which is there"
            raise NpzError(source.path, problem, "choose another key for the array")
    # Of the replaced members too: where one member's place is a lie, so may be its neighbours'.
    data_offsets = {key: locate_data(source, member) for key, member in reader.members.items()}
    # Whoever replaces the file between the last check and the rename is not noticed; no system call does both.
    unchanged = functools.partial(_require_unchanged, source)
    with atomic_write(source.path, overwrite=True, last_check=unchanged) as file:
        return sum(file.write(piece) for piece in _pieces(reader, data_offsets, arrays, compression))


def _pieces(
    reader: NpzReader, data_offsets: Mapping[str, int], arrays: Mapping[str, npt.ArrayLike], compression: Compression
) -> Iterator[Buffer]:
    """Yield the new file's bytes; each piece is to be written before the next is asked for."""
    scratch = memoryview(bytearray(min(_PIECE_BYTES, reader.size_bytes)))
    members: list[Member] = []
    offset = 0
    for key in {**reader.members, **arrays}:
        if key in arrays:
            member, pieces = encode_member(key, arrays[key], header_offset=offset, compression=compression)
            yield from pieces
        else:
            member = reader.members[key].moved_to(offset)
            yield from _carried(reader.source, reader.members[key], data_offsets[key], scratch)
        members.append(member)
        offset = member.end_offset
    yield closing_records(members, read_comment(reader.source))


def _carried(source: ByteSource, member: Member, data_offset: int, scratch: memoryview) -> Iterator[memoryview]:
    """Yield the bytes of ``member``, each time in ``scratch``; a stored one's CRC-32 is checked at the end."""
    data_end = data_offset + member.compressed_size
    crc32 = 0
    for start in range(member.header_offset, member.end_offset, len(scratch)):
        piece = scratch[: member.end_offset - start]
        source.read_into(start, piece)
        if member.method == STORED:
            crc32 = deflate.crc32(piece[max(data_offset - start, 0) : max(data_end - start, 0)], crc32)
        yield piece
    if member.method == STORED and crc32 != member.crc32:
        raise member_error(source, member, WRONG_CHECKSUM)


def _require_unchanged(source: ByteSource) -> None:
    """Check that the path still names the file that was opened, as it was then."""
    hint = "run the command again"
    try:
        status = source.path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ChangedMeanwhileError(source.path, "vanished while it was being rewritten", hint) from error
    except OSError as error:
        raise explain_os_error(error, source.path, "read") from error
    if _identity(status) != _identity(source.status):
        raise ChangedMeanwhileError(source.path, "was replaced or changed while it was being rewritten", hint)


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def require_rewritable(reader: NpzReader) -> None:
    """Check, before long work begins, that an open file may be replaced.

    Raises:
        NpzError: it is read-only.
    """
    source = reader.source
    # A rename asks nothing of the file that it replaces, and root may write to any: what its owner said counts.
    if not source.status.st_mode & _WRITE_BITS or not os.access(source.path, os.W_OK):
        raise NpzError(source.path, "is read-only", "make it writable (chmod u+w) if it may be changed")
