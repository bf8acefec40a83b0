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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from toolkit.core.errors import MvtkError, OptionError, StopRunError

_TEMPORARY_NAME = re.compile(
    r"\.mvtk-(?P<machine>[0-9a-f]{8})-(?P<pid>[1-9][0-9]{0,9})-(?P<started>[0-9]{1,20})-[0-9a-f]{8}\.tmp"
)
_FOREIGN_LEFTOVER_AGE_S = 24 * 3600.0
"""A temporary of another machine is left over when nobody has written to it for this long."""

_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
STORAGE_EXHAUSTED = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the system says when a disk or a quota is full."""


_NEXT_STEPS = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "name a file",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EROFS: "the file system is read-only",
    errno.ENAMETOOLONG: "use shorter names",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), or write to another file system",
    errno.EMFILE: "raise the limit of open files (ulimit -n), or use fewer workers",
}


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
    if error.errno in STORAGE_EXHAUSTED:
        return StopRunError(f"{path}: cannot {action}: {reason}", "free some space and run the command again")
    return MvtkError(f"{path}: cannot {action}: {reason}", _NEXT_STEPS.get(error.errno or 0, ""))


@contextmanager
def atomic_write(
    target: Path, *, overwrite: bool = False, last_check: Callable[[], None] | None = None, durable: bool = True
) -> Iterator[BinaryIO]:
    """Open a temporary file for writing and publish it as ``target`` when the block ends without an exception.

    A new file gets the mode that the umask leaves; one that replaces a file keeps the old mode (and, for root, the
    owner). A symbolic link is followed when its file is overwritten. When the block raises, nothing remains.

    Args:
        target: the file to make; its folder must exist.
        overwrite: whether an existing ``target`` may be replaced.
        last_check: called when all is on the disk, right before publishing; it raises where that must not happen.
        durable: whether the file is on the disk when the block has ended. A job of a great many files forces them
            there together, before it writes what says that they are there.

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
            raise _not_regular(target)
        temporary = final.with_name(temporary_name())
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                yield stream
                stream.flush()
                if overwrite:
                    _copy_ownership(final, descriptor)
                if durable:
                    os.fsync(descriptor)
            if last_check is not None:
                last_check()
            _publish(temporary, final, overwrite=overwrite)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        if durable:
            sync_folder(final.parent)
    except FileExistsError as error:
        raise TargetExistsError(target) from error
    except OSError as error:
        raise explain_os_error(error, target, "write") from error


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Give the path of a temporary file, for a library that writes to a path alone, and publish it as ``target``.

    What ``target`` was is replaced when the block ends without an exception. Where the block has made no file,
    ``target`` stays as it is.

    Args:
        target: the file to make or replace; its folder must exist.

    Raises:
        StopRunError: no space is left.
        MvtkError: the file cannot be written; the line names it.
    """
    final = Path(os.path.realpath(target))
    temporary = final.with_name(temporary_name())
    try:
        try:
            yield temporary
            if os.path.lexists(temporary):
                descriptor = os.open(temporary, os.O_RDWR | os.O_CLOEXEC)
                try:
                    _copy_ownership(final, descriptor)
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                _publish(temporary, final, overwrite=True)
                sync_folder(final.parent)
        finally:
            with suppress(OSError):
                temporary.unlink()
    except OSError as error:
        raise explain_os_error(error, target, "write") from error


def write_bytes(target: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write ``data`` to ``target`` atomically; see :func:`atomic_write` for the arguments and errors."""
    with atomic_write(target, overwrite=overwrite) as stream:
        stream.write(data)


def require_writable(target: Path) -> None:
    """Check, before long work begins, that a file to be replaced or made at its end can be.

    Raises:
        MvtkError: ``target`` is not a regular file, or its folder is missing or not writable; the line names it.
    """
    final = Path(os.path.realpath(target))
    if os.path.lexists(final) and not final.is_file():
        raise _not_regular(target)
    if not final.parent.is_dir():
        raise MvtkError(f"{target}: cannot write: the folder {final.parent} does not exist", "make it first")
    if not os.access(final.parent, os.W_OK | os.X_OK):
        raise explain_os_error(PermissionError(errno.EACCES, ""), target, "write")


def require_apart(output: Path, inputs: Iterable[Path]) -> None:
    """Check that a file to be written is none of the inputs, however they are named.

    Raises:
        OptionError: it is one of them.
    """
    for path in inputs:
        if os.path.realpath(output) == os.path.realpath(path):
            raise OptionError(f"the output {output} is an input, and inputs are never modified", "name another file")


def read_bytes(path: Path | str) -> bytes:
    """Return the content of a regular file.

    Raises:
        MvtkError: it is missing, unreadable or not a regular file; the line names it. A named pipe never blocks.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
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


def temporary_name() -> str:
    """Return a new name for a temporary file, by which :func:`sweep_leftovers` tells who made it."""
    return f".mvtk-{_machine()}-{os.getpid()}-{_start_time(os.getpid()) or 0}-{secrets.token_hex(4)}.tmp"


def is_temporary(name: str) -> bool:
    """Tell whether a file name is that of one of our temporary files."""
    return _TEMPORARY_NAME.fullmatch(name) is not None


def sweep_leftovers(folder: Path) -> int:
    """Remove the temporary files that killed runs left in ``folder`` and below; return how many.

    A temporary whose writer still runs stays, and so does everything that is not named like one of ours. Of a writer
    on another machine nobody here can tell whether it runs: its temporary goes when it is a day old.
    What cannot be listed or removed is left to the next run.
    """
    removed = 0
    pending = [os.fspath(folder)]
    while pending:
        with suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif is_temporary(entry.name):
                    # Another run may sweep the same folder: an entry that is gone must not end this one's listing.
                    with suppress(OSError):
                        if _is_left_over(entry):
                            os.unlink(entry.path)
                            removed += 1
    return removed


def _not_regular(target: Path) -> MvtkError:
    return MvtkError(f"{target}: not a regular file", "name another file to write")


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _is_left_over(entry: os.DirEntry[str]) -> bool:
    match = _TEMPORARY_NAME.fullmatch(entry.name)
    if match is None or not (entry.is_symlink() or entry.is_file()):
        return False
    if match["machine"] == _machine():
        return not _runs(int(match["pid"]), int(match["started"]))
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > _FOREIGN_LEFTOVER_AGE_S


@functools.cache
def _machine() -> str:
    """Identify the set of processes among which a process id is unique: the machine and its pid namespace.

    Machines that share a folder may share a host name too: the installation's own id tells them apart.
    """
    installation, namespace = "", ""
    with suppress(OSError):
        installation = Path("/etc/machine-id").read_text().strip()
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    identity = f"{socket.gethostname()}\0{installation}\0{namespace}"
    return hashlib.blake2b(identity.encode(), digest_size=4).hexdigest()


def _runs(pid: int, started: int) -> bool:
    """Tell whether the process with the id ``pid`` that began at ``started`` still runs; in doubt it does.

    In doubt (no ``/proc``, or one that hides the processes of others) a reused process id keeps a left-over alive,
    which costs disk space but loses nothing.
    """
    start_time = _start_time(pid)
    if start_time is not None:
        return start_time == started
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _start_time(pid: int) -> int | None:
    """Return when process ``pid`` started, in clock ticks since boot; None where ``/proc`` does not tell.

    One that has ended but was not yet waited for counts as never started: in a container whose first process waits
    for nobody, killed workers stay like that for ever.
    """
    try:
        # The second field, the command's name, may hold spaces and parentheses; the 3rd is the state, the 22nd the
        # start time.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return -1 if fields[0] in {"Z", "X"} else int(fields[19])


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
        if os.geteuid() == 0:
            os.fchown(descriptor, old.st_uid, old.st_gid)
        # After the owner: a change of owner clears the set-id bits.
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
