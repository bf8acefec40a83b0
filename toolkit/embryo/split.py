"""Splits of a dataset into sets for training and testing, by video: what they are made from, and their file.

The file is a JSON object with the keys ``train``, ``test`` and, where there are three sets, ``eval``; each is a list of
video names. No video is in two sets: frames of one embryo look so much alike that a test on them would measure memory.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.annotations.json_text import parse_json
from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.core.files import read_bytes, write_bytes
from toolkit.embryo.frame_index import FrameIndex, open_frame_index
from toolkit.embryo.names import counted
from toolkit.embryo.phases import NO_PHASE, PHASES, Phase
from toolkit.embryo.stratification import SET_NAMES, set_names, set_shares, split_videos

DEFAULT_WEIGHTS = (0.6, 0.2, 0.2)

_HINT = "make it with mvtk embryo split"


@dataclass(frozen=True, slots=True)
class PhaseShare:
    """How one phase, or the whole dataset, is shared out; each tuple has a number a set.

    Attributes:
        phase: the phase's label; "" for all frames, labelled or not.
        videos: the videos with a frame of it.
        target: the videos that the weights ask for.
        frames: the frames of it, of all focal planes.
    """

    phase: str
    videos: tuple[int, ...]
    target: tuple[float, ...]
    frames: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What a split is like.

    Attributes:
        sets: the names of the sets.
        unlabelled_videos: how many videos have no frame with a phase; they are shared out by the weights only.
        total: of the whole dataset.
        phases: of each phase that the dataset shows, in their order.
        remarks: what whoever uses it should know, one line each: videos without phases, sets without videos.
    """

    sets: tuple[str, ...]
    unlabelled_videos: int
    total: PhaseShare
    phases: tuple[PhaseShare, ...]
    remarks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return asdict(self)


def save_split(
    root: Path,
    output: Path,
    *,
    weights: Sequence[float] = DEFAULT_WEIGHTS,
    seed: int = 0,
    overwrite: bool = False,
    index_path: Path | None = None,
) -> SplitReport:
    """Share the videos of a dataset out among two or three sets, every phase evenly, and write the split.

    A video counts as having a phase where one of its frames, in any focal plane, is in it.

    Args:
        root: the extracted dataset.
        output: the JSON file to write.
        weights: the sets' shares, as :func:`split_videos` takes them.
        seed: another one gives another split.
        overwrite: whether ``output`` may be replaced.
        index_path: where the frame index is kept, as :func:`open_frame_index` takes it.

    Raises:
        OptionError: the weights are not two or three positive numbers.
        TargetExistsError: ``output`` exists and ``overwrite`` is false.
        MvtkError: the dataset cannot be read, or ``output`` cannot be written.
    """
    set_names(weights)
    index = open_frame_index(root, index_path=index_path, strict=True)
    frames = _frames_by_video(index)
    phases_by_video = {
        video: [phase for phase in PHASES if row[phase.index]] for video, row in zip(index.videos, frames, strict=True)
    }
    split = split_videos(phases_by_video, weights, seed)
    write_bytes(output, format_split(split).encode(), overwrite=overwrite)
    remarks = index.remarks
    if len(index.videos) < len(split):
        empty = " and ".join(name for name, videos in split.items() if not videos)
        remarks.append(f"{counted(len(index.videos), 'video')} for {len(split)} sets: there is none in {empty}")
    return _report(split, weights, index.videos, frames, remarks)


def format_split(split: Mapping[str, Sequence[str]]) -> str:
    """Return a split as the text of its file."""
    return json.dumps({name: sorted(videos) for name, videos in split.items()}, indent=2) + "\n"


def load_split(path: Path, videos: Collection[str] | None = None) -> dict[str, list[str]]:
    """Read a split.

    Args:
        path: the JSON file.
        videos: those of the dataset; None does not check that there are such videos.

    Returns:
        the video names of each set, in the order of the file.

    Raises:
        InputProblemsError: all problems: unknown keys and missing ones, what is no list of names, a video that is in
            two sets or that the dataset has not.
        MvtkError: the file cannot be read or is no JSON object.
    """
    content = parse_json(read_bytes(path), str(path), _HINT)
    if not isinstance(content, dict):
        raise MvtkError(f"{path}: not a JSON object", _HINT)
    problems = [f"unknown key {key!r}" for key in content if key not in SET_NAMES[3]]
    problems += [f"no key {key!r}" for key in SET_NAMES[2] if key not in content]
    split: dict[str, list[str]] = {}
    for name in (name for name in SET_NAMES[3] if name in content):
        names = content[name]
        if isinstance(names, list) and all(isinstance(video, str) for video in names):
            split[name] = names
        else:
            problems.append(f"{name}: not a list of video names")
    places = Counter(video for names in split.values() for video in names)
    for video, count in places.items():
        if count > 1:
            sets = [name for name, names in split.items() for _ in range(names.count(video))]
            problems.append(f"video {video!r} is in {' and '.join(sets)}")
        if videos is not None and video not in videos:
            problems.append(f"video {video!r} is not in the dataset")
    if problems:
        raise InputProblemsError(str(path), problems, _HINT)
    return split


def _frames_by_video(index: FrameIndex) -> NDArray[np.int64]:
    """Return how many frames each video has in each phase, the last column being those without one: (v, 17) int64."""
    columns = len(PHASES) + 1
    phases = np.where(index.phase_indices == NO_PHASE, len(PHASES), index.phase_indices)
    cells = index.video_indices.astype(np.int64) * columns + phases
    return np.bincount(cells, minlength=len(index.videos) * columns).reshape(-1, columns)


def _report(
    split: Mapping[str, Sequence[str]],
    weights: Sequence[float],
    videos: Sequence[str],
    frames: NDArray[np.int64],
    remarks: Sequence[str],
) -> SplitReport:
    rows = {video: row for row, video in enumerate(videos)}
    members = [[rows[video] for video in names] for names in split.values()]
    shares = set_shares(weights)

    def share(label: str, has: NDArray[np.bool_], counts: NDArray[np.int64]) -> PhaseShare:
        return PhaseShare(
            label,
            videos=tuple(int(has[rows].sum()) for rows in members),
            target=tuple(round(part * int(has.sum()), 2) for part in shares),
            frames=tuple(int(counts[rows].sum()) for rows in members),
        )

    def of_phase(phase: Phase) -> PhaseShare:
        return share(phase.label, frames[:, phase.index] > 0, frames[:, phase.index])

    labelled = frames[:, : len(PHASES)]
    return SplitReport(
        sets=tuple(split),
        unlabelled_videos=int((labelled.sum(axis=1) == 0).sum()),
        total=share("", np.ones(len(videos), np.bool_), frames.sum(axis=1)),
        phases=tuple(of_phase(phase) for phase in PHASES if labelled[:, phase.index].any()),
        remarks=tuple(remarks),
    )
