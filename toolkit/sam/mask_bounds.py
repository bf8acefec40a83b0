"""Where in its image a mask lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mask_window(mask_hw: NDArray[np.bool_], margin_px: int = 0) -> tuple[slice, slice]:
    """Return the rows and columns that hold a mask and a margin around it, within the image; ``[0:0]`` if it is empty.

    Args:
        mask_hw: (H, W) bool.
        margin_px: how many rows and columns to add on each side.
    """
    rows, columns = np.flatnonzero(mask_hw.any(axis=1)), np.flatnonzero(mask_hw.any(axis=0))
    if not rows.size:
        return slice(0, 0), slice(0, 0)
    return (
        slice(max(int(rows[0]) - margin_px, 0), min(int(rows[-1]) + 1 + margin_px, mask_hw.shape[0])),
        slice(max(int(columns[0]) - margin_px, 0), min(int(columns[-1]) + 1 + margin_px, mask_hw.shape[1])),
    )


def mask_boxes(masks_nhw: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the smallest box around each mask.

    Args:
        masks_nhw: (N, H, W) bool.

    Returns:
        (N, 4) float32: left, top, right, bottom in pixels, right and bottom exclusive; all 0 for an empty mask.
    """
    windows = [mask_window(mask_hw) for mask_hw in masks_nhw]
    corners = [(columns.start, rows.start, columns.stop, rows.stop) for rows, columns in windows]
    return np.array(corners, np.float32).reshape(-1, 4)
