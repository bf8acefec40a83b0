"""The frames in one folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import encoded, gradient
from tests.embryo_trees import frame_bytes, frame_name
from toolkit.core.errors import MvtkError
from toolkit.embryo.frames import frame_file_problem, list_frames, split_frame_name


@given(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"])),
    st.integers(0, 999_999_999),
    st.sampled_from([".jpeg", ".jpg", ".JPEG"]),
)
def test_a_name_is_split_where_its_number_is(stem: str, number: int, suffix: str) -> None:
    assert split_frame_name(f"{stem}RUN{number}{suffix}") == (f"{stem}RUN", number, suffix)


@pytest.mark.parametrize(
    "name", ["RUN.jpeg", "RUN1.png", "RUN1.jpeg.tmp", "RUN-1.jpeg", "RUN1x.jpeg", "1.jpeg", "RUN1234567890.jpeg"]
)
def test_other_names_are_no_frames(name: str) -> None:
    assert split_frame_name(name) is None


def test_frames_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 1, 100, 2):
        (tmp_path / frame_name(number)).touch()
    folder = list_frames(tmp_path)
    assert folder.numbers == (1, 2, 9, 10, 100)
    assert folder.names == tuple(map(frame_name, folder.numbers))
    assert (folder.repeated, folder.has_nested_copy, folder.others, folder.hidden) == ((), False, 0, 0)


def test_what_is_no_frame_is_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / frame_name(1)).touch()
    (tmp_path / "F0").mkdir()
    (tmp_path / "F0" / frame_name(2)).touch()
    (tmp_path / "F1").mkdir()
    (tmp_path / frame_name(3)).mkdir()
    (tmp_path / "Thumbs.db").touch()
    (tmp_path / f".{frame_name(4)}").touch()
    folder = list_frames(tmp_path)
    assert (folder.numbers, folder.has_nested_copy, folder.others, folder.hidden) == ((1,), True, 3, 1)


def test_of_two_files_of_one_number_the_first_by_name_is_the_frame(tmp_path: Path) -> None:
    for name in ("b_RUN5.jpeg", "a_RUN05.jpeg", "c_RUN5.jpeg"):
        (tmp_path / name).touch()
    folder = list_frames(tmp_path)
    assert (folder.numbers, folder.names) == ((5,), ("a_RUN05.jpeg",))
    assert folder.repeated == ("b_RUN5.jpeg", "c_RUN5.jpeg")


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(MvtkError, match="nowhere: cannot list the folder: No such file"):
        list_frames(tmp_path / "nowhere")


def test_whole_files_are_sound(tmp_path: Path) -> None:
    path = tmp_path / "RUN1.jpeg"
    for content in (frame_bytes(9), encoded(gradient(), "JPEG"), frame_bytes(9) + bytes(30)):
        path.write_bytes(content)
        assert frame_file_problem(str(path)) == ""


@given(st.integers(0, len(frame_bytes(9)) - 1))
def test_a_file_cut_anywhere_is_found(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "RUN1.jpeg"
    path.write_bytes(frame_bytes(9)[:length])
    expected = "is empty" if not length else "is no JPEG file" if length < 2 else "is cut short (no JPEG end marker)"
    assert frame_file_problem(str(path)) == expected


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    assert frame_file_problem(str(tmp_path / "none")) == "cannot be opened (No such file or directory)"
    assert frame_file_problem(str(tmp_path)) == "cannot be read (Is a directory)"
    os.mkfifo(tmp_path / "pipe")
    assert frame_file_problem(str(tmp_path / "pipe")) == "cannot be read (Illegal seek)"
    (tmp_path / "png").write_bytes(encoded(gradient(), "PNG"))
    assert frame_file_problem(str(tmp_path / "png")) == "is no JPEG file"
