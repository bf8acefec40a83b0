"""One run at a time in a folder, and an error that names who holds it.

The lock is the kernel's (``flock``): it goes with the process that holds it, however that ends. A run of one shard
holds the folder together with the runs of other shards, but alone against the same shard and against a run of all.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from toolkit.core.errors import MvtkError
from toolkit.core.files import explain_os_error

LOCK_NAME = ".mvtk-lock"
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTSUP}
_SHARED_RETRY_S = 2.0
"""A shard that ends holds the folder alone for an instant, to remove the lock file; one that starts waits for it."""


class FolderInUseError(MvtkError):
    """Another run holds the folder."""


@contextmanager
def hold_folder(folder: Path, command: str, *, part: str = "") -> Iterator[None]:
    """Hold ``folder`` for the block: alone, or (with ``part``, such as ``"3-of-8"``) together with other parts.

    On a file system without locks the block runs unprotected.

    Raises:
        FolderInUseError: another run holds the folder or the part; the line names it.
        MvtkError: the lock file cannot be made.
    """
    with ExitStack() as stack:
        if part:
            stack.enter_context(_locked(folder, folder / LOCK_NAME, command, shared=True))
            stack.enter_context(_locked(folder, folder / f"{LOCK_NAME}-{part}", command, shared=False))
        else:
            stack.enter_context(_locked(folder, folder / LOCK_NAME, command, shared=False))
            for left_over in folder.glob(f"{LOCK_NAME}-*"):
                with suppress(OSError):
                    left_over.unlink()
        yield


@contextmanager
def _locked(folder: Path, path: Path, command: str, *, shared: bool) -> Iterator[None]:
    descriptor = _acquire(folder, path, shared=shared)
    try:
        if descriptor is not None:
            # Those who share a file do not sign it, but the name of a killed run must not stay in it.
            _sign(descriptor, "" if shared else command)
        yield
    finally:
        if descriptor is not None:
            with suppress(OSError):
                # Whoever removes the file holds it alone: nobody can be left holding a lock on a file without a name.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
            os.close(descriptor)


def _acquire(folder: Path, path: Path, *, shared: bool) -> int | None:
    deadline = time.monotonic() + (_SHARED_RETRY_S if shared else 0.0)
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise explain_os_error(error, folder, "work in the folder") from error
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _NO_LOCKS:
                with suppress(OSError):
                    path.unlink()
                return None
            if time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            raise FolderInUseError(
                f"{folder} is in use by {_holder(folder, path)}", "wait until it has ended, or stop it"
            ) from error
        if _is_still_named(descriptor, path):
            return descriptor
        os.close(descriptor)


def _is_still_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _sign(descriptor: int, command: str) -> None:
    """Write into a lock file who holds it; an empty ``command`` leaves the file empty."""
    holder = {
        "command": f"mvtk {command}",
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        if command:
            os.pwrite(descriptor, json.dumps(holder).encode() + b"\n", 0)


def _holder(folder: Path, refused: Path) -> str:
    """Return who holds the lock file ``refused``, or, where that is not signed, a part of ``folder``."""
    for path in (refused, *sorted(folder.glob(f"{LOCK_NAME}-*"))):
        with suppress(OSError, ValueError, KeyError, TypeError):
            holder = json.loads(path.read_bytes())
            return f"{holder['command']} (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    return "another run"
