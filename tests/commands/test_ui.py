"""What a person and a script see of a batch: table, JSON, report, log, progress, and where each goes."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from commands import consoles, main, progress, ui
from commands.options import OutputOptions
from tests.commands.sample_app import app
from tests.toolkit.core.sample_jobs import SampleJob, SampleOptions
from toolkit.core.batch import Figures, Gauge, Outcome
from toolkit.core.driver import JobRun
from toolkit.core.report import Report

SAMPLE = [sys.executable, "-m", "tests.commands.sample_app"]
ESCAPE = "\x1b"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run the sample job on ``names``; return the exit code, standard output and standard error."""
    monkeypatch.setattr(main, "app", app)

    def call(names: str, *arguments: str) -> tuple[int, str, str]:
        folder = tmp_path / "work"
        folder.mkdir(exist_ok=True)
        code = main.run(["run", "--folder", str(folder), "--names", names, "--workers", "0", *arguments])
        return code, *capsys.readouterr()

    return call


def test_the_table_counts_and_says_why(run: Run) -> None:
    code, output, errors = run("ok:1,skip:1,skip:2,fail:1")
    assert code == 1
    assert re.search(r"^ done +1 +in .*a second *$", output, re.MULTILINE)
    assert re.search(r"^ skipped +2 +already done *$", output, re.MULTILINE)
    assert re.search(r"^ failed +1 +errors *$", output, re.MULTILINE)
    assert re.search(r"^ total +4 *$", output, re.MULTILINE)
    assert errors == "error: fail:1: fail:1: not good; mend it\n"


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ("ok:1", 0),
        ("skip:1", 0),
        ("", 0),
        ("fail:1", 1),
        ("bug:1,fail:1", 4),
        (",".join(f"bug:{number}" for number in range(20)), 4),
        ("plan-bug", 4),
        ("full:1", 3),
        ("plan-error", 3),
    ],
)
def test_the_exit_code_and_the_report_agree(run: Run, tmp_path: Path, names: str, code: int) -> None:
    report = tmp_path / "report.json"
    assert run(names, "--report", str(report))[0] == code
    content = json.loads(report.read_text())
    assert content["exit_code"] == code
    counts = content["counts"]
    assert counts["total"] == counts["done"] + counts["skipped"] + counts["failed"]


def test_json_is_the_report_on_standard_output(run: Run, tmp_path: Path) -> None:
    code, output, errors = run("ok:1,fail:1", "--json", "--report", str(tmp_path / "report.json"))
    assert code == 1
    assert output == (tmp_path / "report.json").read_text()
    assert "fail:1" in errors


def test_quiet_leaves_the_errors(run: Run) -> None:
    code, output, errors = run("ok:1,fail:1,bug:1", "--quiet")
    assert (code, output) == (4, "")
    *items, bug = errors.splitlines()
    assert items == [
        "error: fail:1: fail:1: not good; mend it",
        r"error: bug:1: unexpected ValueError: bad \x1b value in",
    ]
    match = re.fullmatch(
        r"bug: 1 item failed unexpectedly; the traceback is in (\S+); please report it with that file", bug
    )
    assert match
    saved = Path(match[1])
    assert "ValueError" in saved.read_text()
    saved.unlink()


def test_verbose_is_one_line_an_item(run: Run) -> None:
    errors = run("ok:1,skip:1,fail:1", "--verbose")[2]
    assert errors.splitlines() == ["ok:1: done", "skip:1: already done", "fail:1: fail:1: not good; mend it"]


def test_the_log_has_every_item_and_the_tracebacks(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    errors = run("ok:1,skip:1,bug:1", "--log", str(log))[2]
    lines = [line for line in log.read_text().splitlines() if not line.startswith("    ")]
    assert [line.split(" ")[:3] for line in lines] == [
        ["[OK]", "1/?", "ok:1"],
        ["[SKIP]", "2/?", "skip:1"],
        ["[ERR]", "3/?", "bug:1"],
    ]
    assert "    Traceback (most recent call last):" in log.read_text()
    assert f"{log} has the tracebacks" in errors


def test_only_the_first_errors_are_shown(run: Run) -> None:
    errors = run(",".join(f"fail:{number}" for number in range(30)))[2].splitlines()
    assert len(errors) == ui.MAX_ERRORS_SHOWN + 1
    assert errors[-1] == "further errors are counted only; --log FILE has all of them"


def test_a_dry_run_says_what_it_would_do(run: Run, tmp_path: Path) -> None:
    code, output, _ = run("ok:1,skip:1", "--dry-run", "--report", str(tmp_path / "report.json"))
    assert code == 0
    assert "(dry run)" in output
    assert re.search(r"^ would do +1 *$", output, re.MULTILINE)
    assert not list((tmp_path / "work").iterdir())
    assert json.loads((tmp_path / "report.json").read_text())["counts"]["done"] == 1


def test_max_files_is_said_to_be_not_complete(run: Run) -> None:
    assert re.search(r"^ total +1 +not complete *$", run("ok:1,ok:2", "--max-files", "1")[1], re.MULTILINE)


@pytest.mark.parametrize("option", ["--report", "--log"])
def test_an_output_that_cannot_be_written_is_said_before_the_work(run: Run, tmp_path: Path, option: str) -> None:
    code, output, errors = run("ok:1", option, str(tmp_path / "nowhere" / "file"))
    assert (code, output) == (3, "")
    assert re.fullmatch(r"error: \S+/nowhere/file: cannot write.*\n", errors)
    assert not list((tmp_path / "work").iterdir())


def test_names_never_reach_the_terminal_as_markup_or_escapes(run: Run) -> None:
    _, output, errors = run("fail:[red]x[/]\x1b[31m\n\udcff")
    assert errors.startswith(r"error: fail:[red]x[/]\x1b[31m\n\udcff: ")
    assert ESCAPE not in output + errors


def test_warnings_and_reasons_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Remarking(SampleJob):
        def watch(self, outcome: Outcome) -> Outcome:
            if outcome.source == "ok:1":
                return Outcome.skipped("ok:1", "mode [bold] \\[x]")
            return Outcome.done(outcome.source, warnings=("EXIF [rotation] ignored",))

    job = Remarking(SampleOptions(folder=tmp_path, names=("ok:1", "ok:2", "ok:3"), workers=0))
    with pytest.raises(Exception, match="0"):
        ui.run_batch(job, OutputOptions())
    output, errors = capsys.readouterr()
    assert errors == "warning: EXIF [rotation] ignored (2 items)\n"
    assert "mode [bold] \\[x]" in output


def sample(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*SAMPLE, "run", "--folder", str(folder), "--workers", "0", *arguments],
        capture_output=True,
        env=os.environ | environment,
        check=False,
    )


@pytest.mark.parametrize("columns", ["20", "40", pytest.param("200", marks=pytest.mark.slow)])
def test_a_narrow_terminal_keeps_the_numbers(tmp_path: Path, columns: str) -> None:
    names = ",".join(["ok:1"] + [f"skip:{number}" for number in range(1234)])
    result = sample(tmp_path, "--names", names, COLUMNS=columns)
    assert result.returncode == 0
    assert b" 1,234 " in result.stdout
    assert b" 1,235 " in result.stdout
    assert ESCAPE.encode() not in result.stdout + result.stderr


def test_a_terminal_that_speaks_only_ascii_will_do(tmp_path: Path) -> None:
    result = sample(tmp_path, "--names", "ok:ü,fail:日,skip:1", COLUMNS="20", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert result.returncode == 1, result.stderr
    assert b"fail:\\u65e5" in result.stderr


def on_a_terminal(folder: Path, *arguments: str, **environment: str) -> str:
    """Run the sample job with standard error on a terminal; return what that terminal received."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*SAMPLE, "run", "--folder", str(folder), "--workers", "0", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "60"} | environment,
    )
    os.close(theirs)
    received = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not part:
            break
        received += part
    os.close(ours)
    assert process.wait() == 1
    return received.decode()


def test_a_terminal_gets_a_bar_and_colours(tmp_path: Path) -> None:
    received = on_a_terminal(tmp_path, "--names", "sleep:1,fail:1")
    assert "sample run" in received
    assert f"{ESCAPE}[31merror: fail:1" in received


def test_no_color_is_honoured(tmp_path: Path) -> None:
    received = on_a_terminal(tmp_path, "--names", "sleep:1,fail:1", NO_COLOR="1")
    assert not re.search(rf"{ESCAPE}\[[0-9;]*3[0-9]", received)
    assert "error: fail:1" in received


@pytest.mark.parametrize("arguments", [["--json"], ["--verbose"]])
def test_the_work_goes_on_when_its_readers_have_gone(tmp_path: Path, arguments: list[str]) -> None:
    names = ",".join(f"ok:{number}" for number in range(20))
    process = subprocess.Popen(
        [*SAMPLE, "run", "--folder", str(tmp_path), "--workers", "0", "--names", names, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout
    process.stdout.close()
    assert process.wait() == 0
    assert len(list(tmp_path.glob("*.done"))) == 20


def test_progress_in_a_file_is_lines_at_a_bounded_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr("commands.progress.time.monotonic", lambda: now_s)
    stream = io.StringIO()
    view = progress._PlainProgress(Console(file=stream, width=20), "edges update")
    figures = Figures()
    for _ in range(1000):
        now_s += 0.1
        figures.done += 1
        view.advance(figures, 2000)
    view.advance(figures, None)
    lines = stream.getvalue().splitlines()
    assert 9 <= len(lines) <= 10
    assert re.fullmatch(
        r"edges update: [\d,]+/2,000 \(0 skipped, 0 failed\), 10\.0 a second, \d:\d\d min left", lines[0]
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1:00 min"), (3599.6, "1:00:00"), (90061, "25:01:01")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert consoles.duration(seconds) == text


class _GaugedRun:
    """What the progress views see of a run whose job has a gauge."""

    has_gauge = True
    total = 10

    def __init__(self) -> None:
        self.report = Report("embryo extract", {})
        self.reading = Gauge(250, 1000, 7)

    def gauge(self) -> Gauge:
        return self.reading


def test_a_gauge_is_drawn_in_bytes_and_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    with progress.shown_progress(console, OutputOptions(), cast("JobRun[Any]", _GaugedRun())) as view:
        time.sleep(0.3)
        view.stopping()
        time.sleep(0.3)
    assert "0.2/1.0 kB" in re.sub(r"\x1b\[[^m]*m", "", stream.getvalue())
    assert "7 files" in stream.getvalue()
    assert "stopping" in stream.getvalue()


def test_a_gauge_in_a_file_is_lines_at_a_bounded_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PLAIN_INTERVAL_S", 0.05)
    stream = io.StringIO()
    with progress.shown_progress(Console(file=stream, width=20), OutputOptions(), cast("JobRun[Any]", _GaugedRun())):
        time.sleep(0.3)
    lines = stream.getvalue().splitlines()
    assert 1 <= len(lines) <= 7
    assert re.match(r"embryo extract: 250 bytes/1\.0 kB, 7 files, [\d.,]+ \w+ a second, ", lines[0])
