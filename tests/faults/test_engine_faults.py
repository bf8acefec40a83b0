"""Signals and sudden death of a whole run, from outside: what stays, what is written, and that nobody is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from toolkit.core.files import is_temporary, sweep_leftovers

PROJECT = Path(__file__).resolve().parents[2]
SAMPLE = [sys.executable, "-m", "tests.commands.sample_app", "run"]


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.005)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


@contextmanager
def sample_run(folder: Path, names: str, *, workers: int = 2) -> Iterator[subprocess.Popen[str]]:
    """Run the sample job in a process group of its own for the block; afterwards nobody of it may be left."""
    folder.mkdir(exist_ok=True)
    report = folder.parent / "report.json"
    arguments = [*SAMPLE, "--folder", folder, "--names", names, "--workers", str(workers), "--report", report]
    process = subprocess.Popen(
        arguments, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
        _, errors = process.communicate(timeout=60)
        assert "Traceback" not in errors
        members = [int(path.name) for path in Path("/proc").glob("[0-9]*") if _group_of(path) == process.pid]
        wait_until(lambda: not any(map(runs, members)))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _group_of(process_folder: Path) -> int:
    try:
        return os.getpgid(int(process_folder.name))
    except ProcessLookupError:
        return -1


def began(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.began")}


def done(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.done")}


def report_of(folder: Path) -> dict[str, object]:
    content = json.loads((folder.parent / "report.json").read_text())
    assert isinstance(content, dict)
    return content


SLEEPS = ",".join(f"sleep:{number}" for number in range(100))


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("whole_group", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["driver", "group"])
def test_the_first_signal_finishes_what_is_under_way(
    tmp_path: Path, signum: int, code: int, workers: int, whole_group: bool
) -> None:
    folder = tmp_path / "work"
    with sample_run(folder, SLEEPS, workers=workers) as process:
        wait_until(lambda: bool(began(folder)))
        (os.killpg if whole_group else os.kill)(process.pid, signum)
    assert process.returncode == code
    assert done(folder) == began(folder)
    assert not any(is_temporary(path.name) for path in folder.iterdir())
    report = report_of(folder)
    assert report["interrupted"] is True
    assert report["exit_code"] == code
    assert report["counts"] == {"total": len(done(folder)), "done": len(done(folder)), "skipped": 0, "failed": 0}
    assert (folder / "finished").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_second_signal_ends_at_once(tmp_path: Path, workers: int) -> None:
    folder = tmp_path / "work"
    with sample_run(folder, "forever:1,forever:2,ok:1", workers=workers) as process:
        wait_until(lambda: bool(began(folder)))
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
    assert process.returncode == 143
    assert report_of(folder)["interrupted"] is True
    assert not any(name.startswith("forever") for name in done(folder))


@pytest.mark.parametrize(
    "delay_s", [0.05, *(pytest.param(delay_s, marks=pytest.mark.slow) for delay_s in (0, 0.1, 0.2))]
)
def test_a_signal_to_everybody_while_workers_start_is_heard_once(tmp_path: Path, delay_s: float) -> None:
    folder = tmp_path / "work"
    with sample_run(folder, SLEEPS, workers=4) as process:
        wait_until(lambda: bool(children_of(process.pid)))
        time.sleep(delay_s)
        os.killpg(process.pid, signal.SIGINT)
    assert process.returncode == 130
    assert done(folder) == began(folder)
    counts = report_of(folder)["counts"]
    assert isinstance(counts, dict)
    assert counts["failed"] == 0


@pytest.mark.parametrize("names", ["forever:1,forever:2", SLEEPS], ids=["long items", "short items"])
def test_workers_die_with_a_killed_driver_and_leave_nothing_that_is_not_swept(tmp_path: Path, names: str) -> None:
    folder = tmp_path / "work"
    with sample_run(folder, names) as process:
        wait_until(lambda: len(began(folder)) >= 2)
        workers = children_of(process.pid)
        process.kill()
        process.wait()
        wait_until(lambda: not any(map(runs, workers)))
    assert len(workers) == 2
    sweep_leftovers(folder)
    assert not any(is_temporary(path.name) for path in folder.iterdir())
    for path in folder.glob("*.done"):
        assert path.read_bytes() == b"whole"


def test_a_killed_worker_costs_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    names = [f"sleep:{number}" for number in range(6)]
    with sample_run(folder, ",".join(names)) as process:
        wait_until(lambda: len(began(folder)) >= 2)
        os.kill(children_of(process.pid)[0], signal.SIGKILL)
    assert process.returncode == 0
    assert done(folder) == set(names)
    assert report_of(folder)["counts"] == {"total": 6, "done": 6, "skipped": 0, "failed": 0}


CALLER = """
from pathlib import Path
from toolkit.core import engines
from tests.toolkit.core.sample_jobs import Acting, items
for outcome in engines.run(Acting(Path({folder!r})), items(["ok:1", "ok:2"]), devices=("cpu", "cpu")):
    print(outcome.source, outcome.status)
"""


@pytest.mark.parametrize(
    "how", ["-c", pytest.param("stdin", marks=pytest.mark.slow), pytest.param("script", marks=pytest.mark.slow)]
)
def test_callers_need_no_main_guard(tmp_path: Path, how: str) -> None:
    code = CALLER.format(folder=str(tmp_path))
    (tmp_path / "caller.py").write_text(code)
    arguments = {"-c": ["-c", code], "stdin": ["-"], "script": [str(tmp_path / "caller.py")]}[how]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    result = subprocess.run(
        [sys.executable, *arguments],
        input=code,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert result.stderr == ""
    assert sorted(result.stdout.splitlines()) == ["ok:1 done", "ok:2 done"]


def test_a_step_of_the_caller_s_main_module_is_refused_in_words(tmp_path: Path) -> None:
    code = """
from toolkit.core import engines
from tests.toolkit.core.sample_jobs import Idle, items
class Mine(Idle):
    pass
list(engines.run(Mine(), items("a"), devices=("cpu",)))
"""
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert result.returncode == 1
    assert "BugError: a worker cannot take the work: AttributeError: " in result.stderr.splitlines()[-1]


def test_a_folder_with_files_called_like_modules_does_no_harm(tmp_path: Path) -> None:
    for name in ("random", "signal", "pickle", "numpy", "toolkit", "subprocess"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported by mistake')\n")
    # As the installed command starts: its own folder, not the current one, comes first.
    code = f"import sys; sys.path[0] = {str(PROJECT)!r}; from tests.commands.sample_app import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, "run", "--folder", ".", "--names", "ok:1,ok:2", "--workers", "2"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert done(tmp_path) == {"ok:1", "ok:2"}
