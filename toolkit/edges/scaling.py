"""Edge maps at smaller scales: a cell is an edge where OpenCV's area interpolation leaves anything of one."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

# OpenCV ignores an overlap of a cell and a pixel below this (computeResizeAreaTab in modules/imgproc/src/resize.cpp).
_IGNORED_OVERLAP_PX: Final = 1e-3


def scale_edges(edges_wh: npt.NDArray[np.uint8], sides: Collection[int]) -> dict[int, npt.NDArray[np.uint8]]:
    """Return an edge map scaled to ``side`` x ``side``, for each of ``sides``.

    Equal to ``cv2.resize(edge.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA) > 0``. On float32:
    resizing uint8 rounds thin edges away.

    Args:
        edges_wh: (W, H) uint8, 0 or 1: the edge map, transposed as :func:`toolkit.edges.boundaries.draw_edges` has it.
        sides: heights and widths of the scaled maps.

    Returns:
        (side, side) uint8, 0 or 1, row by row as images have it; by side, in the order of ``sides``.
    """
    maps: dict[int, npt.NDArray[np.uint8]] = {}
    finer = 0
    for side in sorted(sides, reverse=True):
        if min(edges_wh.shape) < side:
            # An axis that grows is not interpolated by area; such images are small, and OpenCV is fast.
            resized = cv2.resize(edges_wh.T.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
            maps[side] = (resized > 0).astype(np.uint8)
        elif finer and all(_unite(size, finer, side) for size in edges_wh.shape):
            maps[side] = _shrunk(maps[finer], finer // side)
        else:
            maps[side] = _any_in_cells(_any_in_cells(edges_wh, side).T, side)
            finer = side
    return {side: maps[side] for side in sides}


def _shrunk(edges: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    """Return the map whose cells are ``factor`` x ``factor`` cells of ``edges``, united by OR."""
    rows = functools.reduce(np.bitwise_or, (edges[offset::factor] for offset in range(factor)))
    return functools.reduce(np.bitwise_or, (rows[:, offset::factor] for offset in range(factor)))


@functools.lru_cache(maxsize=256)
def _unite(size: int, finer: int, side: int) -> bool:
    """Tell whether each of ``side`` cells of ``size`` pixels is a group of ``finer`` cells, to the pixel."""
    if finer % side:
        return False
    factor = finer // side
    (fine_starts, fine_ends), (starts, ends) = cells(size, finer), cells(size, side)
    return bool((fine_starts[::factor] == starts).all() and (fine_ends[factor - 1 :: factor] == ends).all())


def _any_in_cells(edges: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Return ``edges`` with its first axis divided into ``side`` cells, each the OR of the rows it overlaps."""
    starts, ends = cells(edges.shape[0], side)
    last = ends - 1
    united = edges[starts]
    for step in range(1, int((ends - starts).max())):
        united |= edges[np.minimum(starts + step, last)]
    return united


@functools.lru_cache(maxsize=256)
def cells(size: int, side: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the first pixel of each of ``side`` cells that divide ``size`` pixels, and the one after its last.

    Neighbouring cells share a pixel where the border between them goes through it. ``size`` is at least ``side``.
    """
    scale = 1.0 / (side / size)  # as OpenCV rounds it
    starts, ends = np.empty(side, np.int64), np.empty(side, np.int64)
    for cell in range(side):
        left, right = cell * scale, cell * scale + scale
        last = min(math.floor(right), size - 1)
        first = min(math.ceil(left), last)
        starts[cell] = first - (first - left > _IGNORED_OVERLAP_PX)
        ends[cell] = last + (right - last > _IGNORED_OVERLAP_PX)
    return starts, ends
