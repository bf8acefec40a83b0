"""The ``mvtk sam`` commands: what flags, configuration files and exit codes promise."""

from __future__ import annotations

import inspect
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from commands import sam_training
from commands.main import run
from tests.sam_datasets import make_dataset
from tests.sam_models import save_tiny_sam
from toolkit.sam.train_options import TrainOptions
from toolkit.sam.training import SamTraining
from toolkit.sam.training_events import EpochReport, Notice, TrainingEvent


def test_every_training_option_is_a_flag() -> None:
    """A run's config.yaml names every option: the command must take each of them."""
    assert TrainOptions.model_fields.keys() <= inspect.signature(sam_training.train).parameters.keys()


def test_the_configuration_of_a_run_makes_the_same_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_dataset(tmp_path / "data", [1, 2, 1], size_hw=(32, 48))
    model = save_tiny_sam(tmp_path / "model")
    first, second = tmp_path / "first", tmp_path / "second"
    choices = [
        "--epochs",
        "1",
        "--min-delta",
        "0.5",
        "--no-stratify",
        "--no-tensorboard",
        "--no-export",
        "--threads",
        "1",
    ]
    choices += ["--final-learning-rate", "0.5", "--lora", "--lora-dropout", "0.1", "--panels", "0", "--device", "cpu"]
    assert run(["sam", "train", str(data), "--model", str(model), "--output", str(first), *choices]) == 0
    assert run(["sam", "train", "--config", str(first / "config.yaml"), "--output", str(second)]) == 0
    assert "error" not in capsys.readouterr().err
    options = [yaml.safe_load((folder / "config.yaml").read_text()) for folder in (first, second)]
    assert options[1] == options[0] | {"output": str(second)}
    assert options[0] | {"min_delta": 0.5, "export": False, "threads": 1, "lora_dropout": 0.1} == options[0]
    assert not (second / "model").exists()


@pytest.mark.parametrize(
    ("event", "what_next"),
    [
        (Notice("encoding"), "run the command again"),
        (EpochReport(0, 0, 0, math.nan, 1, 0, 0, 1), "--resume goes on after the last whole epoch"),
    ],
)
def test_who_interrupts_is_told_how_to_go_on(
    event: TrainingEvent,
    what_next: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(_: SamTraining) -> Iterator[TrainingEvent]:
        os.kill(os.getpid(), signal.SIGINT)
        yield event
        pytest.fail("it goes on")

    monkeypatch.setattr(SamTraining, "run", interrupted)
    assert run(["sam", "train", str(tmp_path), "--output", str(tmp_path / "run")]) == 130
    assert f"interrupted: {what_next}" in capsys.readouterr().err


@pytest.mark.parametrize(("rank", "is_heard"), [("0", True), ("1", False)])
def test_of_a_launchers_processes_only_the_first_speaks(
    rank: str,
    is_heard: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(SamTraining, "run", lambda _: (event for event in [Notice("something")]))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    assert run(["sam", "train", str(tmp_path), "--output", str(tmp_path / "run")]) == 0
    assert ("something" in capsys.readouterr().err) == is_heard
