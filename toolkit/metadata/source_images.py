"""The images of one raw dataset: listed once, found by the names that annotations give them."""

from __future__ import annotations

import functools
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from toolkit.core.listing import walk_files
from toolkit.images.search import IMAGE_SUFFIXES, image_stem, is_image

NO_FILE = "image without its file"
TWO_FILES = "image name that several files have"

_DRIVE = re.compile(r"^(?:[A-Za-z]:)?/")


class SourceImages:
    """The image files below one folder of the raw data.

    Args:
        raw_data_dir: the raw data folder.
        folder: the folder that is listed, relative to it.
    """

    def __init__(self, raw_data_dir: Path, folder: str) -> None:
        found = walk_files(raw_data_dir / folder, is_image)
        self._folder = f"{folder}/"
        # A link may lead nowhere.
        self._paths = {
            f"{folder}/{prefix}{entry.name}"
            for prefix, entry in found
            if not entry.is_symlink() or os.path.exists(entry.path)  # noqa: PTH110 - a Path an image would cost more
        }

    def find(self, folder: str, name: str) -> str | None:
        """Return the image that an annotation in ``folder`` calls ``name``, relative to the raw data folder.

        It is ``name`` beside the annotation, in the dataset's folder or in the raw data folder; of a full path, also
        one of Windows, the longest end counts that is there. Where no image lies beside the annotation, as in
        ``annotations/``, it is the one file of the dataset whose path ends with ``name``. So a name never stands for a
        file in another folder than the one it gives, nor for one of another split.

        Args:
            folder: of the annotation, relative to the raw data folder, with a slash at its end.
            name: as the annotation has it.

        Returns:
            None where there is no such file, or several of them.
        """
        path = folder + name
        if path in self._paths:
            return path
        name = name.replace("\\", "/")
        for end in _ends(name):
            for start in (folder, self._folder, ""):
                path = posixpath.normpath(start + end)
                if path in self._paths:
                    return path
        several = self._elsewhere(folder, name)
        return several[0] if len(several) == 1 else None

    def problem_of(self, folder: str, name: str) -> str:
        """Return why :meth:`find` found nothing: ``NO_FILE`` or ``TWO_FILES``."""
        return TWO_FILES if self._elsewhere(folder, name.replace("\\", "/")) else NO_FILE

    def _elsewhere(self, folder: str, name: str) -> list[str]:
        """Return the files of the dataset that ``name`` may mean where no image is beside the annotation."""
        if folder[:-1] in self._folders_with_images:
            return []
        return [path for path in self._by_name.get(name.rpartition("/")[2], ()) if path.endswith(f"/{name}")]

    def in_folder(self, folder: str) -> list[str]:
        """Return the names of the images in one folder, given with a slash at its end, sorted."""
        return sorted(
            path[len(folder) :] for path in self._paths if path.startswith(folder) and "/" not in path[len(folder) :]
        )

    def find_stem(self, folder: str, stem: str) -> str | None:
        """Return the image in ``folder`` called ``stem`` with any usual suffix, the first of ``IMAGE_SUFFIXES``."""
        return self._by_stem.get(folder + stem)

    @functools.cached_property
    def _folders_with_images(self) -> set[str]:
        return {path.rpartition("/")[0] for path in self._paths}

    @functools.cached_property
    def _by_name(self) -> dict[str, list[str]]:
        by_name: dict[str, list[str]] = {}
        for path in sorted(self._paths):
            by_name.setdefault(path.rpartition("/")[2], []).append(path)
        return by_name

    @functools.cached_property
    def _by_stem(self) -> dict[str, str]:
        def rank(path: str) -> tuple[int, str]:
            return IMAGE_SUFFIXES.index(path[path.rindex(".") :].lower()), path

        return {image_stem(path): path for path in sorted(self._paths, key=rank, reverse=True)}


def _ends(name: str) -> Iterator[str]:
    """Yield ``name`` itself; of a full path all of its ends, the longest first."""
    match = _DRIVE.match(name)
    if match is None:
        yield name
        return
    parts = name[match.end() :].split("/")
    for place in range(len(parts)):
        yield "/".join(parts[place:])
