"""What training and validation found, as values: for the terminal, the report, and Python callers."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from toolkit.core.files import write_bytes

_COLUMNS: Final = {
    "precision": "metrics/precision(B)",
    "recall": "metrics/recall(B)",
    "map50": "metrics/mAP50(B)",
    "map50_95": "metrics/mAP50-95(B)",
}
"""Ultralytics' names of the figures."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Figures of all classes together, or of one.

    Attributes:
        precision: at the confidence where F1 is highest.
        recall: there.
        map50: mean average precision at IoU 0.5.
        map50_95: mean over IoU 0.5 to 0.95, as COCO defines it.
    """

    precision: float
    recall: float
    map50: float
    map50_95: float

    def as_dict(self) -> dict[str, float]:
        """Return the figures by name, rounded to five digits."""
        names = ("precision", "recall", "map50", "map50_95")
        return {name: round(float(getattr(self, name)), 5) for name in names}


@dataclass(frozen=True, slots=True)
class DetectionScores:
    """The figures of a validation.

    Attributes:
        overall: of all classes.
        classes: of each class that occurs, by name.
        instances: how many objects of each of those classes there are.
    """

    overall: Scores
    classes: Mapping[str, Scores]
    instances: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        classes = {
            name: {**scores.as_dict(), "instances": self.instances.get(name, 0)}
            for name, scores in self.classes.items()
        }
        return {**self.overall.as_dict(), "classes": classes}


def scores_of(metrics: Any) -> DetectionScores:
    """Return what Ultralytics' ``DetMetrics`` holds after a validation."""
    counts = metrics.nt_per_class
    classes, instances = {}, {}
    for place, class_id in enumerate(metrics.ap_class_index):
        name = str(metrics.names[int(class_id)])
        classes[name] = Scores(*(float(value) for value in metrics.class_result(place)))
        instances[name] = int(counts[int(class_id)]) if counts is not None else 0
    return DetectionScores(Scores(*(float(value) for value in metrics.mean_results())), classes, instances)


def scores_table(scores: DetectionScores) -> str:
    """Return the figures as CSV: a row for all classes, then one a class."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["class", "instances", *scores.overall.as_dict()])
    writer.writerow(["all", sum(scores.instances.values()), *scores.overall.as_dict().values()])
    for name, figures in scores.classes.items():
        writer.writerow([name, scores.instances.get(name, 0), *figures.as_dict().values()])
    return stream.getvalue()


def read_history(path: Path) -> list[dict[str, float]]:
    """Return the rows of a run's ``results.csv``, an epoch each; none where there is no such file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, skipinitialspace=True))
    return [{key.strip(): _number(value) for key, value in row.items() if key} for row in rows]


def forget_epochs_after(path: Path, epoch: int) -> None:
    """Leave the rows of a run's ``results.csv`` out that come after an epoch, and one that was cut short.

    A row is written before the epoch's checkpoint, so that a killed run may have one too many.

    Raises:
        MvtkError: the file cannot be written.
    """
    if not path.is_file():
        return
    header, *rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
    columns = header.count(",")
    kept = [
        row for row in rows if row.endswith("\n") and row.count(",") == columns and _number(row.split(",")[0]) <= epoch
    ]
    if kept != rows:
        write_bytes(path, "".join([header, *kept]).encode(), overwrite=True)


def best_epoch(history: Sequence[Mapping[str, float]]) -> tuple[int, Scores] | None:
    """Return the epoch with the highest mAP50-95, and its figures on the validation images.

    Ultralytics calls this its fitness (``Metric.fitness`` in ``ultralytics/utils/metrics.py``, 8.4).
    """
    known = [row for row in history if all(math.isfinite(row.get(column, math.nan)) for column in _COLUMNS.values())]
    if not known:
        return None
    best = max(known, key=lambda row: row[_COLUMNS["map50_95"]])
    return int(best["epoch"]), Scores(*(best[column] for column in _COLUMNS.values()))


def _number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        return math.nan
