"""A run's folder: its table, its plots, and whether a run may use it."""

from __future__ import annotations

import csv
import math
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.core.errors import MvtkError
from toolkit.diagrams import LINE_COLOURS
from toolkit.sam.line_chart import line_chart
from toolkit.sam.run_folder import RunFolder, TensorBoard, metric_plots, metrics_csv
from toolkit.sam.train_options import TrainOptions
from toolkit.sam.training_events import EpochReport


def _history(epochs: int = 3) -> list[EpochReport]:
    return [
        EpochReport(
            epoch,
            epoch * 4,
            1e-3 / (epoch + 1),
            1 / epoch if epoch else math.nan,
            1.5 / (epoch + 1),
            0.1 * epoch,
            9,
            5,
            is_best=True,
        )
        for epoch in range(epochs)
    ]


def test_the_table_has_a_row_an_epoch() -> None:
    rows = list(csv.DictReader(metrics_csv(_history()).splitlines()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert [row["train_loss"] for row in rows] == ["", "1", "0.5"]
    assert [float(row["val_loss"]) for row in rows] == [1.5, 0.75, 0.5]
    assert {row["is_best"] for row in rows} == {"1"}


def test_reports_survive_json() -> None:
    for report in _history():
        again = EpochReport.from_dict(report.as_dict())
        assert math.isnan(again.train_loss) if math.isnan(report.train_loss) else again == report
    assert _history()[0].as_dict()["train_loss"] is None


@pytest.mark.parametrize("epochs", [1, 2, 40])
def test_plots_show_their_series(epochs: int) -> None:
    plots = metric_plots(_history(epochs))
    assert plots.keys() == {"loss.png", "iou.png", "learning_rate.png"}
    for colour in LINE_COLOURS[:2] if epochs > 1 else ():
        distance = np.abs(plots["loss.png"].astype(int) - colour).max(axis=2)
        assert np.count_nonzero(distance < 12) > 30


@pytest.mark.parametrize(
    "points", [[], [(0, 0)], [(0, 1e-9), (1, 2e-9)], [(0, -5), (100000, 1e12)], [(1, math.nan), (2, math.inf), (3, 1)]]
)
def test_any_points_can_be_drawn(points: Sequence[tuple[float, float]]) -> None:
    assert line_chart("title", "x", "y", {"a": points}, marked_x=1).shape == (420, 720, 3)


def test_a_folder_with_a_run_is_gone_on_with_or_left_alone(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.require_fit(resume=False)
    with pytest.raises(MvtkError, match=r"nothing to resume: there is no checkpoints/last\.safetensors"):
        folder.require_fit(resume=True)
    folder.create(TrainOptions(data=tmp_path, output=folder.path), ["mvtk 1"])
    folder.last.write_bytes(b"")
    folder.require_fit(resume=True)
    with pytest.raises(MvtkError, match="holds a training run; go on with it with --resume"):
        folder.require_fit(resume=False)
    assert (folder.path / "config.yaml").read_text().startswith("# mvtk sam train --config config.yaml\n# mvtk 1\n")


def test_tensorboard_gets_the_figures_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, float, int]] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            assert Path(folder).is_dir()

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def flush(self) -> None: ...

        def close(self) -> None: ...

    module: Any = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    board = TensorBoard(tmp_path / "tensorboard")
    for report in _history(2):
        board.add(report)
    board.close()
    assert ("val_iou", 0.1, 1) in written
    assert [entry[2] for entry in written if entry[0] == "train_loss"] == [1]


def test_without_tensorboard_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    board = TensorBoard(tmp_path / "tensorboard")
    board.add(_history(1)[0])
    board.close()
    assert not (tmp_path / "tensorboard").exists()
