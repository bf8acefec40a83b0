"""Removing the nested ``F0`` folders: second copies of frames that some published video folders hold."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from toolkit.core.errors import one_line
from toolkit.core.files import explain_os_error, read_bytes, sync_folder
from toolkit.embryo.layout import NESTED_FOLDER, EmbryoTree, open_tree

ASIDE_NAME: Final = ".mvtk-removing-F0"
"""A folder that is being removed has this name, so that nobody takes a part of it for the whole."""


@dataclass(frozen=True, slots=True)
class NestedCopy:
    """A nested folder, compared with the folder that it lies in.

    Attributes:
        path: the nested folder.
        equal: how many of its files have the same name and bytes one level up.
        differing: the names of files with other bytes than the file of that name one level up.
        extra: the names of files that are not one level up, and of what is no regular file.
        removed: whether the folder was removed.
    """

    path: Path
    equal: int
    differing: tuple[str, ...]
    extra: tuple[str, ...]
    removed: bool = False

    @property
    def is_duplicate(self) -> bool:
        """Whether nothing is lost when the folder goes."""
        return not self.differing and not self.extra


def clean_f0(root: str | os.PathLike[str], *, apply: bool) -> Iterator[NestedCopy]:
    """Compare every nested ``F0`` folder, file by file, with the folder that it lies in; remove exact duplicates.

    A folder that holds anything that is not one level up, byte for byte, is left as it is. A folder to be removed is
    first renamed within its folder and then emptied; what a killed run left of it is found, compared and removed by
    the next one.

    Args:
        root: the extracted dataset.
        apply: remove the duplicates; otherwise nothing is changed.

    Yields:
        each nested folder, plane by plane, with what was found and done.

    Raises:
        MvtkError: the folder is no dataset, or something in it cannot be read or removed.
    """
    tree = open_tree(Path(root))
    return (_clean(path, apply=apply) for path in _nested_folders(tree))


def _nested_folders(tree: EmbryoTree) -> Iterator[Path]:
    """Yield the nested folders of each video; what a killed run left comes first, as it is in the way of the next."""
    for plane in tree.planes:
        for video in tree.videos(plane):
            for name in (ASIDE_NAME, NESTED_FOLDER):
                path = tree.video_folder(plane, video) / name
                # A linked folder holds somebody else's files.
                if path.is_dir() and not path.is_symlink():
                    yield path


def _clean(path: Path, *, apply: bool) -> NestedCopy:
    copy = _compare(path)
    if not (apply and copy.is_duplicate):
        return copy
    try:
        _remove(path)
    except OSError as error:
        raise explain_os_error(error, path, "remove the folder") from error
    return NestedCopy(path, copy.equal, (), (), removed=True)


def _compare(path: Path) -> NestedCopy:
    equal = 0
    differing: list[str] = []
    extra: list[str] = []
    try:
        names = sorted(os.listdir(path))  # noqa: PTH208 - names, not paths
    except OSError as error:
        raise explain_os_error(error, path, "list the folder") from error
    for name in names:
        nested, counterpart = path / name, path.parent / name
        if not (_is_regular(nested) and _is_regular(counterpart)):
            extra.append(one_line(name))
        elif read_bytes(nested) == read_bytes(counterpart):
            equal += 1
        else:
            differing.append(one_line(name))
    return NestedCopy(path, equal, tuple(differing), tuple(extra))


def _is_regular(path: Path) -> bool:
    """Whether there is a regular file; a link is none: it may lead to the very copy that is to go."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _remove(path: Path) -> None:
    aside = path.with_name(ASIDE_NAME)
    if path != aside:
        path.rename(aside)
        sync_folder(path.parent)
    shutil.rmtree(aside)
    sync_folder(path.parent)
