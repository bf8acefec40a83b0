"""The bar of phases: colours where the frames are, labels that never overlap, round numbers on the axis."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from toolkit.embryo.phase_bar import (
    GROUND_COLOUR,
    Axis,
    Timeline,
    bar_height_px,
    draw_bar,
    outside_labels,
    phase_colour,
    tick_frames,
)
from toolkit.embryo.phases import PHASES, Phase, PhaseRange

UNLABELLED = (98, 101, 107)


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    """Phases of any length with gaps between, and frames that end before or after them."""
    phases = sorted(draw(st.sets(st.sampled_from(PHASES))), key=lambda phase: phase.index)
    ranges, end = [], draw(st.integers(0, 30))
    for phase in phases:
        first = end + 1 + draw(st.integers(0, 5))
        end = first + draw(st.integers(0, 100))
        ranges.append(PhaseRange(phase, first, end))
    frames = sorted(draw(st.sets(st.integers(0, 600), min_size=1, max_size=40)))
    return Timeline(ranges, frames, lambda frame: frame / 4 if frame % 3 else math.nan)


def drawn(timeline: Timeline, width_px: int) -> NDArray[np.uint8]:
    """The bar in a picture that is 40 pixels larger on each side."""
    canvas = Image.new("RGB", (width_px + 80, bar_height_px(timeline, width_px) + 80), GROUND_COLOUR)
    draw_bar(ImageDraw.Draw(canvas), timeline, 40, 40, width_px)
    return np.array(canvas)


@given(timelines(), st.integers(560, 3000))
@settings(deadline=None)
def test_labels_of_narrow_phases_never_overlap(timeline: Timeline, width_px: int) -> None:
    axis = Axis(timeline.first, timeline.last, 7, width_px)
    labels = outside_labels(timeline, axis)
    assert all(7 <= label.left_px < label.right_px <= 7 + width_px for label in labels)
    for number, label in enumerate(labels):
        for other in labels[number + 1 :]:
            assert label.level != other.level or label.right_px < other.left_px
    narrow = {part.phase for part in timeline.ranges if axis.x(part.last + 1) - axis.x(part.first) < 20}
    assert narrow <= {label.phase for label in labels}


@given(timelines(), st.integers(560, 1500))
@settings(deadline=None, max_examples=30)
def test_it_stays_in_its_place(timeline: Timeline, width_px: int) -> None:
    picture = drawn(timeline, width_px)
    above, below = picture[:40], picture[-40:]
    assert (above == GROUND_COLOUR).all()
    assert (below == GROUND_COLOUR).all()
    assert (picture[:, :39] == GROUND_COLOUR).all()
    assert (picture[:, -39:] == GROUND_COLOUR).all()


def test_colours_say_what_the_frames_are() -> None:
    ranges = [PhaseRange(Phase.T2, 11, 30), PhaseRange(Phase.T5, 41, 100)]
    timeline = Timeline(ranges, [*range(1, 51), *range(56, 81)], lambda _: math.nan)
    picture = drawn(timeline, 1000)  # ten pixels a frame
    row = picture[40 + 4]
    at = {frame: tuple(row[40 + (frame - 1) * 10 + 5].tolist()) for frame in (5, 15, 35, 45, 75)}
    assert at == {
        5: UNLABELLED,
        15: phase_colour(Phase.T2),
        35: UNLABELLED,
        45: phase_colour(Phase.T5),
        75: phase_colour(Phase.T5),
    }
    hatched = picture[40 + 4 : 40 + 30, 40 + 810 : 40 + 990]
    filled = (hatched == phase_colour(Phase.T5)).all(axis=2).mean()
    assert 0.2 < filled < 0.5
    presence = picture[40 + 34 + 4 + 2, 40 : 40 + 1000]
    missing = (presence == GROUND_COLOUR).all(axis=1)
    assert np.flatnonzero(missing).tolist() == [*range(500, 550), *range(800, 1000)]


def test_phases_have_colours_of_their_own_that_are_seen_on_the_ground() -> None:
    colours = [phase_colour(phase) for phase in PHASES]
    assert len(set(colours)) == len(PHASES)
    for colour in colours:
        assert np.abs(np.subtract(colour, GROUND_COLOUR)).sum() > 150
        assert colour != UNLABELLED


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 40))
def test_ticks_are_round_and_not_too_many(first: int, length: int, most: int) -> None:
    ticks = tick_frames(first, first + length, most)
    assert 1 <= len(ticks) <= max(most, 1)
    assert first <= ticks[0] <= ticks[-1] <= first + length
    if len(ticks) > 1:
        (step,) = {after - before for before, after in itertools.pairwise(ticks)}
        assert str(step).rstrip("0") in {"1", "2", "5"}
        assert ticks[0] % step == 0


@pytest.mark.parametrize(("last", "most", "ticks"), [(10, 5, [2, 4, 6, 8, 10]), (286, 6, [50, 100, 150, 200, 250])])
def test_ticks(last: int, most: int, ticks: list[int]) -> None:
    assert tick_frames(1, last, most) == ticks
