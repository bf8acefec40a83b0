"""Choosing frames of an index: by plane, video and phase, or the middle one of each phase."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from toolkit.core.errors import OptionError
from toolkit.embryo.frame_index import FrameIndex
from toolkit.embryo.names import unknown_name
from toolkit.embryo.phases import NO_PHASE, PHASES, Phase
from toolkit.embryo.planes import PLANES, FocalPlane


def select_frames(
    index: FrameIndex,
    *,
    planes: Collection[FocalPlane] | None = None,
    videos: Collection[str] | None = None,
    phases: Collection[Phase] | None = None,
    median_only: bool = False,
) -> NDArray[np.int64]:
    """Return the positions of the frames of some planes, videos and phases, in the order of the index.

    Args:
        index: the frames of a dataset.
        planes: None: all that are there.
        videos: None: all.
        phases: None: all frames, those without a label too.
        median_only: only the middle frame of each phase of each video (:func:`middle_frames`).

    Returns:
        (k,) int64, ascending.

    Raises:
        OptionError: a plane or a video that the dataset does not have.
    """
    is_chosen = np.ones(len(index), bool)
    if planes is not None:
        is_chosen &= _is_in(index.plane_indices, _plane_indices(index, planes), len(PLANES))
    if videos is not None:
        is_chosen &= _is_in(index.video_indices, _video_indices(index, videos), len(index.videos))
    if phases is not None:
        is_chosen &= _is_in(index.phase_indices, [phase.index for phase in phases], len(PHASES))
    positions = np.flatnonzero(is_chosen)
    return middle_frames(index, positions) if median_only else positions


def middle_frames(index: FrameIndex, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return, of the chosen frames, the middle one of each phase of each video in each plane.

    The middle of an even number of frames is the later of the two, as in the scripts that this replaces. Numbers may be
    missing in single planes: the frames that all the chosen planes have are preferred, so that the planes show the same
    moment, and where a phase has none such, each plane has its own middle. Frames without a label are left out.

    Args:
        index: the frames of a dataset.
        positions: ascending.

    Returns:
        (k,) int64, ascending.
    """
    positions = positions[index.phase_indices[positions] != NO_PHASE]
    # One number for each phase of each video, and one for each frame number in it.
    phases = index.video_indices[positions].astype(np.int64) * len(PHASES) + index.phase_indices[positions]
    moments = (phases << 32) + index.numbers[positions]
    in_planes = index.plane_indices[positions] + phases * len(PLANES)

    _, moment_rows, planes_a_moment = np.unique(moments, return_inverse=True, return_counts=True)
    phase_values, phase_rows = np.unique(phases, return_inverse=True)
    planes_a_phase = np.bincount(np.searchsorted(phase_values, np.unique(in_planes) // len(PLANES)))
    is_common = planes_a_moment[moment_rows] == planes_a_phase[phase_rows]
    has_common = np.zeros(len(phase_values), bool)
    has_common[phase_rows[is_common]] = True
    is_candidate = is_common | ~has_common[phase_rows]

    # In the order of the index the candidates of one phase of one video in one plane are neighbours, by number.
    candidates, groups = positions[is_candidate], in_planes[is_candidate]
    firsts = np.flatnonzero(np.diff(groups, prepend=-1))
    counts = np.diff(firsts, append=len(groups))
    middles: NDArray[np.int64] = candidates[firsts + counts // 2]
    return middles


def _is_in(indices: NDArray[np.integer], chosen: list[int], count: int) -> NDArray[np.bool_]:
    """Return which of the indices, each -1 to ``count - 1``, are chosen."""
    is_chosen = np.zeros(count + 1, bool)
    is_chosen[chosen] = True
    chosen_ones: NDArray[np.bool_] = is_chosen[indices]  # -1 is the last, which is never chosen
    return chosen_ones


def _plane_indices(index: FrameIndex, planes: Collection[FocalPlane]) -> list[int]:
    missing = [plane.label for plane in PLANES if plane in planes and plane not in index.planes]
    if missing:
        there = ", ".join(plane.label for plane in index.planes)
        raise OptionError(f"{index.root}: no videos of focal plane {', '.join(missing)}", f"it has {there}")
    return [plane.index for plane in planes]


def _video_indices(index: FrameIndex, videos: Collection[str]) -> list[int]:
    indices = {video: place for place, video in enumerate(index.videos)}
    for video in videos:
        if video not in indices:
            raise unknown_name("video", video, index.videos)
    return [indices[video] for video in videos]
