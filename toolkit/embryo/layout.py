"""Where everything is in the embryo dataset: the ten downloads, and the tree that they become.

The published record (Zenodo 7912264, earlier 6390798) holds nine archives and one table. Extracted, each archive is a
folder of its name: seven focal planes with a folder a video, and two folders with a CSV file a video.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from toolkit.core.errors import MvtkError
from toolkit.core.listing import is_folder, require_folder, visible_entries
from toolkit.embryo.planes import PLANES, FocalPlane

ARCHIVE_SUFFIX: Final = ".tar.gz"
ANNOTATIONS_FOLDER: Final = "embryo_dataset_annotations"
TIMES_FOLDER: Final = "embryo_dataset_time_elapsed"
GRADES_NAME: Final = "embryo_dataset_grades.csv"
PHASES_SUFFIX: Final = "_phases.csv"
TIMES_SUFFIX: Final = "_timeElapsed.csv"
NESTED_FOLDER: Final = "F0"
"""Some video folders hold a folder of this name with a second copy of their frames."""

EXTRACTED_NAMES: Final = (*(plane.folder for plane in PLANES), ANNOTATIONS_FOLDER, TIMES_FOLDER, GRADES_NAME)
"""The entries of a complete extracted dataset."""
ARCHIVE_NAMES: Final = tuple(name if name == GRADES_NAME else name + ARCHIVE_SUFFIX for name in EXTRACTED_NAMES)
"""The files of the published record, in the order of ``EXTRACTED_NAMES``."""


@dataclass(frozen=True, slots=True)
class EmbryoTree:
    """An extracted dataset, or what there is of one.

    Attributes:
        root: its folder.
        planes: the focal planes that are there, in their order; at least one.
        has_annotations: whether the folder with the phases is there.
        has_times: whether the folder with the time stamps is there.
        has_grades: whether the table of grades is there.
    """

    root: Path
    planes: tuple[FocalPlane, ...]
    has_annotations: bool
    has_times: bool
    has_grades: bool

    @property
    def missing(self) -> tuple[str, ...]:
        """The entries of a complete dataset that are not there."""
        return tuple(name for name in EXTRACTED_NAMES if name not in self.parts)

    @property
    def parts(self) -> tuple[str, ...]:
        """The entries of the dataset that are there, in the order of ``EXTRACTED_NAMES``."""
        tables = {ANNOTATIONS_FOLDER: self.has_annotations, TIMES_FOLDER: self.has_times, GRADES_NAME: self.has_grades}
        return (*(plane.folder for plane in self.planes), *(name for name, is_there in tables.items() if is_there))

    @property
    def grades_path(self) -> Path:
        """The table of grades."""
        return self.root / GRADES_NAME

    def plane_folder(self, plane: FocalPlane) -> Path:
        """Return the folder with the videos of one plane."""
        return self.root / plane.folder

    def video_folder(self, plane: FocalPlane, video: str) -> Path:
        """Return the folder with the frames of one video in one plane."""
        return self.root / plane.folder / video

    def phases_path(self, video: str) -> Path:
        """Return the file with the phases of a video."""
        return self.root / ANNOTATIONS_FOLDER / f"{video}{PHASES_SUFFIX}"

    def times_path(self, video: str) -> Path:
        """Return the file with the time stamps of a video."""
        return self.root / TIMES_FOLDER / f"{video}{TIMES_SUFFIX}"

    def videos(self, plane: FocalPlane) -> list[str]:
        """Return the names of the videos of one plane, sorted: its visible folders, linked ones included.

        Raises:
            MvtkError: the plane's folder cannot be listed.
        """
        return sorted(entry.name for entry in visible_entries(self.plane_folder(plane)) if _leads_to_folder(entry))


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    # Of a link that leads to itself, DirEntry.is_dir() would raise.
    return is_folder(Path(entry.path)) if entry.is_symlink() else entry.is_dir()


def open_tree(root: Path) -> EmbryoTree:
    """Return what there is of an extracted dataset in ``root``; any plane is enough, everything else may be missing.

    Raises:
        MvtkError: there is no such folder, or no focal plane in it; the line says what was looked for.
    """
    require_folder(root, "give the folder that mvtk embryo extract made")
    planes = tuple(plane for plane in PLANES if is_folder(root / plane.folder))
    if not planes:
        looked_for = ", ".join(plane.folder for plane in PLANES)
        hint = "give the folder that mvtk embryo extract made"
        raise MvtkError(f"{root}: no focal plane in it; looked for the folders {looked_for}", hint)
    return EmbryoTree(
        root,
        planes,
        has_annotations=is_folder(root / ANNOTATIONS_FOLDER),
        has_times=is_folder(root / TIMES_FOLDER),
        has_grades=(root / GRADES_NAME).is_file(),
    )
