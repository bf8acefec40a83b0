"""Making a frame index: one listing of every folder, one reading of every table; and telling when it is out of date."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from toolkit.core.errors import InputProblemsError, collected
from toolkit.embryo.frames import FrameFolder, list_frames, split_frame_name
from toolkit.embryo.index_file import TextTable
from toolkit.embryo.layout import (
    ANNOTATIONS_FOLDER,
    EXTRACTED_NAMES,
    PHASES_SUFFIX,
    TIMES_FOLDER,
    TIMES_SUFFIX,
    EmbryoTree,
)
from toolkit.embryo.phases import PhaseRange, phase_indices_of, read_phase_ranges
from toolkit.embryo.planes import FocalPlane
from toolkit.embryo.tables import TimeStamps, read_time_stamps

_NOT_THERE: Final = (-1, -1)
_UNSURE_STAMP: Final = 0
_CLOCK_TICK_NS: Final = 100_000_000
"""A folder that changed so shortly before it was listed may change again without a new modification time."""

_NO_TIMES: Final = TimeStamps(np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(slots=True)
class _Groups:
    """The columns of the groups found so far."""

    planes: list[int] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    numbers: list[NDArray[np.int32]] = field(default_factory=list)
    stems: list[str] = field(default_factory=list)
    suffixes: list[str] = field(default_factory=list)
    odd_positions: list[int] = field(default_factory=list)
    odd_names: list[str] = field(default_factory=list)
    frames: int = 0

    def add(self, plane: FocalPlane, video: str, stamp: int, folder: FrameFolder) -> None:
        """Add the frames of one video in one plane; the names are kept as far as they are not told by the number."""
        stem, _, suffix = (split_frame_name(folder.names[0]) if folder.names else None) or ("", 0, "")
        self.planes.append(plane.index)
        self.videos.append(video)
        self.stamps.append(stamp)
        self.numbers.append(np.array(folder.numbers, np.int32))
        self.stems.append(stem)
        self.suffixes.append(suffix)
        for position, (number, name) in enumerate(zip(folder.numbers, folder.names, strict=True), self.frames):
            if name != f"{stem}{number}{suffix}":
                self.odd_positions.append(position)
                self.odd_names.append(name)
        self.frames += len(folder.numbers)


def scan_tree(tree: EmbryoTree) -> dict[str, NDArray[Any]]:
    """Return the fields of the index of a dataset (:mod:`toolkit.embryo.index_file`).

    What is no frame is left out, nested ``F0`` folders with all that is in them, and of two files of one number the
    second by name. A video without a file of phases has no labels, one without time stamps no hours.

    Raises:
        InputProblemsError: all problems of all tables of phases and time stamps.
        MvtkError: a folder or a table cannot be read.
    """
    begun_ns = time.time_ns()
    groups = _Groups()
    for plane in tree.planes:
        for video in tree.videos(plane):
            folder = f"{tree.plane_folder(plane)}/{video}"
            groups.add(plane, video, _stamp(folder)[0], list_frames(folder))
    videos = sorted(set(groups.videos))
    parts, tables = part_stamps(tree), table_stamps(tree, videos)
    labels = _read_tables(tree, videos)
    group_stamps = np.array(groups.stamps, np.int64)
    for stamps in (parts[:, 0], tables[:, 0], tables[:, 2], group_stamps):
        stamps[(stamps >= begun_ns - _CLOCK_TICK_NS) & (stamps <= time.time_ns())] = _UNSURE_STAMP
    indices = {video: index for index, video in enumerate(videos)}
    grouped = list(zip(groups.videos, groups.numbers, strict=True))
    return {
        "numbers": _joined(groups.numbers, np.int32),
        "hours": _joined((labels[video][1].hours_of(numbers) for video, numbers in grouped), np.float32),
        "phase_indices": _joined((phase_indices_of(labels[video][0], numbers) for video, numbers in grouped), np.int8),
        "group_starts": np.cumsum([0, *map(len, groups.numbers)]).astype(np.uint32),
        "group_planes": np.array(groups.planes, np.int8),
        "group_videos": np.array([indices[video] for video in groups.videos], np.int32),
        "group_stamps": group_stamps,
        "part_stamps": parts,
        "table_stamps": tables,
        "odd_positions": np.array(groups.odd_positions, np.uint32),
        **TextTable.pack(videos).fields("video"),
        **TextTable.pack(groups.stems).fields("stem"),
        **TextTable.pack(groups.suffixes).fields("suffix"),
        **TextTable.pack(groups.odd_names).fields("odd"),
    }


def part_stamps(tree: EmbryoTree) -> NDArray[np.int64]:
    """Return, for each of ``EXTRACTED_NAMES``, modification time in ns and size (0 for a folder); -1 where missing."""
    return np.array([_stamp(f"{tree.root}/{name}") for name in EXTRACTED_NAMES], np.int64)


def table_stamps(tree: EmbryoTree, videos: Iterable[str]) -> NDArray[np.int64]:
    """Return modification time and size of each video's phases, then of its time stamps: (v, 4)."""
    # Names put together as text: a Path a file would double the time of opening an index.
    phases, times = f"{tree.root}/{ANNOTATIONS_FOLDER}", f"{tree.root}/{TIMES_FOLDER}"
    rows = [
        (*_stamp(f"{phases}/{video}{PHASES_SUFFIX}"), *_stamp(f"{times}/{video}{TIMES_SUFFIX}")) for video in videos
    ]
    return np.array(rows, np.int64).reshape(-1, 4)


def folder_stamps(folders: Iterable[str]) -> NDArray[np.int64]:
    """Return the modification time of each folder in ns."""
    return np.array([_stamp(folder)[0] for folder in folders], np.int64)


def _stamp(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116 - thousands of names as text, not as Path
    except OSError:
        return _NOT_THERE
    return status.st_mtime_ns, 0 if stat.S_ISDIR(status.st_mode) else status.st_size


def _read_tables(tree: EmbryoTree, videos: list[str]) -> dict[str, tuple[list[PhaseRange], TimeStamps]]:
    problems: list[str] = []
    labels: dict[str, tuple[list[PhaseRange], TimeStamps]] = {}
    for video in videos:
        ranges, times = [], _NO_TIMES
        with collected(problems):
            if tree.phases_path(video).exists():
                ranges = read_phase_ranges(tree.phases_path(video))
        with collected(problems):
            if tree.times_path(video).exists():
                times = read_time_stamps(tree.times_path(video))
        labels[video] = ranges, times
    if problems:
        hint = "mend these files, or take them from the published archives again"
        raise InputProblemsError(f"{tree.root}: tables that cannot be used", problems, hint)
    return labels


def _joined(pieces: Iterable[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *pieces])
