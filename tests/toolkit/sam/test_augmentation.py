"""Augmentation: image, masks and boxes stay together, and randomness depends on nothing but its seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.sam.augmentation import augment, jittered_boxes, sample_generator
from toolkit.sam.mask_bounds import mask_boxes
from toolkit.sam.samples import SamSample
from toolkit.sam.train_options import Augmentation

KINDS: Sequence[Augmentation] = ("colour", "rotation", "crop", "boxes")


def _sample(count: int = 3, size_hw: tuple[int, int] = (60, 90)) -> SamSample:
    """A sample whose instances are bright rectangles, each of its own brightness, on black."""
    masks_nhw = np.zeros((count, *size_hw), np.bool_)
    image_hwc = np.zeros((*size_hw, 3), np.uint8)
    for index in range(count):
        rows, columns = slice(10, 45), slice(8 + 26 * index, 26 + 26 * index)
        masks_nhw[index, rows, columns] = True
        image_hwc[rows, columns] = 90 + 60 * index
    return SamSample("a", image_hwc, mask_boxes(masks_nhw), masks_nhw, np.arange(count))


@pytest.mark.parametrize("kind", ["rotation", "crop"])
@pytest.mark.parametrize("seed", range(5))
def test_masks_follow_the_image(kind: Augmentation, seed: int) -> None:
    changed = augment(_sample(), [kind], np.random.default_rng(seed))
    height, width = changed.image_hwc.shape[:2]
    assert changed.masks_nhw.shape == (len(changed.class_ids), height, width)
    assert np.array_equal(changed.boxes_xyxy, mask_boxes(changed.masks_nhw))
    for class_id, mask_hw in zip(changed.class_ids, changed.masks_nhw, strict=True):
        inside = changed.image_hwc[mask_hw][:, 0].astype(int)
        assert np.median(np.abs(inside - (90 + 60 * class_id))) == 0
    assert not np.array_equal(changed.image_hwc, _sample().image_hwc)


def test_colour_changes_nothing_but_colours() -> None:
    sample = _sample()
    changed = augment(sample, ["colour"], np.random.default_rng(0))
    assert changed.image_hwc.shape == sample.image_hwc.shape
    assert not np.array_equal(changed.image_hwc, sample.image_hwc)
    assert changed.masks_nhw is sample.masks_nhw
    assert changed.boxes_xyxy is sample.boxes_xyxy


def test_an_instance_that_is_nearly_gone_is_dropped() -> None:
    masks_nhw = np.zeros((2, 200, 200), np.bool_)
    masks_nhw[0, 90:110, 90:110] = True
    masks_nhw[1, :3, :3] = True
    sample = SamSample(
        "a", np.zeros((200, 200, 3), np.uint8), mask_boxes(masks_nhw), masks_nhw, np.arange(2, dtype=np.int64)
    )
    kept = [augment(sample, ["crop"], np.random.default_rng(seed)).class_ids.tolist() for seed in range(20)]
    assert [0] in kept
    assert all(0 in ids for ids in kept)


def test_a_sample_whose_instances_would_all_be_lost_stays_as_it_is() -> None:
    masks_nhw = np.zeros((1, 100, 100), np.bool_)
    masks_nhw[0, :2, :2] = True
    sample = SamSample("a", np.zeros((100, 100, 3), np.uint8), mask_boxes(masks_nhw), masks_nhw, np.zeros(1, np.int64))
    for seed in range(10):
        assert len(augment(sample, ["rotation"], np.random.default_rng(seed)).boxes_xyxy) == 1


def test_equal_seeds_give_equal_samples_and_others_do_not() -> None:
    def changed(seed: int, epoch: int, sample_id: str) -> bytes:
        return augment(_sample(), KINDS, sample_generator(seed, epoch, sample_id)).image_hwc.tobytes()

    assert changed(1, 2, "a") == changed(1, 2, "a")
    assert len({changed(1, 2, "a"), changed(2, 2, "a"), changed(1, 3, "a"), changed(1, 2, "b")}) == 4


@given(
    st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=5),
    st.integers(1, 200),
    st.integers(1, 200),
    st.integers(0, 99),
)
def test_shifted_boxes_stay_inside_and_have_an_area(
    corners: list[tuple[float, float, float, float]], height: int, width: int, seed: int
) -> None:
    relative = np.sort(np.array(corners).reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    masks_nhw = np.zeros((len(corners), height, width), np.bool_)
    for mask_hw, (left, top, right, bottom) in zip(masks_nhw, relative * [width, height, width, height], strict=True):
        mask_hw[int(top) : int(bottom) + 1, int(left) : int(right) + 1] = True
    shifted = jittered_boxes(masks_nhw, np.random.default_rng(seed))
    assert shifted.dtype == np.float32
    assert (shifted[:, :2] >= 0).all()
    assert (shifted[:, 2:] <= [width, height]).all()
    assert (shifted[:, 2:] - shifted[:, :2] >= 1 - 1e-4).all()


def test_shifted_boxes_are_those_of_the_masks_whatever_the_boxes_were() -> None:
    sample = _sample()
    careless = replace(sample, boxes_xyxy=np.zeros_like(sample.boxes_xyxy))
    shifted, other = (augment(each, ["boxes"], np.random.default_rng(3)).boxes_xyxy for each in (sample, careless))
    assert np.array_equal(shifted, other)
    assert not np.array_equal(shifted, mask_boxes(sample.masks_nhw))


def test_boxes_shift_by_a_tenth_of_their_sides() -> None:
    mask_hw = np.zeros((1024, 1024), np.bool_)
    mask_hw[400:440, 400:500] = True
    shifts = jittered_boxes(np.broadcast_to(mask_hw, (4000, 1024, 1024)), np.random.default_rng(0)) - [
        400,
        400,
        500,
        440,
    ]
    assert shifts.std(axis=0) == pytest.approx([9.6, 4, 9.6, 4], rel=0.06)
    assert np.abs(shifts).max() <= 20 + 1e-3
