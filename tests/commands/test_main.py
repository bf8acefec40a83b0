"""The error boundary: one line, where the traceback is, and the exit code of the contract."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from commands import main
from tests.commands.sample_app import app

Run = Callable[..., tuple[int, str]]
Result = subprocess.CompletedProcess[str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run a command line of the sample application; return its exit code and what it wrote to standard error."""
    monkeypatch.setattr(main, "app", app)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("MVTK_DEBUG", raising=False)

    def call(*arguments: str) -> tuple[int, str]:
        code = main.run(arguments)
        output = capsys.readouterr()
        assert output.out == ""
        return code, output.err

    return call


@pytest.mark.parametrize(
    ("kind", "code", "text"),
    [
        ("extra", 3, "error: torch is not installed; install it in mvtk's folder with: pip install '.[torch]'\n"),
        (
            "problems",
            3,
            "error: mapping.json: a is missing\nerror: mapping.json: b\\nis missing\nmend both\n",
        ),
        (
            "library",
            3,
            (
                "error: the system library libGL.so.1 is missing; install it (Debian, Ubuntu: apt-get install libgl1),"
                " or use opencv-python-headless\n"
            ),
        ),
        (
            "full",
            3,
            (
                "error: standard output: cannot write: No space left on device;"
                " free some space and run the command again\n"
            ),
        ),
        ("interrupt", 130, ""),
    ],
)
def test_expected_trouble_is_one_line(run: Run, kind: str, code: int, text: str) -> None:
    assert run("trouble", kind) == (code, text)


@pytest.mark.parametrize(
    ("kind", "line", "traceback"),
    [
        ("bug", r"bug: ZeroDivisionError: surprise\\nin two lines; ", "raise errors[kind]"),
        ("worker-bug", "bug: a.png: surprise; ", "the worker's traceback"),
        ("import", "bug: ImportError: cannot import name 'x'; ", "raise errors[kind]"),
    ],
)
def test_a_bug_is_one_line_and_a_file(run: Run, kind: str, line: str, traceback: str) -> None:
    code, text = run("trouble", kind)
    match = re.fullmatch(line + r"the traceback is in (\S+); please report it with that file\n", text)
    assert code == 4
    assert match, text
    assert traceback in Path(match[1]).read_text()


def test_a_bug_is_reported_where_no_file_can_be_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    code, text = run("trouble", "bug")
    assert code == 4
    assert "raise errors[kind]" in text
    assert text.endswith("; please report it with the traceback above\n")


@pytest.mark.parametrize(("kind", "code"), [("extra", 3), ("bug", 4), ("worker-bug", 4)])
def test_debugging_shows_the_traceback_and_keeps_the_exit_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, kind: str, code: int
) -> None:
    monkeypatch.setenv("MVTK_DEBUG", "1")
    result, text = run("trouble", kind)
    assert result == code
    assert text.startswith("Traceback (most recent call last)")


@pytest.mark.parametrize("arguments", [["nonsense"], ["run"], ["trouble", "a", "b"]])
def test_wrong_usage_keeps_typer_s_form(run: Run, arguments: list[str]) -> None:
    code, text = run(*arguments)
    assert code == 2
    assert text.startswith("Usage: ")


def test_a_missing_configuration_file_is_missing_input(run: Run, tmp_path: Path) -> None:
    code, text = run("show", "--config", str(tmp_path / "none.yaml"))
    assert (code, text) == (
        3,
        f"error: {tmp_path / 'none.yaml'}: cannot read: No such file or directory; check the path\n",
    )


BUFFERED = {**os.environ, "PYTHONUNBUFFERED": ""}
UNBUFFERED = {**os.environ, "PYTHONUNBUFFERED": "1"}


def mvtk(*arguments: str, environment: dict[str, str] | None = None, stdout: int | IO[str] = subprocess.PIPE) -> Result:
    return subprocess.run(
        [sys.executable, "-m", "commands.main", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        check=False,
    )


@pytest.mark.parametrize(
    "environment",
    [pytest.param(BUFFERED, id="buffered"), pytest.param(UNBUFFERED, id="unbuffered", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("arguments", [["doctor"], ["doctor", "--json"]], ids=" ".join)
def test_a_reader_that_goes_away_is_no_trouble(environment: dict[str, str], arguments: list[str]) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "w") as pipe:
        result = mvtk(*arguments, environment=environment, stdout=pipe)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    "environment",
    [pytest.param(BUFFERED, id="buffered"), pytest.param(UNBUFFERED, id="unbuffered", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("arguments", [["doctor"], ["doctor", "--json"], ["--version"]], ids=" ".join)
def test_a_full_disk_behind_standard_output_is_expected_trouble(
    environment: dict[str, str], arguments: list[str]
) -> None:
    with Path("/dev/full").open("w") as full:
        result = mvtk(*arguments, environment=environment, stdout=full)
    assert result.returncode == 3
    assert result.stderr.startswith("error: standard output: cannot write: No space left on device;")
    assert result.stderr.count("\n") == 1


def test_the_version_is_on_standard_output() -> None:
    result = mvtk("--version")
    assert re.fullmatch(r"mvtk \d+\.\d+\.\d+\S*\n", result.stdout)
    assert (result.returncode, result.stderr) == (0, "")


def test_doctor_names_the_folder_as_it_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "[red]x y\n"
    folder.mkdir()
    result = mvtk("doctor", str(folder))
    assert result.returncode == 0
    assert r"/[red]xy\n:" in "".join(result.stdout.split())


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_closed_standard_streams_do_no_harm(tmp_path: Path, closed: str) -> None:
    report = tmp_path / "report.json"
    (tmp_path / "bad.npz").write_bytes(b"not an NPZ file")
    command = f"exec {sys.executable} -m commands.main npz verify {tmp_path} --workers 1 --report {report} {closed}"
    result = subprocess.run(["sh", "-c", command], cwd=Path(__file__).parents[2], capture_output=True, check=False)
    assert result.returncode == 1
    assert b"Traceback" not in result.stderr
    assert json.loads(report.read_text())["counts"]["failed"] == 1
