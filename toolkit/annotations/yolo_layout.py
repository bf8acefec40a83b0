"""Where the files of a YOLO dataset are: its split folders, its images, its labels.

Two layouts are in use: ``images/<split>`` beside ``labels/<split>`` (Ultralytics) and ``<split>/images`` beside
``<split>/labels`` (Roboflow). Both are read. Folders are listed with ``os.scandir``, without a system call a file.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Literal

from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.core.files import explain_os_error

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Lower-case suffixes of the image files that :mod:`toolkit.images` reads."""

LABEL_SUFFIXES = frozenset({".txt"})

Kind = Literal["images", "labels"]

_VALIDATION_NAMES = ("val", "valid", "validation")
_SHOWN_ENTRIES = 8


def find_split_folders(root: Path, kind: Kind, splits: Sequence[str]) -> dict[str, Path]:
    """Return the folder of each split that exists, under the split's name as it was asked for.

    A split's folder is ``root/<kind>/<split>`` or ``root/<split>/<kind>``. The validation split may be called ``val``,
    ``valid`` or ``validation``, whichever of them is asked for.

    Raises:
        InputProblemsError: a split has more than one folder.
        MvtkError: ``root`` is not a readable folder, or it holds none of the splits.
    """
    _require_folder(root)
    found: dict[str, Path] = {}
    problems = []
    for split in splits:
        names = _VALIDATION_NAMES if split in _VALIDATION_NAMES else (split,)
        folders = _distinct_folders(
            candidate for name in names for candidate in (root / kind / name, root / name / kind)
        )
        if len(folders) > 1:
            problems.append(
                f"split {split} has two folders, {_relative(folders[0], root)} and {_relative(folders[1], root)}"
            )
        elif folders:
            found[split] = folders[0]
    if problems:
        raise InputProblemsError(f"{root}: ambiguous {kind}", problems, "keep one folder a split")
    if not found:
        raise _nothing_found(root, kind, splits)
    return found


def list_files(folder: Path, suffixes: Collection[str]) -> list[str]:
    """Return the relative POSIX paths of the files below ``folder`` with one of the suffixes, sorted.

    Folders are searched to any depth. Linked folders are followed; one that is reached several ways is listed once, by
    its own path where that lies below ``folder``, so that a loop of links ends. Names with a leading dot are skipped,
    and so is what is neither a regular file nor a link to a missing one, which is an error for whoever opens it.

    Args:
        folder: where to search.
        suffixes: lower-case suffixes with their dot; a file's may be in any case.

    Raises:
        MvtkError: a folder cannot be listed.
    """
    paths: list[str] = []
    own_folders = deque([("", folder)])
    linked_folders: deque[tuple[str, Path]] = deque()
    visited: set[tuple[int, int]] = set()
    while own_folders or linked_folders:
        prefix, current = (own_folders or linked_folders).popleft()
        try:
            status = current.stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            for entry in _visible_entries(current):
                if entry.is_dir():
                    queue = linked_folders if entry.is_symlink() else own_folders
                    queue.append((f"{prefix}{entry.name}/", current / entry.name))
                elif _suffix(entry.name) in suffixes and (entry.is_file() or entry.is_symlink()):
                    paths.append(prefix + entry.name)
        except OSError as error:
            raise explain_os_error(error, current, "list the folder") from error
    paths.sort()
    return paths


def index_labels(root: Path) -> dict[str, tuple[str, ...]]:
    """Return where the label files of each image stem are, in any split.

    Keys are label paths below their split's folder, without the suffix; values are paths relative to ``root``, sorted.
    Split folders are those in ``root/labels`` and all ``root/<split>/labels``; files directly in ``root/labels`` have
    no split.

    Raises:
        MvtkError: ``root`` is not a readable folder, or it has no folder for labels.
    """
    _require_folder(root)
    index: dict[str, tuple[str, ...]] = {}
    label_folders = _label_folders(root)
    if not label_folders:
        raise _nothing_found(root, "labels", ("<split>",))
    for folder, has_splits in label_folders:
        prefix = _relative(folder, root)
        for path in list_files(folder, LABEL_SUFFIXES):
            _split, slash, below_split = path.partition("/")
            stem = (below_split if has_splits and slash else path).rpartition(".")[0]
            index[stem] = (*index.get(stem, ()), f"{prefix}/{path}")
    return index


def label_folder_of(image_folder: Path) -> Path:
    """Return the label folder of a split's image folder: its last component ``images`` becomes ``labels``."""
    if image_folder.name == "images":
        return image_folder.with_name("labels")
    return image_folder.parent.with_name("labels") / image_folder.name


def _label_folders(root: Path) -> list[tuple[Path, bool]]:
    """Return the folders that hold labels, and whether their subfolders are splits; in order of their paths."""
    folders = [
        (root / entry.name / "labels", False)
        for entry in _visible_entries(root)
        if entry.name != "labels" and entry.is_dir() and _is_folder(root / entry.name / "labels")
    ]
    if _is_folder(root / "labels"):
        folders.append((root / "labels", True))
    return sorted(folders)


def _distinct_folders(candidates: Iterator[Path]) -> list[Path]:
    """Return the candidates that are folders, without those that are links to another one of them."""
    return list({os.path.realpath(candidate): candidate for candidate in candidates if _is_folder(candidate)}.values())


def _visible_entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return a folder's entries sorted by name, without hidden ones."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise explain_os_error(error, folder, "list the folder") from error


def _suffix(name: str) -> str:
    _, dot, ending = name.rpartition(".")
    return (dot + ending).lower() if dot else ""


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _is_folder(path: Path) -> bool:
    """Return whether ``path`` is a folder; unlike ``Path.is_dir`` never with an OSError that names no remedy."""
    try:
        return path.is_dir()
    except OSError as error:
        raise explain_os_error(error, path, "look at the folder") from error


def _require_folder(root: Path) -> None:
    if not _is_folder(root):
        raise MvtkError(f"{root}: {'not a folder' if root.exists() else 'no such folder'}", "give a dataset's folder")


def _nothing_found(root: Path, kind: Kind, splits: Sequence[str]) -> MvtkError:
    """Return the error that says which folders were expected and what is there instead."""
    expected = " or ".join(f"{kind}/{split}, {split}/{kind}" for split in splits)
    there = f"there is {_contents(root)}"
    if _is_folder(root / kind):
        there += f"; in {kind}/ there is {_contents(root / kind)}"
    message = f"{root}: no split of {kind} found; expected {expected}; {there}"
    return MvtkError(message, "give the folder that holds the splits")


def _contents(folder: Path) -> str:
    """Return the first few entries of a folder as text."""
    names = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in _visible_entries(folder)]
    more = f" and {len(names) - _SHOWN_ENTRIES} more" if len(names) > _SHOWN_ENTRIES else ""
    return ", ".join(names[:_SHOWN_ENTRIES]) + more or "nothing"
