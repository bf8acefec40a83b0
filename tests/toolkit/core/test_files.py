"""Atomic files: at every instant the old or the new content, whole, whatever the system answers."""

from __future__ import annotations

import errno
import io
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.core import files
from toolkit.core.errors import MvtkError, StopRunError
from toolkit.core.files import (
    TargetExistsError,
    atomic_write,
    is_temporary,
    make_folder,
    read_bytes,
    require_writable,
    sweep_leftovers,
    write_bytes,
)

OLD, NEW = b"old" * 5000, b"new content" * 9000
ERRORS = [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EACCES]
LOOK_ALIKES = [
    ".mvtk-lock",
    ".mvtk-0123abcd-12-34-89abcdef.tmp.npz",
    "x.mvtk-0123abcd-12-34-89abcdef.tmp",
    ".mvtk-0123ABCD-12-34-89abcdef.tmp",
    ".mvtk-0123abcd-012-34-89abcdef.tmp",
    ".mvtk-0123abcd-12-34-89abcdef.tmp\n",
]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class FaultySystem:
    """The system calls of a write, of which the one numbered ``fail_at`` (from 0) fails."""

    NAMES = ("open", "fchown", "fchmod", "fsync", "close", "replace", "link", "rename", "unlink", "stat")

    def __init__(self, patch: pytest.MonkeyPatch, fail_at: int, code: int) -> None:
        self.calls: list[str] = []
        self._fail_at, self._code = fail_at, code
        for name in self.NAMES:
            patch.setattr(os, name, self._faulty(name, getattr(os, name)))
        patch.setattr(os, "fdopen", self._fdopen)

    def tick(self, name: str) -> None:
        self.calls.append(name)
        if len(self.calls) == self._fail_at + 1:
            raise OSError(self._code, os.strerror(self._code))

    def _faulty(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def faulty(*arguments: Any, **options: Any) -> Any:
            if name == "close":
                call(*arguments)
            self.tick(name)
            return None if name == "close" else call(*arguments, **options)

        return faulty

    def _fdopen(self, descriptor: int, mode: str) -> io.BufferedWriter:
        system = self

        class Stream(io.BufferedWriter):
            def write(self, data: Any) -> int:
                system.tick("write")
                return super().write(data)

            def flush(self) -> None:
                system.tick("flush")
                super().flush()

        return Stream(io.FileIO(descriptor, mode))


@pytest.mark.parametrize("code", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("overwrite", [False, True])
def test_when_any_system_call_fails_the_target_is_old_or_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, overwrite: bool
) -> None:
    target = tmp_path / "x.npz"
    for fail_at in range(100):
        target.unlink(missing_ok=True)
        if overwrite:
            target.write_bytes(OLD)
        error: Exception | None = None
        with monkeypatch.context() as patch:
            system = FaultySystem(patch, fail_at, code)
            try:
                write_bytes(target, NEW, overwrite=overwrite)
            except MvtkError as caught:
                error = caught
        if len(system.calls) <= fail_at:
            assert error is None
            assert system.calls[-1] == "close"
            return
        content = target.read_bytes() if target.exists() else None
        assert content in ({OLD, NEW} if overwrite else {None, NEW}), system.calls
        assert isinstance(error, StopRunError) == (code in {errno.ENOSPC, errno.EDQUOT}), system.calls
        assert str(target) in str(error)
        assert [path.name for path in tmp_path.iterdir()] in ([], ["x.npz"]), system.calls
    pytest.fail("the write never succeeded")


def test_a_block_that_raises_leaves_nothing(tmp_path: Path) -> None:
    def write_half() -> None:
        with atomic_write(tmp_path / "x") as stream:
            stream.write(NEW)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert not list(tmp_path.iterdir())


def test_the_content_is_durable_before_it_has_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        system = FaultySystem(patch, -1, 0)
        write_bytes(tmp_path / "x", NEW)
    order = [name for name in system.calls if name in {"write", "fsync", "link"}]
    assert order == ["write", "fsync", "link", "fsync"]


def test_nothing_that_exists_is_overwritten_unasked(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.write_bytes(OLD)
    with pytest.raises(TargetExistsError, match=r"x exists already; use --overwrite to replace it$"):
        write_bytes(target, NEW)
    assert target.read_bytes() == OLD


@pytest.mark.parametrize("code", [None, errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV])
def test_a_target_that_appears_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    target = tmp_path / "x"
    if code is not None:
        monkeypatch.setattr(os, "link", _raising(code))

    def lose_the_race() -> None:
        with atomic_write(target) as stream:
            stream.write(NEW)
            target.write_bytes(OLD)

    with pytest.raises(TargetExistsError):
        lose_the_race()
    assert target.read_bytes() == OLD
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(os, "link", _raising(code))
    write_bytes(tmp_path / "x", NEW)
    assert (tmp_path / "x").read_bytes() == NEW
    assert len(list(tmp_path.iterdir())) == 1


def _raising(code: int) -> Callable[..., None]:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.fixture
def umask_027() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask_027")
def test_a_new_file_follows_the_umask_and_a_replaced_one_keeps_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "x"
    write_bytes(target, OLD)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    target.chmod(0o2755)
    write_bytes(target, NEW, overwrite=True)
    assert stat.S_IMODE(target.stat().st_mode) == 0o2755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_keeps_the_owner_of_a_replaced_file(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.write_bytes(OLD)
    os.chown(target, 1234, 2345)
    target.chmod(0o6755)
    write_bytes(target, NEW, overwrite=True)
    result = target.stat()
    assert (result.st_uid, result.st_gid, stat.S_IMODE(result.st_mode)) == (1234, 2345, 0o6755)


def test_a_symbolic_link_is_followed_when_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    real, link = tmp_path / "elsewhere" / "real", tmp_path / "link"
    real.write_bytes(OLD)
    link.symlink_to(real)
    write_bytes(link, NEW, overwrite=True)
    assert link.is_symlink()
    assert real.read_bytes() == NEW
    with pytest.raises(TargetExistsError):
        write_bytes(link, OLD)


def test_a_dangling_link_is_not_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(TargetExistsError):
        write_bytes(tmp_path / "link", NEW)


@pytest.mark.parametrize("name", ["line\nbreak", os.fsdecode(b"\xff\xfe"), "n" * 255, "ü" * 127, " ", "-rf", "*?[a]"])
def test_odd_names_are_written_and_read(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    write_bytes(target, OLD)
    write_bytes(target, NEW, overwrite=True)
    assert read_bytes(target) == NEW
    assert names_in(tmp_path) == [name]
    with pytest.raises(TargetExistsError) as caught:
        write_bytes(target, OLD)
    assert str(caught.value).isprintable()


def test_a_name_that_is_too_long_is_an_expected_error(tmp_path: Path) -> None:
    with pytest.raises(MvtkError, match="cannot write: File name too long"):
        write_bytes(tmp_path / ("n" * 256), NEW)
    assert not list(tmp_path.iterdir())


def special_file(folder: Path, kind: str) -> Path:
    path = folder / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.fspath(path))
    elif kind == "device":
        path.symlink_to(os.devnull)
    elif kind == "loop":
        path.symlink_to(path)
    return path


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "device", "loop"])
def test_only_regular_files_are_replaced(tmp_path: Path, kind: str) -> None:
    target = special_file(tmp_path, kind)
    for check in (lambda: write_bytes(target, NEW, overwrite=True), lambda: require_writable(target)):
        with pytest.raises(MvtkError, match=f"{kind}: not a regular file; name another file to write$"):
            check()
    assert names_in(tmp_path) == [kind]
    assert Path(os.devnull).is_char_device()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("folder", "cannot read: Is a directory; name a file"),
        ("pipe", "not a regular file"),
        ("socket", "cannot read: No such device or address"),
        ("device", "not a regular file"),
        ("loop", "cannot read: Too many levels of symbolic links"),
        ("missing", "cannot read: No such file or directory; check the path"),
    ],
)
def test_reading_anything_but_a_file_is_an_expected_error_that_leaks_nothing(
    tmp_path: Path, kind: str, reason: str
) -> None:
    path = special_file(tmp_path, kind)
    before = names_in(Path("/proc/self/fd"))
    with pytest.raises(MvtkError, match=f"{kind}: {reason}$"):
        read_bytes(path)
    assert names_in(Path("/proc/self/fd")) == before


def test_require_writable_names_a_missing_folder_and_touches_nothing(tmp_path: Path) -> None:
    require_writable(tmp_path / "new.json")
    with pytest.raises(MvtkError, match=r"report\.json: cannot write: the folder .*nowhere does not exist"):
        require_writable(tmp_path / "nowhere" / "report.json")
    assert not list(tmp_path.iterdir())


def test_make_folder_makes_parents_and_refuses_a_file_in_the_way(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b" / "c")
    make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(MvtkError, match=r"/file: exists and is not a folder$"):
        make_folder(tmp_path / "file" / "x")
    with pytest.raises(MvtkError, match=r"/file: exists and is not a folder$"):
        make_folder(tmp_path / "file")


def test_the_names_of_new_folders_are_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync_folder", synced.append)
    make_folder(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]


def test_make_folder_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_folder(Path("a/b"))
    assert (tmp_path / "a" / "b").is_dir()


def temporary_of(pid: int, started: int | None, machine: str | None = None) -> str:
    return f".mvtk-{machine or files._machine()}-{pid}-{started}-0123abcd.tmp"


@pytest.fixture
def ended_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_sweep_removes_what_dead_writers_left_and_nothing_else(tmp_path: Path, ended_pid: int) -> None:
    own = os.getpid()
    day_s = 24 * 3600
    left_over = {
        temporary_of(ended_pid, 5): 0,
        temporary_of(own, (files._start_time(own) or 0) + 1): 0,
        temporary_of(9_999_999_999, 5): 0,
        temporary_of(own, 5, machine="00000000"): day_s + 60,
    }
    kept = {
        temporary_of(own, files._start_time(own)): 2 * day_s,
        temporary_of(own, 5, machine="11111111"): day_s - 60,
        **dict.fromkeys(LOOK_ALIKES, 2 * day_s),
    }
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for number, (name, age_s) in enumerate({**left_over, **kept}.items()):
        path = tmp_path / ("deep/er" if number % 2 else "") / name
        path.touch()
        os.utime(path, (time.time() - age_s, time.time() - age_s))
    (tmp_path / temporary_of(ended_pid, 6)).mkdir()
    (tmp_path / temporary_of(ended_pid, 7)).symlink_to(tmp_path / ".mvtk-lock")

    (tmp_path / "link").symlink_to(tmp_path / ".mvtk-lock")

    assert sweep_leftovers(tmp_path) == len(left_over) + 1  # a link is a file that was to be one
    remaining = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert remaining == {*kept, "link"}
    assert sweep_leftovers(tmp_path / "nowhere") == 0


def test_sweep_does_not_follow_links_out_of_the_folder(tmp_path: Path, ended_pid: int) -> None:
    outside = tmp_path / "outside"
    inside = tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (outside / temporary_of(ended_pid, 5)).touch()
    (inside / "link").symlink_to(outside)
    assert sweep_leftovers(inside) == 0


def test_sweep_survives_another_that_is_faster(tmp_path: Path, ended_pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        (tmp_path / temporary_of(ended_pid, number)).touch()
    really_left_over, seen = files._is_left_over, []

    def first_vanishes(entry: os.DirEntry[str]) -> bool:
        seen.append(entry)
        if len(seen) == 1:
            raise FileNotFoundError(errno.ENOENT, "gone", entry.path)
        return really_left_over(entry)

    monkeypatch.setattr(files, "_is_left_over", first_vanishes)
    assert sweep_leftovers(tmp_path) == 4


def test_a_process_that_proc_hides_counts_as_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_start_time", lambda _pid: None)
    assert files._runs(os.getpid(), 123)
    monkeypatch.setattr(os, "kill", _raising(errno.EPERM))
    assert files._runs(1, 123)
    monkeypatch.setattr(os, "kill", _raising(errno.ESRCH))
    assert not files._runs(1, 123)


WRITER = """
import sys, time
from pathlib import Path
from toolkit.core.files import atomic_write
with atomic_write(Path(sys.argv[1]), overwrite=True) as stream:
    stream.write(b"half")
    stream.flush()
    print("half written", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("waited_for", [True, False], ids=["ended", "zombie"])
def test_a_killed_writer_leaves_the_old_file_and_one_temporary_that_is_swept(tmp_path: Path, waited_for: bool) -> None:
    target = tmp_path / "x"
    target.write_bytes(OLD)
    with subprocess.Popen([sys.executable, "-c", WRITER, target], stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == b"half written\n"
        assert sweep_leftovers(tmp_path) == 0
        writer.kill()
        # Wait until it has ended, without (or with) taking its place in the process table away.
        os.waitid(os.P_PID, writer.pid, os.WEXITED | (0 if waited_for else os.WNOWAIT))
        (temporary,) = [name for name in names_in(tmp_path) if is_temporary(name)]
        assert sweep_leftovers(tmp_path) == 1
    assert target.read_bytes() == OLD
    assert names_in(tmp_path) == ["x"]
    assert temporary


def test_the_names_of_temporaries_are_unique_and_recognised() -> None:
    names = {files.temporary_name() for _ in range(200)}
    assert len(names) == 200
    assert all(map(is_temporary, names))


@given(st.text())
def test_no_other_name_is_taken_for_a_temporary(name: str) -> None:
    assert not is_temporary(name)


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_look_alikes_are_not_ours(name: str) -> None:
    assert not is_temporary(name)
