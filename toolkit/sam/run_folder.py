"""The folder of a training run: what is where, and how it is written.

::

    config.yaml                     the exact options: mvtk sam train --config config.yaml makes the same run
    metrics.csv                     a row an epoch
    loss.png  iou.png  learning_rate.png
    panels/epoch_0003.png           predictions on the same validation images after each epoch
    checkpoints/last.safetensors    all that --resume needs, after the last whole epoch
    checkpoints/best.safetensors    likewise, after the best epoch
    model/                          the best model as a whole, for transformers and for mvtk sam evaluate and predict
    tensorboard/                    event files, where TensorBoard is installed
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from toolkit.core.errors import MvtkError
from toolkit.core.files import make_folder, write_bytes
from toolkit.preview import save_png
from toolkit.sam.line_chart import line_chart
from toolkit.sam.train_options import TrainOptions
from toolkit.sam.training_events import EpochReport

CONFIG_NAME: Final = "config.yaml"
METRICS_NAME: Final = "metrics.csv"
_DIGITS: Final = 9


class RunFolder:
    """The files of one run.

    Args:
        path: the run's folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.last = self.checkpoints / "last.safetensors"
        self.best = self.checkpoints / "best.safetensors"
        self.panels = path / "panels"
        self.model = path / "model"
        self.tensorboard = path / "tensorboard"

    def require_fit(self, *, resume: bool) -> None:
        """Check that the folder holds a run where one is to be gone on with, and none where one is to begin.

        Raises:
            MvtkError: it does not; the line says what to do.
        """
        if resume and not self.last.is_file():
            raise MvtkError(
                f"{self.path}: nothing to resume: there is no {self.last.relative_to(self.path)}",
                "leave out --resume to begin a run",
            )
        if not resume and (self.path / CONFIG_NAME).exists() and self.last.exists():
            raise MvtkError(f"{self.path}: holds a training run", "go on with it with --resume, or name another folder")

    def create(self, options: TrainOptions, facts: Sequence[str]) -> None:
        """Make the folders and write the options.

        Args:
            options: the run's.
            facts: what else made the run, a line each: comments in the file.
        """
        make_folder(self.checkpoints)
        header = "".join(f"# {fact}\n" for fact in ("mvtk sam train --config config.yaml", *facts))
        write_bytes(self.path / CONFIG_NAME, (header + options.as_yaml()).encode(), overwrite=True)

    def write_metrics(self, history: Sequence[EpochReport]) -> None:
        """Write ``metrics.csv`` and the plots."""
        write_bytes(self.path / METRICS_NAME, metrics_csv(history).encode(), overwrite=True)
        for name, picture_hwc in metric_plots(history).items():
            save_png(self.path / name, picture_hwc, overwrite=True)

    def write_panel(self, epoch: int, picture_hwc: NDArray[np.uint8]) -> None:
        """Write the predictions after an epoch."""
        make_folder(self.panels)
        save_png(self.panels / f"epoch_{epoch:04d}.png", picture_hwc, overwrite=True)


def metrics_csv(history: Sequence[EpochReport]) -> str:
    """Return a table with a row an epoch; a figure that there is not is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = [field.name for field in fields(EpochReport)]
    writer.writerow(names)
    for report in history:
        writer.writerow([_cell(getattr(report, name)) for name in names])
    return stream.getvalue()


def metric_plots(history: Sequence[EpochReport]) -> dict[str, NDArray[np.uint8]]:
    """Return the plots of a run, (H, W, 3) uint8 RGB, by file name."""
    best = max((report.epoch for report in history if report.is_best), default=None)

    def points(name: str) -> list[tuple[float, float]]:
        return [(report.epoch, getattr(report, name)) for report in history]

    losses = {"training": points("train_loss"), "validation": points("val_loss")}
    rates = {"learning rate": [point for point in points("learning_rate") if point[0] > 0]}
    return {
        "loss.png": line_chart(
            "loss: Dice + cross-entropy (upright: best epoch)", "epoch", "mean over instances", losses, best
        ),
        "iou.png": line_chart(
            "validation IoU (upright: best epoch)", "epoch", "mean over instances", {"IoU": points("val_iou")}, best
        ),
        "learning_rate.png": line_chart(
            "learning rate (upright: best epoch)", "epoch", "at the epoch's end", rates, best
        ),
    }


class TensorBoard:
    """TensorBoard's event files; does nothing where it is not installed or not wanted.

    Args:
        folder: of the event files; None writes none.
    """

    def __init__(self, folder: Path | None) -> None:
        self._writer: Any = _summary_writer(folder) if folder else None

    def add(self, report: EpochReport) -> None:
        """Write the figures of an epoch."""
        if self._writer is not None:
            for name in ("train_loss", "val_loss", "val_iou", "learning_rate"):
                value = getattr(report, name)
                if not math.isnan(value):
                    self._writer.add_scalar(name, value, report.epoch)
            self._writer.flush()

    def close(self) -> None:
        """Close the files."""
        if self._writer is not None:
            self._writer.close()


def _summary_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    make_folder(folder)
    return SummaryWriter(str(folder))


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.{_DIGITS}g}"
