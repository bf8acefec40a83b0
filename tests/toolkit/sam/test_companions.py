"""Two processes train as one does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.sam_datasets import make_dataset
from toolkit.sam import training as training_module
from toolkit.sam.companions import main
from toolkit.sam.train_options import TrainOptions
from toolkit.sam.training import SamTraining
from toolkit.sam.training_events import EpochReport


def _options(data: Path, sam_folder: Path, run: str, accumulate: int) -> TrainOptions:
    return TrainOptions(
        data=data,
        output=data.parent / run,
        model=str(sam_folder),
        epochs=2,
        batch_size=2,
        accumulate=accumulate,
        learning_rate=2e-3,
        panels=0,
        device="cpu",
    )


def _figures(training: SamTraining) -> list[tuple[float, float, int]]:
    return [
        (event.val_loss, event.val_iou, event.train_instances)
        for event in training.run()
        if isinstance(event, EpochReport)
    ]


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path: Path, sam_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_dataset(tmp_path / "data", [1, 2, 3, 1, 2, 4, 1, 2, 3])
    expected = _figures(SamTraining(_options(data, sam_folder, "alone", accumulate=2)))
    before = dict(os.environ)

    monkeypatch.setattr(training_module, "resolve_devices", lambda *_: ("cpu", "cpu"))
    together = _figures(SamTraining(_options(data, sam_folder, "together", accumulate=1)))

    assert [figures[2] for figures in together] == [figures[2] for figures in expected]
    for mine, other in zip(together, expected, strict=True):
        assert mine == pytest.approx(other, abs=1e-4)
    assert dict(os.environ) == before


def test_a_process_that_fails_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"data: {tmp_path}\noutput: {tmp_path / 'run'}\n")
    assert main([str(config)]) == 3
    assert "summary.json" in capsys.readouterr().err
