"""Kill the extraction at any moment: the same command again gives the tree of an undisturbed run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.embryo_archives import Record, snapshot, visible
from toolkit.core.driver import run_to_end
from toolkit.embryo.extraction.extract import ExtractJob, ExtractOptions
from toolkit.embryo.extraction.staging import COMPLETE_NAME, PARTIAL_NAME
from toolkit.embryo.layout import EXTRACTED_NAMES

KILLS = 50
DEADLINE_S = 60.0
Tree = dict[str, tuple[int, bytes, int]]

KILLER = """
# Runs the extraction in forked children; of each, the k-th call that changes the disk is the last.
import os, signal, sys
from pathlib import Path
from toolkit.core.driver import run_to_end
from toolkit.embryo.extraction.extract import ExtractJob, ExtractOptions

CALLS = ("open", "mkdir", "write", "utime", "rename", "replace", "unlink", "rmdir", "fsync", "link")

def counted(name, count):
    original = getattr(os, name)
    def call(*arguments, **options):
        count[0] -= 1
        if not count[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)
    return call

def extract(dest, calls):
    count = [calls]
    for name in CALLS:
        setattr(os, name, counted(name, count))
    run_to_end(ExtractJob(ExtractOptions(archives=Path(sys.argv[1]), dest=Path(dest), workers=0)))
    return calls - count[0]

for line in sys.stdin:
    calls, dest = line.rstrip("\\n").split(" ", 1)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, b"%d" % extract(dest, int(calls)))
        os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), os.read(reader, 20).decode() or 0, flush=True)
    os.close(reader)
"""
RUNNER = """
import sys
from pathlib import Path
from toolkit.core.driver import run_to_end
from toolkit.embryo.extraction.extract import ExtractJob, ExtractOptions
run_to_end(ExtractJob(ExtractOptions(archives=Path(sys.argv[1]), dest=Path(sys.argv[2]), workers=2)))
"""


class Killer:
    """A process that runs extractions and kills each at a chosen system call."""

    def __init__(self, archives: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", KILLER, str(archives)], cwd=PROJECT, stdin=-1, stdout=-1, text=True
        )

    def run(self, dest: Path, calls: int) -> tuple[int, int]:
        """Extract until the call with this number; return the exit status and, of a run that ended, all its calls."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{calls} {dest}\n")
        self._process.stdin.flush()
        status, count = self._process.stdout.readline().split()
        return int(status), int(count)

    def close(self) -> None:
        self._process.communicate(timeout=DEADLINE_S)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    record = Record(tmp_path_factory.mktemp("record"))
    record.write(videos=1, frames=2, growth=0)
    return record


@pytest.fixture(scope="module")
def killer(record: Record) -> Iterator[Killer]:
    killer = Killer(record.archives)
    yield killer
    killer.close()


@pytest.fixture(scope="module")
def undisturbed(record: Record) -> Tree:
    finish(record, record.dest)
    return tree(record.dest)


@pytest.fixture(scope="module")
def calls(record: Record, killer: Killer, undisturbed: Tree) -> int:
    """How many calls an undisturbed run makes."""
    dest = record.root / "counted"
    status, calls = killer.run(dest, 1 << 30)
    assert status == 0
    assert tree(dest) == undisturbed
    assert calls > KILLS
    return calls


def finish(record: Record, dest: Path) -> None:
    report = run_to_end(ExtractJob(ExtractOptions(archives=record.archives, dest=dest, workers=0)))
    assert report.figures.failed == 0


def tree(dest: Path) -> Tree:
    """Everything in a destination; of the note, which comes last, not its time."""
    found = snapshot(dest)
    return {path: (mode, data, 0 if path == COMPLETE_NAME else time) for path, (mode, data, time) in found.items()}


def assert_all_or_nothing(dest: Path) -> None:
    """Before everything is extracted nothing is visible; what is visible is whole."""
    if visible(dest) and (dest / PARTIAL_NAME).exists():
        assert (dest / PARTIAL_NAME / "publishing").exists() or (dest / COMPLETE_NAME).exists()
    if (dest / COMPLETE_NAME).exists():
        assert visible(dest) == sorted(EXTRACTED_NAMES)


@pytest.mark.parametrize("part", range(KILLS))
def test_kill_9_at_a_system_call(
    record: Record, killer: Killer, calls: int, undisturbed: Tree, tmp_path: Path, part: int
) -> None:
    """The kills are spread evenly over the calls of a run, from the first to the last."""
    dest = tmp_path / "dest"
    status, _ = killer.run(dest, 1 + part * (calls - 1) // (KILLS - 1))
    assert status == -signal.SIGKILL
    assert_all_or_nothing(dest)
    finish(record, dest)
    assert tree(dest) == undisturbed


@pytest.mark.parametrize("before_the_end", range(0, 60, 5))
def test_kill_9_while_it_is_published(
    record: Record, killer: Killer, calls: int, undisturbed: Tree, tmp_path: Path, before_the_end: int
) -> None:
    """Twice, as the second run has little left to do: at a call near the end, and at one of the run that goes on."""
    dest = tmp_path / "dest"
    assert killer.run(dest, calls - before_the_end)[0] == -signal.SIGKILL
    assert_all_or_nothing(dest)
    killer.run(dest, 1 + before_the_end)
    assert_all_or_nothing(dest)
    finish(record, dest)
    assert tree(dest) == undisturbed


@pytest.mark.slow
def test_kill_9_at_every_system_call(
    record: Record, killer: Killer, calls: int, undisturbed: Tree, tmp_path: Path
) -> None:
    for number in range(1, calls + 1):
        dest = tmp_path / str(number)
        assert killer.run(dest, number)[0] == -signal.SIGKILL
        assert_all_or_nothing(dest)
        finish(record, dest)
        assert tree(dest) == undisturbed, number


def start(record: Record, dest: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", RUNNER, str(record.archives), str(dest)]
    return subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE)


def errors_of(process: subprocess.Popen[bytes]) -> bytes:
    """Wait for a run's end; return what it says is wrong."""
    return process.communicate(timeout=DEADLINE_S)[1]


def wait_until_finished(dest: Path, archives: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    folder = dest / PARTIAL_NAME / "finished"
    while process.poll() is None and not (folder.is_dir() and len(list(folder.glob("*.json"))) >= archives):
        assert time.monotonic() < deadline
        time.sleep(0.0005)


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, Tree]:
    """Archives on which workers spend some time, and what comes out of them."""
    record = Record(tmp_path_factory.mktemp("larger"))
    record.write(videos=4, frames=12)
    finish(record, record.dest)
    return record, tree(record.dest)


@pytest.mark.parametrize("archives", [1, *(pytest.param(count, marks=pytest.mark.slow) for count in (0, 4, 8))])
def test_kill_9_of_the_driver(larger: tuple[Record, Tree], tmp_path: Path, archives: int) -> None:
    record, expected = larger
    dest = tmp_path / "dest"
    process = start(record, dest)
    wait_until_finished(dest, archives, process)
    process.kill()
    process.communicate()
    time.sleep(0.1)  # the workers end when they notice
    assert_all_or_nothing(dest)
    assert errors_of(start(record, dest)) == b""
    assert tree(dest) == expected


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to find the workers")
def test_kill_9_of_a_worker_is_mended_within_the_run(larger: tuple[Record, Tree], tmp_path: Path) -> None:
    record, expected = larger
    dest = tmp_path / "dest"
    process = start(record, dest)
    wait_until_finished(dest, 2, process)
    if process.poll() is None:
        worker, *_ = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(worker), signal.SIGKILL)
    assert errors_of(process) == b""
    assert tree(dest) == expected


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_ends_it_early_and_it_goes_on(
    larger: tuple[Record, Tree], tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    record, expected = larger
    dest = tmp_path / "dest"
    command = [sys.executable, "-m", "commands.main", "embryo", "extract", str(record.archives), str(dest)]
    process = subprocess.Popen([*command, "--workers", "1", "--quiet"], cwd=PROJECT)
    wait_until_finished(dest, 1, process)
    process.send_signal(signum)
    assert process.wait(DEADLINE_S) == code
    assert visible(dest) == []
    finished = {path.name for path in (dest / PARTIAL_NAME / "finished").iterdir()}
    assert 1 <= len(finished) < 10
    report = run_to_end(ExtractJob(ExtractOptions(archives=record.archives, dest=dest, workers=0)))
    assert report.figures.skipped == len(finished)
    assert tree(dest) == expected


def test_two_at_once(larger: tuple[Record, Tree], tmp_path: Path) -> None:
    record, expected = larger
    dest = tmp_path / "dest"
    first = start(record, dest)
    wait_until_finished(dest, 0, first)
    first.send_signal(signal.SIGSTOP)
    assert b"dest is in use by mvtk embryo extract (process " in errors_of(start(record, dest))
    first.send_signal(signal.SIGCONT)
    assert errors_of(first) == b""
    assert tree(dest) == expected
