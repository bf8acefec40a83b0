"""A bar of the phases of a video over its frames, with hours where they are known."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import ImageDraw, ImageFont

from toolkit.embryo.phases import PHASES, Phase, PhaseRange
from toolkit.preview import Colour, Font

GROUND_COLOUR: Colour = (30, 31, 34)
TEXT_COLOUR: Colour = (236, 236, 236)
FAINT_TEXT_COLOUR: Colour = (190, 192, 196)

_UNLABELLED: Colour = (98, 101, 107)
_LABEL_PX = 15
_TICK_TEXT_PX = 13
_LEVEL_PX = 21
_BAR_PX = 34
_PRESENCE_PX = 5
_AXIS_PX = 44
_GAP_PX = 4
_HATCH_STEP_PX = 6
_MIN_TICK_DISTANCE_PX = 70


@dataclass(frozen=True, slots=True)
class Timeline:
    """What the bar of a video shows.

    Attributes:
        ranges: its phases, ascending; they may end past the last frame.
        frames: the numbers of its frames, ascending, at least one.
        hours_at: the hours of a frame number, NaN where they are not known.
    """

    ranges: Sequence[PhaseRange]
    frames: Sequence[int]
    hours_at: Callable[[int], float]

    @property
    def first(self) -> int:
        """The first number on the axis."""
        return min([self.frames[0], *(phase_range.first for phase_range in self.ranges)])

    @property
    def last(self) -> int:
        """The last number on the axis."""
        return max([self.frames[-1], *(phase_range.last for phase_range in self.ranges)])


@dataclass(frozen=True, slots=True)
class Axis:
    """Where the frames of a timeline lie in the picture: each has the same width.

    Attributes:
        first: the first frame number.
        last: the last frame number.
        left_px: where the first frame begins.
        width_px: of all frames together.
    """

    first: int
    last: int
    left_px: int
    width_px: int

    def x(self, frame: float) -> int:
        """Return the column where a frame begins, and the one before it ends."""
        return self.left_px + round((frame - self.first) * self.width_px / (self.last + 1 - self.first))

    def text_left(self, middle_px: int, text_px: int) -> int:
        """Return where a text begins so that it is centred at a place, as far as it stays within the axis."""
        return min(max(self.left_px, middle_px - text_px // 2), self.left_px + self.width_px - text_px)

    def middle(self, phase_range: PhaseRange) -> int:
        """Return the column in the middle of a phase."""
        return (self.x(phase_range.first) + self.x(phase_range.last + 1)) // 2


@dataclass(frozen=True, slots=True)
class OutsideLabel:
    """The label of a segment that is too narrow for it, above the bar.

    Attributes:
        phase: what it names.
        anchor_px: the middle of the segment, where a line leads to.
        left_px: where the text begins.
        right_px: where it ends.
        level: 0 next to the bar, 1 above that, and so on.
    """

    phase: Phase
    anchor_px: int
    left_px: int
    right_px: int
    level: int


def bar_height_px(timeline: Timeline, width_px: int) -> int:
    """Return how high the bar is at a width, with its labels and its axis."""
    labels = outside_labels(timeline, Axis(timeline.first, timeline.last, 0, width_px))
    return _labels_height(labels) + _BAR_PX + _GAP_PX + _PRESENCE_PX + _AXIS_PX


def draw_bar(draw: ImageDraw.ImageDraw, timeline: Timeline, left_px: int, top_px: int, width_px: int) -> None:
    """Draw the bar with its upper left corner at a place.

    Phases are coloured, and hatched past the last frame; frames without a phase are grey. The line below the bar has
    gaps where numbers have no frame.
    """
    axis = Axis(timeline.first, timeline.last, left_px, width_px)
    labels = outside_labels(timeline, axis)
    top = top_px + _labels_height(labels)
    end = timeline.frames[-1]
    draw.rectangle((axis.x(timeline.first), top, axis.x(end + 1) - 1, top + _BAR_PX - 1), fill=_UNLABELLED)
    for phase_range in timeline.ranges:
        _draw_segment(draw, axis, phase_range, end, top)
    _draw_outside_labels(draw, labels, top)
    _draw_presence(draw, axis, timeline.frames, top + _BAR_PX + _GAP_PX)
    _draw_ticks(draw, axis, timeline, top + _BAR_PX + _GAP_PX + _PRESENCE_PX)


@functools.cache
def phase_colour(phase: Phase) -> Colour:
    """Return the RGB colour of a phase: in their order, the phases run from blue over green to red."""
    # The ends of the map are too dark for a dark ground.
    place = round(255 * (0.12 + 0.76 * phase.index / (len(PHASES) - 1)))
    blue, green, red = cv2.applyColorMap(np.full((1, 1), place, np.uint8), cv2.COLORMAP_TURBO)[0, 0].tolist()
    return red, green, blue


@functools.lru_cache(maxsize=8)
def font_of(size_px: int) -> Font:
    """Return the font of labels."""
    return ImageFont.load_default(size_px)


def _labels_height(labels: Sequence[OutsideLabel]) -> int:
    return max((label.level + 1 for label in labels), default=0) * _LEVEL_PX


def outside_labels(timeline: Timeline, axis: Axis) -> list[OutsideLabel]:
    """Return the labels that do not fit into their segments, each at the lowest level where it has room."""
    labels: list[OutsideLabel] = []
    ends: list[int] = []  # by level, where the last label ends
    for phase_range in timeline.ranges:
        text_px = _label_width(phase_range.phase)
        if text_px + 2 * _GAP_PX <= axis.x(phase_range.last + 1) - axis.x(phase_range.first):
            continue
        middle = axis.middle(phase_range)
        left = axis.text_left(middle, text_px)
        level = next((level for level, end in enumerate(ends) if end + 2 * _GAP_PX <= left), len(ends))
        ends[level : level + 1] = [left + text_px]
        labels.append(OutsideLabel(phase_range.phase, middle, left, left + text_px, level))
    return labels


def _draw_segment(draw: ImageDraw.ImageDraw, axis: Axis, phase_range: PhaseRange, end: int, top: int) -> None:
    """Draw one phase; what lies past the frame ``end`` is only hatched."""
    left, right = axis.x(phase_range.first), axis.x(phase_range.last + 1) - 1
    filled_right = min(right, axis.x(end + 1) - 1)
    bottom = top + _BAR_PX - 1
    colour = phase_colour(phase_range.phase)
    if filled_right >= left:
        draw.rectangle((left, top, filled_right, bottom), fill=colour)
    if right > filled_right:
        _hatch(draw, (max(left, filled_right + 1), top, right, bottom), colour)
    draw.line((left, top, left, bottom), fill=GROUND_COLOUR)
    text_px = _label_width(phase_range.phase)
    if text_px + 2 * _GAP_PX <= right + 1 - left:
        middle = (left + right + 1) // 2
        if (left + right + text_px) // 2 > filled_right:  # on hatching a label cannot be read
            ground = (middle - text_px // 2 - _GAP_PX, top + 7, middle + text_px // 2 + _GAP_PX, bottom - 7)
            draw.rectangle(ground, fill=colour)
        centre = (middle, (top + bottom) // 2)
        draw.text(centre, phase_range.phase.label, fill=_readable_on(colour), font=font_of(_LABEL_PX), anchor="mm")


def _hatch(draw: ImageDraw.ImageDraw, rectangle: tuple[int, int, int, int], colour: Colour) -> None:
    """Fill a rectangle, its last column and row included, with slanted lines in a frame."""
    left, top, right, bottom = rectangle
    draw.rectangle(rectangle, outline=colour)
    for row in range(top, bottom + 1):
        first = left + (bottom - row) % _HATCH_STEP_PX
        draw.point([(column, row) for column in range(first, right + 1, _HATCH_STEP_PX)], fill=colour)
        draw.point([(column, row) for column in range(first + 1, right + 1, _HATCH_STEP_PX)], fill=colour)


def _draw_outside_labels(draw: ImageDraw.ImageDraw, labels: Sequence[OutsideLabel], bar_top: int) -> None:
    for label in labels:
        line = (label.anchor_px, bar_top - label.level * _LEVEL_PX - _GAP_PX, label.anchor_px, bar_top - 1)
        draw.line(line, fill=phase_colour(label.phase))
    for label in labels:  # after all lines, of which a label hides those that cross it
        baseline = bar_top - label.level * _LEVEL_PX - _GAP_PX - 4
        ground = (label.left_px - 1, baseline - _LABEL_PX + 2, label.right_px + 1, baseline + 3)
        draw.rectangle(ground, fill=GROUND_COLOUR)
        draw.text((label.left_px, baseline), label.phase.label, fill=TEXT_COLOUR, font=font_of(_LABEL_PX), anchor="ls")


def _draw_presence(draw: ImageDraw.ImageDraw, axis: Axis, frames: Sequence[int], top: int) -> None:
    """Draw a line with a gap, of a pixel at least, wherever numbers have no frame."""
    draw.rectangle((axis.x(frames[0]), top, axis.x(frames[-1] + 1) - 1, top + _PRESENCE_PX - 1), fill=FAINT_TEXT_COLOUR)
    for before, after in itertools.pairwise(frames):
        if after > before + 1:
            left = axis.x(before + 1)
            draw.rectangle((left, top, max(left, axis.x(after) - 1), top + _PRESENCE_PX - 1), fill=GROUND_COLOUR)


def _draw_ticks(draw: ImageDraw.ImageDraw, axis: Axis, timeline: Timeline, top: int) -> None:
    """Draw round frame numbers, and under each the hours of that frame where they are known."""
    font = font_of(_TICK_TEXT_PX)
    for frame in tick_frames(axis.first, axis.last, axis.width_px // _MIN_TICK_DISTANCE_PX):
        x = (axis.x(frame) + axis.x(frame + 1)) // 2
        draw.line((x, top, x, top + 5), fill=FAINT_TEXT_COLOUR)
        hours = timeline.hours_at(frame)
        lines = [f"{frame}"] if math.isnan(hours) else [f"{frame}", f"{hours:.1f} h"]
        for number, line in enumerate(lines):
            left = axis.text_left(x, math.ceil(font.getlength(line)))
            draw.text((left, top + 8 + 17 * number), line, fill=FAINT_TEXT_COLOUR, font=font)


def tick_frames(first: int, last: int, most: int) -> list[int]:
    """Return ``most`` frame numbers or fewer, but one at least: multiples of 1, 2 or 5 times a power of ten."""
    steps = (factor * 10**power for power in itertools.count() for factor in (1, 2, 5))
    step = next(step for step in steps if last // step - (first - 1) // step <= max(most, 1))
    return list(range(-(-first // step) * step, last + 1, step)) or [first]


def _readable_on(colour: Colour) -> Colour:
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 120 else (255, 255, 255)


@functools.cache
def _label_width(phase: Phase) -> int:
    return math.ceil(font_of(_LABEL_PX).getlength(phase.label))
