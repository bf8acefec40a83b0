"""The commands of ``mvtk yolo`` as processes: what they print and where, what they touch, exit codes, kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PROJECT
from tests.datasets import tree_hash
from tests.yolo_datasets import write_guided_dataset
from tests.yolo_models import save_tiny_checkpoint, write_tiny_yaml
from toolkit.yolo.results import read_history

DEADLINE_S = 240.0
# A test here starts up to three processes that load torch each: on a busy machine that takes minutes.
pytestmark = pytest.mark.timeout(900)

WATCHED = """
import json, os, sys
touched = {"written": set(), "network": [], "started": []}
def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)) and isinstance(arguments[2], int):
        if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            touched["written"].add(os.path.abspath(os.fsdecode(arguments[0])))
    elif event in ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate"):
        named = arguments[1:] if event == "os.symlink" else arguments
        names = [os.fsdecode(name) for name in named if isinstance(name, (str, bytes))]
        # What is relative is relative to an open folder, whose own path was seen when it was opened.
        touched["written"].update(name for name in names if os.path.isabs(name))
    elif event.startswith(("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "urllib.", "http.")):
        touched["network"].append([event, str(arguments)])
    elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"):
        touched["started"].append([event, str(arguments[:2])])
sys.addaudithook(watch)
from commands.main import run
code = run(sys.argv[2:])
with open(sys.argv[1], "w") as stream:
    json.dump({key: sorted(value) for key, value in touched.items()}, stream)
sys.exit(code)
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_guided_dataset(tmp_path / "data")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "tmp").mkdir()
    return tmp_path / "home"


def environment(home: Path) -> dict[str, str]:
    ours = ("YOLO_", "ULTRALYTICS_", "MVTK_", "TORCH", "MPL")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    places = {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "TMPDIR": str(home.parent / "tmp")}
    return {**kept, **places, "PYTHONPATH": str(PROJECT), "COLUMNS": "100", "CUDA_VISIBLE_DEVICES": ""}


def mvtk(home: Path, *arguments: str | Path, watched: Path | None = None) -> subprocess.CompletedProcess[str]:
    program = ["-c", WATCHED, str(watched)] if watched else ["-m", "commands.main"]
    return subprocess.run(
        [sys.executable, *program, *map(str, arguments)],
        cwd=home.parent / "work",
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def fast(*more: str) -> list[str]:
    return ["--imgsz", "64", "--batch", "2", "--device", "cpu", "--set", "warmup_epochs=0", *more]


def test_training_touches_nothing_but_its_folder(data: Path, home: Path, tmp_path: Path) -> None:
    before, watched = tree_hash(data), tmp_path / "touched.json"
    model = write_tiny_yaml(tmp_path)
    done = mvtk(
        home,
        *("yolo", "train", data, "--output", tmp_path / "run", "--model", model, "--epochs", "1", "--cache", "disk"),
        *fast("--report", str(tmp_path / "report.json")),
        watched=watched,
    )
    assert done.returncode == 0, done.stderr
    touched: dict[str, Any] = json.loads(watched.read_text())
    allowed = (str(tmp_path / "run"), str(tmp_path / "tmp"), str(tmp_path / "report.json"), str(watched), "/dev/")
    allowed += (str(tmp_path / ".mvtk-"),)  # the report's temporary file
    assert [path for path in touched["written"] if not path.startswith(allowed) and "__pycache__" not in path] == []
    assert touched["network"] == []
    # matplotlib and ctypes ask for fonts and libraries.
    assert [call for call in touched["started"] if "fc-list" not in call[1] and "ldconfig" not in call[1]] == []
    assert tree_hash(data) == before
    assert list(home.iterdir()) == []
    assert list((tmp_path / "work").iterdir()) == []
    assert list((tmp_path / "tmp").glob("mvtk-*")) == []

    assert done.stdout.startswith(f"mvtk yolo train: 1 of 1 epochs now, in {tmp_path / 'run'}\n")
    assert "marked disc" in done.stdout
    assert "box_loss" in done.stderr
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr
    made = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert made >= {"best.pt", "last.pt", "results.csv", "results.png", "confusion_matrix.png", "config.yaml"}
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["command"], report["exit_code"], report["counts"]["done"]) == ("yolo train", 0, 1)
    assert report["stats"]["final"]["classes"]["marked disc"]["instances"] == 4


def test_a_killed_run_goes_on(data: Path, home: Path, tmp_path: Path) -> None:
    model, run = write_tiny_yaml(tmp_path), tmp_path / "run"
    arguments = ["yolo", "train", str(data), "--output", str(run), "--model", model, "--epochs", "12"]
    arguments += fast("--set", "plots=false")
    for signum, rows in ((signal.SIGKILL, 1), (signal.SIGTERM, 3)):
        process = subprocess.Popen(
            [sys.executable, "-m", "commands.main", *arguments, *(["--resume"] if run.exists() else [])],
            cwd=tmp_path / "work",
            env=environment(home),
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + DEADLINE_S
        while process.poll() is None and len(read_history(run / "results.csv")) < rows + 1:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signum)
        _, errors = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == (-9 if signum == signal.SIGKILL else 143), errors
    assert "interrupted: the same command with --resume goes on after the last whole epoch" in errors
    done = mvtk(home, *arguments, "--resume", "--json", "-q")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["stats"]["epochs"] == 12
    assert 0 < report["counts"]["skipped"] < 12
    assert [row["epoch"] for row in read_history(run / "results.csv")] == list(range(1, 13))
    assert sorted(path.name for path in (run / "weights").iterdir()) == ["best.pt", "last.pt"]
    assert list((tmp_path / "run").glob(".mvtk*")) == []


def test_validation_and_prediction_and_export(data: Path, home: Path, tmp_path: Path) -> None:
    weights = save_tiny_checkpoint(tmp_path / "best.pt", channels=4, eager=True)
    val = mvtk(home, "yolo", "val", data, "--model", weights, "--output", tmp_path / "val", *fast()[:6], "--json")
    assert val.returncode == 0, val.stderr
    assert json.loads(val.stdout)["stats"]["scores"]["classes"]["marked disc"]["instances"] == 4
    assert {path.name for path in (tmp_path / "val").iterdir()} >= {"metrics.csv", "confusion_matrix.png"}
    predicted = mvtk(home, "yolo", "predict", data / "images/val", "--model", weights, "--output", tmp_path / "out")
    assert predicted.returncode == 0, predicted.stderr
    assert "predictions.json: 2 images" in predicted.stdout
    exported = mvtk(home, "yolo", "export", "--model", weights, "--output", tmp_path / "a.onnx")
    assert exported.returncode == 0, exported.stderr
    assert (exported.stdout, exported.stderr.count("\n")) == ("", 1)
    assert exported.stderr.startswith(f"{tmp_path / 'a.onnx'}: 4 channels of 64 x 64 pixels, ")


def test_exit_codes(data: Path, home: Path, tmp_path: Path) -> None:
    (data / "labels/train/0000.txt").write_text("5 0.5 0.5 0.1 0.1\n")
    run = tmp_path / "run"
    wrong = mvtk(home, "yolo", "train", data, "--output", run, "--report", tmp_path / "report.json")
    assert (wrong.returncode, wrong.stdout) == (3, "")
    assert "labels/train/0000.txt:1: class '5' is beyond the 1 name" in wrong.stderr
    assert json.loads((tmp_path / "report.json").read_text())["exit_code"] == 3
    usage = mvtk(home, "yolo", "train", data, "--output", run, "--imgsz", "63")
    assert (usage.returncode, usage.stderr.count("\n")) == (2, 1)
    (tmp_path / "config.yaml").write_text("set: [mosiac=0]\nepochs: 1\n")
    (data / "labels/train/0000.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    setting = mvtk(home, "yolo", "train", data, "--output", run, "--config", tmp_path / "config.yaml")
    assert setting.returncode == 2
    assert "did you mean mosaic?" in setting.stderr
    assert not run.exists()
