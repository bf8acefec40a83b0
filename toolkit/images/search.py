"""Where the image of a features file is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from toolkit.core.errors import MvtkError
from toolkit.core.file_index import FileIndex
from toolkit.core.listing import visible_entries

IMAGE_SUFFIXES: Final = (".jpg", ".png", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
"""Suffixes of image files, the one that counts first where a stem has several."""

IMAGE_NOT_FOUND: Final = "image not found"
TWO_IMAGES: Final = "two images"


class ImageLookupError(MvtkError):
    """A features file has no image, or several.

    Args:
        kind: ``IMAGE_NOT_FOUND`` or ``TWO_IMAGES``, under which the failure is counted.
        details: which image, and where.
        hint: what to do next.
    """

    def __init__(self, kind: str, details: str, hint: str) -> None:
        super().__init__(f"{kind}: {details}", hint)
        self.args = (kind, details, hint)
        self.kind = kind


class ImageSearch:
    """Finds images by their stem in the folder that is named, else anywhere below a root.

    Args:
        root: listed once, at any depth, when an image is not in its folder; None: only folders are looked into.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._folder: Path | None = None
        self._names: dict[str, str] = {}
        self._below = FileIndex([] if root is None else [root], lambda _, name: image_stem(name))

    def find(self, folder: Path, stem: str) -> Path:
        """Return the image ``<stem>.<suffix>`` of any usual suffix, in any case.

        Args:
            folder: is looked into first; of several images the first one in the order of ``IMAGE_SUFFIXES`` counts.
            stem: the image's name without its suffix.

        Raises:
            ImageLookupError: there is none, or there are several below the root and none in ``folder``.
            StopRunError: the root cannot be listed.
        """
        for name in _names(stem):
            path = folder / name
            if os.path.lexists(path):
                return path
        odd_case = self._listed(folder).get(stem)
        if odd_case is not None:
            return folder / odd_case
        below = self._below.find(stem)
        if len(below) > 1:
            more = f" and {len(below) - 2} more" if len(below) > 2 else ""
            raise ImageLookupError(TWO_IMAGES, f"{stem} has {below[0]} and {below[1]}{more}", "keep the right one only")
        if below:
            return below[0]
        raise ImageLookupError(
            IMAGE_NOT_FOUND,
            f"{stem} has none in {folder}",
            f"{stem}.jpg, .png, .jpeg or another usual suffix is needed",
        )

    def _listed(self, folder: Path) -> dict[str, str]:
        """Return the images in a folder by stem; the folder asked for last is remembered."""
        if folder != self._folder:
            found = (entry.name for entry in visible_entries(folder)) if folder.is_dir() else ()
            self._folder, self._names = folder, {image_stem(name): name for name in sorted(found) if is_image(name)}
        return self._names


def is_image(name: str) -> bool:
    """Tell whether a file name has a usual suffix of images, in any case."""
    return bool(image_stem(name))


def image_stem(name: str) -> str:
    """Return the name of an image file without its suffix; "" for a name without a usual suffix of images."""
    stem, _, ending = name.rpartition(".")
    return stem if f".{ending.lower()}" in IMAGE_SUFFIXES else ""


def _names(stem: str) -> Iterator[str]:
    for suffix in IMAGE_SUFFIXES:
        yield from (stem + suffix, stem + suffix.upper(), stem + suffix.title())
