"""Writing NPZ files: the same arrays give the same bytes, readable by ``numpy.load`` and every ZIP program."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import deflate
import numpy as np
import numpy.typing as npt
from isal import igzip_lib

from toolkit.core.errors import MvtkError
from toolkit.core.files import atomic_write
from toolkit.npz.npy_header import flat_bytes, format_header
from toolkit.npz.pair_options import Compression
from toolkit.npz.zip_records import (
    DEFLATED,
    MAX_U16,
    STORED,
    Member,
    closing_records,
    local_header,
    new_member,
)

Buffer: TypeAlias = bytes | bytearray | memoryview

# Level 2 of libdeflate makes images as small as zlib's level 6 does, in a fifth of the time. ISA-L takes less than half
# of that, and on photographs, which hardly shrink, loses next to nothing: a sample of the data decides.
_FAST_LEVEL: Final = 2
_ISAL_LEVEL: Final = 2
_MAX_ISAL_GROWTH: Final = 1.2
_SAMPLE_BYTES: Final = 4 << 10
# libdeflate needs input and output whole in memory: larger arrays are deflated piece by piece by zlib.
_MAX_WHOLE_BYTES: Final = 256 << 20
_ZLIB_FAST_LEVEL: Final = 1
# A member that deflating does not make this much smaller is stored: it is read several times as fast.
_WORTHWHILE: Final = 0.99
# The level of numpy.savez_compressed.
_ZLIB_LEVEL: Final = 6


def encode_npz(arrays: Mapping[str, npt.ArrayLike], compression: Compression = "fast") -> list[Buffer]:
    """Return the bytes of an NPZ file, in pieces to be written one after another.

    Args:
        arrays: the arrays by key, written in this order. C- and F-ordered arrays keep their order.
        compression: "fast" is ISA-L or libdeflate, whichever suits the data; "zlib" is what ``numpy.savez_compressed``
            does; "none" stores.
            A member that deflating shrinks by less than 1 % is stored.

    Returns:
        the pieces; those of a stored array are views of the array itself.

    Raises:
        MvtkError: a key cannot name a member, or an array holds objects or has a dtype that NPY cannot describe.
    """
    return list(_pieces(arrays, compression))


def save_npz(
    path: str | os.PathLike[str],
    arrays: Mapping[str, npt.ArrayLike],
    *,
    compression: Compression = "fast",
    overwrite: bool = False,
) -> int:
    """Write ``arrays`` to ``path``, which appears whole or not at all; no suffix is added.

    Args:
        path: the file to write.
        arrays: see :func:`encode_npz`.
        compression: see :func:`encode_npz`.
        overwrite: replace a file that exists.

    Returns:
        the file's length in bytes.

    Raises:
        MvtkError: as in :func:`encode_npz`, or the file exists or cannot be written.
    """
    with atomic_write(Path(path), overwrite=overwrite) as file:
        return sum(file.write(piece) for piece in _pieces(arrays, compression))


def encode_member(
    key: str, values: npt.ArrayLike, *, header_offset: int, compression: Compression
) -> tuple[Member, list[Buffer]]:
    """Return the member of an array that is written at ``header_offset``, and its bytes, local header included.

    Args:
        key: the array's name.
        values: the array.
        header_offset: where in the file the bytes will stand.
        compression: see :func:`encode_npz`.

    Raises:
        MvtkError: as in :func:`encode_npz`.
    """
    _check_key(key)
    array = np.asarray(values)
    header, data = _encoded(key, array)
    crc32 = deflate.crc32(data, deflate.crc32(header))
    method, payload = _compressed(header, data, compression)
    member = new_member(
        key,
        method=method,
        crc32=crc32,
        compressed_size=sum(len(piece) for piece in payload),
        size=len(header) + len(data),
        header_offset=header_offset,
    )
    return member, [local_header(member), *payload]


def _pieces(arrays: Mapping[str, npt.ArrayLike], compression: Compression) -> Iterator[Buffer]:
    """Yield the file's bytes; one array's encoded data are in memory at a time."""
    members: list[Member] = []
    offset = 0
    for key, values in arrays.items():
        member, pieces = encode_member(key, values, header_offset=offset, compression=compression)
        yield from pieces
        members.append(member)
        offset = member.end_offset
    yield closing_records(members)


def _check_key(key: str) -> None:
    problem = ""
    if not key or "/" in key or "\0" in key:
        problem = "is empty or holds '/' or NUL"
    elif key.endswith(".npy"):
        problem = "ends in .npy, which the member's name adds"
    else:
        try:
            if len(f"{key}.npy".encode()) > MAX_U16:
                problem = "is longer than ZIP allows"
        except UnicodeEncodeError:
            problem = "cannot be written as UTF-8"
    if problem:
        raise MvtkError(f"key '{key:.60}' {problem}", "choose another key for the array")


def _encoded(key: str, array: npt.NDArray[Any]) -> tuple[bytes, memoryview]:
    if array.dtype.hasobject:
        raise MvtkError(f"key '{key}': an array of dtype {array.dtype} could only be pickled", "give it a plain dtype")
    try:
        return format_header(array), flat_bytes(array)
    except ValueError as error:
        raise MvtkError(
            f"key '{key}': dtype {array.dtype} cannot be written: {error}", "give it a plain dtype"
        ) from error


def _compressed(header: bytes, data: memoryview, compression: Compression) -> tuple[int, list[Buffer]]:
    """Return the ZIP method and the member's data: deflated where that was asked for and is worth it."""
    size = len(header) + len(data)
    deflated: list[Buffer] = []
    if compression == "fast" and size <= _MAX_WHOLE_BYTES:
        deflated = [_deflated_fast(b"".join((header, data)))]
    elif compression != "none":
        level = _ZLIB_LEVEL if compression == "zlib" else _ZLIB_FAST_LEVEL
        compressor = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
        deflated = [compressor.compress(header), compressor.compress(data), compressor.flush()]
    if deflated and sum(len(piece) for piece in deflated) < _WORTHWHILE * size:
        return DEFLATED, deflated
    return STORED, [header, data]


def _deflated_fast(data: bytes) -> Buffer:
    """Return ``data`` deflated by ISA-L, or by libdeflate where that makes a sample of the data much smaller."""
    middle = len(data) // 2
    sample = data[middle : middle + _SAMPLE_BYTES] + data[middle // 2 : middle // 2 + _SAMPLE_BYTES]
    small = len(deflate.deflate_compress(sample, _FAST_LEVEL))
    if len(_deflated_isal(sample)) <= small * _MAX_ISAL_GROWTH:
        return _deflated_isal(data)
    return deflate.deflate_compress(data, _FAST_LEVEL)


def _deflated_isal(data: bytes) -> bytes:
    return igzip_lib.compress(data, _ISAL_LEVEL, igzip_lib.COMP_DEFLATE)
