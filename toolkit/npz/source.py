"""Random access to the bytes of one open file, with errors that name it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Self

from toolkit.npz.errors import NpzError


class ByteSource:
    """A regular file, opened once: a file renamed over it meanwhile does not mix into what is read.

    Nothing is buffered and there is no position, so the object may be shared by readers of several members. Close it
    with :meth:`close` or use it as a context manager.

    Args:
        path: the file to open.

    Raises:
        NpzError: it does not exist, may not be read, or is not a regular file (a FIFO is refused, not waited for).

    Attributes:
        path: the path it was opened by.
        status: what the system said of the file when it was opened.
        size: its length then, in bytes.
    """

    __slots__ = ("_descriptor", "path", "size", "status")

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # O_NONBLOCK: opening a FIFO without a writer would wait for ever.
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            raise _open_error(path, error) from error
        self.status = os.fstat(self._descriptor)
        if not stat.S_ISREG(self.status.st_mode):
            self.close()
            what = "is a folder" if stat.S_ISDIR(self.status.st_mode) else "is not a regular file"
            raise NpzError(path, what, "give the path of an NPZ file")
        self.size = self.status.st_size

    def close(self) -> None:
        """Close the file; further calls do nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, offset: int, length: int) -> bytearray:
        """Return ``length`` bytes from ``offset``.

        Raises:
            NpzError: the file ends before, or cannot be read.
        """
        data = bytearray(length)
        self.read_into(offset, data)
        return data

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """Fill ``buffer`` from ``offset``; errors as in :meth:`read`."""
        done = self._read_once(offset, buffer)
        while done < len(buffer):
            count = self._read_once(offset + done, memoryview(buffer)[done:])
            if count == 0:
                raise NpzError(self.path, "ends too early: it is cut short, or was shortened while it was read")
            done += count

    def _read_once(self, offset: int, buffer: bytearray | memoryview) -> int:
        try:
            return os.preadv(self._descriptor, (buffer,), offset)
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
            raise NpzError(self.path, problem, "check the disk or the network share") from error


def _open_error(path: Path, error: OSError | ValueError) -> NpzError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return NpzError(path, "does not exist", "check the path")
    if isinstance(error, PermissionError):
        return NpzError(path, "may not be read", "check the permissions of the file and of its folder")
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return NpzError(path, f"cannot be opened: {reason}", "check the path")
