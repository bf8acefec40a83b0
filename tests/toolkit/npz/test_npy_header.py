from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tests.toolkit.npz.npz_builders import (
    npy_bytes,
    npy_with_header,
    same_arrays,
    savez,
    savez_compressed,
    write,
    zip_of,
)
from toolkit.npz import NpzError, open_npz, read_npz
from toolkit.npz.npy_header import NpyHeaderError, format_header, read_header

# NumPy warns of version 3.0, which old readers do not know.
pytestmark = pytest.mark.filterwarnings("ignore:Stored array in format 3.0")


@pytest.mark.parametrize("writer", [savez, savez_compressed])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_npy_version(tmp_path: Path, writer: object, version: tuple[int, int]) -> None:
    array = np.array([(1, 2)], [("a", "i4"), ("Ā" if version == (3, 0) else "é", "i4")])
    data = zip_of({"x.npy": npy_bytes(array) if version == (3, 0) else npy_in_version(array, version)})
    with open_npz(write(tmp_path, data)) as reader:
        header = reader.header("x")
        assert header is not None
        assert header.version == version
        assert same_arrays({"x": reader.read("x")}, {"x": array})


def npy_in_version(array: np.ndarray[Any, Any], version: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", "holds 8 bytes of data where its header asks"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }", r"its shape \(-2,\) is not a tuple of whole"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (True, 2), }", "is not a tuple of whole"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2.0,), }", "is not a tuple of whole"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': [2], }", "is not a tuple of whole"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2**9,), }", "is not a Python literal"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 9223372036854775807), }", "is larger than any array"),
        (f"{{'descr': '<f4', 'fortran_order': False, 'shape': {(1,) * 65}, }}", "is larger than any array"),
        ("{'descr': '<f4', 'fortran_order': 1, 'shape': (2,), }", "its fortran_order is neither True nor False"),
        ("{'descr': '<f4', 'shape': (2,), }", "does not hold exactly descr, fortran_order and shape"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}", "does not hold exactly"),
        ("[1, 2]", "does not hold exactly"),
        ("(" * 5000, "is not a Python literal"),
        ("-" * 9000 + "1", "is not a Python literal"),
        ("{'descr': '|a8', 'fortran_order': False, 'shape': (1,), }", "its dtype '|a8' is unknown".replace("|", r"\|")),
        ("{'descr': 'f4,f4', 'fortran_order': False, 'shape': (1,), }", "its dtype 'f4,f4' is unknown"),
        ("{'descr': [('a', '<f4'), ('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", "its dtype .* is unknown"),
        ("{'descr': ('<f4', -1), 'fortran_order': False, 'shape': (1,), }", "its dtype .* is unknown"),
        ("{'descr': {}, 'fortran_order': False, 'shape': (1,), }", "its dtype {} is unknown"),
        ("{'descr': '<M8[parsec]', 'fortran_order': False, 'shape': (1,), }", "its dtype .* is unknown"),
        (" " * 10_001, "its NPY header of 10002 bytes is longer than 10000"),
    ],
)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_unsound_npy_headers(tmp_path: Path, header: str, problem: str, method: int) -> None:
    path = write(tmp_path, zip_of({"x.npy": npy_with_header(header, bytes(8))}, method))
    with pytest.raises(NpzError, match=rf"sample.npz: member 'x'.*{problem}"):
        read_npz(path)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x93NUMPY", "its NPY version 0.0 is unknown"),
        (b"\x93NUMPY\x04\x00", "its NPY version 4.0 is unknown"),
        (b"\x93NUMPY\x01\x00\x10", "its NPY header is cut short"),
        (b"\x93NUMPY\x01\x00\x10\x00{", "its NPY header is cut short"),
        (npy_bytes(np.arange(3)) + b"\0", "holds 25 bytes of data where its header asks for 24"),
    ],
)
def test_npy_data_of_the_wrong_length(tmp_path: Path, data: bytes, problem: str) -> None:
    with pytest.raises(NpzError, match=problem):
        read_npz(write(tmp_path, zip_of({"x.npy": data})))


@settings(max_examples=300, deadline=None)
@given(
    prefix=st.integers(0, 60),
    middle=st.text("(){}[]'\",:<>|-+.* \\\0\n0123456789abcdefMSUVLOTrue", max_size=12),
    dropped=st.integers(0, 8),
)
def test_headers_of_nonsense_raise_nothing_else(prefix: int, middle: str, dropped: int) -> None:
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }"
    data = npy_with_header(text[:prefix] + middle + text[prefix + dropped :])
    stream = memoryview(data)

    def read(length: int) -> bytes:
        nonlocal stream
        taken, stream = stream[:length], stream[length:]
        return bytes(taken)

    try:
        header = read_header(read)
    except NpyHeaderError:
        return
    assert header.size_bytes == len(data)


@settings(max_examples=100, deadline=None)
@given(
    array=npst.arrays(npst.array_dtypes(max_size=3) | npst.scalar_dtypes(), npst.array_shapes(min_dims=0, min_side=0)),
    transpose=st.booleans(),
)
def test_headers_are_written_as_numpy_does(array: np.ndarray[Any, Any], transpose: bool) -> None:
    array = array.T if transpose else array
    expected = npy_bytes(array)
    assert format_header(array) == expected[: len(expected) - array.nbytes]


def test_dtypes_are_not_shared_between_arrays(tmp_path: Path) -> None:
    path = write(tmp_path, savez({"x": np.zeros(2, [("a", "i4")])}))
    read_npz(path)["x"].dtype.names = ("changed",)
    assert read_npz(path)["x"].dtype.names == ("a",)
