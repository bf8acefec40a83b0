"""Scaled edge maps against OpenCV's area interpolation."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.edges.scaling import cells, scale_edges

SIDES = (256, 64, 32)


def opencv_cells(size: int, side: int) -> np.ndarray:
    """(side, size) bool: which cells OpenCV counts each pixel into, one pixel set at a time."""
    overlaps = np.zeros((side, size), np.bool_)
    for first in range(0, size, side):
        pixels = np.arange(first, min(first + side, size))
        one_a_row = np.zeros((side, size), np.float32)
        one_a_row[pixels - first, pixels] = 1
        resized = cv2.resize(one_a_row, (side, side), interpolation=cv2.INTER_AREA)
        overlaps[:, pixels] = resized[: len(pixels)].T > 0
    return overlaps


def our_cells(size: int, side: int) -> np.ndarray:
    starts, ends = cells(size, side)
    pixels = np.arange(size)
    return (starts[:, None] <= pixels) & (pixels < ends[:, None])


@pytest.mark.parametrize("side", SIDES)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_cells_are_those_of_opencv(side: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(side, 5000))
    np.testing.assert_array_equal(our_cells(size, side), opencv_cells(size, side))


@pytest.mark.slow
@pytest.mark.parametrize("side", SIDES)
def test_cells_are_those_of_opencv_for_every_size(side: int) -> None:
    wrong = [s for s in range(side, 2600) if not np.array_equal(our_cells(s, side), opencv_cells(s, side))]
    assert not wrong


@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    density=st.sampled_from([0.0002, 0.01, 0.3]),
    seed=st.integers(0, 99),
)
@settings(max_examples=100, deadline=None)
def test_sparse_maps(height: int, width: int, density: float, seed: int) -> None:
    edges_hw = (np.random.default_rng(seed).random((height, width)) < density).astype(np.uint8)
    maps = scale_edges(np.ascontiguousarray(edges_hw.T), SIDES)
    for side, edge_map in maps.items():
        resized = cv2.resize(edges_hw.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(edge_map, (resized > 0).astype(np.uint8), err_msg=f"{height}x{width} to {side}")


def test_sides_that_do_not_nest_and_their_order() -> None:
    edges_hw = (np.random.default_rng(1).random((331, 457)) < 0.002).astype(np.uint8)
    maps = scale_edges(np.ascontiguousarray(edges_hw.T), (32, 100, 48, 64))
    assert list(maps) == [32, 100, 48, 64]
    for side, edge_map in maps.items():
        resized = cv2.resize(edges_hw.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(edge_map, resized > 0)
