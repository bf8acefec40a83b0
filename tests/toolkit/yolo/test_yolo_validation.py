"""The figures of a trained model, and what does not fit together."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from tests.datasets import tree_hash, written
from tests.yolo_datasets import write_guided_dataset, write_plain_dataset
from tests.yolo_models import save_tiny_checkpoint
from toolkit.core.errors import InputProblemsError, MvtkError, OptionError
from toolkit.core.signals import StopRequest
from toolkit.yolo.options import ValYoloOptions
from toolkit.yolo.validation import ValidationResult, validate_yolo


def validate(
    data: Path, output: Path, model: Path, stop: StopRequest | None = None, **changes: Any
) -> ValidationResult:
    values: dict[str, Any] = {"imgsz": 64, "batch": 2, "device": "cpu", "settings": ("plots=false",), **changes}
    return validate_yolo(ValYoloOptions(data=data, output=output, model=model, **values), stop, quiet=True)


@pytest.mark.parametrize("channels", [3, 4])
def test_figures_and_their_table(guided_data: Path, tmp_path: Path, channels: int) -> None:
    model = save_tiny_checkpoint(tmp_path / "best.pt", channels=channels, eager=True)
    before = tree_hash(guided_data)
    result = validate(guided_data, tmp_path / "out", model, split="train")
    assert tree_hash(guided_data) == before
    assert result.images == 4
    assert result.scores is not None
    assert result.scores.instances == {"marked disc": 8}
    assert 0 <= result.scores.overall.map50 <= 1
    assert written(tmp_path / "out") == ["metrics.csv"]
    with (tmp_path / "out/metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["class"], row["instances"]) for row in rows] == [("all", "8"), ("marked disc", "8")]
    assert float(rows[0]["map50"]) == pytest.approx(result.scores.overall.map50, abs=1e-5)


@pytest.mark.parametrize(("conf", "counted"), [(0.001, 1), (0.3, 1), (0.1, 2), (0.6, 0)])
def test_the_confusion_matrix_counts_what_a_person_is_shown(contained: None, conf: float, counted: int) -> None:
    import torch

    from toolkit.yolo.engine.trainer import ReadableConfusionMatrix

    matrix = ReadableConfusionMatrix(names={0: "a"})
    found = {
        "bboxes": torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60], [70, 70, 80, 80]]),
        "conf": torch.tensor([0.5, 0.2, 0.01]),
        "cls": torch.zeros(3),
    }
    matrix.process_batch(found, {"cls": torch.zeros(0), "bboxes": torch.zeros(0, 4)}, conf=conf)
    assert matrix.matrix.sum() == counted


def test_a_stopped_validation_has_no_figures(guided_data: Path, tmp_path: Path) -> None:
    model = save_tiny_checkpoint(tmp_path / "best.pt", channels=4)
    result = validate(guided_data, tmp_path / "out", model, StopRequest(signum=2))
    assert result.scores is None
    assert written(tmp_path / "out") == []


def test_results_are_replaced_when_that_was_asked_for(guided_data: Path, tmp_path: Path) -> None:
    model = save_tiny_checkpoint(tmp_path / "best.pt", channels=4)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/metrics.csv").write_text("mine")
    with pytest.raises(MvtkError, match="is not empty; name another folder, or replace its results by --overwrite"):
        validate(guided_data, tmp_path / "out", model)
    assert (tmp_path / "out/metrics.csv").read_text() == "mine"
    assert validate(guided_data, tmp_path / "out", model, overwrite=True).scores is not None
    assert (tmp_path / "out/metrics.csv").read_text().startswith("class,")


def test_what_does_not_fit_is_said_first(guided_data: Path, tmp_path: Path) -> None:
    four = save_tiny_checkpoint(tmp_path / "four.pt", channels=4)
    two = save_tiny_checkpoint(tmp_path / "two.pt", channels=4, names={0: "a", 1: "b"})
    plain = write_plain_dataset(tmp_path / "plain")
    with pytest.raises(MvtkError, match=r"takes 4 channels, and .* gives 3; give the dataset that it was trained for"):
        validate(plain, tmp_path / "out", four)
    with pytest.raises(MvtkError, match=r"knows 2 classes, and .* has 1"):
        validate(guided_data, tmp_path / "out", two)
    with pytest.raises(InputProblemsError, match=r"no split 'test'; it has train, val"):
        validate(guided_data, tmp_path / "out", four, split="test")
    with pytest.raises(OptionError, match="conf: there is an option of its own, --conf"):
        validate(guided_data, tmp_path / "out", four, settings=("conf=1",))
    broken = write_guided_dataset(tmp_path / "broken")
    (broken / "labels/val/0000.txt").write_text("9 9 9 9 9\n")
    with pytest.raises(InputProblemsError, match="class '9' is beyond the 1 name"):
        validate(broken, tmp_path / "out", four)
    assert not (tmp_path / "out").exists()
