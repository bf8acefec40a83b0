"""Images that a file names more than once, made one each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

MAX_SIDE_PX = 2**31 - 1
"""The largest width or height that is believed."""


@dataclass(frozen=True, slots=True, eq=False)
class NamedImages:
    """The n images that a file's m records name.

    Attributes:
        names: n names in order of first appearance, no two equal.
        sizes_wh: (n, 2) int64, width and height in pixels: the first that is known; else 0, 0.
        indices: (m,) int64: which of the images each record names.
        contradicting: records that say another size than ``sizes_wh``, ascending.
    """

    names: list[str]
    sizes_wh: NDArray[np.int64]
    indices: NDArray[np.int64]
    contradicting: NDArray[np.intp]


def merge_images(record_names: Sequence[str], record_sizes_wh: NDArray[np.int64]) -> NamedImages:
    """Return the images that records name.

    Args:
        record_names: the image's name in each of m records.
        record_sizes_wh: (m, 2), what each of them says of its size in pixels; unknown where a side is 0.
    """
    index_of = dict(zip(dict.fromkeys(record_names), count(), strict=False))
    indices = np.fromiter(map(index_of.__getitem__, record_names), np.int64, len(record_names))
    known = np.flatnonzero((record_sizes_wh > 0).all(axis=1))
    sizes_wh = np.zeros((len(index_of), 2), np.int64)
    # Of several values for one place the last one stays: backwards, that is the first.
    sizes_wh[indices[known[::-1]]] = record_sizes_wh[known[::-1]]
    differs = (record_sizes_wh[known] != sizes_wh[indices[known]]).any(axis=1)
    return NamedImages(list(index_of), sizes_wh, indices, known[differs])
