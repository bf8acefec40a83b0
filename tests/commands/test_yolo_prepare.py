from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from commands.main import run
from tests.datasets import tree_hash
from tests.yolo_sources import add, images_in, many


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return many(tmp_path / "in", 6)


def prepare(*more: str) -> int:
    return run(["yolo", "prepare", "in", "out", *more])


def test_a_person_sees_what_each_split_has(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(root, "images/bare.jpg", None)
    assert prepare("--val", "0.5", "--log", "log.txt") == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "mvtk yolo prepare"
    assert lines[-3].startswith("train: ")
    assert lines[-2].startswith("val: ")
    assert lines[-1] == "1 image without a label file: background, such as images/bare.jpg"
    assert err == ""
    log = Path("log.txt").read_text().splitlines()
    assert log[0].startswith("[OK] 1/7 images/bare.jpg target=images/")
    assert log[0].endswith(" how=hard")


def test_json_is_the_report(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare("--json", "--report", "report.json", "--test", "0.2", "--seed", "4") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(Path("report.json").read_text())
    assert printed["options"]["test"] == 0.2
    assert printed["stats"]["splits"].keys() == {"train", "val", "test"}
    assert printed["counts"]["done"] == 6


def test_a_configuration_file_gives_the_options(root: Path) -> None:
    Path("prepare.yaml").write_text("source: in\noutput: from-file\nval: 0.5\nlink: copy\ngroup-by: frame_(.)\n")
    assert run(["yolo", "prepare", "--config", "prepare.yaml", "-q"]) == 0
    assert len(set(images_in(Path("from-file")).values())) == 1  # all of one group
    assert run(["yolo", "prepare", "in", "other", "--config", "prepare.yaml", "--group-by", "_(.*)", "-q"]) == 0
    assert len(set(images_in(Path("other")).values())) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--val", "1.5"], 2, "--val: "),
        (["--val", "0.9", "--test", "0.1"], 2, "--val 0.9 and --test 0.1 leave nothing for training"),
        (["--group-by", "("], 2, "--group-by: not a regular expression"),
        (["--link", "soft"], 2, "--link"),
        (["--labels-from", "boxes"], 3, "in: no folder boxes/; there is data.yaml, images/, labels/"),
        (["--group-by", "patient"], 3, "error: in: --group-by 'patient' matches no image's path, such as images/frame"),
        (["--names-yaml", "none.yaml"], 3, "error: in: none.yaml: cannot read: No such file"),
    ],
)
def test_wrong_options(
    root: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    before = tree_hash(root.parent)
    assert prepare(*arguments) == code
    assert said in capsys.readouterr().err
    assert tree_hash(root.parent) == before


def test_every_problem_is_a_line_and_exit_3(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(root, "images/a\n.jpg", "9 0.5 0.5 0.1 0.1\n")
    add(root, "images/b.jpg", "0 0.5\n")
    assert prepare("--report", "report.json") == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == r"error: in: labels/a\n.txt:1: class '9' is beyond the 2 names"
    assert lines[1].startswith("error: in: labels/b.txt:1: 2 fields: ")
    assert len(lines) == 2
    assert not Path("out").exists()


def test_output_in_the_source_is_wrong_usage(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["yolo", "prepare", "in", "in/out"]) == 2
    assert capsys.readouterr().err == "error: the output in/out lies in the source in; name another folder\n"


def test_a_label_that_changed_gives_exit_1_and_overwrite_mends_it(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare("-q") == 0
    (root / "labels/frame_002.txt").write_text("")
    assert prepare("-q") == 1
    assert capsys.readouterr().err.startswith("error: images/frame_002.jpg: out/labels/train/frame_002.txt exists with")
    assert prepare("-q", "--overwrite") == 0
    assert prepare("-q", "--val", "0.4") == 3
    assert "out: was made with --val 0.2; use --overwrite" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_that_cannot_be_written(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir(mode=0o500)
    assert prepare() == 3
    assert "out: cannot work in the folder: Permission denied; check the permissions" in capsys.readouterr().err


def test_help_fits_a_narrow_terminal_and_names_what_is_linked() -> None:
    environment = {**os.environ, "COLUMNS": "40"}
    command = [sys.executable, "-m", "commands.main", "yolo", "prepare", "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 40
    assert "No mvtk command writes through a link" in " ".join(done.stdout.split())
