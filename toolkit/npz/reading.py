"""Strict reading of NPZ files: what is returned is what was written, or there is an error.

Whatever a ZIP file states twice is compared (:mod:`toolkit.npz.zip_directory`, :mod:`toolkit.npz.zip_members`), an
array's CRC-32 is checked to its end, and its header must match its length. Pickled members are never unpickled.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from toolkit.npz.errors import NpzError, PickledMemberError
from toolkit.npz.member_stream import MemberStream, open_stream
from toolkit.npz.npy_header import ArrayHeader, NotNpyError, NpyHeaderError, empty_array, flat_bytes, read_header
from toolkit.npz.source import ByteSource
from toolkit.npz.zip_directory import read_members
from toolkit.npz.zip_records import Member

DEFAULT_MAX_BYTES: Final = 2 << 30
# Image and mask: as mvtk writes them, and as numpy.savez names arrays that were given without names.
_KEY_PAIRS: Final = (("image", "mask"), ("arr_0", "arr_1"))


class NpzReader:
    """An open NPZ file, for reading single members; a context manager.

    Opening checks the file's directory; a member's records and data are checked when it is read.

    Args:
        path: the NPZ file.
        max_bytes: no array that takes more bytes is read.

    Raises:
        NpzError: the file cannot be opened, or is not a sound ZIP file.

    Attributes:
        path: the NPZ file.
        members: every member by key, in the file's order.
        source: the open file itself, for what works on its raw bytes.
    """

    def __init__(self, path: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self.source = ByteSource(path)
        try:
            self.members: Mapping[str, Member] = {member.key: member for member in read_members(self.source)}
        except BaseException:
            self.source.close()
            raise

    @property
    def size_bytes(self) -> int:
        """The file's length."""
        return self.source.size

    def close(self) -> None:
        """Close the file; further calls do nothing."""
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def header(self, key: str) -> ArrayHeader | None:
        """Return the NPY header of member ``key``, or None where the member is not an NPY array.

        Only the member's start is read, so its CRC-32 is not checked.

        Raises:
            NpzError: there is no such member, or its header is not sound.
        """
        member = self._member(key)
        return self._read_header(member, open_stream(self.source, member, start_only=True))

    def read(self, key: str) -> npt.NDArray[Any]:
        """Return array ``key``: new, writable, in the stored dtype, byte order and element order.

        Raises:
            PickledMemberError: it holds pickled objects.
            NpzError: there is no such member, it is not an NPY array, is larger than the limit, or damaged.
        """
        member = self._member(key)
        if member.size > self._max_bytes:
            raise self._too_large(f"member '{key}' takes {member.size} bytes")
        stream = open_stream(self.source, member)
        header = self._read_header(member, stream)
        if header is None:
            raise self._not_npy(key)
        if header.pickled:
            hint = "write it again as a plain array: unpickling a file can run any program hidden in it"
            raise PickledMemberError(self.path, f"member '{key}' is pickled and is not read", hint)
        array = empty_array(header)
        stream.read_into(flat_bytes(array))
        stream.finish()
        return array

    def verify(self, key: str) -> ArrayHeader:
        """Read member ``key`` to its end and check it as :meth:`read` does, but keep nothing.

        Returns:
            its header; of pickled data only CRC-32 and sizes were checked.

        Raises:
            NpzError: there is no such member, it is not an NPY array, or it is damaged.
        """
        member = self._member(key)
        stream = open_stream(self.source, member)
        header = self._read_header(member, stream)
        stream.finish()
        if header is None:
            raise self._not_npy(key)
        return header

    def check_total_size(self) -> None:
        """Raise an NpzError if all members together, decoded, take more bytes than the limit."""
        total = sum(member.size for member in self.members.values())
        if total > self._max_bytes:
            raise self._too_large(f"its members take {total} bytes")

    def read_all(self, keys: Collection[str] | None = None) -> dict[str, npt.NDArray[Any]]:
        """Return arrays ``keys`` (default: all), in the file's order; errors and checks as in :func:`read_npz`."""
        wanted = self.members.keys() if keys is None else frozenset(keys)
        if missing := sorted(wanted - self.members.keys()):
            raise self._missing(missing)
        self.check_total_size()
        arrays = {}
        for key in self.members:
            if key in wanted:
                arrays[key] = self.read(key)
            else:
                self.verify(key)
        return arrays

    def _member(self, key: str) -> Member:
        member = self.members.get(key)
        if member is None:
            raise self._missing([key])
        return member

    def _read_header(self, member: Member, stream: MemberStream) -> ArrayHeader | None:
        try:
            header = read_header(stream.read)
        except NotNpyError:
            return None
        except NpyHeaderError as error:
            raise NpzError(self.path, f"member '{member.key}': {error}") from error
        if not header.pickled and header.size_bytes + header.data_bytes != member.size:
            found = f"{member.size - header.size_bytes} bytes of data where its header asks for {header.data_bytes}"
            raise NpzError(self.path, f"member '{member.key}' holds {found}")
        return header

    def _missing(self, keys: list[str]) -> NpzError:
        problem = "has no member " + ", ".join(f"'{key}'" for key in keys)
        return NpzError(self.path, problem, f"it has: {', '.join(self.members) or 'no members at all'}")

    def _not_npy(self, key: str) -> NpzError:
        return NpzError(self.path, f"member '{key}' is not an NPY array", "only arrays belong in an NPZ file")

    def _too_large(self, what: str) -> NpzError:
        return NpzError(
            self.path, f"{what}, more than the limit of {self._max_bytes}", "raise the limit if that is right"
        )


def open_npz(path: str | os.PathLike[str], *, max_bytes: int = DEFAULT_MAX_BYTES) -> NpzReader:
    """Open ``path`` for reading single members; see :class:`NpzReader`."""
    return NpzReader(Path(path), max_bytes=max_bytes)


def read_npz(
    path: str | os.PathLike[str], keys: Collection[str] | None = None, *, max_bytes: int = DEFAULT_MAX_BYTES
) -> dict[str, npt.NDArray[Any]]:
    """Return arrays of an NPZ file, after checking every byte of it that has a meaning.

    Args:
        path: the NPZ file.
        keys: the arrays to return; None for all. Members that are left out are checked too, in pieces.
        max_bytes: limit on the sum of all members' decoded sizes, checked before anything is allocated.

    Returns:
        new, writable arrays in the stored dtype, byte order and element order, in the file's order.

    Raises:
        PickledMemberError: an array asked for holds pickled objects.
        NpzError: the file cannot be read, is damaged or too large, or lacks a member asked for, or has one
            that is not an NPY array.
    """
    with open_npz(path, max_bytes=max_bytes) as reader:
        return reader.read_all(keys)


def load_npz_data(
    npz_path: str | os.PathLike[str], *, max_bytes: int = DEFAULT_MAX_BYTES
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return image and mask of a mask-attention NPZ.

    Args:
        npz_path: a file with the keys ``image`` and ``mask``, else ``arr_0`` and ``arr_1`` (in that order).
        max_bytes: limit on the sum of all members' decoded sizes.

    Returns:
        the image as stored, (H, W) or (H, W, C), and the mask; a mask of (H, W) becomes (H, W, 1).

    Raises:
        NpzError: the file has neither pair of keys, or as :func:`read_npz`.
    """
    with open_npz(npz_path, max_bytes=max_bytes) as reader:
        pair = image_and_mask_keys(reader.members)
        if pair is None:
            hint = f"keys image and mask, or arr_0 and arr_1, are needed; it has: {', '.join(reader.members) or 'none'}"
            raise NpzError(reader.path, "holds no image with its mask", hint)
        arrays = reader.read_all(pair)
    image, mask = arrays[pair[0]], arrays[pair[1]]
    return image, mask[:, :, np.newaxis] if mask.ndim == 2 else mask


def image_and_mask_keys(keys: Collection[str]) -> tuple[str, str] | None:
    """Return the keys of image and mask among ``keys``, None where neither pair of names is complete."""
    return next((pair for pair in _KEY_PAIRS if set(pair) <= set(keys)), None)
