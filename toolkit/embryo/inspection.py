"""What a dataset holds, video by video, and what is odd or wrong with it.

A **problem** is something that was lost or cannot be used, and fails a verification: a damaged frame, a video that a
plane lacks, a table that cannot be read. A **remark** is something that the published dataset is known to have and that
everything here copes with: nested ``F0`` folders, missing numbers, phases and time stamps past the last frame.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from toolkit.core.errors import MvtkError, collected, one_line
from toolkit.core.listing import is_folder, visible_entries
from toolkit.embryo.frames import FrameFolder, frame_file_problem, list_frames
from toolkit.embryo.layout import (
    ANNOTATIONS_FOLDER,
    GRADES_NAME,
    NESTED_FOLDER,
    PHASES_SUFFIX,
    TIMES_FOLDER,
    TIMES_SUFFIX,
    EmbryoTree,
    open_tree,
)
from toolkit.embryo.names import counted
from toolkit.embryo.phases import NO_PHASE, PHASES, phase_at, phase_indices_of, read_phase_ranges
from toolkit.embryo.planes import FocalPlane
from toolkit.embryo.tables import read_grades, read_time_stamps

DAMAGED_FRAME: Final = "damaged frame"
REPEATED_NUMBER: Final = "two files of one number"
MISSING_VIDEO: Final = "video missing in a plane"
NO_FRAMES: Final = "no frames in a plane"
NO_TABLE: Final = "table missing"
BAD_TABLE: Final = "table that cannot be used"

NESTED_COPY: Final = f"nested {NESTED_FOLDER} folder"
GAPS: Final = "numbers missing"
UNEQUAL_PLANES: Final = "frames missing in a plane"
PAST_THE_END: Final = "phases past the last frame"
EMPTY_PHASE: Final = "phase without frames"
NO_TIME: Final = "frames without a time stamp"
EXTRA_TIMES: Final = "time stamps without a frame"
NO_GRADES: Final = "no grades"
NO_VIDEO: Final = "table of a video that is not there"
OTHER_FILES: Final = "other files beside the frames"

_SHOWN_FILES: Final = 5
_THREADS: Final = 8

FrameCheck = Callable[[str], str]
"""Takes the path of a frame and returns what is wrong with the file; empty where nothing is."""


class Finding(NamedTuple):
    """One thing that is odd or wrong.

    Attributes:
        kind: what it is; equal for equal causes, so that findings can be counted.
        text: what exactly, without the video's name.
    """

    kind: str
    text: str


@dataclass(slots=True)
class VideoReport:
    """What there is of one video.

    Attributes:
        video: its name.
        plane_frames: the number of frames in each plane that has the video.
        phase_frames: the number of moments in each phase; a moment is a frame number that any plane has.
        unlabelled: the number of moments without a phase.
        missing_numbers: how many numbers lack between the first and the last.
        others: entries of its folders that are neither frames, hidden nor a nested copy.
        hidden: entries that begin with a dot.
        checked_files: how many files were looked into.
        problems: what fails a verification.
        remarks: what does not.
    """

    video: str
    plane_frames: dict[FocalPlane, int] = field(default_factory=dict)
    phase_frames: dict[str, int] = field(default_factory=dict)
    unlabelled: int = 0
    missing_numbers: int = 0
    others: int = 0
    hidden: int = 0
    checked_files: int = 0
    problems: list[Finding] = field(default_factory=list)
    remarks: list[Finding] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the report in JSON types."""
        return {
            "video": one_line(self.video),
            "frames": {plane.label: count for plane, count in self.plane_frames.items()},
            "phases": self.phase_frames,
            "unlabelled": self.unlabelled,
            "missing_numbers": self.missing_numbers,
            "problems": [finding._asdict() for finding in self.problems],
            "remarks": [finding._asdict() for finding in self.remarks],
        }


def all_videos(tree: EmbryoTree) -> list[str]:
    """Return the names of the videos that any plane has, sorted.

    Raises:
        MvtkError: a plane's folder cannot be listed.
    """
    return sorted({video for plane in tree.planes for video in tree.videos(plane)})


def examine_video(
    tree: EmbryoTree, video: str, graded: Collection[str] | None, check_frame: FrameCheck | None
) -> VideoReport:
    """Return what there is of one video in all planes.

    Args:
        tree: the dataset.
        video: the video's name.
        graded: the videos that have grades; None: there is no table of grades.
        check_frame: what each file is checked with; None: files are not opened.

    Raises:
        MvtkError: a folder cannot be listed.
    """
    report = VideoReport(video)
    folders = {
        plane: list_frames(tree.video_folder(plane, video))
        for plane in tree.planes
        if is_folder(tree.video_folder(plane, video))
    }
    for plane, folder in folders.items():
        _examine_folder(report, plane, folder)
        if check_frame is not None:
            _check_frames(report, plane, tree.video_folder(plane, video), folder, check_frame)
    moments = sorted(set().union(*(folder.numbers for folder in folders.values())))
    _compare_planes(report, tree, folders, moments)
    _examine_phases(report, tree, moments)
    _examine_times(report, tree, moments)
    if graded is not None and video not in graded:
        report.remarks.append(Finding(NO_GRADES, f"no row in {GRADES_NAME}"))
    return report


def read_graded(tree: EmbryoTree) -> tuple[Collection[str] | None, list[str]]:
    """Return the videos that have grades, and the problems of the table; None where there is no table to rely on."""
    problems: list[str] = []
    graded: Collection[str] | None = None
    if tree.has_grades:
        with collected(problems):
            graded = frozenset(read_grades(tree.grades_path))
    return graded, problems


def tables_without_video(tree: EmbryoTree, videos: Collection[str], graded: Collection[str] | None) -> dict[str, int]:
    """Return, for each part with tables that is there, how many of its videos are not in any plane.

    Raises:
        MvtkError: a folder cannot be listed.
    """
    known = set(videos)
    counts = {}
    for is_there, part, suffix in (
        (tree.has_annotations, ANNOTATIONS_FOLDER, PHASES_SUFFIX),
        (tree.has_times, TIMES_FOLDER, TIMES_SUFFIX),
    ):
        if is_there:
            names = (entry.name for entry in visible_entries(tree.root / part) if entry.name.endswith(suffix))
            counts[part] = sum(name.removesuffix(suffix) not in known for name in names)
    if graded is not None:
        counts[GRADES_NAME] = len(set(graded) - known)
    return counts


def inspect_dataset(root: str | os.PathLike[str], *, check_files: bool = False) -> dict[str, Any]:
    """Return what a dataset holds and what is odd or wrong with it, as JSON types.

    Args:
        root: the extracted dataset, or a part of it.
        check_files: look at the first and last bytes of every frame, as
            :func:`~toolkit.embryo.frames.frame_file_problem` does. It opens every file, in threads, which hides the
            waiting of network disks.

    Returns:
        ``root``, ``missing_parts``, ``videos``, ``frames`` (in all planes), ``planes`` and ``phases`` (lists of what
        each has; the frames of a phase count once, not once a plane), ``unlabelled``, ``missing_numbers``,
        ``other_files``, ``hidden_files``, ``checked_files``, ``problems`` and ``remarks`` (how many videos or parts
        have each kind), ``part_problems`` (lines), ``tables_without_video`` and ``per_video``.

    Raises:
        MvtkError: the folder is no dataset, or a folder in it cannot be listed.
    """
    tree = open_tree(Path(root))
    videos = all_videos(tree)
    graded, part_problems = read_graded(tree)
    examine = functools.partial(
        examine_video, tree, graded=graded, check_frame=frame_file_problem if check_files else None
    )
    with ThreadPoolExecutor(_THREADS if check_files else 1) as threads:
        reports = list(threads.map(examine, videos))
    orphans = tables_without_video(tree, videos, graded)
    return {
        "root": one_line(os.fspath(tree.root)),
        "missing_parts": list(tree.missing),
        "videos": len(videos),
        "frames": sum(sum(report.plane_frames.values()) for report in reports),
        "planes": [_plane_figures(plane, reports) for plane in tree.planes],
        "phases": [_phase_figures(phase.label, reports) for phase in PHASES],
        "unlabelled": sum(report.unlabelled for report in reports),
        "missing_numbers": sum(report.missing_numbers for report in reports),
        "other_files": sum(report.others for report in reports),
        "hidden_files": sum(report.hidden for report in reports),
        "checked_files": sum(report.checked_files for report in reports),
        "problems": _counts(finding for report in reports for finding in _a_kind_once(report.problems)),
        "remarks": _counts(finding for report in reports for finding in _a_kind_once(report.remarks)),
        "part_problems": [one_line(problem) for problem in part_problems],
        "tables_without_video": orphans,
        "per_video": [report.to_json() for report in reports],
    }


def _plane_figures(plane: FocalPlane, reports: list[VideoReport]) -> dict[str, str | int]:
    counts = [report.plane_frames[plane] for report in reports if plane in report.plane_frames]
    return {"plane": plane.label, "videos": len(counts), "frames": sum(counts)}


def _phase_figures(label: str, reports: list[VideoReport]) -> dict[str, str | int]:
    counts = [report.phase_frames[label] for report in reports if label in report.phase_frames]
    return {"phase": label, "videos": len(counts), "frames": sum(counts)}


def _a_kind_once(findings: list[Finding]) -> set[str]:
    return {finding.kind for finding in findings}


def _counts(kinds: Iterator[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for kind in kinds:
        counts[kind] = counts.get(kind, 0) + 1
    return dict(sorted(counts.items()))


def _examine_folder(report: VideoReport, plane: FocalPlane, folder: FrameFolder) -> None:
    report.plane_frames[plane] = len(folder.numbers)
    report.others += folder.others
    report.hidden += folder.hidden
    if not folder.numbers:
        report.problems.append(Finding(NO_FRAMES, f"no frames in {plane.label}"))
    if folder.repeated:
        text = f"{plane.label} has several files of one number: {_some(list(folder.repeated))}"
        report.problems.append(Finding(REPEATED_NUMBER, text))
    if folder.has_nested_copy:
        report.remarks.append(Finding(NESTED_COPY, f"{plane.label} has a nested {NESTED_FOLDER} folder"))
    if folder.others:
        report.remarks.append(Finding(OTHER_FILES, f"{plane.label} has entries that are no frames: {folder.others}"))


def _check_frames(
    report: VideoReport, plane: FocalPlane, path: Path, folder: FrameFolder, check_frame: FrameCheck
) -> None:
    found = ((name, check_frame(f"{path}/{name}")) for name in folder.names)
    damaged = [f"{name} {problem}" for name, problem in found if problem]
    report.checked_files += len(folder.names)
    if damaged:
        report.problems.append(Finding(DAMAGED_FRAME, f"{plane.label}: {_some(damaged)}"))


def _compare_planes(
    report: VideoReport, tree: EmbryoTree, folders: dict[FocalPlane, FrameFolder], moments: list[int]
) -> None:
    missing = [plane.label for plane in tree.planes if plane not in folders]
    if missing:
        report.problems.append(Finding(MISSING_VIDEO, f"no folder in {', '.join(missing)}"))
    lacks = {plane.label: len(moments) - len(folder.numbers) for plane, folder in folders.items()}
    if any(lacks.values()):
        text = ", ".join(f"{label} lacks {count}" for label, count in lacks.items() if count)
        report.remarks.append(Finding(UNEQUAL_PLANES, f"frames that other planes have: {text}"))
    if moments:
        report.missing_numbers = moments[-1] - moments[0] + 1 - len(moments)
    if report.missing_numbers:
        text = f"{counted(report.missing_numbers, 'number')} missing between {moments[0]} and {moments[-1]}"
        report.remarks.append(Finding(GAPS, text))


def _examine_phases(report: VideoReport, tree: EmbryoTree, moments: list[int]) -> None:
    if not tree.has_annotations:
        return
    path = tree.phases_path(report.video)
    try:
        ranges = read_phase_ranges(path) if _is_there(report, path) else []
    except MvtkError as error:
        report.problems.append(Finding(BAD_TABLE, str(error)))
        return
    indices, counts = np.unique(phase_indices_of(ranges, np.array(moments, np.int64)), return_counts=True)
    frames = dict(zip(indices.tolist(), counts.tolist(), strict=True))
    report.unlabelled = frames.pop(NO_PHASE, 0)
    report.phase_frames = {phase.label: count for index, count in frames.items() if (phase := phase_at(index))}
    empty = [entry.phase.label for entry in ranges if entry.phase.label not in report.phase_frames]
    if empty:
        report.remarks.append(Finding(EMPTY_PHASE, f"no frame in {', '.join(empty)}"))
    if ranges and moments and ranges[-1].last > moments[-1]:
        past = ranges[-1].last - moments[-1]
        text = f"the phases end at frame {ranges[-1].last}, {past} past the last frame {moments[-1]}"
        report.remarks.append(Finding(PAST_THE_END, text))


def _examine_times(report: VideoReport, tree: EmbryoTree, moments: list[int]) -> None:
    if not tree.has_times:
        return
    path = tree.times_path(report.video)
    if not _is_there(report, path):
        return
    try:
        times = read_time_stamps(path)
    except MvtkError as error:
        report.problems.append(Finding(BAD_TABLE, str(error)))
        return
    numbers = np.array(moments, np.int64)
    without = int(np.isnan(times.hours_of(numbers)).sum())
    extra = int((~np.isin(times.frames, numbers)).sum())
    if without:
        report.remarks.append(Finding(NO_TIME, f"no time stamp for {without} of {counted(len(moments), 'frame')}"))
    if extra:
        report.remarks.append(Finding(EXTRA_TIMES, f"{counted(extra, 'time stamp')} without a frame"))


def _is_there(report: VideoReport, path: Path) -> bool:
    if not path.exists():
        report.problems.append(Finding(NO_TABLE, f"{path} is missing"))
        return False
    return True


def _some(texts: list[str]) -> str:
    """Join texts, only the first of very many."""
    more = [f"and {len(texts) - _SHOWN_FILES} more"] if len(texts) > _SHOWN_FILES else []
    return ", ".join([*texts[:_SHOWN_FILES], *more])
