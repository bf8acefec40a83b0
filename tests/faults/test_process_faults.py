"""Kill the processing of raw data at any moment: files are whole, a rerun makes them all, and nothing is left over."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from commands.main import run
from tests.conftest import PROJECT
from tests.raw_annotations import RawTree, mixed_tree, numbered_boxes
from toolkit.metadata import outputs
from toolkit.metadata.reading import open_metadata
from toolkit.metadata.verification import check_metadata

DEADLINE_S = 60.0
IMAGES = 4000
"""Of the largest dataset: enough for a run that takes a while when it works image by image."""

linux_only = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to find the workers")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> RawTree:
    """Every format, and one larger dataset."""
    tree = mixed_tree(tmp_path_factory.mktemp("original"), images=20)
    tree.add_csv("detector/large", numbered_boxes(IMAGES))
    assert run(tree.arguments()) == 0
    return tree


@pytest.fixture
def tree(original: RawTree, tmp_path: Path) -> RawTree:
    """The same raw data, of which nothing was made yet."""
    shutil.copytree(original.raw, tmp_path / "raw", copy_function=os.link)
    return RawTree(tmp_path)


def start(tree: RawTree, *more: str, workers: int = 2) -> subprocess.Popen[bytes]:
    """Start a run that works image by image."""
    arguments = tree.arguments("--batch-size", "1", *more, workers=workers)
    return subprocess.Popen([sys.executable, "-m", "commands.main", *arguments], cwd=PROJECT)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while process.poll() is None and not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def parts_bytes(tree: RawTree) -> int:
    """How much of the parts is written."""
    total = 0
    for path in tree.output.glob(".mvtk-parts/*.part"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def assert_whole(tree: RawTree) -> None:
    for path in tree.output.glob("*.npy"):
        assert check_metadata(open_metadata(path)) == []


def assert_finished(tree: RawTree, original: RawTree) -> None:
    """A rerun gives the files of an undisturbed run, and nothing else is there."""
    assert run(tree.arguments()) == 0
    assert tree.files() == original.files()
    assert not list(tree.output.glob(".*"))


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


@pytest.mark.parametrize("written_bytes", [0, 1, 100_000, 400_000])
def test_kill_9_of_the_driver(original: RawTree, tree: RawTree, written_bytes: int) -> None:
    process = start(tree)
    wait_until(lambda: (tree.output / ".mvtk-parts").is_dir() and parts_bytes(tree) >= written_bytes, process)
    process.kill()
    process.wait()
    time.sleep(0.2)  # the workers end when they notice
    assert_whole(tree)
    assert_finished(tree, original)


def test_kill_9_while_files_are_published(original: RawTree, tree: RawTree) -> None:
    process = start(tree, workers=0)
    wait_until(lambda: any(tree.output.glob("*.npy")), process)
    process.kill()
    process.wait()
    assert_whole(tree)
    assert_finished(tree, original)


@linux_only
def test_kill_9_of_a_worker_is_mended_within_the_run(original: RawTree, tree: RawTree) -> None:
    process = start(tree)
    wait_until(lambda: parts_bytes(tree) > 50_000, process)
    for pid in workers_of(process)[:1]:
        os.kill(pid, signal.SIGKILL)
    assert process.wait(DEADLINE_S) == 0
    assert tree.files() == original.files()
    assert not list(tree.output.glob(".*"))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_publishes_all_or_nothing(
    original: RawTree, tree: RawTree, signum: signal.Signals, code: int, workers: int
) -> None:
    report = tree.root / "report.json"
    process = start(tree, "--report", str(report), workers=workers)
    # The datasets come in order of their names: large is under way, and the landmarkers wait.
    wait_until(lambda: parts_bytes(tree) > 20_000, process)
    process.send_signal(signum)
    assert process.wait(DEADLINE_S) == code
    assert '"interrupted": true' in report.read_text()
    assert not list(tree.output.glob(".*"))
    # Two workers may have all that is left under way, which they finish.
    assert tree.files() in ([{}] if workers == 0 else [{}, original.files()])
    assert_finished(tree, original)


def test_a_second_signal_stops_at_once(original: RawTree, tree: RawTree) -> None:
    process = start(tree)
    wait_until(lambda: parts_bytes(tree) > 20_000, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE_S) == 130
    assert_whole(tree)
    assert_finished(tree, original)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("limit_bytes", [1000, 60_000, 130_000])
def test_a_file_that_cannot_grow_is_one_line(original: RawTree, tree: RawTree, limit_bytes: int, workers: int) -> None:
    """The parts, or the files made of them, meet a limit of the system."""
    ended = subprocess.run(
        [sys.executable, "-m", "commands.main", *tree.arguments(workers=workers)],
        cwd=PROJECT,
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes)),
    )
    lines = ended.stderr.splitlines()
    assert ended.returncode in {1, 3}, lines
    assert lines
    assert all("cannot write: File too large" in line for line in lines), lines
    assert_whole(tree)
    shutil.rmtree(tree.output)  # what was made without the datasets that failed is not replaced unasked
    assert_finished(tree, original)


@pytest.mark.parametrize("failing", range(6))
def test_a_full_disk_at_each_publication(
    original: RawTree,
    tree: RawTree,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    failing: int,
) -> None:
    copied: list[BinaryIO] = []
    copy = shutil.copyfileobj

    def copy_or_fail(source: BinaryIO, target: BinaryIO, length: int) -> None:
        copied.append(target)
        if len(copied) == failing + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copy(source, target, length)

    monkeypatch.setattr(outputs.shutil, "copyfileobj", copy_or_fail)
    assert run(tree.arguments()) == 3
    [line] = capsys.readouterr().err.splitlines()
    assert "No space left on device; free some space and run the command again" in line
    assert len(tree.files()) == failing
    assert not list(tree.output.glob(".*"))
    monkeypatch.undo()
    assert_finished(tree, original)


def test_two_runs_at_once(original: RawTree, tree: RawTree) -> None:
    """One of them holds the folder; the other one says so, or comes when the first one is done."""
    processes = [start(tree) for _ in range(2)]
    assert sorted(process.wait(DEADLINE_S) for process in processes) in ([0, 0], [0, 3])
    assert tree.files() == original.files()


def test_raw_data_that_changes_while_it_is_read_is_an_error_or_a_finding(tree: RawTree) -> None:
    process = start(tree, workers=0)
    wait_until(lambda: parts_bytes(tree) > 0, process)
    shutil.rmtree(tree.raw / "landmarker", ignore_errors=True)
    shutil.rmtree(tree.raw / "detector/roads", ignore_errors=True)
    assert process.wait(DEADLINE_S) in {0, 1}
    assert_whole(tree)


@pytest.mark.slow
@linux_only
@pytest.mark.parametrize("round_number", range(12))
def test_kill_9_at_any_moment(original: RawTree, tree: RawTree, round_number: int) -> None:
    for attempt in range(6):
        process = start(tree)
        time.sleep(0.2 + 0.041 * round_number + 0.06 * attempt)
        for pid in (*workers_of(process)[: attempt % 3], process.pid):
            if process.poll() is None:
                os.kill(pid, signal.SIGKILL)
        process.wait()
        assert_whole(tree)
    assert_finished(tree, original)
