"""How far several processes are, in a small file that each of them writes a part of and anybody may read."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from toolkit.core.files import explain_os_error

_SLOT: Final = struct.Struct("<QQ")


def make_progress_file(path: Path, slots: int) -> None:
    """Make the file anew, with every figure zero; what has its name is removed, not written to.

    Raises:
        MvtkError: it cannot be written.
    """
    try:
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(bytes(_SLOT.size * slots))
    except OSError as error:
        raise explain_os_error(error, path, "write") from error


def read_progress(path: Path) -> list[tuple[int, int]]:
    """Return (bytes read, files made) of each slot; an empty list where there is no such file."""
    try:
        data = path.read_bytes()
    except OSError:
        return []
    return list(_SLOT.iter_unpack(data[: len(data) - len(data) % _SLOT.size]))


class ProgressWriter:
    """Writes one slot of a progress file. Where that fails, nothing else does.

    A few bytes are written by a system call each time: a memory map would kill the process when the disk is full.

    Args:
        path: the file.
        slot: which part of it.
    """

    def __init__(self, path: Path, slot: int) -> None:
        self._offset = slot * _SLOT.size
        self._descriptor = -1
        with suppress(OSError):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def write(self, done_bytes: int, files: int) -> None:
        """Write how far the slot's process is."""
        with suppress(OSError):
            os.pwrite(self._descriptor, _SLOT.pack(done_bytes, files), self._offset)

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):
            os.close(self._descriptor)
