from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.sam.samples import SamInstances, SamSample
from toolkit.sam.variants import IDENTITY, variant_names, vary_boxes, vary_image, vary_masks, vary_sample

ALL = variant_names("dihedral")


def _box_around(mask_hw: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask_hw.any(1)), np.flatnonzero(mask_hw.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@given(variant=st.sampled_from(ALL), height=st.integers(1, 12), width=st.integers(1, 12), seed=st.integers(0, 999))
def test_boxes_masks_and_image_go_together(variant: str, height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks_nhw = rng.random((3, height, width)) < 0.3
    masks_nhw[:, rng.integers(height), rng.integers(width)] = True
    boxes_xyxy = np.array([_box_around(mask_hw) for mask_hw in masks_nhw], np.float32)
    image_hwc = np.repeat(masks_nhw[0][..., None], 3, axis=2).astype(np.uint8)
    sample = SamSample("a", image_hwc, boxes_xyxy, masks_nhw, np.arange(3))

    varied = vary_sample(sample, variant)

    np.testing.assert_array_equal(varied.boxes_xyxy, [_box_around(mask_hw) for mask_hw in varied.masks_nhw])
    np.testing.assert_array_equal(varied.image_hwc[..., 0], varied.masks_nhw[0])
    assert varied.id == "a"
    np.testing.assert_array_equal(varied.class_ids, [0, 1, 2])


def test_the_eight_are_the_symmetries_of_the_square() -> None:
    image_hwc = np.arange(12).reshape(4, 3, 1)

    pictures = {name: vary_image(image_hwc, name) for name in ALL}

    assert len({(picture.shape, picture.tobytes()) for picture in pictures.values()}) == 8
    np.testing.assert_array_equal(pictures["flip_x"], image_hwc[:, ::-1])
    np.testing.assert_array_equal(pictures["flip_y"], image_hwc[::-1])
    for turns, name in enumerate([IDENTITY, "rotate_90", "rotate_180", "rotate_270"]):
        np.testing.assert_array_equal(pictures[name], np.rot90(image_hwc, turns))


def test_a_choice_names_its_variants_the_image_itself_first() -> None:
    assert variant_names("none") == (IDENTITY,)
    assert variant_names("flips") == (IDENTITY, "flip_x", "flip_y", "rotate_180")
    assert variant_names("dihedral")[0] == IDENTITY


def test_the_arrays_that_came_in_stay_as_they_are() -> None:
    boxes_xyxy = np.array([[1.0, 2.0, 3.0, 5.0]])
    masks_nhw = np.zeros((1, 6, 4), bool)

    vary_boxes(boxes_xyxy, "rotate_180", 6, 4)

    assert boxes_xyxy.tolist() == [[1, 2, 3, 5]]
    assert np.shares_memory(vary_masks(masks_nhw, "rotate_90"), masks_nhw)


def test_a_sample_without_image_or_instances_is_varied_too() -> None:
    empty = SamInstances("a", np.zeros((0, 4), np.float32), np.zeros((0, 5, 9), bool), np.zeros(0, np.int64))

    varied = vary_sample(empty, "transverse")

    assert varied.masks_nhw.shape == (0, 9, 5)
    assert varied.boxes_xyxy.shape == (0, 4)


def test_an_unknown_variant_is_a_bug() -> None:
    with pytest.raises(KeyError):
        vary_image(np.zeros((2, 2, 3)), "flip_z")
