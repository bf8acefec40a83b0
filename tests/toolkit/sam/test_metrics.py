from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from toolkit.sam.mask_bounds import mask_boxes, mask_window
from toolkit.sam.metrics import boundary_f, mask_boundary, mask_dice, mask_iou, score_masks, size_name

Mask = NDArray[np.bool_]

pairs_of_masks = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda size: st.tuples(*[arrays(np.bool_, (2, *size))] * 2)
)


def set_of(mask_hw: Mask) -> set[tuple[int, int]]:
    return {(y, x) for y in range(mask_hw.shape[0]) for x in range(mask_hw.shape[1]) if mask_hw[y, x]}


def slow_boundary(mask_hw: Mask) -> set[tuple[int, int]]:
    """DAVIS' seg2bmap, a pixel at a time: it differs from its right, lower or lower right neighbour."""
    height, width = mask_hw.shape
    found = set()
    for y in range(height):
        for x in range(width):
            below, right = min(y + 1, height - 1), min(x + 1, width - 1)
            if any(mask_hw[y, x] != mask_hw[other] for other in ((y, right), (below, x), (below, right))):
                found.add((y, x))
    return found


def slow_boundary_f(predicted: Mask, truth: Mask, tolerance: float) -> float:
    if predicted.any() != truth.any():
        return 0.0
    radius = math.ceil(tolerance * math.hypot(*truth.shape))
    ours, theirs = slow_boundary(predicted), slow_boundary(truth)
    if not ours or not theirs:
        return float(bool(ours) == bool(theirs))

    def matched(some: set[tuple[int, int]], others: set[tuple[int, int]]) -> float:
        return sum(any(math.dist(a, b) <= radius for b in others) for a in some) / len(some)

    precision, recall = matched(ours, theirs), matched(theirs, ours)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@given(pairs_of_masks)
def test_iou_and_dice_are_those_of_sets_of_pixels(masks: tuple[Mask, Mask]) -> None:
    for predicted, truth, iou, dice in zip(*masks, mask_iou(*masks), mask_dice(*masks), strict=True):
        a, b = set_of(predicted), set_of(truth)
        assert iou == (len(a & b) / len(a | b) if a | b else 1)
        assert dice == (2 * len(a & b) / (len(a) + len(b)) if a or b else 1)
        assert dice == pytest.approx(2 * iou / (1 + iou))


@given(pairs_of_masks, st.sampled_from([0.001, 0.1, 0.2, 0.35]))
def test_boundary_f_equals_the_comparison_of_all_pairs_of_pixels(masks: tuple[Mask, Mask], tolerance: float) -> None:
    expected = [slow_boundary_f(predicted, truth, tolerance) for predicted, truth in zip(*masks, strict=True)]
    np.testing.assert_allclose(boundary_f(*masks, tolerance), expected, atol=1e-12)


@given(pairs_of_masks)
def test_scores_are_between_0_and_1_symmetric_and_1_for_equal_masks(masks: tuple[Mask, Mask]) -> None:
    scores, swapped, same = score_masks(*masks), score_masks(*masks[::-1]), score_masks(masks[0], masks[0])
    for name in ("iou", "dice", "boundary_f"):
        values = getattr(scores, name)
        assert ((values >= 0) & (values <= 1)).all()
        np.testing.assert_allclose(values, getattr(swapped, name))
        assert (getattr(same, name) == 1).all()


@given(arrays(np.bool_, st.tuples(st.integers(1, 7), st.integers(1, 7))))
def test_boundary_is_where_neighbours_differ(mask_hw: Mask) -> None:
    assert set_of(mask_boundary(mask_hw)) == slow_boundary(mask_hw)


def test_boundary_f_forgives_a_shift_within_the_tolerance_only() -> None:
    truth = np.zeros((1, 100, 100), np.bool_)
    truth[0, 30:60, 30:60] = True
    shifted = np.roll(truth, 4, axis=2)
    assert boundary_f(shifted, truth, tolerance=4 / math.hypot(100, 100)).item() == 1
    assert boundary_f(shifted, truth, tolerance=3 / math.hypot(100, 100)).item() < 0.8


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"), [(0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 1)], ids=["both empty", "", "", "full"]
)
def test_empty_and_full_masks(predicted: int, truth: int, expected: float) -> None:
    masks = [np.full((1, 8, 8), bool(value)) for value in (predicted, truth)]
    scores = score_masks(*masks)
    assert (scores.iou.item(), scores.dice.item(), scores.boundary_f.item()) == (expected,) * 3


def test_no_masks_have_no_scores() -> None:
    none = np.zeros((0, 5, 6), np.bool_)
    assert score_masks(none, none).boundary_f.shape == (0,)


def test_masks_of_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"masks of shape \(1, 4, 4\) against \(1, 4, 5\), not both \(N, H, W\)"):
        mask_iou(np.zeros((1, 4, 4), np.bool_), np.zeros((1, 4, 5), np.bool_))


def test_sizes_are_those_of_coco() -> None:
    areas = [0, 1023, 1024, 9215, 9216]
    assert [size_name(area) for area in areas] == ["small", "small", "medium", "medium", "large"]


@given(arrays(np.bool_, st.tuples(st.just(1), st.integers(1, 6), st.integers(1, 6))), st.integers(0, 2))
def test_a_window_holds_the_mask_its_margin_and_nothing_else(masks_nhw: Mask, margin: int) -> None:
    mask_hw = masks_nhw[0]
    rows, columns = mask_window(mask_hw, margin)
    assert mask_hw[rows, columns].sum() == mask_hw.sum()
    left, top, right, bottom = mask_boxes(masks_nhw)[0].astype(int).tolist()
    if mask_hw.any():
        pixels = set_of(mask_hw)
        assert (top, left) == (min(y for y, _ in pixels), min(x for _, x in pixels))
        assert (bottom, right) == (max(y for y, _ in pixels) + 1, max(x for _, x in pixels) + 1)
        assert (rows.start, columns.start) == (max(top - margin, 0), max(left - margin, 0))
        assert (rows.stop, columns.stop) == (
            min(bottom + margin, mask_hw.shape[0]),
            min(right + margin, mask_hw.shape[1]),
        )
    else:
        assert (left, top, right, bottom) == (0, 0, 0, 0)
