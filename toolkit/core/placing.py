"""Giving a file a second place: by a hard link, a symbolic link or a copy."""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, Literal, TypeAlias

from toolkit.core.files import TargetExistsError, atomic_write, explain_os_error, temporary_name

LinkMode: TypeAlias = Literal["hard", "symlink", "copy"]

CANNOT_LINK: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})
"""What the system says where no file of a folder can be linked; EMLINK concerns one file only."""

_COPIED_INSTEAD: Final = CANNOT_LINK | {errno.EMLINK}


def place_file(source: Path, target: Path, mode: LinkMode, *, overwrite: bool = False) -> LinkMode:
    """Make ``target`` the same file as ``source``, or a copy of it, and return which of them it became.

    Where the file system cannot link (another disk, a file of somebody else, too many names) the file is copied. A
    copy gets the time of writing of its original, by which :func:`is_made_from` knows it; it is not forced to the disk.
    A source that is a symbolic link stands for the file that it leads to, and a symbolic link made here is absolute.

    Args:
        source: a regular file, or a link to one.
        target: its second place, in an existing folder; at every instant it is its old or its new self.
        mode: how it should be made.
        overwrite: whether an existing ``target`` may be replaced; one that is a link is itself replaced.

    Raises:
        TargetExistsError: ``target`` exists and ``overwrite`` is false.
        StopRunError: no space is left.
        MvtkError: the source cannot be read, or the target cannot be made; the line names it.
    """
    real = os.path.realpath(source) if mode == "symlink" or source.is_symlink() else os.fspath(source)
    if mode == "symlink":
        _link(os.symlink, real, target, overwrite=overwrite)
        return mode
    if mode == "hard":
        try:
            _link(os.link, real, target, overwrite=overwrite)
        except _CannotLinkError:
            mode = "copy"
        else:
            return mode
    _copy(Path(real), target, overwrite=overwrite)
    return mode


def is_made_from(made: os.stat_result, source: os.stat_result) -> bool:
    """Tell, without reading them, whether a file is a link to, or a copy of, another as :func:`place_file` makes it."""
    return os.path.samestat(made, source) or (made.st_size, made.st_mtime_ns) == (source.st_size, source.st_mtime_ns)


def has_content_of(made: Path, source: Path) -> bool:
    """Tell whether two files hold the same; False where the first cannot be read or leads nowhere."""
    if not made.is_file():
        return False
    with suppress(OSError):
        filecmp.clear_cache()
        return filecmp.cmp(made, source, shallow=False)
    return False


def adopt_time(made: Path, source: Path) -> None:
    """Give a copy its original's time of writing; where that cannot be done, later runs compare it again.

    A file with several names is left alone: it may be somebody's original.
    """
    with suppress(OSError):
        if made.stat(follow_symlinks=False).st_nlink == 1:
            modified_ns = source.stat().st_mtime_ns
            os.utime(made, ns=(modified_ns, modified_ns), follow_symlinks=False)


class _CannotLinkError(Exception):
    """The file system does not link this file."""


def _link(make: Callable[[str, str], None], real: str, target: Path, *, overwrite: bool) -> None:
    # Where nothing is to be replaced, the one system call fails if there is something: no temporary name is needed.
    name = os.fspath(target.with_name(temporary_name()) if overwrite else target)
    try:
        make(real, name)
    except FileExistsError as error:
        raise TargetExistsError(target) from error
    except OSError as error:
        if make is os.link and error.errno in _COPIED_INSTEAD:
            raise _CannotLinkError from error
        raise explain_os_error(error, target, "link") from error
    if not overwrite:
        return
    try:
        os.replace(name, target)  # noqa: PTH105 - a name, not a path
    except OSError as error:
        raise explain_os_error(error, target, "link") from error
    finally:
        # Of two names of one file the system keeps both, and says that all is well.
        with suppress(OSError):
            os.unlink(name)  # noqa: PTH108 - likewise


def _copy(real: Path, target: Path, *, overwrite: bool) -> None:
    try:
        # Before it is read: what is written to it meanwhile makes it another one to the next run.
        modified_ns = real.stat().st_mtime_ns
        original = real.open("rb")
    except OSError as error:
        raise explain_os_error(error, real, "read") from error
    with original:
        _copy_stream(original, target, modified_ns, overwrite=overwrite)


def _copy_stream(original: BinaryIO, target: Path, modified_ns: int, *, overwrite: bool) -> None:
    if overwrite and target.is_symlink():
        # A link is followed when its file is overwritten: that file is somebody's original.
        try:
            target.unlink()
        except OSError as error:
            raise explain_os_error(error, target, "replace") from error
    with atomic_write(target, overwrite=overwrite, durable=False) as stream:
        shutil.copyfileobj(original, stream, 1 << 20)
        stream.flush()
        os.utime(stream.fileno(), ns=(modified_ns, modified_ns))
