"""Rewriting that is refused or fails: one line says why, and the file is old or new, whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.toolkit.core.test_files import FaultySystem
from tests.toolkit.npz.npz_builders import (
    WRITERS,
    npy_bytes,
    rewrite,
    same_arrays,
    savez,
    untouched,
    write,
    zip_of,
)
from toolkit.core.errors import MvtkError, StopRunError
from toolkit.npz import NpzError, open_npz, read_npz, rewrite_npz, rewriting

ARRAYS = {"a": np.arange(40), "edge": np.zeros((4, 4), "u1"), "b": np.arange(30.0)}
NEW = {"flag": np.array(1, "u1"), "edge": np.ones((8, 8), "u1"), "version": np.array("B_v1")}


class Meddling:
    """An array that does something to the file system at the moment when it is written."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray[Any, Any]:
        self._action()
        return np.arange(3)


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("", "key '' is empty or holds '/' or NUL"),
        ("folder/x", "key 'folder/x' is empty or holds '/' or NUL"),
        ("edge.npy", r"key 'edge\.npy' ends in \.npy"),
    ],
)
def test_keys_that_cannot_name_a_member(tmp_path: Path, key: str, problem: str) -> None:
    path = write(tmp_path, savez(ARRAYS))
    with untouched(tmp_path), pytest.raises(MvtkError, match=problem):
        rewrite(path, {"edge": np.ones(1), key: np.ones(1)})


def test_arrays_that_cannot_be_written(tmp_path: Path) -> None:
    path = write(tmp_path, savez(ARRAYS))
    with untouched(tmp_path), pytest.raises(MvtkError, match="key 'x': an array of dtype object could only be pickled"):
        rewrite(path, {"x": np.array([None])})


def test_a_key_that_numpy_would_confuse_with_another(tmp_path: Path) -> None:
    path = write(tmp_path, zip_of({"x.npy.npy": npy_bytes(np.arange(3))}))
    problem = r"NumPy could not tell a new member 'x\.npy' from 'x\.npy\.npy', which is there; choose another key"
    with untouched(tmp_path), pytest.raises(NpzError, match=problem):
        rewrite(path, {"x": np.arange(2)})


def test_a_wrong_checksum_in_a_stored_member(tmp_path: Path) -> None:
    """Found wherever it is, in a member of several pieces too; not in one that is replaced."""
    arrays = {"a": np.arange(300), "b": np.arange(300)}
    data = savez(arrays)
    second, directory = data.index(b"PK\x03\x04", 4), data.index(b"PK\x01\x02")
    for flipped in (300, second - 1, second + 300, directory - 1):
        key = "a" if flipped < second else "b"
        damaged = bytearray(data)
        damaged[flipped] ^= 1
        path = write(tmp_path, bytes(damaged))
        for piece_bytes in (7, 64, 1 << 20):
            with pytest.MonkeyPatch.context() as patch, untouched(tmp_path):
                patch.setattr(rewriting, "_PIECE_BYTES", piece_bytes)
                problem = rf"sample\.npz: member '{key}': its checksum \(CRC-32\) does not match its data; the file is"
                with pytest.raises(NpzError, match=problem):
                    rewrite(path, {"c": np.arange(2)})
        rewrite(path, {key: arrays[key]})
        assert same_arrays(read_npz(path), arrays)


@pytest.mark.parametrize("writer", WRITERS)
def test_every_truncation(tmp_path: Path, writer: str) -> None:
    path = write(tmp_path, WRITERS[writer]({"a": np.arange(3), "edge": np.zeros(2)}))
    for length in range(path.stat().st_size - 1, -1, -1):
        os.truncate(path, length)
        with untouched(tmp_path), pytest.raises(NpzError):
            rewrite(path, NEW)


def test_records_that_lie(tmp_path: Path) -> None:
    """Those of a member that is to be replaced count too: they say where its neighbours are."""
    data = savez({"a": np.arange(3), "edge": np.arange(4), "b": np.arange(5)})
    second = data.index(b"PK\x03\x04", 4)
    directory = int.from_bytes(data[-6:-2], "little")
    entry = directory + data[directory:].index(b"PK\x01\x02", 4)
    cases = {
        "a lying header": ({second: 0}, "member 'edge': its local header and the central directory differ"),
        "a lying checksum": ({second + 14: 1}, "member 'edge': its checksum or sizes differ between local header and"),
        "a lying length": ({28: 255, 29: 255}, "member 'a': its data overlap with what follows"),
        "overlapping members": (
            {entry + 42: 3, entry + 43: 0},
            "member 'a': its local header overlaps with what follows",
        ),
        "a member twice": (
            {entry + 46 + offset: byte for offset, byte in enumerate(b"a.npy")} | {entry + 28: 5, entry + 32: 3},
            "member 'a' is there twice; write it again from one source",
        ),
    }
    for name, (changes, problem) in cases.items():
        damaged = bytearray(data)
        for offset, byte in changes.items():
            damaged[offset] = byte
        path = write(tmp_path, bytes(damaged))
        with untouched(tmp_path), pytest.raises(NpzError) as caught:
            rewrite(path, {"edge": np.arange(9)})
        assert problem in str(caught.value), name


def test_a_file_cut_short_while_it_is_rewritten(tmp_path: Path) -> None:
    path = write(tmp_path, savez({"edge": np.arange(4), "b": np.arange(3000)}))
    with pytest.raises(NpzError, match=r"sample\.npz: ends too early: it is cut short, or was shortened while it was"):
        rewrite(path, {"edge": Meddling(lambda: os.truncate(path, 9000))})
    assert path.stat().st_size == 9000
    assert len(list(tmp_path.iterdir())) == 1


def write_in_place(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(200)
        file.write(b"x")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "replaced": (
        lambda path: write(path.parent, path.read_bytes(), "other").replace(path),
        "was replaced or changed while it was being rewritten; run the command again",
    ),
    "written to": (write_in_place, "was replaced or changed while it was being rewritten; run the command again"),
    "appended to": (
        lambda path: os.truncate(path, path.stat().st_size + 1),
        "was replaced or changed while it was being rewritten; run the command again",
    ),
    "removed": (Path.unlink, "vanished while it was being rewritten; run the command again"),
}


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_nobody_elses_work_is_lost(tmp_path: Path, change: str, early: bool) -> None:
    meddle, problem = CHANGES[change]
    path = write(tmp_path, savez({"b": np.arange(300), "edge": np.arange(4)}))
    with open_npz(path) as reader:
        if early:
            meddle(path)
        content = Meddling((lambda: None) if early else (lambda: meddle(path)))
        with pytest.raises(NpzError) as caught:
            rewrite_npz(reader, {"edge": content})
    assert str(caught.value) == f"{path}: {problem}"
    assert [found.name for found in tmp_path.iterdir()] == ([] if change == "removed" else ["sample.npz"])


def test_a_folder_that_vanishes(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = write(folder, savez(ARRAYS))
    with pytest.raises(NpzError, match=r"sample\.npz: vanished while it was being rewritten; run the command again"):
        rewrite(path, {"edge": Meddling(lambda: folder.rename(tmp_path / "away"))})
    moved = tmp_path / "away" / "sample.npz"
    assert same_arrays(read_npz(moved), ARRAYS)


def test_a_read_only_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, savez(ARRAYS))
    problem = rf"^{path}: is read-only; make it writable \(chmod u\+w\) if it may be changed$"
    path.chmod(0o444)
    with untouched(tmp_path), pytest.raises(NpzError, match=problem):
        rewrite(path, NEW)
    path.chmod(0o644)
    monkeypatch.setattr("toolkit.npz.rewriting.os.access", lambda *_: False)
    with untouched(tmp_path), pytest.raises(NpzError, match=problem):
        rewrite(path, NEW)


@pytest.mark.parametrize(
    ("call", "code", "problem"),
    [
        ("open", errno.EACCES, "sample.npz: cannot write: Permission denied"),
        ("open", errno.EROFS, "sample.npz: cannot write: Read-only file system"),
        ("fsync", errno.ENOSPC, "sample.npz: cannot write: No space left on device; free some space and run the"),
        ("replace", errno.EIO, "sample.npz: cannot write: Input/output error"),
        ("preadv", errno.EIO, "sample.npz: cannot be read: Input/output error; check the disk"),
    ],
)
def test_what_the_system_refuses_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, problem: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    path = write(tmp_path, savez(ARRAYS))
    with open_npz(path) as reader, untouched(tmp_path), monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(MvtkError) as caught:
            rewrite_npz(reader, NEW)
    assert problem in str(caught.value)
    assert isinstance(caught.value, StopRunError) == (code == errno.ENOSPC)


class FaultyRewriting(FaultySystem):
    """The same for a rewriting, which also reads."""

    NAMES = (*FaultySystem.NAMES, "preadv")


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EACCES], ids=errno.errorcode.get)
def test_when_any_system_call_fails_the_file_is_old_or_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(rewriting, "_PIECE_BYTES", 256)
    old = WRITERS["savez_piped"](ARRAYS)
    new = write(tmp_path, old)
    rewrite(new, NEW)
    contents = {old, new.read_bytes()}
    for fail_at in range(200):
        path = write(tmp_path, old)
        error: Exception | None = None
        with open_npz(path) as reader, monkeypatch.context() as patch:
            system = FaultyRewriting(patch, fail_at, code)
            try:
                rewrite_npz(reader, NEW)
            except MvtkError as caught:
                error = caught
        assert path.read_bytes() in contents, system.calls
        assert [found.name for found in tmp_path.iterdir()] == ["sample.npz"], system.calls
        if len(system.calls) <= fail_at:
            assert error is None
            assert {"stat", "preadv", "open", "write", "fsync", "replace"} <= set(system.calls)
            return
        assert str(path) in str(error)
    pytest.fail("the rewriting never succeeded")
