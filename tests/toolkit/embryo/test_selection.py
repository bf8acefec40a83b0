"""Choosing frames by plane, video and phase, and the middle one of each phase."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.embryo_trees import MiniatureEmbryos, published_oddities
from toolkit.core.errors import OptionError
from toolkit.embryo.frame_index import Frame, FrameIndex, open_frame_index
from toolkit.embryo.index_file import TextTable
from toolkit.embryo.phases import PHASES, Phase, phase_at
from toolkit.embryo.planes import PLANES, FocalPlane
from toolkit.embryo.selection import select_frames

Labels = Mapping[tuple[int, int], list[tuple[int, int]]]


@pytest.fixture
def index(tmp_path: Path) -> FrameIndex:
    return open_frame_index(published_oddities(tmp_path).root)


def frames(index: FrameIndex, **chosen: object) -> list[Frame]:
    return [index.frame(position) for position in select_frames(index, **chosen)]


def test_all_frames(index: FrameIndex) -> None:
    assert select_frames(index).tolist() == list(range(len(index)))


def test_planes_videos_and_phases(index: FrameIndex) -> None:
    chosen = frames(
        index,
        planes=[FocalPlane.F_00, FocalPlane.F_MINUS_45],
        videos=["AA83-7", "GS490-_6"],
        phases=[Phase.T2, Phase.T8],
    )
    assert [frame.label for frame in chosen] == [
        *(f"F-45_AA83-7_{number}" for number in (5, 6, 9)),
        *(f"F-45_GS490-_6_{number}" for number in (9, 10, 11, 12)),
        *(f"F+00_AA83-7_{number}" for number in (5, 6, 9)),
        *(f"F+00_GS490-_6_{number}" for number in (9, 10, 11, 12)),
    ]
    assert frames(index, phases=[]) == []
    assert frames(index, phases=[Phase.THB]) == []


def test_frames_without_a_label_belong_to_no_phase(index: FrameIndex) -> None:
    labelled = frames(index, phases=PHASES)
    assert 0 < len(labelled) < len(index)
    assert all(frame.phase is not None for frame in labelled)


def test_what_the_dataset_does_not_have(index: FrameIndex, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"there is no video 'AA83-8'; did you mean AA83-7\?"):
        select_frames(index, videos=["AA83-8"])
    embryos = MiniatureEmbryos(tmp_path / "part", [FocalPlane.F_00])
    embryos.add_video("A-1")
    with pytest.raises(OptionError, match=r"part: no videos of focal plane F-15; it has F\+00"):
        select_frames(open_frame_index(embryos.root), planes=[FocalPlane.F_MINUS_15, FocalPlane.F_00])


def test_the_middle_of_each_phase(index: FrameIndex) -> None:
    chosen = frames(index, planes=[FocalPlane.F_00], median_only=True)
    assert [(frame.video, frame.phase, frame.number) for frame in chosen] == [
        ("AA83-7", Phase.TPB2, 4),  # of 2, 4
        ("AA83-7", Phase.T2, 6),  # of 5, 6, 9
        ("AA83-7", Phase.TM, 12),  # of 11, 12
        ("DML271-2", Phase.TPB2, 3),
        ("DML271-2", Phase.T2, 7),
        ("DML271-2", Phase.TM, 12),
        ("GS490-_6", Phase.T4, 6),  # of 3 to 8
        ("GS490-_6", Phase.T8, 11),
    ]


def test_planes_show_the_same_moment_where_they_can(tmp_path: Path) -> None:
    embryos = MiniatureEmbryos(tmp_path, [FocalPlane.F_MINUS_15, FocalPlane.F_00])
    embryos.write_phases("A-1", {"t2": (1, 9), "t3": (10, 19)})
    for plane, numbers in ((FocalPlane.F_MINUS_15, (1, 2, 3, 10)), (FocalPlane.F_00, (3, 4, 5, 6, 7, 11, 12))):
        for number in numbers:
            embryos.add_frame(plane, "A-1", number)
    index = open_frame_index(tmp_path)
    labels = [frame.label for frame in frames(index, median_only=True)]
    assert labels == ["F-15_A-1_3", "F-15_A-1_10", "F+00_A-1_3", "F+00_A-1_12"]
    alone = frames(index, planes=[FocalPlane.F_00], median_only=True)
    assert [frame.number for frame in alone] == [5, 12]


def index_of(labels: Labels) -> FrameIndex:
    """An index of (plane index, video index) groups with (number, phase index) frames, without files."""
    groups = sorted(labels)
    numbers = [number for group in groups for number, _ in labels[group]]
    zeros = np.zeros(len(groups), np.int64)
    return FrameIndex(
        Path("/dataset"),
        {
            "numbers": np.array(numbers, np.int32),
            "hours": np.full(len(numbers), np.nan, np.float32),
            "phase_indices": np.array([phase for group in groups for _, phase in labels[group]], np.int8),
            "group_starts": np.cumsum([0, *(len(labels[group]) for group in groups)]).astype(np.uint32),
            "group_planes": np.array([plane for plane, _ in groups], np.int8),
            "group_videos": np.array([video for _, video in groups], np.int32),
            "group_stamps": zeros,
            "odd_positions": np.array([], np.uint32),
            **TextTable.pack(["A-1", "B-1", "C-1"]).fields("video"),
            **TextTable.pack(["D_RUN"] * len(groups)).fields("stem"),
            **TextTable.pack([".jpeg"] * len(groups)).fields("suffix"),
            **TextTable.pack([]).fields("odd"),
        },
    )


@st.composite
def labellings(draw: st.DrawFn) -> Labels:
    """Frames of up to three videos whose planes lack different numbers; a video's phases are the same in each."""
    labels = {}
    for video in range(draw(st.integers(1, 3))):
        phases = sorted(draw(st.lists(st.integers(-1, 4), min_size=12, max_size=12)))
        for plane in draw(st.sets(st.integers(0, 6), min_size=1, max_size=4)):
            numbers = sorted(draw(st.sets(st.integers(0, 11))))
            labels[plane, video] = [(number, phases[number]) for number in numbers]
    return labels


@given(labellings())
def test_middle_frames_are_those_of_the_definition(labels: Labels) -> None:
    expected = set()
    for video in range(3):
        for phase in range(5):
            found = {
                plane: numbers
                for (plane, of_video), frames_here in labels.items()
                if of_video == video and (numbers := [number for number, of_phase in frames_here if of_phase == phase])
            }
            common = sorted(set.intersection(*map(set, found.values()))) if found else []
            for plane, numbers in found.items():
                candidates = common or numbers
                expected.add((plane, video, phase, candidates[len(candidates) // 2]))
    index = index_of(labels)
    chosen = [index.frame(position) for position in select_frames(index, median_only=True)]
    keys = [(frame.plane.index, index.videos.index(frame.video), frame.phase, frame.number) for frame in chosen]
    assert sorted(expected) == [(plane, video, phase.index, number) for plane, video, phase, number in keys if phase]
    assert len(keys) == len(expected)


@given(labellings(), st.sets(st.sampled_from(PLANES)), st.sets(st.sampled_from(PHASES[:6])))
def test_a_selection_is_a_filter(labels: Labels, planes: set[FocalPlane], phases: set[Phase]) -> None:
    index = index_of(labels)
    planes &= set(index.planes)
    chosen = select_frames(index, planes=planes, phases=phases)
    expected = [
        position
        for position in range(len(index))
        if PLANES[index.plane_indices[position]] in planes and phase_at(index.phase_indices[position]) in phases
    ]
    assert chosen.tolist() == expected
