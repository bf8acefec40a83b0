"""Kill the preparation at any moment, or make any system call fail: a rerun gives the tree of an undisturbed run."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PROJECT
from tests.datasets import tree_hash
from tests.yolo_sources import many, options, prepare
from toolkit.core.driver import run_to_end
from toolkit.core.errors import MvtkError
from toolkit.yolo.preparation.job import PrepareJob

IMAGES = 300
DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return many(tmp_path_factory.mktemp("source") / "in", IMAGES)


def start(root: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "commands.main", "yolo", "prepare", str(root), str(out), "-q", *more]
    return subprocess.Popen(command, cwd=PROJECT)


def placed(out: Path) -> int:
    return sum(1 for _ in (out / "images").rglob("*.jpg"))


def inode_of(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize("link", ["hard", "copy"])
@pytest.mark.parametrize("done_before", [0, 100, 290])
def test_kill_9(root: Path, tmp_path: Path, link: str, done_before: int) -> None:
    out = tmp_path / "out"
    before = tree_hash(root)
    process = start(root, out, "--link", link)
    deadline = time.monotonic() + DEADLINE_S
    while process.poll() is None and not (out.exists() and placed(out) >= done_before):
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    process.kill()
    process.wait()
    assert start(root, out, "--link", link).wait(DEADLINE_S) == 0
    prepare(root, output=tmp_path / "undisturbed", link=link)
    assert tree_hash(out) == tree_hash(tmp_path / "undisturbed")
    assert tree_hash(root) == before


@pytest.mark.parametrize("done_before", [0, 150])
def test_kill_9_while_a_dataset_is_made_anew(root: Path, tmp_path: Path, done_before: int) -> None:
    out = tmp_path / "out"
    prepare(root, output=out)
    process = start(root, out, "--seed", "1", "--link", "copy", "--overwrite")
    deadline = time.monotonic() + DEADLINE_S
    kept = {path: path.stat().st_ino for path in (out / "images").rglob("*.jpg")}

    def replaced() -> int:
        return sum(inode_of(path) != inode for path, inode in kept.items())

    while process.poll() is None and replaced() < done_before:
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    process.kill()
    process.wait()
    assert start(root, out, "--seed", "1", "--link", "copy", "--overwrite").wait(DEADLINE_S) == 0
    prepare(root, output=tmp_path / "undisturbed", seed=1, link="copy")
    assert tree_hash(out) == tree_hash(tmp_path / "undisturbed")


class FailingCall:
    """The system calls that write, of which the one numbered ``fail_at`` (from 0) fails."""

    NAMES = ("open", "link", "symlink", "replace", "rename", "unlink", "fsync", "mkdir", "utime", "rmdir")

    def __init__(self, patch: pytest.MonkeyPatch, fail_at: int, code: int) -> None:
        self.count = 0
        for name in self.NAMES:
            patch.setattr(os, name, self._faulty(getattr(os, name), fail_at, code))

    def _faulty(self, own: Any, fail_at: int, code: int) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            self.count += 1
            if self.count == fail_at + 1:
                raise OSError(
                    code, os.strerror(code), *(name for name in arguments[:1] if isinstance(name, str | Path))
                )
            return own(*arguments, **more)

        return call


@pytest.mark.parametrize(
    ("link", "code"), [("hard", errno.EIO), ("symlink", errno.EIO), ("copy", errno.EIO), ("copy", errno.ENOSPC)]
)
def test_whatever_call_fails_the_next_run_makes_the_same_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: str, code: int
) -> None:
    monkeypatch.setattr(os, "sync", lambda: None)  # a hundred runs would wait for whatever else the machine writes
    root = many(tmp_path / "in", 2)
    prepare(root, output=tmp_path / "undisturbed", link=link)
    expected, before = tree_hash(tmp_path / "undisturbed"), tree_hash(root)
    for fail_at in range(1000):
        out = tmp_path / f"out {fail_at}"
        with pytest.MonkeyPatch.context() as patch:
            system = FailingCall(patch, fail_at, code)
            with suppress(MvtkError):
                run_to_end(PrepareJob(options(root, output=out, link=link)))
        prepare(root, output=out, link=link)
        assert tree_hash(out) == expected, fail_at
        assert tree_hash(root) == before
        if system.count <= fail_at:
            return
    raise AssertionError("it never ended")
