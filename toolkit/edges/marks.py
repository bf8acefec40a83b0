"""The marks that say which edge maps a features file has, and how they were made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from toolkit.npz.marks import read_flag, read_text
from toolkit.npz.reading import NpzReader

FLAG_KEY: Final = "edge_flag"
VERSION_KEY: Final = "edge_version"

_METHOD: Final = "B_v1"
_DEFAULT_KERNEL_SIZE: Final = 3
_OTHER_KERNEL: Final = re.compile(rf"{_METHOD}_k([1-9][0-9]{{0,8}})")
_EDGE_MAP_KEY: Final = re.compile(r"edge_([1-9][0-9]{0,5})x\1")


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

    See :mod:`toolkit.npz.marks`: a file whose marks are of another kind is done again.

    Raises:
        NpzError: a mark is damaged, or is not an NPY array.
    """
    return EdgeMarks(
        flag=read_flag(reader, FLAG_KEY),
        version=read_text(reader, VERSION_KEY) or "",
        sizes=tuple(int(match[1]) for match in map(_EDGE_MAP_KEY.fullmatch, reader.members) if match),
    )
