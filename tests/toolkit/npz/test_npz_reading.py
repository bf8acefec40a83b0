from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tests.toolkit.npz.npz_builders import WRITERS, npy_bytes, same_arrays, savez, savez_compressed, write, zip_of
from toolkit.npz import NpzError, PickledMemberError, load_npz_data, open_npz, read_npz
from toolkit.npz.source import ByteSource

IN_ONE_FOLDER = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# NumPy warns of version 3.0, which old readers do not know.
pytestmark = pytest.mark.filterwarnings("ignore:Stored array in format 3.0")
DTYPES = st.one_of(
    npst.scalar_dtypes(), npst.array_dtypes(npst.scalar_dtypes(), max_size=3), npst.array_dtypes(max_size=3)
)
ARRAYS = npst.arrays(DTYPES, npst.array_shapes(min_dims=0, min_side=0, max_side=5))


@IN_ONE_FOLDER
@given(arrays=st.lists(ARRAYS, max_size=3), writer=st.sampled_from(sorted(WRITERS)), transpose=st.booleans())
def test_reads_what_numpy_reads(
    tmp_path: Path, arrays: list[np.ndarray[Any, Any]], writer: str, transpose: bool
) -> None:
    named = {f"arr_{index}": array.T if transpose else array for index, array in enumerate(arrays)}
    path = write(tmp_path, WRITERS[writer](named))
    with np.load(path) as oracle:
        expected = {key: oracle[key] for key in oracle.files}
    found = read_npz(path)
    assert same_arrays(found, expected)
    for key, array in found.items():
        assert array.flags.writeable
        assert array.flags.aligned
        assert array.flags.owndata
        assert (array.flags.c_contiguous, array.flags.f_contiguous) == (
            expected[key].flags.c_contiguous,
            expected[key].flags.f_contiguous,
        )


def test_members_without_the_suffix_are_arrays_too(tmp_path: Path) -> None:
    path = write(tmp_path, zip_of({"folder/x": npy_bytes(np.arange(3))}))
    assert list(read_npz(path)) == ["folder/x"]


def test_a_selection_is_read_and_the_rest_is_verified(tmp_path: Path) -> None:
    arrays = {"a": np.arange(3), "b": np.arange(500), "c": np.array("x")}
    data = bytearray(savez(arrays))
    path = write(tmp_path, bytes(data))
    assert list(read_npz(path, ["c", "a"])) == ["a", "c"]
    data[data.index(arrays["b"].tobytes())] ^= 1
    with pytest.raises(NpzError, match="member 'b': its checksum"):
        read_npz(write(tmp_path, bytes(data)), ["a"])


def test_missing_keys_are_all_named_with_those_there(tmp_path: Path) -> None:
    path = write(tmp_path, savez({"a": np.arange(3), "b": np.arange(3)}))
    with pytest.raises(NpzError, match=r"sample.npz: has no member 'x', 'y'; it has: a, b$"):
        read_npz(path, ["a", "y", "x"])
    with open_npz(path) as reader, pytest.raises(NpzError, match="has no member 'z'"):
        reader.header("z")


def test_pickled_members_are_verified_but_never_read(tmp_path: Path) -> None:
    payload = np.array([{"a": 1}, None], dtype=object)
    data = bytearray(zip_of({"masks.npy": npy_bytes(payload, allow_pickle=True), "x.npy": npy_bytes(np.arange(2))}))
    path = write(tmp_path, bytes(data))
    with pytest.raises(PickledMemberError, match="member 'masks' is pickled and is not read; write it again"):
        read_npz(path)
    assert list(read_npz(path, ["x"])) == ["x"]
    data[200] ^= 1
    with pytest.raises(NpzError, match="member 'masks': its checksum"):
        read_npz(write(tmp_path, bytes(data)), ["x"])


def test_members_that_are_no_arrays(tmp_path: Path) -> None:
    path = write(tmp_path, zip_of({"notes.txt": b"hello", "empty": b"", "x.npy": npy_bytes(np.arange(2))}))
    with open_npz(path) as reader:
        assert reader.header("notes.txt") is None
        assert reader.header("empty") is None
    for keys in (None, ["x"]):
        with pytest.raises(NpzError, match=r"member 'notes\.txt' is not an NPY array"):
            read_npz(path, keys)


def test_the_size_limit_counts_all_members_before_anything_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, savez_compressed({"a": np.zeros(1000), "b": np.zeros(1000)}))
    with pytest.raises(NpzError, match="its members take 16256 bytes, more than the limit of 16000; raise the limit"):
        read_npz(path, ["a"], max_bytes=16_000)
    with open_npz(path, max_bytes=8_000) as reader, pytest.raises(NpzError, match="member 'b' takes 8128 bytes"):
        reader.read("b")


def test_what_is_no_file_to_read(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.npz"
    os.mkfifo(fifo)
    cases = {
        tmp_path / "missing.npz": "does not exist; check the path",
        tmp_path: "is a folder; give the path of an NPZ file",
        fifo: "is not a regular file",
        write(tmp_path, b"", "empty.npz"): "does not end like a ZIP file: it is no NPZ file, or it is cut short",
        write(tmp_path, npy_bytes(np.arange(3)), "array.npy"): "does not end like a ZIP file",
        Path(str(tmp_path / "nul\0.npz")): "cannot be opened: embedded null byte",
    }
    for path, problem in cases.items():
        with pytest.raises(NpzError, match=problem) as caught:
            read_npz(path)
        assert caught.value.path == path
        assert "\n" not in str(caught.value)


def test_a_refused_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("toolkit.npz.source.os.open", refuse)
    with pytest.raises(NpzError, match="may not be read; check the permissions"):
        read_npz(tmp_path / "x.npz")


def test_a_failing_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, savez({"x": np.arange(3)}))

    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("toolkit.npz.source.os.preadv", fail)
    with pytest.raises(NpzError, match="cannot be read: Input/output error; check the disk"):
        read_npz(path)


def test_short_reads_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {"x": np.arange(40), "y": np.zeros(60, "u1")}
    whole_preadv = os.preadv

    def short_preadv(descriptor: int, buffers: Any, offset: int) -> int:
        return whole_preadv(descriptor, [memoryview(buffers[0])[:7]], offset)

    monkeypatch.setattr("toolkit.npz.source.os.preadv", short_preadv)
    for writer in (savez, savez_compressed):
        assert same_arrays(read_npz(write(tmp_path, writer(arrays))), arrays)


def test_a_file_replaced_while_open_stays_consistent(tmp_path: Path) -> None:
    path = write(tmp_path, savez({"x": np.arange(3)}))
    with open_npz(path) as reader:
        write(tmp_path, savez({"x": np.arange(9) + 5}), "new.npz").replace(path)
        assert reader.read("x").tolist() == [0, 1, 2]


def test_a_file_cut_short_while_open_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, savez({"x": np.arange(300)}))
    with open_npz(path) as reader:
        os.truncate(path, 400)
        with pytest.raises(NpzError, match="it is cut short, or was shortened while it was read"):
            reader.read("x")


def test_files_are_closed(tmp_path: Path) -> None:
    good, bad = write(tmp_path, savez({"x": np.arange(3)})), write(tmp_path, b"PK", "bad.npz")
    before = list(Path("/proc/self/fd").iterdir())
    read_npz(good)
    for path in (bad, tmp_path):
        with pytest.raises(NpzError):
            read_npz(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == len(before)
    source = ByteSource(good)
    source.close()
    source.close()


def test_errors_survive_pickling(tmp_path: Path) -> None:
    error = PickledMemberError(tmp_path / "x.npz", "member 'm' is pickled", "do this")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.path, copy.problem, type(copy)) == (str(error), error.path, error.problem, type(error))


@pytest.mark.parametrize("keys", [("image", "mask"), ("arr_0", "arr_1")])
@pytest.mark.parametrize("mask_shape", [(4, 5), (4, 5, 1)])
def test_load_npz_data(tmp_path: Path, keys: tuple[str, str], mask_shape: tuple[int, ...]) -> None:
    image, mask = np.arange(60, dtype="u1").reshape(4, 5, 3), np.arange(20, dtype="u1").reshape(mask_shape)
    arrays = {"arr_0": np.zeros(1), keys[1]: mask, keys[0]: image}
    found_image, found_mask = load_npz_data(write(tmp_path, savez(arrays)))
    assert same_arrays({"i": found_image, "m": found_mask}, {"i": image, "m": mask.reshape(4, 5, 1)})


def test_load_npz_data_without_a_pair(tmp_path: Path) -> None:
    path = write(tmp_path, savez({"image": np.zeros(2), "arr_1": np.zeros(2)}))
    with pytest.raises(NpzError, match=r"holds no image with its mask; .* it has: image, arr_1"):
        load_npz_data(path)
