"""The images of one raw dataset: listed once, found by the names that annotations give them."""

from __future__ import annotations

import functools
from pathlib import Path

from toolkit.core.listing import walk_files
from toolkit.images.search import IMAGE_SUFFIXES, image_stem, is_image

NO_FILE = "image without its file"
TWO_FILES = "image name that several files have"


class SourceImages:
    """The image files below one folder of the raw data.

    Args:
        raw_data_dir: the raw data folder.
        folder: the folder that is listed, relative to it.
    """

    def __init__(self, raw_data_dir: Path, folder: str) -> None:
        found = walk_files(raw_data_dir / folder, is_image)
        self._paths = {f"{folder}/{prefix}{entry.name}" for prefix, entry in found}

    def find(self, folder: str, name: str) -> str | None:
        """Return the image that an annotation in ``folder`` calls ``name``, relative to the raw data folder.

        It is ``name`` beside the annotation; else, with the folders of ``name`` left away, the one file below the
        dataset's folder that is called so.

        Args:
            folder: of the annotation, relative to the raw data folder, with a slash at its end.
            name: as the annotation has it; any path in it, also one of Windows, counts as a name only.

        Returns:
            None where there is no such file, or several of them.
        """
        path = folder + name
        if path in self._paths:
            return path
        own_name = name.replace("\\", "/").rpartition("/")[2]
        several = self._by_name.get(own_name, ())
        return several[0] if len(several) == 1 else None

    def problem_of(self, name: str) -> str:
        """Return why :meth:`find` found nothing: ``NO_FILE`` or ``TWO_FILES``."""
        return TWO_FILES if name.replace("\\", "/").rpartition("/")[2] in self._by_name else NO_FILE

    def find_stem(self, folder: str, stem: str) -> str | None:
        """Return the image in ``folder`` called ``stem`` with any usual suffix, the first of ``IMAGE_SUFFIXES``."""
        return self._by_stem.get(folder + stem)

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
