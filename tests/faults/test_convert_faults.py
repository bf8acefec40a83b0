"""Kill the conversion at any moment: a rerun gives the tree of an undisturbed run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commands.main import run
from tests.datasets import Inputs, many, tree_hash

PAIRS = 40
SIDE_PX = 160
DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    inputs = Inputs(tmp_path_factory.mktemp("inputs"))
    many(inputs, PAIRS, side=SIDE_PX)
    return inputs


@pytest.fixture(scope="module")
def undisturbed(inputs: Inputs) -> str:
    assert run(inputs.arguments("--workers", "0", "--quiet")) == 0
    return tree_hash(inputs.output)


def start(inputs: Inputs, output: Path, *more: str) -> subprocess.Popen[bytes]:
    arguments = inputs.arguments("--workers", "2", "--quiet", *more)
    arguments[arguments.index("--output-root") + 1] = str(output)
    return subprocess.Popen([sys.executable, "-m", "commands.main", *arguments], cwd=Path(__file__).parents[2])


def finished(output: Path) -> int:
    return sum(1 for _ in output.rglob("*.npz"))


def wait_for(condition: object, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while process.poll() is None and not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.001)


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def runs(pid: int) -> bool:
    """Whether a process does anything still; a dead one may wait for its parent to notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def rerun(inputs: Inputs, output: Path) -> None:
    assert start(inputs, output).wait(DEADLINE_S) == 0


@pytest.mark.parametrize("done_before", [0, 1, 7, 20, 39])
def test_kill_9_of_the_driver(inputs: Inputs, undisturbed: str, tmp_path: Path, done_before: int) -> None:
    output = tmp_path / "out"
    process = start(inputs, output)
    wait_for(lambda: output.exists() and finished(output) >= done_before, process)
    workers = children(process.pid) if process.poll() is None else []
    process.kill()
    process.wait()
    rerun(inputs, output)
    assert tree_hash(output) == undisturbed
    deadline = time.monotonic() + DEADLINE_S
    while any(runs(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to find the workers")
@pytest.mark.parametrize("done_before", [1, 20])
def test_kill_9_of_a_worker_is_mended_within_the_run(
    inputs: Inputs, undisturbed: str, tmp_path: Path, done_before: int
) -> None:
    output = tmp_path / "out"
    process = start(inputs, output)
    wait_for(lambda: output.exists() and finished(output) >= done_before, process)
    for worker in children(process.pid)[:1]:
        os.kill(worker, signal.SIGKILL)
    assert process.wait(DEADLINE_S) == 0
    assert finished(output) == PAIRS
    rerun(inputs, output)  # sweeps the temporary file that the killed worker may have left
    assert tree_hash(output) == undisturbed


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_nothing_half_written(
    inputs: Inputs, undisturbed: str, tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    output, report = tmp_path / "out", tmp_path / "report.json"
    process = start(inputs, output, "--report", str(report))
    wait_for(lambda: output.exists() and finished(output) >= 3, process)
    process.send_signal(signum)
    assert process.wait(DEADLINE_S) == code
    assert '"interrupted": true' in report.read_text()
    names = [path.name for path in output.rglob("*") if path.is_file()]
    assert not [name for name in names if name.startswith(".")]
    rerun(inputs, output)
    assert tree_hash(output) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("round_number", range(12))
def test_kill_9_at_any_moment(inputs: Inputs, undisturbed: str, tmp_path: Path, round_number: int) -> None:
    """The driver and its workers are killed again and again, each time a little later, until a run gets through."""
    output = tmp_path / "out"
    for attempt in range(8):
        process = start(inputs, output)
        time.sleep(0.15 + 0.037 * round_number + 0.05 * attempt)
        for pid in (*children(process.pid)[: attempt % 2], process.pid) if process.poll() is None else ():
            os.kill(pid, signal.SIGKILL)
        process.wait()
    rerun(inputs, output)
    assert tree_hash(output) == undisturbed
