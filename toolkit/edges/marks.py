"""The marks that say which edge maps a features file has, and how they were made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import numpy.typing as npt

from toolkit.npz.errors import PickledMemberError
from toolkit.npz.reading import NpzReader

FLAG_KEY: Final = "edge_flag"
VERSION_KEY: Final = "edge_version"

_METHOD: Final = "B_v1"
_DEFAULT_KERNEL_SIZE: Final = 3
_OTHER_KERNEL: Final = re.compile(rf"{_METHOD}_k([1-9][0-9]{{0,8}})")
_EDGE_MAP_KEY: Final = re.compile(r"edge_([1-9][0-9]{0,5})x\1")
# An NPY header takes 128 bytes, a version four a character. What is longer is no mark, and is not read.
_MAX_MARK_BYTES: Final = 4096


def edge_version(kernel_size: int) -> str:
    """Return the ``edge_version`` of edge maps made by Method B with a square kernel of that many pixels a side."""
    return _METHOD if kernel_size == _DEFAULT_KERNEL_SIZE else f"{_METHOD}_k{kernel_size}"


def kernel_size_of(version: str) -> int | None:
    """Return the kernel size that an ``edge_version`` stands for; None for what :func:`edge_version` never returns."""
    if version == _METHOD:
        return _DEFAULT_KERNEL_SIZE
    match = _OTHER_KERNEL.fullmatch(version)
    kernel_size = int(match[1]) if match else None
    return None if kernel_size == _DEFAULT_KERNEL_SIZE else kernel_size


@dataclass(frozen=True, slots=True)
class EdgeMarks:
    """What a features file says of its edge maps.

    Attributes:
        flag: whether its ``edge_flag`` is 1.
        version: its ``edge_version``; empty where it has none.
        sizes: the N of its members ``edge_NxN``, in the file's order.
    """

    flag: bool
    version: str
    sizes: tuple[int, ...]

    def up_to_date(self, kernel_size: int, *, add_256: bool = False) -> bool:
        """Tell whether the file says that its edge maps were made with that kernel size, and has them.

        Args:
            kernel_size: side of the square kernel in pixels.
            add_256: whether a map of 256 x 256 belongs to them; the smaller ones always do.
        """
        needed = {256, 64, 32} if add_256 else {64, 32}
        return self.flag and self.version == edge_version(kernel_size) and needed.issubset(self.sizes)


def read_edge_marks(reader: NpzReader) -> EdgeMarks:
    """Return the marks of an open features file; of its data only the marks are read and checked.

    A mark is one whole number or bool (``edge_flag``) or one text (``edge_version``), in an array of any number of
    axes. A member of that name that is anything else, or pickled, counts as no mark: such a file is done again.

    Raises:
        NpzError: a mark is damaged, or is not an NPY array.
    """
    flag = _read_mark(reader, FLAG_KEY, "biu")
    version = _read_mark(reader, VERSION_KEY, "U")
    return EdgeMarks(
        flag=flag is not None and flag.item() == 1,
        version="" if version is None else _text(version),
        sizes=tuple(int(match[1]) for match in map(_EDGE_MAP_KEY.fullmatch, reader.members) if match),
    )


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


def _text(array: npt.NDArray[Any]) -> str:
    # numpy's item() raises a SystemError for numbers that are no code points.
    code_points = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return code_points.decode("utf-32-le", "replace").rstrip("\0")
