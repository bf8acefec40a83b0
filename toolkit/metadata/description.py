"""What a metadata file holds, in types that JSON has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.core.errors import OptionError
from toolkit.metadata.reading import MetadataFile
from toolkit.metadata.record import ROW_FIELDS, VERSION
from toolkit.metadata.verification import sample_paths


def describe_metadata(file: MetadataFile) -> dict[str, Any]:
    """Return a file's path, kind, size and counts, and where its samples come from.

    Keys: ``path``, ``kind``, ``version``, ``bytes``, ``samples``, ``rows`` (boxes or keypoints in all), ``images``
    (distinct paths), ``root`` (absolute), ``root_exists``, ``split``, ``classes`` (a count by name; ids without a name
    as ``class 7``), ``without_class``, ``sources``, ``split_by``, ``written_by``. All samples are read once.

    Raises:
        MetadataError: the file's offsets lie.
    """
    file.columns()
    root = file.root.resolve()
    counts = class_counts(file)
    return {
        "path": str(file.path),
        "kind": file.kind,
        "version": VERSION,
        "bytes": file.identity.size,
        "samples": len(file),
        "rows": len(file.rows),
        "images": len(set(sample_paths(file))),
        "root": str(root),
        "root_exists": root.is_dir(),
        "split": file.info.split,
        "classes": {
            class_name(file.info.class_names, class_id): count for class_id, count in counts.items() if class_id >= 0
        },
        "without_class": counts.get(-1, 0),
        "sources": [
            {"name": source.name, "format": source.format, "samples": source.samples} for source in file.info.sources
        ],
        "split_by": file.info.split_by,
        "written_by": file.info.written_by,
    }


def describe_sample(file: MetadataFile, index: int) -> dict[str, Any]:
    """Return one sample: its image, and its rows as lists of numbers; None for one that is not finite.

    Keys: ``index``, ``image_path`` (as stored), ``image`` (absolute), ``image_exists``, ``image_size_wh`` (None where
    unknown), ``boxes_xywh`` or ``keypoints_xyv``, ``classes`` (a name a row, or one for all keypoints; None without).

    Args:
        file: the open file.
        index: the sample, from 0; from the end where negative.

    Raises:
        OptionError: there is no such sample.
        MetadataError: the sample's offsets lie.
    """
    count = len(file)
    if not -count <= index < count:
        valid = f"give {-count} to {count - 1}" if count else "it has none"
        raise OptionError(f"{file.path}: there is no sample {index}", valid)
    index %= count
    stored_path = file.image_path(index)
    image = file.root.resolve() / stored_path
    rows = file.rows_of(index)
    width, height = (int(side) for side in file.image_sizes_wh[index])
    class_ids = file.class_ids[index : index + 1] if file.kind == "landmarker" else file.class_ids[rows]
    return {
        "index": index,
        "image_path": stored_path,
        "image": str(image),
        "image_exists": image.is_file(),
        "image_size_wh": [width, height] if width and height else None,
        ROW_FIELDS[file.kind]: [short_numbers(row) for row in file.rows[rows]],
        "classes": [
            class_name(file.info.class_names, int(class_id)) if class_id >= 0 else None for class_id in class_ids
        ],
    }


def class_counts(file: MetadataFile) -> dict[int, int]:
    """Return how often each class id occurs, in rising order; -1: none."""
    class_ids, counts = np.unique(file.class_ids, return_counts=True)
    return dict(zip(class_ids.tolist(), counts.tolist(), strict=True))


def class_name(class_names: Sequence[str], class_id: int) -> str:
    """Return a class id's name; "" for -1, ``class 7`` for an id without a name."""
    if class_id < 0:
        return ""
    return class_names[class_id] if class_id < len(class_names) else f"class {class_id}"


def short_numbers(values: NDArray[Any]) -> list[float | None]:
    """Return float32 values as the shortest decimals that stand for them: 10.1, not 10.100000381."""
    return [float(str(value)) if math.isfinite(value) else None for value in values]
