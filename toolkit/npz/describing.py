"""What an NPZ file holds, without reading its large arrays."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from toolkit.npz.checks import NpzKind, detect_kind
from toolkit.npz.npy_header import ArrayHeader
from toolkit.npz.reading import NpzReader, open_npz
from toolkit.npz.zip_records import STORED

_MAX_TEXT_LENGTH: Final = 200

Scalar = bool | int | float | str


@dataclass(frozen=True, slots=True)
class MemberDescription:
    """One member of an NPZ file.

    Attributes:
        key: the array's name.
        is_array: whether the member is an NPY array; if not, ``dtype`` and ``shape`` are None.
        dtype: the array's dtype as NumPy prints it.
        shape: the array's shape.
        size_bytes: length of the member, NPY header included.
        compressed_bytes: its length in the file.
        compression: "deflated" or "stored".
        pickled: whether the array is pickled objects, which are not read.
        value: the value of a 0-d array of a finite number or a text of at most 200 characters, else None.
    """

    key: str
    is_array: bool
    dtype: str | None
    shape: tuple[int, ...] | None
    size_bytes: int
    compressed_bytes: int
    compression: str
    pickled: bool
    value: Scalar | None


@dataclass(frozen=True, slots=True)
class NpzDescription:
    """An NPZ file: its path, length, kind (by its keys) and members in the file's order."""

    path: Path
    size_bytes: int
    kind: NpzKind
    members: tuple[MemberDescription, ...]


def describe_npz(path: str | os.PathLike[str]) -> NpzDescription:
    """Return what an NPZ file holds; of its data only small 0-d arrays are read and checked.

    Raises:
        NpzError: the file cannot be read, or its structure, an array's header or such a 0-d array is damaged.
    """
    with open_npz(path) as reader:
        members = tuple(_describe(reader, key) for key in reader.members)
        return NpzDescription(reader.path, reader.size_bytes, detect_kind(reader.members.keys()), members)


def _describe(reader: NpzReader, key: str) -> MemberDescription:
    member = reader.members[key]
    header = reader.header(key)
    return MemberDescription(
        key=key,
        is_array=header is not None,
        dtype=None if header is None else str(header.dtype),
        shape=None if header is None else header.shape,
        size_bytes=member.size,
        compressed_bytes=member.compressed_size,
        compression="stored" if member.method == STORED else "deflated",
        pickled=header is not None and header.pickled,
        value=None if header is None else _scalar(reader, key, header),
    )


def _scalar(reader: NpzReader, key: str, header: ArrayHeader) -> Scalar | None:
    is_text = header.dtype.kind == "U" and header.dtype.itemsize <= _MAX_TEXT_LENGTH * np.dtype("U1").itemsize
    if header.shape != () or not (is_text or header.dtype.kind in "biuf"):
        return None
    array = reader.read(key)
    if header.dtype.kind == "U":
        return _text(array)
    if header.dtype.kind == "f":
        number = float(array)
        return number if math.isfinite(number) else None
    value: bool | int = array.item()
    return value


def _text(array: npt.NDArray[np.str_]) -> str | None:
    # numpy's item() raises a SystemError for numbers that are no code points.
    try:
        return array.astype(array.dtype.newbyteorder("<")).tobytes().decode("utf-32-le").rstrip("\0")
    except UnicodeDecodeError:
        return None
