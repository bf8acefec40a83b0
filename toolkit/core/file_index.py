"""Finding files below folders by what their names begin with: the folders are listed once, not for each question."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from toolkit.core.errors import MvtkError, StopRunError
from toolkit.core.listing import walk_files

KeyOf: TypeAlias = Callable[[str, str], str]
"""Returns the key of a file, which its name begins with, from the path of its folder relative to the one that is
listed ("" for that one itself, else with a slash at its end) and its name; "" for a file that is not wanted."""


class _Place(NamedTuple):
    """What a file's path has before and after its key."""

    folder: str
    ending: str


class FileIndex:
    """Finds files by key. The folders are listed at the first question; then about 100 bytes are held for each file.

    Args:
        folders: the folders to list, to any depth; see :func:`toolkit.core.listing.walk_files`.
        key_of: tells the key of each file.
    """

    def __init__(self, folders: Sequence[Path], key_of: KeyOf) -> None:
        self._folders = folders
        self._key_of = key_of
        self._places: dict[str, _Place] | None = None
        self._further_places: dict[str, list[_Place]] = {}

    def find(self, key: str) -> list[Path]:
        """Return the files of a key, sorted, one path for each: links to one file are one file.

        Raises:
            StopRunError: a folder cannot be listed, so that no file can be found.
        """
        if self._places is None:
            self._places = self._list()
        place = self._places.get(key)
        if place is None:
            return []
        places = [place, *self._further_places.get(key, ())]
        paths = [Path(f"{folder}{key}{ending}") for folder, ending in sorted(places)]
        return paths if len(paths) == 1 else _distinct_files(paths)

    def _list(self) -> dict[str, _Place]:
        """Return a place of each key, and note the further ones of those that have several."""
        places: dict[str, _Place] = {}
        shared: dict[_Place, _Place] = {}  # one object for all files of a folder
        try:
            for root in self._folders:
                for prefix, entry in walk_files(root, bool):
                    key = self._key_of(prefix, entry.name)
                    if key:
                        place = _Place(os.path.join(root, prefix), entry.name[len(key) :])  # noqa: PTH118 - keeps the slash
                        place = shared.setdefault(place, place)
                        if places.setdefault(key, place) is not place:
                            self._further_places.setdefault(key, []).append(place)
        except MvtkError as error:
            raise StopRunError(error.message, error.hint or "make it readable, or name another folder") from error
        return places


def _distinct_files(paths: Sequence[Path]) -> list[Path]:
    """Return the paths without those that lead to the file of an earlier one."""
    files: dict[str, Path] = {}
    for path in paths:
        files.setdefault(os.path.realpath(path), path)
    return list(files.values())
