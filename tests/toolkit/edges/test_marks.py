"""How a features file says which edge maps it has: versions, flags, and marks that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.toolkit.npz.npz_builders import npy_bytes, npy_with_header, savez, savez_compressed, write, zip_of
from toolkit.edges.marks import EdgeMarks, edge_version, kernel_size_of, read_edge_marks
from toolkit.npz import NpzError, open_npz

UNMARKED = EdgeMarks(flag=False, version="", sizes=())


def marks_of(path: Path) -> EdgeMarks:
    with open_npz(path) as reader:
        return read_edge_marks(reader)


def test_versions_of_the_documented_kernel_sizes() -> None:
    assert edge_version(3) == "B_v1"
    assert edge_version(5) == "B_v1_k5"


@given(st.integers(1, 10**9 - 1))
def test_every_kernel_size_comes_back_from_its_version(kernel_size: int) -> None:
    assert kernel_size_of(edge_version(kernel_size)) == kernel_size


@given(
    st.one_of(
        st.text(),
        st.from_regex(r"B_v1_k[0-9]{0,12}"),
        st.sampled_from(["B_v1_k3", "B_v1_k05", "B_v1_k\u0665", "B_v1\n", "B_v1_k" + "9" * 5000]),
    )
)
def test_a_kernel_size_is_only_that_of_its_own_version(version: str) -> None:
    kernel_size = kernel_size_of(version)
    assert kernel_size is None or edge_version(kernel_size) == version


@pytest.mark.parametrize("writer", [savez, savez_compressed])
def test_a_processed_file(tmp_path: Path, writer: Any) -> None:
    arrays = {
        "P4_S16": np.zeros(9, "f4"),
        "edge_64x64": np.zeros((64, 64), "u1"),
        "edge_256x256": np.zeros((256, 256), "u1"),
        "edge_original": np.zeros((5, 7), "u1"),
        "edge_5x7": np.zeros((5, 7), "u1"),
        "edge_flag": np.array(1, "u1"),
        "edge_version": np.array("B_v1_k5"),
    }
    marks = marks_of(write(tmp_path, writer(arrays)))
    assert marks == EdgeMarks(flag=True, version="B_v1_k5", sizes=(64, 256))
    assert not marks.up_to_date(5)  # edge_32x32 is missing
    assert EdgeMarks(flag=True, version="B_v1_k5", sizes=(32, 64)).up_to_date(5)
    assert not EdgeMarks(flag=True, version="B_v1_k5", sizes=(32, 64)).up_to_date(3)
    assert not EdgeMarks(flag=False, version="B_v1", sizes=(32, 64)).up_to_date(3)
    assert not EdgeMarks(flag=True, version="B_v1", sizes=(32, 64)).up_to_date(3, add_256=True)
    assert EdgeMarks(flag=True, version="B_v1", sizes=(32, 256, 64)).up_to_date(3, add_256=True)


def test_a_file_without_marks(tmp_path: Path) -> None:
    marks = marks_of(write(tmp_path, savez({"P4_S16": np.zeros(9, "f4")})))
    assert marks == UNMARKED
    assert not marks.up_to_date(3)


@pytest.mark.parametrize(
    ("flag", "is_set"),
    [
        (np.array(1, "i8"), True),
        (np.array(1, ">u4"), True),
        (np.array(True), True),
        (np.array([1]), True),
        (np.array(0, "u1"), False),
        (np.array(2), False),
        (np.array(-1), False),
        (np.array(1.0), False),
        (np.array("1"), False),
        (np.array([1, 1]), False),
        (np.array([], "u1"), False),
        (np.ones(5000, "u1"), False),
        (np.array(1, "M8[s]"), False),
        (np.array((1, 2), "u1,u1"), False),
    ],
)
def test_a_flag_is_one_whole_number_and_set_when_it_is_1(tmp_path: Path, flag: Any, is_set: bool) -> None:
    assert marks_of(write(tmp_path, savez({"edge_flag": flag}))).flag == is_set


@pytest.mark.parametrize(
    ("version", "text"),
    [
        (np.array("B_v1"), "B_v1"),
        (np.array("B_v1", ">U9"), "B_v1"),
        (np.array(["B_v1"]), "B_v1"),
        (np.array("été \U0001f600"), "été \U0001f600"),
        (np.array(""), ""),
        (np.array(b"B_v1"), ""),
        (np.array(1), ""),
        (np.array(["B_v1", "B_v1"]), ""),
        (np.array("B_v1" * 2000), ""),
    ],
)
def test_a_version_is_one_text(tmp_path: Path, version: Any, text: str) -> None:
    assert marks_of(write(tmp_path, savez({"edge_version": version}))).version == text


def test_a_text_of_numbers_that_are_no_code_points_is_no_bug(tmp_path: Path) -> None:
    header = "{'descr': '<U2', 'fortran_order': False, 'shape': ()}"
    path = write(tmp_path, zip_of({"edge_version.npy": npy_with_header(header, b"\xff" * 8)}))
    assert marks_of(path).version == "\ufffd\ufffd"


def test_pickled_marks_are_none(tmp_path: Path) -> None:
    pickled = npy_bytes(np.array("B_v1", dtype=object), allow_pickle=True)
    path = write(tmp_path, zip_of({"edge_version.npy": pickled, "edge_flag.npy": pickled}))
    assert marks_of(path) == UNMARKED


def test_a_damaged_mark_is_an_error_that_names_it(tmp_path: Path) -> None:
    data = bytearray(savez({"edge_version": np.array("B_v1")}))
    data[data.index("B_v1".encode("utf-32-le"))] ^= 1
    with pytest.raises(NpzError, match=r"sample\.npz: member 'edge_version': its checksum"):
        marks_of(write(tmp_path, bytes(data)))
    with pytest.raises(NpzError, match=r"sample\.npz: member 'edge_flag' is not an NPY array"):
        marks_of(write(tmp_path, zip_of({"edge_flag": b"1"})))
