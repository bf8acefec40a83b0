"""Marks of an NPZ file: flags and texts of any author, read leniently, but never wrongly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.toolkit.npz.npz_builders import npy_bytes, npy_with_header, savez, savez_compressed, write, zip_of
from toolkit.npz import NpzError, open_npz
from toolkit.npz.marks import read_flag, read_text

IN_ONE_FOLDER = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def flag_in(tmp_path: Path, data: bytes) -> bool:
    with open_npz(write(tmp_path, data)) as reader:
        return read_flag(reader, "mark")


def text_in(tmp_path: Path, data: bytes) -> str | None:
    with open_npz(write(tmp_path, data)) as reader:
        return read_text(reader, "mark")


@pytest.mark.parametrize("save", [savez, savez_compressed])
@pytest.mark.parametrize(
    ("mark", "is_set"),
    [
        (np.array(1), True),
        (np.array(1, ">u4"), True),
        (np.array(1, "u1"), True),
        (np.array(True), True),
        (np.array([[1]]), True),
        (np.array(0), False),
        (np.array(False), False),
        (np.array(2), False),
        (np.array(-1), False),
        (np.array(1.0), False),
        (np.array(1 + 0j), False),
        (np.array("1"), False),
        (np.array(b"1"), False),
        (np.array([1, 1]), False),
        (np.array([], "i8"), False),
        (np.ones(5000, "u1"), False),
        (np.array((1, 2), "u1,u1"), False),
    ],
)
def test_a_flag_is_one_whole_number_and_set_when_it_is_1(tmp_path: Path, save: Any, mark: Any, is_set: bool) -> None:
    assert flag_in(tmp_path, save({"mark": mark})) is is_set


@pytest.mark.parametrize(
    ("mark", "text"),
    [
        (np.array("B_v1"), "B_v1"),
        (np.array(["B_v1"], ">U9"), "B_v1"),
        (np.array("été \U0001f600"), "été \U0001f600"),
        (np.array(""), ""),
        (np.array("x" * 900), "x" * 900),
        (np.array("x" * 2000), None),
        (np.array(b"B_v1"), None),
        (np.array(1), None),
        (np.array(["a", "b"]), None),
        (np.array([], "U3"), None),
    ],
)
def test_a_text_is_one_text(tmp_path: Path, mark: Any, text: str | None) -> None:
    assert text_in(tmp_path, savez({"mark": mark})) == text


@IN_ONE_FOLDER
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), st.sampled_from("<>"))
def test_every_text_comes_back(tmp_path: Path, text: str, byte_order: str) -> None:
    array = np.array(text, dtype=f"{byte_order}U{max(1, len(text))}")
    assert text_in(tmp_path, savez({"mark": array})) == text.rstrip("\0")  # NumPy knows no text that ends with one


def test_no_mark_and_marks_of_other_names(tmp_path: Path) -> None:
    data = savez({"mark2": np.array(1), "Mark": np.array("x")})
    assert flag_in(tmp_path, data) is False
    assert text_in(tmp_path, data) is None


def test_numbers_that_are_no_code_points_are_no_bug(tmp_path: Path) -> None:
    header = "{'descr': '<U2', 'fortran_order': False, 'shape': ()}"
    assert text_in(tmp_path, zip_of({"mark.npy": npy_with_header(header, b"\xff" * 8)})) == "\ufffd\ufffd"


def test_pickled_marks_count_as_none_and_are_not_loaded(tmp_path: Path) -> None:
    data = zip_of({"mark.npy": npy_bytes(np.array(1, dtype=object), allow_pickle=True)})
    assert flag_in(tmp_path, data) is False
    assert text_in(tmp_path, data) is None


def test_a_damaged_mark_is_an_error_that_names_it(tmp_path: Path) -> None:
    data = bytearray(savez({"mark": np.array("B_v1")}))
    data[data.index("B_v1".encode("utf-32-le"))] ^= 1
    for read in (flag_in, text_in):
        with pytest.raises(NpzError, match=r"sample\.npz: member 'mark': its checksum"):
            read(tmp_path, bytes(data))
        with pytest.raises(NpzError, match=r"sample\.npz: member 'mark' is not an NPY array"):
            read(tmp_path, zip_of({"mark": b"1"}))
