"""Line charts of a run: figures over epochs, as a picture. Numbers in, an 8-bit RGB array out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from toolkit.diagrams import LINE_COLOURS, Diagram, round_ticks
from toolkit.preview import Colour

Point = tuple[float, float]

_SIZE_PX: Final = (720, 420)
_MARGIN: Final = 0.05
_LEGEND_ROOM: Final = 0.12
"""Above the highest point, a series, so that no name covers a line."""
_TICKS: Final = 6
_MARK_COLOUR: Final[Colour] = (150, 150, 150)


def line_chart(
    title: str, x_label: str, y_label: str, series: Mapping[str, Sequence[Point]], marked_x: float | None = None
) -> NDArray[np.uint8]:
    """Draw series of points, joined by lines, with a legend.

    Args:
        title: above all.
        x_label: below.
        y_label: beside the y axis.
        series: the points (x, y) of each, by name, x in whole numbers; those that are not finite are left out.
        marked_x: where to draw an upright line, such as at the best epoch.

    Returns:
        (420, 720, 3) uint8 RGB.
    """
    shown = {name: [point for point in each if all(map(math.isfinite, point))] for name, each in series.items()}
    points = [point for each in shown.values() for point in each]
    x_low, x_high = _span([x for x, _ in points])
    y_low, y_high = _span([y for _, y in points])
    height = y_high - y_low
    y_range = (y_low - _MARGIN * height, y_high + (_MARGIN + _LEGEND_ROOM * len(shown)) * height)
    diagram = Diagram(title, x_label, y_label, (x_low, x_high), y_range, _SIZE_PX)
    x_ticks = sorted({float(round(tick)) for tick in round_ticks(x_low, x_high, _TICKS)})
    y_ticks = round_ticks(*y_range, _TICKS)
    diagram.x_ticks(x_ticks, [f"{tick:.6g}" for tick in x_ticks])
    diagram.y_ticks(y_ticks, [f"{tick:.6g}" for tick in y_ticks])
    if marked_x is not None and x_low <= marked_x <= x_high:
        diagram.line([(marked_x, y_range[0]), (marked_x, y_range[1])], _MARK_COLOUR)
    for (name, each), colour in zip(shown.items(), LINE_COLOURS, strict=False):
        diagram.line(each, colour)
        diagram.legend(name, colour)
    return diagram.picture_hwc


def _span(values: Sequence[float]) -> Point:
    """Return the lowest and the highest value, made different where they are not."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high > low:
        return low, high
    return low, low + (abs(low) or 1.0)
