"""Marks: small members that say what was done to a file, read leniently and fast."""

from __future__ import annotations

from typing import Any, Final

import numpy.typing as npt

from toolkit.npz.errors import PickledMemberError
from toolkit.npz.reading import NpzReader

# An NPY header takes 128 bytes, a text four a character. What is longer is no mark, and is not read.
_MAX_MARK_BYTES: Final = 4096


def read_flag(reader: NpzReader, key: str) -> bool:
    """Tell whether mark ``key`` of an open file is 1: a whole number or bool, in an array of any number of axes.

    A member of that name that is anything else, or pickled, counts as no mark.

    Raises:
        NpzError: the mark is damaged, or is not an NPY array.
    """
    flag = _read_mark(reader, key, "biu")
    return flag is not None and flag.item() == 1


def read_text(reader: NpzReader, key: str) -> str | None:
    """Return mark ``key`` of an open file: one text, in an array of any number of axes; None where there is none.

    A member of that name that is anything else, or pickled, counts as no mark.

    Raises:
        NpzError: the mark is damaged, or is not an NPY array.
    """
    array = _read_mark(reader, key, "U")
    if array is None:
        return None
    # numpy's item() raises a SystemError for numbers that are no code points.
    code_points = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return code_points.decode("utf-32-le", "replace").rstrip("\0")


def _read_mark(reader: NpzReader, key: str, dtype_kinds: str) -> npt.NDArray[Any] | None:
    """Return array ``key`` where it holds one value of one of the kinds of dtype."""
    member = reader.members.get(key)
    if member is None or member.size > _MAX_MARK_BYTES:
        return None
    try:
        array = reader.read(key)
    except PickledMemberError:
        return None
    return array if array.size == 1 and array.dtype.kind in dtype_kinds else None
