"""Where the files of a YOLO dataset are: its split folders, its images, its labels.

Two layouts are in use: ``images/<split>`` beside ``labels/<split>`` (Ultralytics) and ``<split>/images`` beside
``<split>/labels`` (Roboflow). Both are read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.core.listing import is_folder, list_files, require_folder, visible_entries

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Lower-case suffixes of the image files that :mod:`toolkit.images` reads."""

LABEL_SUFFIXES = frozenset({".txt"})

Kind = Literal["images", "labels"]

_VALIDATION_NAMES = ("val", "valid", "validation")
_SHOWN_ENTRIES = 8
_HINT = "give a dataset's folder"


def find_split_folders(root: Path, kind: Kind, splits: Sequence[str]) -> dict[str, Path]:
    """Return the folder of each split that exists, under the split's name as it was asked for.

    A split's folder is ``root/<kind>/<split>`` or ``root/<split>/<kind>``. The validation split may be called ``val``,
    ``valid`` or ``validation``, whichever of them is asked for.

    Raises:
        InputProblemsError: a split has more than one folder.
        MvtkError: ``root`` is not a readable folder, or it holds none of the splits.
    """
    require_folder(root, _HINT)
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


def index_labels(root: Path) -> dict[str, tuple[str, ...]]:
    """Return where the label files of each image stem are, in any split.

    Keys are label paths below their split's folder, without the suffix; values are paths relative to ``root``, sorted.
    Split folders are those in ``root/labels`` and all ``root/<split>/labels``; files directly in ``root/labels`` have
    no split.

    Raises:
        MvtkError: ``root`` is not a readable folder, or it has no folder for labels.
    """
    require_folder(root, _HINT)
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
        for entry in visible_entries(root)
        if entry.name != "labels" and is_folder(root / entry.name / "labels")
    ]
    if is_folder(root / "labels"):
        folders.append((root / "labels", True))
    return sorted(folders)


def _distinct_folders(candidates: Iterator[Path]) -> list[Path]:
    """Return the candidates that are folders, without those that are links to another one of them."""
    return list({os.path.realpath(candidate): candidate for candidate in candidates if is_folder(candidate)}.values())


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _nothing_found(root: Path, kind: Kind, splits: Sequence[str]) -> MvtkError:
    """Return the error that says which folders were expected and what is there instead."""
    expected = " or ".join(f"{kind}/{split}, {split}/{kind}" for split in splits)
    there = f"there is {folder_contents(root)}"
    if is_folder(root / kind):
        there += f"; in {kind}/ there is {folder_contents(root / kind)}"
    message = f"{root}: no split of {kind} found; expected {expected}; {there}"
    return MvtkError(message, "give the folder that holds the splits")


def folder_contents(folder: Path) -> str:
    """Return the first few entries of a folder as text."""
    names = sorted(
        f"{entry.name}/" if is_folder(folder / entry.name) else entry.name for entry in visible_entries(folder)
    )
    more = f" and {len(names) - _SHOWN_ENTRIES} more" if len(names) > _SHOWN_ENTRIES else ""
    return ", ".join(names[:_SHOWN_ENTRIES]) + more or "nothing"
