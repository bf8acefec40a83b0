"""Files and folders below one folder, made by threads, and never through a link."""

from __future__ import annotations

import errno
import os
import queue
import threading
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, NamedTuple, Self

from toolkit.core.errors import MvtkError, StopRunError
from toolkit.core.files import explain_os_error
from toolkit.embryo.extraction.tar_headers import MemberError

_THREADS: Final = 2
"""Where a file is made in the time of a few system calls, more only wait for one another."""
_BATCH_FILES: Final = 32
_BATCH_BYTES: Final = 256 << 10
_MAX_WAITING_BATCHES: Final = 8
_MAX_OPEN_FOLDERS: Final = 64
_MAX_FOLDERS: Final = 100_000
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OCCUPIED: Final = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}


class _NewFile(NamedTuple):
    """A small file to be made."""

    folder: int
    path: str
    views: list[memoryview]
    mtime_ns: int


@dataclass(slots=True)
class _Batch:
    files: list[_NewFile] = field(default_factory=list)
    size: int = 0


class TreeWriter:
    """Makes files and folders below ``root``, which must be an empty folder; leaving the block waits for all of them.

    Every file and folder is made in a folder that is held open, under a name without slashes that did not exist: what
    a link leads to is never reached. Files get the mode that the umask leaves of ``rw-rw-rw-`` and their own time of
    writing; no owner, no other rights.

    Args:
        root: the folder.

    Raises:
        StopRunError: something cannot be written.

    Attributes:
        files: how many files were taken on so far.
        size: how many bytes they have in all.
    """

    def __init__(self, root: str) -> None:
        self.files = 0
        self.size = 0
        self._root = root
        self._open_folders: dict[str, int] = {}
        self._made_folders: set[str] = set()
        self._named_folders: set[str] = set()
        self._batch = _Batch()
        self._waiting: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(_MAX_WAITING_BATCHES)
        self._error: BaseException | None = None
        self._threads = [threading.Thread(target=self._run, name="writer", daemon=True) for _ in range(_THREADS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._error = self._error or error
        try:
            if error is None:
                self.flush()
        finally:
            for _ in self._threads:
                self._waiting.put(None)
            for thread in self._threads:
                thread.join()
            self._close_folders()

    def add_folder(self, path: str) -> None:
        """Make a folder and those above it.

        Raises:
            MemberError: the folder was added before, or a file has its name.
        """
        if path in self._named_folders:
            raise MemberError("it is in the archive twice", path)
        self._named_folders.add(path)
        self._folder(path)

    def add_file(self, path: str, views: list[memoryview], mtime_ns: int) -> None:
        """Make a small file, soon; ``views`` are held until then.

        Raises:
            MemberError: a file, this one or an earlier one, has a name that another member has.
        """
        folder = self._parent_of(path)  # first: it may flush, and so begin another batch
        size = sum(map(len, views))
        self._batch.files.append(_NewFile(folder, path, views, mtime_ns))
        self._batch.size += size
        self.files += 1
        self.size += size
        if self._batch.size >= _BATCH_BYTES or len(self._batch.files) >= _BATCH_FILES:
            self._submit()

    def add_large_file(self, path: str, pieces: Iterator[list[memoryview]], mtime_ns: int) -> None:
        """Make a file whose content comes in pieces, now.

        Raises:
            MemberError: another member has its name; or what ``pieces`` raises.
        """
        folder = self._parent_of(path)
        self.files += 1
        try:
            with open(_create(folder, path), "wb", buffering=0) as stream:
                for views in pieces:
                    _write(stream.fileno(), views)
                    self.size += sum(map(len, views))
                os.utime(stream.fileno(), ns=(mtime_ns, mtime_ns))
        except OSError as error:
            raise self._explained(error, path) from error

    def flush(self) -> None:
        """Wait until every file that was added is made.

        Raises:
            MemberError: an earlier file has a name that another member has.
        """
        self._submit()
        for _ in range(_MAX_WAITING_BATCHES):
            self._room.acquire()
        self._room.release(_MAX_WAITING_BATCHES)
        self._raise_error()

    def _submit(self) -> None:
        batch, self._batch = self._batch, _Batch()
        self._room.acquire()
        self._raise_error()
        self._waiting.put(batch)

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (batch := self._waiting.get()) is not None:
            try:
                if self._error is None:
                    for file in batch.files:
                        self._make(file)
            except BaseException as error:  # noqa: BLE001 - it is raised in the thread that adds files
                self._error = error
            self._room.release()

    def _make(self, file: _NewFile) -> None:
        try:
            descriptor = _create(file.folder, file.path)
            try:
                _write(descriptor, file.views)
                os.utime(descriptor, ns=(file.mtime_ns, file.mtime_ns))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._explained(error, file.path) from error

    def _parent_of(self, path: str) -> int:
        return self._folder(path.rpartition("/")[0])

    def _folder(self, path: str) -> int:
        """Return the descriptor of a folder, which is made if need be; "" is the root."""
        descriptor = self._open_folders.get(path)
        if descriptor is None:
            if len(self._open_folders) >= _MAX_OPEN_FOLDERS:
                self.flush()
                self._close_folders()
            descriptor = self._open_folders[path] = self._open(path)
        return descriptor

    def _open(self, path: str) -> int:
        try:
            if not path:
                return os.open(self._root, _FOLDER_FLAGS)
            parent, name = self._parent_of(path), path.rpartition("/")[2]
            if path not in self._made_folders:
                self._require_room()
                os.mkdir(name, dir_fd=parent)
                self._made_folders.add(path)
            return os.open(name, _FOLDER_FLAGS, dir_fd=parent)
        except OSError as error:
            raise self._explained(error, path) from error

    def _require_room(self) -> None:
        if len(self._made_folders) >= _MAX_FOLDERS:
            raise MemberError(f"the archive holds more than {_MAX_FOLDERS} folders")

    def _close_folders(self) -> None:
        for descriptor in self._open_folders.values():
            os.close(descriptor)
        self._open_folders.clear()

    def _explained(self, error: OSError, path: str) -> MemberError | StopRunError:
        """Return the system's error as one that names the member or the file."""
        if error.errno in _OCCUPIED:
            return MemberError("it is in the archive twice", path)
        return _stopping(error, f"{self._root}/{path}", "write")


def require_distinct_names(root: str) -> None:
    """Check that no two entries of a folder below ``root`` differ only by case or by the composition of letters.

    It is done when everything is there, folder by folder: exact, and with no more in memory than a number a name.

    Raises:
        MemberError: two names are the same on a file system that makes no such difference.
        StopRunError: a folder cannot be listed.
    """
    pending = [root]
    while pending:
        folder = pending.pop()
        seen: set[int] = set()
        repeated: set[int] = set()
        for entry in _entries(folder):
            key = hash(_folded(entry.name))
            (repeated if key in seen else seen).add(key)
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
        if repeated:
            names = [entry.name for entry in _entries(folder) if hash(_folded(entry.name)) in repeated]
            _require_distinct(os.path.relpath(folder, root), names)


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        raise _stopping(error, folder, "list the folder") from error


def _require_distinct(folder: str, names: list[str]) -> None:
    first: dict[str, str] = {}
    for name in sorted(names):
        other = first.setdefault(_folded(name), name)
        if other != name:
            raise MemberError(f"it differs from '{folder}/{other}' by case or Unicode form only", f"{folder}/{name}")


def _stopping(error: OSError, path: str, action: str) -> StopRunError:
    explained: MvtkError = explain_os_error(error, path, action)
    return StopRunError(explained.message, explained.hint)


def _folded(name: str) -> str:
    return (
        name.lower() if name.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
    )


def _create(folder: int, path: str) -> int:
    return os.open(path.rpartition("/")[2], _FILE_FLAGS, 0o666, dir_fd=folder)


def _write(descriptor: int, views: list[memoryview]) -> None:
    for view in views:
        # A system call may write less than it was given; where the disk is full the next one says so.
        written = os.write(descriptor, view)
        while written < len(view):
            written += os.write(descriptor, view[written:])
