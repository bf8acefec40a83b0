"""Samples of one kind as arrays: what is written to a file and what is read from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

Kind = Literal["detector", "landmarker", "teacher"]
"""What a file's samples are: images with all boxes, images with one object's keypoints, one box of an image each."""

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

ROW_WIDTHS: Final[dict[Kind, int]] = {"detector": 4, "landmarker": 3, "teacher": 4}
"""Numbers in a row: a box has left, top, width and height; a keypoint x, y and visibility."""


@dataclass(frozen=True, slots=True)
class SampleColumns:
    """n samples of one kind, with m rows (boxes or keypoints) in all.

    Attributes:
        kind: what the samples are.
        path_bytes: (k,) uint8: the images' paths, one after another, as the file system writes them.
        path_lengths: (n,) int64: each path's length in bytes.
        image_sizes_wh: (n, 2) int64: width and height in pixels; 0, 0 where unknown.
        row_counts: (n,) int64: how many rows each sample has; a teacher sample has one.
        rows: (m, 4) or (m, 3) float32, see ``ROW_WIDTHS``; pixels.
        class_ids: a row's class for boxes, a sample's class for keypoints: (m,) or (n,) int64; -1: none.
    """

    kind: Kind
    path_bytes: NDArray[np.uint8]
    path_lengths: NDArray[np.int64]
    image_sizes_wh: NDArray[np.int64]
    row_counts: NDArray[np.int64]
    rows: NDArray[np.float32]
    class_ids: NDArray[np.int64]

    @classmethod
    def build(
        cls,
        kind: Kind,
        paths: Sequence[bytes],
        image_sizes_wh: NDArray[np.int64],
        row_counts: NDArray[np.int64],
        rows: NDArray[np.float64] | NDArray[np.float32],
        class_ids: NDArray[np.int64],
    ) -> Self:
        """Return the columns of samples whose paths are given one by one."""
        return cls(
            kind,
            np.frombuffer(b"".join(paths), np.uint8),
            np.fromiter(map(len, paths), np.int64, len(paths)),
            image_sizes_wh,
            row_counts,
            rows.astype(np.float32),
            class_ids,
        )

    @classmethod
    def joined(cls, chunks: Sequence[Self]) -> Self:
        """Return the samples of chunks of one kind, one after another."""
        if len(chunks) == 1:
            return chunks[0]
        columns = [name for name in cls.__slots__ if name != "kind"]
        joined = {name: np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in columns}
        return cls(chunks[0].kind, **joined)

    def __len__(self) -> int:
        return len(self.path_lengths)
