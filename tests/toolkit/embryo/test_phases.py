"""Phases and the files that say which frames are in which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.core.errors import InputProblemsError, MvtkError, OptionError
from toolkit.embryo.phases import (
    NO_PHASE,
    PHASES,
    Phase,
    PhaseRange,
    parse_phase,
    phase_at,
    phase_indices_of,
    phase_of,
    read_phase_ranges,
)

SMALL = [PhaseRange(Phase.TPB2, 5, 8), PhaseRange(Phase.T2, 9, 9), PhaseRange(Phase.TM, 12, 20)]


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "AA83-7_phases.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems_of(path: Path) -> list[str]:
    with pytest.raises(InputProblemsError) as caught:
        read_phase_ranges(path)
    assert caught.value.message == str(path)
    assert caught.value.hint
    return list(caught.value.problems)


@st.composite
def phase_ranges(draw: st.DrawFn) -> list[PhaseRange]:
    phases = draw(st.lists(st.sampled_from(PHASES), min_size=1, unique=True))
    bounds = sorted(draw(st.sets(st.integers(0, 900), min_size=2 * len(phases), max_size=2 * len(phases))))
    in_order = sorted(phases, key=lambda phase: phase.index)
    return [
        PhaseRange(phase, first, last) for phase, first, last in zip(in_order, bounds[::2], bounds[1::2], strict=True)
    ]


def test_the_sixteen_phases_in_their_order() -> None:
    labels = " ".join(phase.label for phase in PHASES)
    assert labels == "tPB2 tPNa tPNf t2 t3 t4 t5 t6 t7 t8 t9+ tM tSB tB tEB tHB"
    assert [phase.index for phase in PHASES] == list(range(16))
    assert [phase_at(index) for index in range(16)] == list(PHASES)
    assert phase_at(NO_PHASE) is None


@pytest.mark.parametrize("text", ["t9+", "T9+", " t9+ "])
def test_a_phase_by_its_label(text: str) -> None:
    assert parse_phase(text) is Phase.T9_PLUS


def test_an_unknown_phase_names_the_nearest_and_all() -> None:
    with pytest.raises(OptionError, match=r"there is no phase 't9'; did you mean t9\+\?; the phases are tPB2, tPNa, "):
        parse_phase("t9")


def test_the_real_file(shared_data: Path) -> None:
    ranges = read_phase_ranges(shared_data / "embryo/embryo_dataset_annotations/AA83-7_phases.csv")
    assert len(ranges) == 10
    assert ranges[0] == PhaseRange(Phase.TPB2, 5, 24)
    assert ranges[-1] == PhaseRange(Phase.T8, 277, 286)
    assert [phase_of(ranges, frame) for frame in (4, 5, 286, 287)] == [None, Phase.TPB2, Phase.T8, None]


@given(phase_ranges())
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, ranges: list[PhaseRange]) -> None:
    text = "".join(f"{entry.phase.label},{entry.first},{entry.last}\n" for entry in ranges)
    assert read_phase_ranges(write(tmp_path_factory.mktemp("phases"), text)) == ranges


@given(phase_ranges(), st.lists(st.integers(0, 1000)))
def test_labels_of_many_frames_are_those_of_each(ranges: list[PhaseRange], frames: list[int]) -> None:
    indices = phase_indices_of(ranges, np.array(frames, np.int32))
    assert indices.dtype == np.int8
    assert [phase_at(index) for index in indices] == [phase_of(ranges, frame) for frame in frames]


def test_frames_at_the_bounds() -> None:
    frames = [4, 5, 8, 9, 10, 11, 12, 20, 21]
    expected = [None, Phase.TPB2, Phase.TPB2, Phase.T2, None, None, Phase.TM, Phase.TM, None]
    assert [phase_at(index) for index in phase_indices_of(SMALL, frames)] == expected
    assert phase_indices_of([], frames).tolist() == [NO_PHASE] * len(frames)


@pytest.mark.parametrize(
    "text",
    [
        b"tPB2,5,8\r\nt2,9,9\r\ntM,12,20\r\n",
        b"\xef\xbb\xbftPB2,5,8\nt2,9,9\n\ntM,12,20",
        b'"tPB2", 5 , 8\nt2,9.0,9\n,,\ntM,12,20\n',
    ],
)
def test_line_ends_marks_and_blanks_do_not_matter(tmp_path: Path, text: bytes) -> None:
    assert read_phase_ranges(write(tmp_path, text)) == SMALL


def test_all_problems_come_at_once_with_their_lines(tmp_path: Path) -> None:
    text = "tPB2,5,24\ntPNb,25,30\nt2,31\nt3,x,-4\nt4,50,40\nt5,45,60\nt5,61,70\ntPNa,71,80\n"
    found = problems_of(write(tmp_path, text))
    assert found == [
        "line 2: there is no phase 'tPNb'",
        "line 3: 2 fields, not the 3 of phase,first,last",
        "line 4: first 'x' is not a frame number",
        "line 4: last '-4' is not a frame number",
        "line 5: t4 ends at frame 40, before its first frame 50",
        "line 7: t5 comes twice",
        "line 8: tPNa follows t5, which is a later phase",
    ]


def test_an_overlap(tmp_path: Path) -> None:
    text = "t2,5,24\nt3,24,30\n"
    assert problems_of(write(tmp_path, text)) == ["line 2: t3 begins at frame 24, not after frame 24 where t2 ends"]


def test_labels_are_exact_in_files(tmp_path: Path) -> None:
    assert problems_of(write(tmp_path, "tpb2,1,2\n")) == ["line 1: there is no phase 'tpb2'"]


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    assert problems_of(write(tmp_path, b"t2,1,2\nt3,3,\xff\n")) == ["line 2: not UTF-8 text"]
    assert problems_of(write(tmp_path, "")) == ["line 1: there is no phase in the file"]
    assert "line 1: not CSV" in problems_of(write(tmp_path, 't2,1,"2'))[0]
    assert problems_of(write(tmp_path, f"t2,1,{'9' * 10}\n"))[0].startswith("line 1: last '9999999999'")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MvtkError, match=r"B-1_phases\.csv: cannot read: No such file"):
        read_phase_ranges(tmp_path / "B-1_phases.csv")
