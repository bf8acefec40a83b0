"""The edges of an image's masks, drawn from run lengths: the work grows with the boundaries, not with the pixels.

A mask's morphological gradient (dilation minus erosion) is above zero exactly where the kernel's window, cut at the
image's border, holds both mask and background. That window is a rectangle, so it then holds two neighbouring pixels
that differ. Marking those differences and letting each mark grow to all windows that hold it gives the edge map of any
number of masks at once:

- differences down a column are the ends of the column's runs;
- differences between two columns are the runs of the mask XORed with itself, shifted by one column.

In column-major order, that of COCO's run lengths, both come from the sorted positions of the run ends.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from toolkit.annotations.rle import RunLengths

# Nearly all runs across are a few pixels long: they are filled together, a pixel of each at a time; what is left of
# longer ones is filled run by run.
_PIXELS_TOGETHER: Final = 16
# OpenCV's time and memory grow with the window: beyond this reach, in pixels, counting is faster.
_FAR: Final = 64


def draw_edges(masks: RunLengths, kernel_size: int) -> npt.NDArray[np.uint8]:
    """Return the union of the masks' morphological gradients, transposed.

    Equal to ``cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((kernel_size, kernel_size))) > 0`` of every mask,
    united by OR.

    Args:
        masks: the masks of one image.
        kernel_size: side of the square kernel in pixels, at least 1; its anchor is ``kernel_size // 2``.

    Returns:
        (W, H) uint8, 1 on edges and 0 elsewhere: the edge map in column-major order, as run lengths have it.
    """
    if kernel_size == 1:
        return np.zeros((masks.width, masks.height), np.uint8)
    differs_down, differs_across = _mark_differences(masks)
    # A window that reaches so far before and behind its anchor covers a pixel; to hold also the one before it (above,
    # left), it must reach one place further, and so there is one place less for the window along that axis.
    before, behind = kernel_size // 2, (kernel_size - 1) // 2
    near_down = _windows_that_hold(differs_down, (before, behind), (before - 1, behind))
    near_across = _windows_that_hold(differs_across, (before - 1, behind), (before, behind))
    return cv2.bitwise_or(near_down, near_across, dst=near_down).astype(np.uint8, copy=False)


def _windows_that_hold(
    marks: npt.NDArray[np.uint8], rows: tuple[int, int], columns: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """Return 1 at each anchor whose window holds a mark, given how far the window reaches before and behind it.

    The result may take the place of ``marks``.
    """
    if sum(rows) < _FAR and sum(columns) < _FAR:
        window = np.ones((sum(rows) + 1, sum(columns) + 1), np.uint8)
        # In place: fewer maps in the processor's cache, which several workers share.
        return cv2.dilate(marks, window, dst=marks, anchor=(columns[0], rows[0])).astype(np.uint8, copy=False)
    return np.ascontiguousarray(_any_near(_any_near(marks, *rows).T, *columns).T)


def _any_near(marks: npt.NDArray[np.uint8], before: int, behind: int) -> npt.NDArray[np.uint8]:
    """Return 1 in each row that has a mark in its column, at most so many rows before or behind it; at any reach."""
    size = marks.shape[0]
    counts = np.zeros((size + 1, marks.shape[1]), np.int32)
    np.cumsum(marks, axis=0, out=counts[1:])
    rows = np.arange(size)
    first, end = np.maximum(rows - before, 0), np.minimum(rows + behind, size - 1) + 1
    near: npt.NDArray[np.uint8] = (counts[end] > counts[first]).astype(np.uint8)
    return near


def _mark_differences(masks: RunLengths) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return two (W, H) uint8 maps: where a mask's pixel differs from the one above it, and from the one left of it."""
    width, height = masks.width, masks.height
    area_px = width * height
    # Positions count on from one mask to the next, so that one sort serves all masks.
    run_ends = np.cumsum(masks.counts)
    is_inside = np.ones(len(run_ends), np.bool_)
    is_inside[masks.first[1:] - 1] = False  # a mask's last run ends with the image
    run_ends = run_ends[is_inside]
    mask_starts = np.repeat(np.arange(len(masks)) * area_px, np.diff(masks.first) - 1)

    differs_down = np.zeros(area_px, np.uint8)
    differs_down[run_ends - mask_starts] = 1
    differs_down[::height] = 0  # no pixel is above the first one of a column

    # The mask XORed with the mask one column on changes at each run end of either. Each run end gives two changes, and
    # so one run: the runs of a mask lie in the same places of their array as its run ends in theirs.
    changes = np.concatenate((run_ends, np.minimum(run_ends + height, mask_starts + area_px)))
    changes.sort(kind="stable")  # merges the two sorted halves
    differs_across = np.zeros(area_px, np.uint8)
    _fill_runs(differs_across, changes[::2] - mask_starts, changes[1::2] - changes[::2])
    differs_across[:height] = 0  # no pixel is left of the first column
    return differs_down.reshape(width, height), differs_across.reshape(width, height)


def _fill_runs(flat: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> None:
    """Set ``lengths[i]`` elements of ``flat`` from ``starts[i]`` on to 1, for every i."""
    for offset in range(_PIXELS_TOGETHER):
        longer = np.flatnonzero(lengths > offset)
        starts, lengths = starts[longer], lengths[longer]
        flat[starts + offset] = 1
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        flat[start : start + length] = 1
