from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.core.errors import MvtkError
from toolkit.sam.geometry import ResizeGeometry

SIDES = st.integers(1, 5000)


@functools.cache
def _processor() -> Any:
    from transformers import SamImageProcessor, SamProcessor

    return SamProcessor(SamImageProcessor())


@settings(deadline=None)  # the first example imports transformers
@given(height=SIDES, width=SIDES)
def test_sizes_are_rounded_as_the_processor_rounds_them(height: int, width: int) -> None:
    shape_at = _processor().image_processor._get_preprocess_shape

    if min(shape_at((height, width), 256)) < 1:
        with pytest.raises(MvtkError):
            ResizeGeometry(height, width, 1024, 256)
        return
    geometry = ResizeGeometry(height, width, 1024, 256)

    assert geometry.resized_hw == shape_at((height, width), 1024)
    assert geometry.valid_low_hw == shape_at((height, width), 256)


@settings(deadline=None)
@given(
    height=st.integers(8, 4000),
    width=st.integers(8, 4000),
    box=st.lists(st.floats(0, 4000, width=32), min_size=4, max_size=4),
)
def test_boxes_are_scaled_as_the_processor_scales_them(height: int, width: int, box: list[float]) -> None:
    if max(height, width) / min(height, width) > 500:
        return
    expected = _processor()._normalize_coordinates(1024, np.array([box]), (height, width), is_bounding_box=True)

    scaled = ResizeGeometry(height, width, 1024, 256).scale_boxes(np.array([box], np.float32))

    np.testing.assert_allclose(scaled, expected, rtol=1e-9)


@pytest.mark.parametrize("size_hw", [(90, 128), (128, 90), (300, 211), (17, 40)])
def test_logits_go_back_to_the_image_as_the_processor_brings_them(size_hw: tuple[int, int]) -> None:
    from transformers import SamImageProcessor

    processor = SamImageProcessor(
        size={"longest_edge": 128}, pad_size={"height": 128, "width": 128}, mask_size={"longest_edge": 32}
    )
    geometry = ResizeGeometry(*size_hw, 128, 32)
    logits = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0))

    [expected] = processor.post_process_masks([logits[:, None]], [size_hw], [geometry.resized_hw], binarize=False)

    torch.testing.assert_close(geometry.to_original(logits), expected[:, 0])


def test_sam2_squashes_to_a_square_and_back() -> None:
    from transformers import Sam2ImageProcessor

    geometry = ResizeGeometry(90, 61, 128, 32, square=True)
    logits = torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(0))

    [expected] = Sam2ImageProcessor().post_process_masks([logits[:, None]], [(90, 61)], binarize=False)

    assert geometry.resized_hw == (128, 128)
    assert geometry.valid_low_hw == (32, 32)
    torch.testing.assert_close(geometry.to_original(logits), expected[:, 0])


def test_no_logits_are_no_masks() -> None:
    assert ResizeGeometry(30, 40, 128, 32).to_original(torch.zeros(0, 32, 32)).shape == (0, 30, 40)


def test_a_too_narrow_image_is_refused_with_its_size() -> None:
    with pytest.raises(MvtkError, match=r"an image of 3 x 5000 pixels is too narrow.*crop or split"):
        ResizeGeometry(5000, 3, 1024, 256)
