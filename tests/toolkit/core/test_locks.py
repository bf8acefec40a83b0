"""Folder locks: who excludes whom, who is named, and what a killed holder leaves."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from toolkit.core import locks
from toolkit.core.errors import MvtkError
from toolkit.core.locks import LOCK_NAME, FolderInUseError, hold_folder

HOLDER = """
import sys, time
from pathlib import Path
from toolkit.core.locks import hold_folder
with hold_folder(Path(sys.argv[1]), sys.argv[2], part=sys.argv[3]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(folder: Path, command: str = "edges update", part: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """Hold ``folder`` in another process for the block."""
    arguments = [sys.executable, "-c", HOLDER, os.fspath(folder), command, part]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        yield process


@pytest.fixture(autouse=True)
def _short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_SHARED_RETRY_S", 0.05)


def lock_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(f"{LOCK_NAME}*"))


def test_one_run_at_a_time_and_the_error_names_the_holder(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as holder:
        pattern = rf"is in use by mvtk edges update \(process {holder.pid} on .+, since \d{{4}}-.*\); wait until it has"
        with pytest.raises(FolderInUseError, match=pattern), hold_folder(tmp_path, "x"):
            pass
        assert lock_files(tmp_path) == [LOCK_NAME]
    with hold_folder(tmp_path, "x"):
        assert lock_files(tmp_path) == [LOCK_NAME]
    assert lock_files(tmp_path) == []


def test_shards_hold_a_folder_together(tmp_path: Path) -> None:
    with hold_folder(tmp_path, "x", part="0-of-3"):
        with held_elsewhere(tmp_path, part="1-of-3"), hold_folder(tmp_path, "x", part="2-of-3"):
            assert lock_files(tmp_path) == [LOCK_NAME, *(f"{LOCK_NAME}-{number}-of-3" for number in range(3))]
        assert lock_files(tmp_path) == [LOCK_NAME, f"{LOCK_NAME}-0-of-3"]
    assert lock_files(tmp_path) == []


def test_a_shard_runs_once_and_the_error_names_its_own_holder(tmp_path: Path) -> None:
    with (
        held_elsewhere(tmp_path, "other shard", part="0-of-2"),
        held_elsewhere(tmp_path, "same shard", part="1-of-2") as same,
        pytest.raises(FolderInUseError, match=rf"in use by mvtk same shard \(process {same.pid} "),
        hold_folder(tmp_path, "x", part="1-of-2"),
    ):
        pass


@pytest.mark.parametrize(("first", "second"), [("", "0-of-2"), ("0-of-2", "")])
def test_a_whole_run_and_a_shard_exclude_each_other(tmp_path: Path, first: str, second: str) -> None:
    with (
        held_elsewhere(tmp_path, "the first", part=first) as holder,
        pytest.raises(FolderInUseError, match=rf"in use by mvtk the first \(process {holder.pid} "),
        hold_folder(tmp_path, "x", part=second),
    ):
        pass
    with hold_folder(tmp_path, "x", part=second):
        pass
    assert lock_files(tmp_path) == []


@pytest.mark.parametrize("part", ["", "0-of-2"])
def test_the_lock_goes_with_a_killed_holder_and_its_files_with_the_next_run(tmp_path: Path, part: str) -> None:
    with held_elsewhere(tmp_path, part=part) as holder:
        holder.kill()
        holder.wait()
    assert lock_files(tmp_path)
    with hold_folder(tmp_path, "x"):
        assert lock_files(tmp_path) == [LOCK_NAME]
    assert lock_files(tmp_path) == []


def test_the_name_of_a_killed_run_is_not_that_of_the_holder(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path, "killed run") as killed:
        killed.kill()
        killed.wait()
    with (
        held_elsewhere(tmp_path, "living shard", part="1-of-2"),
        pytest.raises(FolderInUseError, match="living shard"),
        hold_folder(tmp_path, "x"),
    ):
        pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_locks_the_block_runs_unprotected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    before = sorted(Path("/proc/self/fd").iterdir())
    for part in ("", "0-of-2"):
        with hold_folder(tmp_path, "x", part=part):
            pass
    assert lock_files(tmp_path) == []
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_a_folder_that_cannot_hold_a_lock_file_is_an_expected_error(tmp_path: Path) -> None:
    with (
        pytest.raises(MvtkError, match="nowhere: cannot work in the folder: No such file"),
        hold_folder(tmp_path / "nowhere", "x"),
    ):
        pass


def test_a_lock_file_that_lost_its_name_meanwhile_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_lock, calls = fcntl.flock, []

    def removed_just_before(descriptor: int, operation: int) -> None:
        calls.append(operation)
        if len(calls) == 1:
            (tmp_path / LOCK_NAME).unlink()
        really_lock(descriptor, operation)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", removed_just_before)
        stack = ExitStack()
        stack.enter_context(hold_folder(tmp_path, "x"))
    with stack, pytest.raises(FolderInUseError), hold_folder(tmp_path, "y"):
        pass
    assert len(calls) == 2


def test_an_error_in_the_block_frees_the_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyError), hold_folder(tmp_path, "x"):
        raise KeyError
    assert lock_files(tmp_path) == []
