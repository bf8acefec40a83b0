from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tests.toolkit.npz.npz_builders import npy_bytes, same_arrays
from toolkit.core.errors import MvtkError
from toolkit.npz import Compression, encode_npz, read_npz, save_npz, writing
from toolkit.npz.zip_records import DEFLATED, STORED

COMPRESSIONS = get_args(Compression)
ARRAYS = npst.arrays(npst.scalar_dtypes(), npst.array_shapes(min_dims=0, min_side=0))
KEYS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda key: not key.endswith(".npy")
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrays=st.dictionaries(
        KEYS, npst.arrays(npst.scalar_dtypes(), npst.array_shapes(min_dims=0, min_side=0)), max_size=3
    ),
    compression=st.sampled_from(COMPRESSIONS),
)
def test_numpy_and_zipfile_read_what_is_written(
    tmp_path: Path, arrays: dict[str, np.ndarray[Any, Any]], compression: Compression
) -> None:
    path = tmp_path / "sample"
    size = save_npz(path, arrays, compression=compression, overwrite=True)
    assert size == path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    with np.load(path) as oracle:
        assert same_arrays({key: oracle[key] for key in oracle.files}, arrays)
    assert same_arrays(read_npz(path), arrays)
    assert path.read_bytes() == b"".join(encode_npz(arrays, compression))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_members_are_what_numpy_writes(tmp_path: Path, compression: Compression) -> None:
    """Same NPY bytes as numpy.save for every memory layout, in the given order."""
    base = np.arange(240, dtype=">i4").reshape(4, 6, 10)
    arrays = {
        "c": base,
        "f": np.asfortranarray(base),
        "sliced": base[::2, 1:, ::3],
        "channel": base[..., 0],
        "reversed": base[::-1],
        "scalar": np.array("B_v1"),
        "broadcast": np.broadcast_to(np.float32(1.5), (3, 5)),
        "a": np.array([(1, "x")], [("n", "<i8"), ("t", "<U2")]),
    }
    save_npz(tmp_path / "x.npz", arrays, compression=compression)
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        assert archive.namelist() == [f"{key}.npy" for key in arrays]
        for key, array in arrays.items():
            assert archive.read(f"{key}.npy") == npy_bytes(array), key


def test_compression_methods(tmp_path: Path) -> None:
    """What does not shrink is stored, whatever was asked for."""
    arrays = {
        "noise": np.random.default_rng(0).integers(0, 256, (64, 64), dtype="u1"),
        "ramp": np.arange(4096, dtype="<u4"),
    }
    methods = {}
    for compression in COMPRESSIONS:
        path = tmp_path / compression
        save_npz(path, arrays, compression=compression)
        with zipfile.ZipFile(path) as archive:
            methods[compression] = [info.compress_type for info in archive.infolist()]
    assert methods == {"fast": [STORED, DEFLATED], "zlib": [STORED, DEFLATED], "none": [STORED, STORED]}


def test_zlib_is_what_numpy_does(tmp_path: Path) -> None:
    arrays = {"ramp": np.arange(4096, dtype="<u4") // 3}
    np.savez_compressed(tmp_path / "numpy.npz", **arrays)
    save_npz(tmp_path / "ours.npz", arrays, compression="zlib")
    with zipfile.ZipFile(tmp_path / "numpy.npz") as left, zipfile.ZipFile(tmp_path / "ours.npz") as right:
        assert left.infolist()[0].compress_size == right.infolist()[0].compress_size


def test_large_arrays_are_deflated_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {"ramp": np.arange(4096, dtype="<u4")}
    whole = encode_npz(arrays, "fast")
    monkeypatch.setattr(writing, "_MAX_WHOLE_BYTES", 1000)
    save_npz(tmp_path / "x.npz", arrays)
    assert same_arrays(read_npz(tmp_path / "x.npz"), arrays)
    assert b"".join(whole) != (tmp_path / "x.npz").read_bytes()


def test_stored_data_are_not_copied() -> None:
    array = np.zeros((64, 64))
    pieces = [piece for piece in encode_npz({"x": array}, "none") if isinstance(piece, memoryview)]
    assert any(np.shares_memory(np.frombuffer(piece, "u1"), array) for piece in pieces if piece.nbytes == array.nbytes)


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("", "key '' is empty or holds '/' or NUL; choose another key"),
        ("a/b", "key 'a/b' is empty or holds '/' or NUL"),
        ("a\0b", r"key 'a\\x00b' is empty or holds"),
        ("a.npy", r"key 'a\.npy' ends in \.npy, which the member's name adds"),
        ("x" * 65_532, "key 'x{60}' is longer than ZIP allows"),
        ("\ud800", r"key '\\ud800' cannot be written as UTF-8"),
    ],
)
def test_keys_that_cannot_be_written(key: str, problem: str) -> None:
    with pytest.raises(MvtkError, match=problem):
        encode_npz({"good": np.zeros(1), key: np.zeros(1)})


def test_the_longest_key(tmp_path: Path) -> None:
    arrays = {"x" * 65_531: np.zeros(1)}
    save_npz(tmp_path / "x.npz", arrays)
    assert same_arrays(read_npz(tmp_path / "x.npz"), arrays)


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.array([None]), "key 'x': an array of dtype object could only be pickled; give it a plain dtype"),
        (np.zeros(1, [("a", "O")]), "could only be pickled"),
        (np.array(["a"], np.dtypes.StringDType()), "could only be pickled"),
        (
            np.zeros(1, np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 2]})),
            "key 'x': dtype .* cannot be written: ",
        ),
        (np.zeros(1, [("f" * 100 + str(i), "i4") for i in range(100)]), "needs a header longer than 10000 bytes"),
    ],
)
def test_dtypes_that_cannot_be_written(tmp_path: Path, array: np.ndarray[Any, Any], problem: str) -> None:
    path = tmp_path / "x.npz"
    with pytest.raises(MvtkError, match=problem):
        save_npz(path, {"x": array})
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_not_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    save_npz(path, {"x": np.zeros(1)})
    with pytest.raises(MvtkError, match="exists already"):
        save_npz(path, {"x": np.ones(1)})
    save_npz(path, {"x": np.ones(1)}, overwrite=True)
    assert read_npz(path)["x"].tolist() == [1.0]
