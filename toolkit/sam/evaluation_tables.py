"""The figures of an evaluation: a row an instance, means of groups of them, and the CSV files of both."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from toolkit.core.files import write_bytes
from toolkit.sam.metrics import SIZE_NAMES, MaskScores, size_name

METRICS: Final = ("iou", "dice", "boundary_f")
METRIC_NAMES: Final[Mapping[str, str]] = {"iou": "IoU", "dice": "Dice", "boundary_f": "boundary F"}
ALL: Final = "all"
BASELINE: Final = "baseline"
"""What the columns of the un-tuned model begin with."""


@dataclass(frozen=True, slots=True)
class InstanceScores:
    """The scores of one predicted mask, each from 0 to 1.

    Attributes:
        iou: intersection over union.
        dice: Dice coefficient.
        boundary_f: boundary F-measure.
        predicted_iou: what the model expected its IoU to be.
    """

    iou: float
    dice: float
    boundary_f: float
    predicted_iou: float

    @classmethod
    def of(cls, scores: MaskScores, predicted_iou: NDArray[np.float32]) -> list[Self]:
        """Return the scores of n masks, one by one."""
        columns = (scores.iou, scores.dice, scores.boundary_f, predicted_iou.astype(np.float64))
        return [cls(*row) for row in zip(*(np.round(column, 6).tolist() for column in columns), strict=True)]


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """One instance of one image.

    Attributes:
        sample: the sample's id.
        instance: the number of its mask.
        class_id: its class.
        area_px: the true mask's.
        scores: of the model.
        baseline: of the un-tuned model; None where there is none.
    """

    sample: str
    instance: int
    class_id: int
    area_px: int
    scores: InstanceScores
    baseline: InstanceScores | None

    def to_json(self) -> list[Any]:
        """Return it as JSON types, without the sample."""
        baseline = None if self.baseline is None else astuple(self.baseline)
        return [self.instance, self.class_id, self.area_px, astuple(self.scores), baseline]

    @classmethod
    def from_json(cls, sample: str, values: Sequence[Any]) -> Self:
        """Return what :meth:`to_json` made."""
        instance, class_id, area_px, scores, baseline = values
        return cls(
            sample,
            instance,
            class_id,
            area_px,
            InstanceScores(*scores),
            InstanceScores(*baseline) if baseline else None,
        )


@dataclass(frozen=True, slots=True)
class GroupRow:
    """The means over a group of instances.

    Attributes:
        kind: "all", "class" or "size".
        name: of the class or the size.
        instances: how many there are.
        images: how many have some.
        means: mean of each of ``METRICS``.
        baseline: the same of the un-tuned model; None where there is none.
        improved: the share of instances whose IoU is higher than the un-tuned model's; None where there is none.
    """

    kind: str
    name: str
    instances: int
    images: int
    means: Mapping[str, float]
    baseline: Mapping[str, float] | None
    improved: float | None


def group_rows(rows: Sequence[InstanceRow], class_names: Sequence[str]) -> list[GroupRow]:
    """Return the means over all instances, over each class and over each size, as far as there are any.

    Each instance counts the same, whatever the number of instances in its image.

    Args:
        rows: of all images.
        class_names: by class id; a class beyond them is called by its number.
    """
    if not rows:
        return []
    by_class: dict[int, list[InstanceRow]] = {}
    by_size: dict[str, list[InstanceRow]] = {name: [] for name in SIZE_NAMES}
    for row in rows:
        by_class.setdefault(row.class_id, []).append(row)
        by_size[size_name(row.area_px)].append(row)
    return [
        _group(ALL, ALL, rows),
        *(_group("class", class_name(class_id, class_names), found) for class_id, found in sorted(by_class.items())),
        *(_group("size", name, found) for name, found in by_size.items() if found),
    ]


def class_name(class_id: int, class_names: Sequence[str]) -> str:
    """Return what a class is called: its number where it has no name."""
    return class_names[class_id] if 0 <= class_id < len(class_names) else str(class_id)


def score_columns(rows: Iterable[InstanceRow], *, baseline: bool = False) -> NDArray[np.float64]:
    """Return (n, 4) the scores, in the order of the fields of :class:`InstanceScores`, of one of the two models."""
    scores = [row.baseline if baseline else row.scores for row in rows]
    return np.array([astuple(each) for each in scores if each is not None], np.float64).reshape(-1, len(_SCORES))


def write_instances(path: Path, rows: Sequence[InstanceRow], class_names: Sequence[str], *, overwrite: bool) -> None:
    """Write a CSV file with a line an instance; the un-tuned model's columns are there where it was evaluated.

    Raises:
        MvtkError: it exists and ``overwrite`` is false, or it cannot be written.
    """
    with_baseline = any(row.baseline is not None for row in rows)
    header = ["sample", "instance", "class_id", "class_name", "area_px", "size", *_SCORES]
    header += [f"{BASELINE}_{name}" for name in _SCORES] if with_baseline else []
    lines = (
        [
            *(row.sample, row.instance, row.class_id, class_name(row.class_id, class_names)),
            *(row.area_px, size_name(row.area_px), *astuple(row.scores)),
            *(() if row.baseline is None else astuple(row.baseline)),
        ]
        for row in rows
    )
    _write_csv(path, header, lines, overwrite=overwrite)


def write_groups(path: Path, groups: Sequence[GroupRow], *, overwrite: bool) -> None:
    """Write a CSV file with a line a group; see :func:`write_instances`."""
    with_baseline = any(group.baseline is not None for group in groups)
    header = ["group", "name", "instances", "images", *METRICS]
    header += [*(f"{BASELINE}_{metric}" for metric in METRICS), "improved"] if with_baseline else []
    lines = (
        [
            *(group.kind, group.name, group.instances, group.images, *_rounded(group.means)),
            *([*_rounded(group.baseline), group.improved] if group.baseline is not None else []),
        ]
        for group in groups
    )
    _write_csv(path, header, lines, overwrite=overwrite)


_SCORES: Final = tuple(field.name for field in fields(InstanceScores))


def _group(kind: str, name: str, rows: Sequence[InstanceRow]) -> GroupRow:
    scores, baseline = score_columns(rows), score_columns(rows, baseline=True)
    has_baseline = len(baseline) == len(scores)
    return GroupRow(
        kind,
        name,
        len(rows),
        len({row.sample for row in rows}),
        _means(scores),
        _means(baseline) if has_baseline else None,
        round(float(np.mean(scores[:, 0] > baseline[:, 0])), 6) if has_baseline else None,
    )


def _means(scores: NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(METRICS, scores.mean(axis=0).tolist(), strict=False))


def _rounded(means: Mapping[str, float]) -> list[float]:
    return [round(means[metric], 6) for metric in METRICS]


def _write_csv(path: Path, header: Sequence[str], lines: Iterable[Sequence[Any]], *, overwrite: bool) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"), overwrite=overwrite)
