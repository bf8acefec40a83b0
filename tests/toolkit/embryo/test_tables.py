"""Time stamps and grades."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.core.errors import InputProblemsError
from toolkit.embryo.tables import Grades, read_grades, read_time_stamps


def write(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


def test_time_stamps_come_sorted_whatever_else_is_in_the_file(tmp_path: Path) -> None:
    times = read_time_stamps(write(tmp_path, ",frame_index,time\n0,3,0.5\n1,1,0\n2,2.0,\n"))
    assert times.frames.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(times.hours, np.array([0, np.nan, 0.5], np.float32))


@given(st.dictionaries(st.integers(0, 600), st.floats(0, 200, width=32)), st.lists(st.integers(0, 700)))
def test_hours_of_frames(tmp_path_factory: pytest.TempPathFactory, hours: dict[int, float], frames: list[int]) -> None:
    rows = "".join(f"{frame},{time!r}\n" for frame, time in hours.items())
    times = read_time_stamps(write(tmp_path_factory.mktemp("times"), f"frame_index,time\n{rows}"))
    found = times.hours_of(np.array(frames, np.int64))
    expected = [hours.get(frame, np.nan) for frame in frames]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))
    assert found.dtype == np.float32


def test_all_problems_of_time_stamps(tmp_path: Path) -> None:
    text = "frame_index,time\n1,0\n1,0.2\nx,0.4\n3,-1\n4,inf\n5,noon\n6\n"
    with pytest.raises(InputProblemsError) as caught:
        read_time_stamps(write(tmp_path, text))
    assert list(caught.value.problems) == [
        "line 3: frame 1 comes twice",
        "line 4: frame_index 'x' is not a frame number",
        "line 5: time '-1' is not a number of at least 0",
        "line 6: time 'inf' is not a number of at least 0",
        "line 7: time 'noon' is not a number of at least 0",
        "line 8: 1 fields, not 2 as in the header",
    ]


@pytest.mark.parametrize(
    ("text", "found"), [("", "missing"), ("1,0.0\n", "1,0.0"), ("frame_index,Time\n", "frame_index,Time")]
)
def test_a_header_is_needed(tmp_path: Path, text: str, found: str) -> None:
    with pytest.raises(InputProblemsError) as caught:
        read_time_stamps(write(tmp_path, text))
    assert caught.value.problems == (f"line 1: the header must have the columns frame_index,time; it is {found}",)


def test_na_is_a_grade_and_an_empty_field_is_none(tmp_path: Path) -> None:
    grades = read_grades(write(tmp_path, "video_name,TE,ICM\nAA83-7,A,NA\nB-1,,C\n"))
    assert grades == {"AA83-7": Grades("A", "NA"), "B-1": Grades(None, "C")}


def test_all_problems_of_grades(tmp_path: Path) -> None:
    with pytest.raises(InputProblemsError) as caught:
        read_grades(write(tmp_path, "video_name,TE,ICM\nA-1,A,B\nA-1,A,B\n,A,B\nB-1,A\n"))
    assert list(caught.value.problems) == [
        "line 3: video A-1 comes twice",
        "line 4: no video_name",
        "line 5: 2 fields, not 3 as in the header",
    ]
