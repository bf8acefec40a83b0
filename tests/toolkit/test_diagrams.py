from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from toolkit.diagrams import LINE_COLOURS, Diagram, round_ticks

BLUE, RED = LINE_COLOURS[:2]


def a_diagram() -> Diagram:
    return Diagram("title", "x", "y", (0, 10), (0, 1), size_px=(300, 240))


def count(diagram: Diagram, colour: tuple[int, int, int]) -> int:
    return int((diagram.picture_hwc == colour).all(axis=2).sum())


def test_bars_have_areas_in_proportion_to_their_heights() -> None:
    diagram = a_diagram()
    diagram.bar(1, 3, 0.25, BLUE)
    diagram.bar(5, 7, 0.5, RED)
    diagram.bar(8, 9, 0.0, BLUE)
    assert 1.9 < count(diagram, RED) / count(diagram, BLUE) < 2.1


def test_a_line_is_interrupted_where_a_value_is_missing() -> None:
    whole, broken, dot = a_diagram(), a_diagram(), a_diagram()
    whole.line([(0, 0.5), (5, 0.5), (10, 0.5)], BLUE)
    broken.line([(0, 0.5), (2, 0.5), (5, float("nan")), (8, 0.5), (10, 0.5)], BLUE)
    dot.line([(3, float("nan")), (5, 0.5), (7, float("nan"))], BLUE)
    middle = whole.picture_hwc.shape[1] // 2 + 20
    assert (whole.picture_hwc[:, middle] == BLUE).all(axis=1).any()
    assert not (broken.picture_hwc[:, middle] == BLUE).all(axis=1).any()
    assert 0.3 < count(broken, BLUE) / count(whole, BLUE) < 0.5
    assert count(dot, BLUE) > 9


def test_points_on_each_other_look_darker() -> None:
    once, often = a_diagram(), a_diagram()
    once.points([(5, 0.5)], BLUE)
    often.points([(5, 0.5)] * 8, BLUE)
    assert often.picture_hwc.astype(int).sum() < once.picture_hwc.astype(int).sum() - 255


def test_names_in_the_legend_do_not_lie_on_each_other() -> None:
    diagram = a_diagram()
    diagram.legend("first", BLUE)
    diagram.legend("second", RED)
    assert count(diagram, BLUE) == count(diagram, RED) > 0


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_a_handful_of_round_values_in_the_range(low: float, span: float) -> None:
    high = low + span
    ticks = round_ticks(low, high)
    slack = 1e-6 * max(abs(low), abs(high), span)
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    assert len(ticks) <= 6
    steps = np.diff(ticks)
    assert all(abs(one - other) <= slack for one, other in itertools.pairwise(steps))
    assert "-0" not in [f"{tick:g}" for tick in ticks]
