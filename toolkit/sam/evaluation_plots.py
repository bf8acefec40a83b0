"""An evaluation as one picture: the mean scores, their distribution, and each instance against the un-tuned model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from toolkit.diagrams import LINE_COLOURS, Diagram, round_ticks
from toolkit.preview import Colour, Tile, contact_sheet
from toolkit.sam.evaluation_tables import ALL, METRIC_NAMES, METRICS, GroupRow, InstanceRow, score_columns

_MODEL_COLOUR: Final[Colour] = LINE_COLOURS[0]
_BASELINE_COLOUR: Final[Colour] = LINE_COLOURS[1]
_MODEL: Final = "this model"
_BASELINE: Final = "un-tuned"
_PANEL_PX: Final = 460
_SHARE_TICKS: Final = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_HEADROOM: Final = 1.3
_MAX_CLASSES: Final = 6
_MAX_POINTS: Final = 4000
_LABEL_CHARACTERS: Final = 48
"""Of all names below bars together: more would run into each other."""


def draw_evaluation(rows: Sequence[InstanceRow], groups: Sequence[GroupRow], title: str) -> NDArray[np.uint8]:
    """Draw the diagrams of an evaluation.

    The mean scores; the mean IoU by size and by class (the six most frequent); which share of the instances reaches an
    IoU; how well the model predicts its own IoU; and each instance's IoU against the un-tuned model's.

    Args:
        rows: of all images, at least one.
        groups: of the same rows.
        title: above all.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    scores, baseline = score_columns(rows), score_columns(rows, baseline=True)
    classes = sorted((group for group in groups if group.kind == "class"), key=lambda group: -group.instances)
    [all_rows] = [group for group in groups if group.kind == ALL]
    diagrams = [
        _mean_scores(all_rows),
        _reached(scores[:, 0], baseline[:, 0]),
        _group_bars("mean IoU by size", [group for group in groups if group.kind == "size"]),
        _group_bars("mean IoU by class", classes[:_MAX_CLASSES]),
        _square_of_points("predicted and true IoU", "predicted IoU", "IoU", scores[:, [3, 0]]),
    ]
    if len(baseline) == len(scores):
        points_xy = np.stack((baseline[:, 0], scores[:, 0]), axis=1)
        diagrams.append(_square_of_points("IoU of each instance", _BASELINE, _MODEL, points_xy))
    return contact_sheet([Tile(diagram) for diagram in diagrams], 3, _PANEL_PX, title)


def _mean_scores(group: GroupRow) -> NDArray[np.uint8]:
    names = [METRIC_NAMES[metric] for metric in METRICS]
    means = [group.means[metric] for metric in METRICS]
    baseline = None if group.baseline is None else [group.baseline[metric] for metric in METRICS]
    return _paired_bars(f"mean of {group.instances} instances", "score", names, means, baseline)


def _group_bars(title: str, groups: Sequence[GroupRow]) -> NDArray[np.uint8]:
    """Return bars of the mean IoU, with the number of instances below each name."""
    names = [f"{_shortened(group.name, _LABEL_CHARACTERS // len(groups))}\n{group.instances}" for group in groups]
    with_baseline = [group.baseline["iou"] for group in groups if group.baseline is not None]
    baseline = with_baseline if len(with_baseline) == len(groups) else None
    return _paired_bars(title, "mean IoU", names, [group.means["iou"] for group in groups], baseline)


def _paired_bars(
    title: str, y_label: str, names: Sequence[str], heights: Sequence[float], baseline: Sequence[float] | None
) -> NDArray[np.uint8]:
    diagram = Diagram(title, "", y_label, (0, len(names)), (0, _HEADROOM))
    diagram.y_ticks(_SHARE_TICKS, [f"{tick:g}" for tick in _SHARE_TICKS])
    for place, height in enumerate(heights):
        if baseline is None:
            diagram.bar(place + 0.2, place + 0.8, height, _MODEL_COLOUR)
        else:
            diagram.bar(place + 0.15, place + 0.49, baseline[place], _BASELINE_COLOUR)
            diagram.bar(place + 0.51, place + 0.85, height, _MODEL_COLOUR)
    diagram.x_ticks([place + 0.5 for place in range(len(names))], names)
    _name_models(diagram, with_baseline=baseline is not None)
    return diagram.picture_hwc


def _reached(ious: NDArray[np.float64], baseline: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return which share of the instances has at least each IoU."""
    diagram = Diagram("instances that reach an IoU", "IoU", "share of instances", (0, 1), (0, _HEADROOM))
    labels = [f"{tick:g}" for tick in _SHARE_TICKS]
    diagram.y_ticks(_SHARE_TICKS, labels)
    diagram.x_ticks(_SHARE_TICKS, labels)
    thresholds = np.linspace(0, 1, 101)
    for values, colour in ((baseline, _BASELINE_COLOUR), (ious, _MODEL_COLOUR)):
        if len(values):
            shares = 1 - np.searchsorted(np.sort(values), thresholds, side="left") / len(values)
            diagram.line(list(zip(thresholds.tolist(), shares.tolist(), strict=True)), colour)
    _name_models(diagram, with_baseline=len(baseline) > 0)
    return diagram.picture_hwc


def _square_of_points(title: str, x_label: str, y_label: str, points_xy: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return points between 0 and 1 (predicted IoUs may lie outside), with the line on which both are equal."""
    low, high = min(0.0, float(points_xy.min())), max(1.0, float(points_xy.max()))
    diagram = Diagram(title, x_label, y_label, (low, high), (low, high))
    ticks = round_ticks(low, high, 5)
    labels = [f"{tick:.3g}" for tick in ticks]
    diagram.x_ticks(ticks, labels)
    diagram.y_ticks(ticks, labels)
    diagram.diagonal()
    step = -(-len(points_xy) // _MAX_POINTS)
    diagram.points([(x, y) for x, y in points_xy[::step].tolist()], _MODEL_COLOUR)
    return diagram.picture_hwc


def _name_models(diagram: Diagram, *, with_baseline: bool) -> None:
    if with_baseline:
        diagram.legend(_BASELINE, _BASELINE_COLOUR)
        diagram.legend(_MODEL, _MODEL_COLOUR)


def _shortened(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"
