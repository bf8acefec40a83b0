"""All frames of a dataset with their phases and hours: scanned once, then opened in milliseconds.

The index lies in the dataset's folder as ``.mvtk-index.npy``. Opening it checks with a few system calls whether it is
out of date: the planes that are there, the lists of videos, the tables of grades, and every file of phases and time
stamps. The folder of each video, in which frames may have come or gone, is compared only where ``strict`` asks for it:
all that makes files from the frames does, and :class:`~toolkit.embryo.dataset.EmbryoDataset`, which workers open again
and again, does not unless told to: published frames do not change.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from toolkit.core.errors import MvtkError
from toolkit.embryo.index_file import DamagedIndexError, FileState, TextTable, read_index, write_index
from toolkit.embryo.index_scan import folder_stamps, part_stamps, scan_tree, table_stamps
from toolkit.embryo.layout import EmbryoTree, open_tree
from toolkit.embryo.names import counted
from toolkit.embryo.phases import Phase, phase_at
from toolkit.embryo.planes import PLANES, FocalPlane

INDEX_NAME: Final = ".mvtk-index.npy"
_SHOWN_VIDEOS: Final = 5


@dataclass(frozen=True, slots=True)
class Frame:
    """One image of a dataset.

    Attributes:
        path: its file.
        plane: its focal plane.
        video: the name of its video.
        number: the number in its name.
        phase: its phase; None where it has no label.
        hours: when it was taken, in hours; None where that is not known.
    """

    path: Path
    plane: FocalPlane
    video: str
    number: int
    phase: Phase | None
    hours: float | None

    @property
    def label(self) -> str:
        """Plane, video and number, such as ``F+00_DML271-2_51``."""
        return f"{self.plane.label}_{self.video}_{self.number}"


class FrameIndex:
    """The frames of a dataset in the order of planes, videos (by name) and frame numbers.

    A frame is named by its position in that order, from 0. An index that is stored is pickled as the file's name.

    Attributes:
        root: the dataset's folder.
        remark: why the index is not stored, and what to do; empty where it is.
        videos: the names of the videos, sorted.
        numbers: (n,) int32, the frame numbers.
        hours: (n,) float32; NaN where not known.
        phase_indices: (n,) int8, 0 (tPB2) to 15 (tHB); -1 for a frame without a label.
    """

    def __init__(
        self,
        root: Path,
        arrays: Mapping[str, NDArray[Any]],
        stored: tuple[Path, FileState] | None = None,
        remark: str = "",
    ) -> None:
        self.root = root
        self.remark = remark
        self._arrays = arrays
        self._stored = stored
        self.numbers: NDArray[np.int32] = arrays["numbers"]
        self.hours: NDArray[np.float32] = arrays["hours"]
        self.phase_indices: NDArray[np.int8] = arrays["phase_indices"]
        # Of the type of the positions that are looked up, or each search would convert it first.
        self._starts = arrays["group_starts"].astype(np.int64)
        names = TextTable.of(arrays, "video")
        self.videos = tuple(names[index] for index in range(len(names)))
        self._stems, self._suffixes = TextTable.of(arrays, "stem"), TextTable.of(arrays, "suffix")
        self._odd_names = TextTable.of(arrays, "odd")

    def __len__(self) -> int:
        return len(self.numbers)

    def __repr__(self) -> str:
        return f"FrameIndex({str(self.root)!r}, {len(self)} frames, {len(self.videos)} videos)"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._stored is None:
            return FrameIndex, (self.root, dict(self._arrays), None, self.remark)
        return _reopen, (self.root, *self._stored)

    @property
    def planes(self) -> tuple[FocalPlane, ...]:
        """The focal planes that have videos."""
        return tuple(PLANES[index] for index in np.unique(self._arrays["group_planes"]))

    @cached_property
    def plane_indices(self) -> NDArray[np.int8]:
        """(n,) int8, the plane of each frame: 0 (F-45) to 6 (F+45)."""
        return np.repeat(self._arrays["group_planes"], np.diff(self._starts))

    @cached_property
    def video_indices(self) -> NDArray[np.int32]:
        """(n,) int32, the index of each frame's video in ``videos``."""
        return np.repeat(self._arrays["group_videos"], np.diff(self._starts))

    @property
    def videos_without_phases(self) -> tuple[str, ...]:
        """The videos without a file of phases, sorted: none of their frames has a label."""
        is_missing = self._arrays["table_stamps"][:, 1] < 0
        return tuple(self.videos[index] for index in np.flatnonzero(is_missing))

    @property
    def remarks(self) -> list[str]:
        """What whoever works with the index should know, one line each: ``remark``, and videos without phases."""
        missing = self.videos_without_phases
        shown = ", ".join(missing[:_SHOWN_VIDEOS]) + (", …" if len(missing) > _SHOWN_VIDEOS else "")
        without = f"{counted(len(missing), 'video')} without a phases table, and so without labels: {shown}"
        return [*([self.remark] if self.remark else []), *([without] if missing else [])]

    def positions(self, plane: FocalPlane, video: str) -> range:
        """Return the positions of the frames of one video in one plane, ascending by number; empty without any."""
        group = self._groups.get((plane.index, video))
        return range(0) if group is None else range(int(self._starts[group]), int(self._starts[group + 1]))

    def frame(self, position: int) -> Frame:
        """Return the frame at a position, 0 to ``len(self) - 1``.

        Raises:
            IndexError: there is none.
        """
        if not 0 <= position < len(self):
            raise IndexError(f"frame {position} of {len(self)}")
        group = int(np.searchsorted(self._starts, position, side="right")) - 1
        plane = PLANES[self._arrays["group_planes"][group]]
        video = self.videos[self._arrays["group_videos"][group]]
        hours = float(self.hours[position])
        return Frame(
            self.root / plane.folder / video / self._name(group, position),
            plane,
            video,
            int(self.numbers[position]),
            phase_at(int(self.phase_indices[position])),
            None if np.isnan(hours) else hours,
        )

    def is_current(self, tree: EmbryoTree, *, strict: bool) -> bool:
        """Tell whether the dataset is as it was when it was scanned.

        Args:
            tree: what there is of the dataset now.
            strict: compare the folder of every video too, some 2 microseconds each on a local disk.
        """
        arrays = self._arrays
        return (
            np.array_equal(arrays["part_stamps"], part_stamps(tree))
            and np.array_equal(arrays["table_stamps"], table_stamps(tree, self.videos))
            and not (strict and not np.array_equal(arrays["group_stamps"], folder_stamps(self._folders())))
        )

    @cached_property
    def _groups(self) -> dict[tuple[int, str], int]:
        pairs = zip(self._arrays["group_planes"].tolist(), self._arrays["group_videos"].tolist(), strict=True)
        return {(plane, self.videos[video]): group for group, (plane, video) in enumerate(pairs)}

    def _folders(self) -> list[str]:
        return [f"{self.root}/{PLANES[plane].folder}/{video}" for plane, video in self._groups]

    def _name(self, group: int, position: int) -> str:
        odd_positions = self._arrays["odd_positions"]
        row = int(np.searchsorted(odd_positions, np.uint32(position)))
        if row < len(odd_positions) and odd_positions[row] == position:
            return self._odd_names[row]
        return f"{self._stems[group]}{self.numbers[position]}{self._suffixes[group]}"


def open_frame_index(
    root: str | os.PathLike[str], *, index_path: str | os.PathLike[str] | None = None, strict: bool = False
) -> FrameIndex:
    """Return the index of a dataset: the stored one, or a new one where there is none or the dataset has changed.

    A new one is stored. Where the dataset's folder cannot be written to, it stays in memory and its ``remark`` says so.

    Args:
        root: the extracted dataset.
        index_path: where to keep the index; None: in the dataset's folder.
        strict: look for changes in the folder of every video too.

    Raises:
        InputProblemsError: all problems of all tables of phases and time stamps.
        ForeignFileError: ``index_path`` is some other file.
        MvtkError: ``root`` is no dataset, a folder cannot be read, or ``index_path`` cannot be written.
    """
    tree = open_tree(Path(root))
    target = tree.root / INDEX_NAME if index_path is None else Path(index_path)
    try:
        index = _read(tree.root, target)
        if index.is_current(tree, strict=strict):
            return index
    except (FileNotFoundError, DamagedIndexError):
        pass
    except MvtkError:
        if index_path is not None:
            raise
    arrays = scan_tree(tree)
    try:
        write_index(target, arrays)
        return _read(tree.root, target)
    except MvtkError as error:
        if index_path is not None:
            raise
        remark = f"the index is kept in memory ({error.message}): give another place for it to spare later scans"
        return FrameIndex(tree.root, arrays, remark=remark)


def _read(root: Path, path: Path) -> FrameIndex:
    arrays, state = read_index(path)
    return FrameIndex(root, arrays, (path, state))


def _reopen(root: Path, path: Path, state: FileState) -> FrameIndex:
    """Return the index that another process has open; positions mean the same frames in both.

    Raises:
        MvtkError: the file was replaced meanwhile.
    """
    with suppress(FileNotFoundError):
        arrays, found = read_index(path)
        if found == state:
            return FrameIndex(root, arrays, (path, state))
    raise MvtkError(f"{path}: the index was made again while it was in use", "open the dataset again")
