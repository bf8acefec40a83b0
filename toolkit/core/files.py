"""Atomic files: a file that exists is, at every instant, its old or its new self, whole.

A writer fills a temporary file in the target's own folder, flushes and fsyncs it, and publishes it under the
target's name in one system call; then it fsyncs the folder. A killed writer leaves nothing but its temporary file,
whose name tells who wrote it, so that the next run can tell a left-over from another run's work in progress.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from toolkit.core.errors import MvtkError, StopRunError

_TEMPORARY_NAME = re.compile(r"\.mvtk-(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-(?P<started>\d+)-[0-9a-f]{8}\.tmp")
_FOREIGN_LEFTOVER_AGE_S = 24 * 3600.0
"""A temporary of another machine is left over when nobody has written to it for this long."""

_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_STORAGE_EXHAUSTED = {errno.ENOSPC, errno.EDQUOT}


class TargetExistsError(MvtkError):
    """The file to write exists, and overwriting it was not asked for."""

    def __init__(self, target: Path | str) -> None:
        super().__init__(f"{target} exists already", "use --overwrite to replace it")
        self.args = (target,)


def explain_os_error(error: OSError, path: Path | str, action: str) -> MvtkError:
    """Return ``error`` as a line that names ``path``; a full disk becomes a :class:`StopRunError`.

    Args:
        error: what the operating system said.
        path: the file or folder concerned.
        action: a verb in the infinitive, such as ``"read"``.
    """
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _STORAGE_EXHAUSTED:
        return StopRunError(f"{path}: cannot {action}: {reason}", "free some space and run the command again")
    return MvtkError(f"{path}: cannot {action}: {reason}")


@contextmanager
def atomic_write(target: Path, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file for writing and publish it as ``target`` when the block ends without an exception.

    A new file gets the mode that the umask leaves; one that replaces a file keeps the old mode (and, for root, the
    owner). A symbolic link is followed when its file is overwritten. When the block raises, nothing remains.

    Args:
        target: the file to make; its folder must exist.
        overwrite: whether an existing ``target`` may be replaced.

    Raises:
        TargetExistsError: ``target`` exists and ``overwrite`` is false, also when it appeared meanwhile.
        StopRunError: no space is left.
        MvtkError: the file cannot be written; the line names it.
    """
    try:
        final = Path(os.path.realpath(target)) if overwrite else target
        if not overwrite and os.path.lexists(final):
            raise TargetExistsError(target)
        if os.path.lexists(final) and not final.is_file():
            raise MvtkError(f"{target}: not a regular file", "name another file to write")
        temporary = final.with_name(_temporary_name())
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                yield stream
                stream.flush()
                if overwrite:
                    _copy_ownership(final, descriptor)
                os.fsync(descriptor)
            _publish(temporary, final, overwrite=overwrite)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(final.parent)
    except FileExistsError as error:
        raise TargetExistsError(target) from error
    except OSError as error:
        raise explain_os_error(error, target, "write") from error


def write_bytes(target: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write ``data`` to ``target`` atomically; see :func:`atomic_write` for the arguments and errors."""
    with atomic_write(target, overwrite=overwrite) as stream:
        stream.write(data)


def read_bytes(path: Path | str) -> bytes:
    """Return the content of a regular file.

    Raises:
        MvtkError: it is missing, unreadable or not a regular file; the line names it. A named pipe never blocks.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise MvtkError(f"{path}: not a regular file")
            return stream.read()
    except OSError as error:
        raise explain_os_error(error, path, "read") from error


def make_folder(folder: Path) -> None:
    """Create ``folder`` and its parents where they are missing, durably.

    Raises:
        MvtkError: it cannot be created, or something that is not a folder has its name.
    """
    try:
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            if folder.parent == folder:
                break
            folder = folder.parent
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            sync_folder(path.parent)
    except FileExistsError as error:
        raise MvtkError(f"{error.filename}: exists and is not a folder") from error
    except OSError as error:
        raise explain_os_error(error, error.filename or folder, "create the folder") from error


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EROFS}:
            raise
    finally:
        os.close(descriptor)


def is_temporary(name: str) -> bool:
    """Tell whether a file name is that of one of our temporary files."""
    return _TEMPORARY_NAME.fullmatch(name) is not None


def sweep_leftovers(folder: Path) -> int:
    """Remove the temporary files that killed runs left in ``folder`` and below; return how many.

    A temporary whose writer still runs stays, and so does everything that is not named like one of ours. Of a writer
    on another machine nobody here can tell whether it runs: its temporary goes when it is a day old.
    """
    removed = 0
    pending = [os.fspath(folder)]
    while pending:
        with suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif is_temporary(entry.name) and _is_left_over(entry):
                    with suppress(OSError):
                        os.unlink(entry.path)
                        removed += 1
    return removed


def _temporary_name() -> str:
    return f".mvtk-{_machine()}-{os.getpid()}-{_start_time(os.getpid())}-{secrets.token_hex(4)}.tmp"


def _is_left_over(entry: os.DirEntry[str]) -> bool:
    match = _TEMPORARY_NAME.fullmatch(entry.name)
    if match is None or not entry.is_file(follow_symlinks=False):
        return False
    if match["machine"] == _machine():
        return _start_time(int(match["pid"])) != int(match["started"])
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > _FOREIGN_LEFTOVER_AGE_S


@functools.cache
def _machine() -> str:
    """Identify the set of processes among which a process id is unique: the host and its pid namespace."""
    namespace = "0"
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return hashlib.blake2b(f"{socket.gethostname()}\0{namespace}".encode(), digest_size=4).hexdigest()


def _start_time(pid: int) -> int:
    """Return when process ``pid`` started, in clock ticks since boot; -1 when there is no such process.

    Without ``/proc`` (macOS) a running process has the start time 0: a reused process id then keeps a left-over alive,
    which costs disk space but loses nothing.
    """
    try:
        # The second field, the command's name, may hold spaces and parentheses; the 22nd is the start time.
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return -1
    except OSError:
        return -1
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return -1
    except PermissionError:
        pass
    return 0


def _publish(temporary: Path, final: Path, *, overwrite: bool) -> None:
    if overwrite:
        os.replace(temporary, final)
        return
    try:
        # A hard link fails where a rename would overwrite: nobody's file is lost to a race.
        os.link(temporary, final, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if os.path.lexists(final):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(final)) from error
        os.rename(temporary, final)
    else:
        os.unlink(temporary)


def _copy_ownership(final: Path, descriptor: int) -> None:
    with suppress(FileNotFoundError):
        old = os.stat(final)
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
        if os.geteuid() == 0:
            os.fchown(descriptor, old.st_uid, old.st_gid)
