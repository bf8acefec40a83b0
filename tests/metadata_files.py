"""Small metadata files for tests, written as mvtk writes them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.metadata.columns import ROW_WIDTHS, Kind, SampleColumns
from toolkit.metadata.record import MetadataInfo
from toolkit.metadata.writing import write_metadata

Rows = Sequence[Sequence[float]] | Sequence[float] | NDArray[Any]
"""A sample's boxes (left, top, width, height) or keypoints (x, y, visibility); a teacher's may be its one box."""

Samples = Sequence[tuple[str, Rows]]
"""Image path, relative to the root, and rows of each sample."""


def sample_columns(
    kind: Kind,
    samples: Samples,
    *,
    class_ids: Sequence[int] | None = None,
    sizes_wh: Sequence[tuple[int, int]] | None = None,
) -> SampleColumns:
    """Return samples as columns; class 0 (one a row, or one a landmarker sample) and unknown sizes unless given."""
    rows = [np.asarray(sample_rows, np.float64).reshape(-1, ROW_WIDTHS[kind]) for _, sample_rows in samples]
    row_counts = np.array([len(sample_rows) for sample_rows in rows], np.int64)
    classes = len(samples) if kind == "landmarker" else int(row_counts.sum())
    return SampleColumns.build(
        kind,
        [os.fsencode(path) for path, _ in samples],
        np.zeros((len(samples), 2), np.int64) if sizes_wh is None else np.array(sizes_wh, np.int64).reshape(-1, 2),
        row_counts,
        np.concatenate([np.zeros((0, ROW_WIDTHS[kind])), *rows]),
        np.zeros(classes, np.int64) if class_ids is None else np.array(class_ids, np.int64),
    )


def write_samples(
    path: Path,
    kind: Kind,
    samples: Samples,
    *,
    info: MetadataInfo | None = None,
    class_ids: Sequence[int] | None = None,
    sizes_wh: Sequence[tuple[int, int]] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a metadata file and return its path; the root is the file's folder unless ``info`` says otherwise."""
    columns = sample_columns(kind, samples, class_ids=class_ids, sizes_wh=sizes_wh)
    write_metadata(path, kind, info or MetadataInfo("."), [columns], overwrite=overwrite)
    return path
