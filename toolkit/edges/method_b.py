"""Edge maps of an image's instance masks, Method B: edges instance by instance, then united.

For each mask the morphological gradient (dilation minus erosion, square kernel) is thresholded at 0; the edges of all
masks are united by OR; smaller scales are taken from the union by area interpolation, and whatever is above 0 counts.
Overlapping masks, as SA-1B has them, keep all their edges. The maps equal those of the documented algorithm
(``cv2.morphologyEx`` of every decoded mask) to the bit.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Collection
from pathlib import Path
from typing import Final, Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from toolkit.annotations.rle import RunLengths
from toolkit.annotations.sa1b import load_sa1b
from toolkit.core.errors import OptionError
from toolkit.edges.boundaries import draw_edges
from toolkit.edges.scaling import scale_edges

SIDES: Final = (256, 64, 32)
"""The sides of the scaled edge maps."""
DEFAULT_KERNEL_SIZE: Final = 3

EdgeMap: TypeAlias = npt.NDArray[np.uint8]
EdgeMaps: TypeAlias = dict[Literal["original"] | int, EdgeMap]


def extract_edges_method_b(json_path: str | os.PathLike[str], kernel_size: int = DEFAULT_KERNEL_SIZE) -> EdgeMaps:
    """Return the edge maps of the masks in an SA-1B annotation file.

    Args:
        json_path: the annotation of one image; its masks are compressed or uncompressed run lengths, or polygons.
        kernel_size: side of the square kernel in pixels; odd or even, at least 1 (which leaves no edges).

    Returns:
        ``'original'``: (H, W), and 256, 64 and 32: (N, N); all uint8, 1 on edges and 0 elsewhere.

    Raises:
        MvtkError: the file cannot be read, or its masks are not sound; the line names everything that is wrong.
        OptionError: ``kernel_size`` is no whole number from 1.
    """
    return edge_maps(load_sa1b(Path(json_path)).masks, kernel_size)


def edge_maps(masks: RunLengths, kernel_size: int = DEFAULT_KERNEL_SIZE) -> EdgeMaps:
    """Return the edge maps of masks; see :func:`extract_edges_method_b`."""
    edges_wh = _draw(masks, kernel_size)
    original: EdgeMap = cv2.transpose(edges_wh).astype(np.uint8, copy=False)
    maps: EdgeMaps = {"original": original}
    for side, edge_map in scale_edges(edges_wh, SIDES).items():
        maps[side] = edge_map
    return maps


def scaled_edge_maps(
    masks: RunLengths, kernel_size: int = DEFAULT_KERNEL_SIZE, sides: Collection[int] = SIDES
) -> dict[int, EdgeMap]:
    """Return the (N, N) edge map of each side N asked for, without the one at the image's size."""
    return scale_edges(_draw(masks, kernel_size), sides)


def _draw(masks: RunLengths, kernel_size: int) -> EdgeMap:
    try:
        side_px = operator.index(kernel_size)
    except TypeError:
        side_px = 0
    if side_px < 1:
        raise OptionError(f"kernel size {kernel_size!r}", "it is the side of a square: a whole number of pixels from 1")
    return draw_edges(masks, side_px)
