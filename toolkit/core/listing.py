"""Finding files below a folder: one pass of ``os.scandir``, without a system call a file."""

from __future__ import annotations

import errno
import itertools
import os
from collections import deque
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from toolkit.core.errors import MvtkError
from toolkit.core.files import explain_os_error


def list_files(folder: Path, suffixes: Collection[str]) -> list[str]:
    """Return the relative POSIX paths of the files below ``folder`` with one of the suffixes, sorted.

    Folders and links are treated as by :func:`walk_files`.

    Args:
        folder: where to search.
        suffixes: lower-case suffixes with their dot; a file's may be in any case.

    Raises:
        MvtkError: a folder cannot be listed.
    """
    found = walk_files(folder, lambda name: _suffix(name) in suffixes)
    return sorted(prefix + entry.name for prefix, entry in found)


def walk_files(folder: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield each file below ``folder`` whose name is wanted, as (its folder, its entry), in no promised order.

    Folders are searched to any depth. Linked folders are followed; one that is reached several ways is listed once, by
    its own path where that lies below ``folder``, so that a loop of links ends. Names with a leading dot are skipped,
    and so is what is neither a regular file nor a link. A link that leads nowhere is yielded: it is an error for
    whoever opens it. In memory are the folders still to be listed and an id a folder, never a folder's files.

    Args:
        folder: where to search.
        wanted: tells by a file's name whether to yield it.

    Yields:
        the path of the file's folder relative to ``folder``, POSIX style, with a slash at its end ("" for ``folder``
        itself), and the file's entry; prefix and entry's name make its relative path.

    Raises:
        MvtkError: a folder cannot be listed, or a link cannot be followed; the line names it.
    """
    own_folders = deque([("", os.fspath(folder))])
    linked_folders: deque[tuple[str, str]] = deque()
    visited: set[tuple[int, int]] = set()
    while own_folders or linked_folders:
        prefix, current = (own_folders or linked_folders).popleft()
        identity = _identity(current)
        if identity in visited:
            continue
        visited.add(identity)
        subfolders = []
        for entry in visible_entries(current):
            if _leads_to_folder(entry):
                subfolders.append(entry)
            elif wanted(entry.name) and (entry.is_symlink() or entry.is_file()):
                yield prefix, entry
        # Sorted: which of several links names a folder must not depend on the order of the disk.
        for entry in sorted(subfolders, key=lambda subfolder: subfolder.name):
            queue = linked_folders if entry.is_symlink() else own_folders
            queue.append((f"{prefix}{entry.name}/", entry.path))


def walk_sorted(folder: Path, wanted: Callable[[str], bool]) -> Iterator[str]:
    """Yield the relative POSIX path of each file below ``folder`` whose name is wanted, folder by folder.

    A folder's files come together, sorted by name, so that only one folder's names are in memory; folders come in an
    order that depends on their names only. Otherwise as :func:`walk_files`.

    Raises:
        MvtkError: as there.
    """
    for prefix, found in itertools.groupby(walk_files(folder, wanted), key=lambda pair: pair[0]):
        for name in sorted(entry.name for _, entry in found):
            yield prefix + name


def visible_entries(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of one folder without hidden ones, in the order of the disk.

    Raises:
        MvtkError: the folder cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    yield entry
    except OSError as error:
        raise _cannot_list(error, folder) from error


def is_folder(path: Path) -> bool:
    """Return whether ``path`` is a folder; unlike ``Path.is_dir`` never with an OSError that names no remedy.

    Raises:
        MvtkError: it cannot be told, for want of a permission.
    """
    try:
        return path.is_dir()
    except OSError as error:
        raise explain_os_error(error, path, "look at the folder") from error


def require_folder(folder: Path, hint: str) -> None:
    """Check that there is such a folder.

    Raises:
        MvtkError: there is none; ``hint`` says what to give instead.
    """
    if not is_folder(folder):
        raise MvtkError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}", hint)


def _identity(folder: str) -> tuple[int, int]:
    """Return what is the same for every path of one folder."""
    try:
        status = Path(folder).stat()
    except OSError as error:
        raise _cannot_list(error, folder) from error
    return status.st_dev, status.st_ino


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link that leads to itself leads nowhere, like one to a missing file
            return False
        raise explain_os_error(error, entry.path, "follow the link") from error


def _cannot_list(error: OSError, folder: Path | str) -> MvtkError:
    return explain_os_error(error, folder, "list the folder")


def _suffix(name: str) -> str:
    _, dot, ending = name.rpartition(".")
    return (dot + ending).lower() if dot else ""
