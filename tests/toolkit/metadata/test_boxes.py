"""What becomes of boxes that no image can have, and boxes around keypoints."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from toolkit.metadata.boxes import (
    BEYOND_EDGE,
    EDGE_TOLERANCE_PX,
    NO_AREA,
    NOT_A_NUMBER,
    OUTSIDE,
    BoxPolicy,
    CheckedBoxes,
    boxes_around,
    check_boxes,
)
from toolkit.metadata.lazy import crop_to_box

POLICIES: tuple[BoxPolicy, ...] = ("clip", "drop", "error")

coordinates = st.one_of(
    st.integers(-20, 120), st.floats(-20, 120), st.floats(), st.sampled_from([0.0, -0.0, 64.0, 64.005, -0.005])
)
boxes_of_four = st.lists(st.tuples(coordinates, coordinates, coordinates, coordinates), max_size=12)
sides = st.sampled_from([0, 1, 48, 64])


def check(boxes: Any, policy: BoxPolicy = "clip", size_wh: tuple[int, int] = (64, 48)) -> CheckedBoxes:
    boxes_xywh = np.array(boxes, np.float64).reshape(-1, 4)
    return check_boxes(boxes_xywh, np.tile(np.array(size_wh, np.int64), (len(boxes_xywh), 1)), policy)


def faults(checked: CheckedBoxes) -> dict[str, list[int]]:
    return {kind: rows.tolist() for kind, rows in checked.faults.items()}


def test_a_sound_box_keeps_its_exact_numbers() -> None:
    boxes = [[0.1, 0.2, 0.3, 0.7], [0, 0, 64, 48], [63.999, 47.5, 0.001, 0.5]]
    for policy in POLICIES:
        checked = check(boxes, policy)
        assert checked.boxes_xywh.tolist() == boxes
        assert checked.kept.all()
        assert checked.faults == {}


@pytest.mark.parametrize(
    ("box", "fault", "clipped"),
    [
        ([1, 1, 2, 1e39], NOT_A_NUMBER, None),
        ([33, 1, 1e-9, 3], NO_AREA, None),
        ([64 - 1e-12, 1, 5, 3], OUTSIDE, None),
        ([math.nan, 1, 2, 3], NOT_A_NUMBER, None),
        ([1, 1, math.inf, 3], NOT_A_NUMBER, None),
        ([1, 1, 0, 3], NO_AREA, None),
        ([1, 1, 5, -3], NO_AREA, None),
        ([64, 1, 5, 3], OUTSIDE, None),
        ([1, -9, 5, 9], OUTSIDE, None),
        ([1, 500, 5, 9], OUTSIDE, None),
        ([-2, 1, 5, 3], BEYOND_EDGE, [0, 1, 3, 3]),
        ([60, 40, 10, 10], BEYOND_EDGE, [60, 40, 4, 8]),
        ([-5, -6, 100, 100], BEYOND_EDGE, [0, 0, 64, 48]),
    ],
)
def test_a_faulty_box_is_found_and_clipped_or_dropped(
    box: list[float], fault: str, clipped: list[float] | None
) -> None:
    sound = [1, 2, 3, 4]
    for policy in POLICIES:
        checked = check([sound, box, sound], policy)
        assert faults(checked) == {fault: [1]}
        is_kept = clipped is not None and policy == "clip"
        assert checked.kept.tolist() == [True, is_kept, True]
        assert checked.boxes_xywh[[0, 2]].tolist() == [sound, sound]
        if is_kept:
            assert checked.boxes_xywh[1].tolist() == clipped


def test_what_rounding_puts_over_the_edge_is_clipped_and_no_fault() -> None:
    beyond = EDGE_TOLERANCE_PX / 2
    for policy in POLICIES:
        checked = check([[-beyond, 1, 10, 10], [60, 40, 4 + beyond, 8]], policy)
        assert checked.kept.all()
        assert checked.faults == {}
        assert checked.boxes_xywh[0, 0] == 0
        assert checked.boxes_xywh[1].tolist() == [60, 40, 4, 8]


def test_without_a_size_a_box_cannot_be_beyond_the_right_edge() -> None:
    checked = check([[5000, 5000, 10, 10], [-5, 1, 10, 10], [-50, 1, 10, 10]], size_wh=(0, 0))
    assert checked.boxes_xywh[:2].tolist() == [[5000, 5000, 10, 10], [0, 1, 5, 10]]
    assert faults(checked) == {OUTSIDE: [2], BEYOND_EDGE: [1]}


def test_no_boxes_at_all() -> None:
    checked = check([])
    assert checked.kept.shape == (0,)
    assert checked.faults == {}


@given(boxes_of_four, sides, sides, st.sampled_from(POLICIES))
def test_kept_boxes_lie_in_their_image_and_every_box_has_one_fate(
    boxes: list[tuple[float, ...]], width: int, height: int, policy: BoxPolicy
) -> None:
    checked = check(boxes, policy, (width, height))
    found = [row for rows in checked.faults.values() for row in rows.tolist()]
    assert len(found) == len(set(found))
    dropped = set(np.flatnonzero(~checked.kept).tolist())
    assert dropped <= set(found)
    if policy != "clip":
        assert dropped == set(found)
    kept = checked.boxes_xywh[checked.kept]
    assert np.isfinite(kept).all()
    assert (kept[:, 2:] > 0).all()
    assert (kept[:, :2] >= 0).all()
    for axis, side in enumerate((width, height)):
        if side:
            assert (kept[:, axis] + kept[:, 2 + axis] <= side * (1 + 1e-12)).all()
    # What was kept is sound, also in the numbers that a file has.
    stored = kept.astype(np.float32).astype(np.float64)
    again = check(stored, "drop", (width, height))
    assert again.kept.all(), again.faults
    with np.errstate(over="ignore"):
        crops = [crop_to_box(np.zeros((height, width, 3), np.uint8), box) for box in kept.astype(np.float32)]
    assert all(crop.size for crop in crops if width and height)


@given(boxes_of_four)
def test_the_boxes_that_are_given_are_left_as_they_are(boxes: list[tuple[float, ...]]) -> None:
    boxes_xywh = np.array(boxes, np.float64).reshape(-1, 4)
    before = boxes_xywh.copy()
    check_boxes(boxes_xywh, np.tile(np.array((64, 48)), (len(boxes_xywh), 1)), "clip")
    assert np.array_equal(boxes_xywh, before, equal_nan=True)


def around(*objects: list[tuple[float, float, float]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    points = np.array([point for own in objects for point in own], np.float64).reshape(-1, 3)
    return boxes_around(points, np.array([len(own) for own in objects], np.int64))


def test_a_box_around_keypoints_is_padded_by_a_tenth_on_each_side() -> None:
    boxes, has_box = around([(10, 20, 2), (30, 60, 1), (15, 30, 2)])
    assert has_box.tolist() == [True]
    assert boxes[0] == pytest.approx([8, 16, 24, 48])


def test_the_padding_is_clipped_at_0_and_the_far_edges_stay() -> None:
    boxes, _ = around([(1, 2, 2), (41, 62, 2)])
    assert boxes[0] == pytest.approx([0, 0, 45, 68])


def test_points_that_are_not_labelled_do_not_count() -> None:
    boxes, has_box = around([(0, 0, 0), (10, 10, 2), (20, 20, 2), (500, 500, 0)], [(0, 0, 0), (5, 5, 0)])
    assert has_box.tolist() == [True, False]
    assert boxes[0] == pytest.approx([9, 9, 12, 12])
    assert boxes[1].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("points", [[], [(5, 5, 2)], [(5, 5, 2), (9, 5, 2)], [(5, 1, 1), (5, 9, 1)]])
def test_points_that_span_no_area_have_no_box(points: list[tuple[float, float, float]]) -> None:
    boxes, has_box = around(points, [(1, 1, 2), (2, 2, 2)])
    assert has_box.tolist() == [False, True]
    assert np.isfinite(boxes).all()


finite = st.floats(-1e6, 1e6)
labelled_points = st.lists(st.tuples(finite, finite, st.sampled_from([0.0, 1.0, 2.0])), max_size=6)


@given(st.lists(labelled_points, max_size=5))
def test_a_box_holds_its_objects_points_and_no_object_changes_anothers_box(
    objects: list[list[tuple[float, float, float]]],
) -> None:
    boxes, has_box = around(*objects)
    for points, box, is_box in zip(objects, boxes, has_box.tolist(), strict=True):
        alone, alone_has_box = around(points)
        assert (alone[0].tolist(), alone_has_box[0]) == (box.tolist(), is_box)
        if is_box:
            inside = np.array([point[:2] for point in points if point[2] > 0 and min(point[:2]) >= 0]).reshape(-1, 2)
            assert (inside >= box[:2] - 1e-6).all()
            assert (inside <= box[:2] + box[2:] + 1e-6).all()
            assert (box[:2] >= 0).all()
