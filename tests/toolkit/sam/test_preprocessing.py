from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.sam.geometry import ResizeGeometry
from toolkit.sam.preprocessing import prepare_boxes, prepare_image, prepare_targets

INPUT_SIZE, LOW_RESOLUTION = 128, 32


@functools.cache
def _processor() -> Any:
    from transformers import SamImageProcessor, SamProcessor

    return SamProcessor(
        SamImageProcessor(
            size={"longest_edge": INPUT_SIZE},
            pad_size={"height": INPUT_SIZE, "width": INPUT_SIZE},
            mask_size={"longest_edge": LOW_RESOLUTION},
            mask_pad_size={"height": LOW_RESOLUTION, "width": LOW_RESOLUTION},
        )
    )


@settings(max_examples=30, deadline=None)
@given(height=st.integers(6, 300), width=st.integers(6, 300), seed=st.integers(0, 99))
def test_all_is_what_the_processor_makes(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image_hwc = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    masks_nhw = rng.random((2, height, width)) < 0.5
    boxes_xyxy = np.array([[1, 2, width - 1, height - 1], [0, 0, 3.5, 4.25]], np.float32)
    geometry = ResizeGeometry(height, width, INPUT_SIZE, LOW_RESOLUTION)
    low_height, low_width = geometry.valid_low_hw

    targets = prepare_targets(masks_nhw, geometry)

    for mask_hw, target in zip(masks_nhw, targets, strict=True):
        expected = _processor()(
            images=image_hwc,
            segmentation_maps=mask_hw.astype(np.uint8),
            input_boxes=[boxes_xyxy.tolist()],
            return_tensors="pt",
        )
        torch.testing.assert_close(target.long(), expected["labels"][0, :low_height, :low_width])
        assert not expected["labels"][0, low_height:].any()
        assert not expected["labels"][0, :, low_width:].any()
    torch.testing.assert_close(prepare_image(image_hwc, geometry), expected["pixel_values"][0], rtol=0, atol=1e-6)
    torch.testing.assert_close(prepare_boxes(boxes_xyxy, geometry), expected["input_boxes"][0].float())
    assert targets.dtype == torch.bool


@pytest.mark.parametrize("size_hw", [(50, 80), (200, 130), (128, 128)])
def test_sam2_is_what_its_processor_makes(size_hw: tuple[int, int]) -> None:
    from transformers import Sam2ImageProcessor, Sam2Processor

    square = {"height": INPUT_SIZE, "width": INPUT_SIZE}
    processor = Sam2Processor(
        Sam2ImageProcessor(size=square, mask_size={"height": LOW_RESOLUTION, "width": LOW_RESOLUTION}),
        target_size=INPUT_SIZE,
    )
    rng = np.random.default_rng(0)
    image_hwc = rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    mask_hw = rng.random(size_hw) < 0.5
    boxes_xyxy = np.array([[3, 4, 30, 40]], np.float32)
    geometry = ResizeGeometry(*size_hw, INPUT_SIZE, LOW_RESOLUTION, square=True)

    expected = processor(
        images=image_hwc,
        segmentation_maps=mask_hw.astype(np.uint8),
        input_boxes=[boxes_xyxy.tolist()],
        return_tensors="pt",
    )

    torch.testing.assert_close(prepare_image(image_hwc, geometry), expected["pixel_values"][0], rtol=0, atol=1e-6)
    torch.testing.assert_close(prepare_targets(mask_hw[None], geometry).long(), expected["labels"])
    torch.testing.assert_close(prepare_boxes(boxes_xyxy, geometry), expected["input_boxes"][0])


def test_an_image_without_instances_has_empty_arrays_of_the_right_shape() -> None:
    geometry = ResizeGeometry(60, 120, INPUT_SIZE, LOW_RESOLUTION)

    assert prepare_targets(np.zeros((0, 60, 120), bool), geometry).shape == (0, 16, 32)
    assert prepare_boxes(np.zeros((0, 4), np.float32), geometry).shape == (0, 4)


def test_views_that_torch_does_not_take_give_the_same() -> None:
    geometry = ResizeGeometry(40, 30, INPUT_SIZE, LOW_RESOLUTION)
    image_hwc = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    mirrored_hwc = image_hwc[:, ::-1]
    image_hwc.flags.writeable = False

    expected = prepare_image(np.ascontiguousarray(mirrored_hwc), geometry)

    assert torch.equal(prepare_image(mirrored_hwc, geometry), expected)
    assert prepare_image(image_hwc, geometry).shape == (3, INPUT_SIZE, INPUT_SIZE)


def test_arrays_of_another_size_than_the_geometry_are_refused() -> None:
    geometry = ResizeGeometry(40, 30, INPUT_SIZE, LOW_RESOLUTION)

    with pytest.raises(ValueError, match=r"expected is \(40, 30, 3\) uint8, not \(30, 40, 3\) uint8"):
        prepare_image(np.zeros((30, 40, 3), np.uint8), geometry)
    with pytest.raises(ValueError, match=r"expected is \(N, 40, 30\), not \(1, 30, 40\)"):
        prepare_targets(np.zeros((1, 30, 40), bool), geometry)
