"""Figures of a metadata file: how many boxes or keypoints an image has, how large they are, and of which class."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from toolkit.metadata.description import class_counts, class_name
from toolkit.metadata.reading import MetadataFile
from toolkit.metadata.verification import sample_paths

SMALL_PX: Final = 32
MEDIUM_PX: Final = 96
"""COCO's borders: a small object has less than 32^2 pixels, a large one at least 96^2 (cocodataset.org, Metrics)."""

_QUANTILES: Final = {"min": 0.0, "p5": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}
WITHOUT_CLASS: Final = "without class"

_DECIMALS: Final = 3


def metadata_statistics(file: MetadataFile) -> dict[str, Any]:
    """Return a file's figures in types that JSON has; quantiles are of finite values, in pixels.

    Always: ``kind``, ``samples``, ``image_sizes`` (``known``, ``distinct``, quantiles of ``width_px`` and
    ``height_px``). For boxes: ``boxes``, ``boxes_an_image`` (``mean``, ``max``, ``histogram``: images by number of
    boxes), ``images_without_boxes``, quantiles of ``width_px``, ``height_px``, ``area_px`` and ``aspect_ratio`` (width
    by height), ``coco_sizes`` (``small``, ``medium``, ``large``) and ``classes`` (``boxes`` and median ``area_px`` by
    name; "without class" for the others). For keypoints: ``keypoints``, ``keypoints_a_sample`` (likewise),
    ``visibility`` (``not_labelled``, ``hidden``, ``visible``) and ``classes`` (samples by name). An image is a sample;
    a teacher's images are told apart by their paths.

    Raises:
        MetadataError: the file's offsets lie.
    """
    columns = file.columns()
    figures = {"kind": file.kind, "samples": len(file), "image_sizes": _image_sizes(columns.image_sizes_wh)}
    if file.kind == "landmarker":
        return figures | _keypoint_figures(file, columns.row_counts)
    return figures | _box_figures(file, rows_an_image(file))


def rows_an_image(file: MetadataFile) -> NDArray[np.int64]:
    """Return how many rows each image has: each sample, or for a teacher, whose samples are boxes, each path.

    Raises:
        MetadataError: the file's offsets lie.
    """
    columns = file.columns()
    if file.kind != "teacher":
        return columns.row_counts
    counts = Counter(sample_paths(file))
    return np.fromiter(counts.values(), np.int64, len(counts))


def _box_figures(file: MetadataFile, counts: NDArray[np.int64]) -> dict[str, Any]:
    width_px, height_px = file.rows[:, 2].astype(np.float64), file.rows[:, 3].astype(np.float64)
    with np.errstate(all="ignore"):
        area_px = width_px * height_px
        aspect_ratio = width_px / height_px
    return {
        "boxes": len(file.rows),
        "boxes_an_image": _spread(counts),
        "images_without_boxes": int(np.count_nonzero(counts == 0)),
        "width_px": _quantiles(width_px),
        "height_px": _quantiles(height_px),
        "area_px": _quantiles(area_px),
        "aspect_ratio": _quantiles(aspect_ratio),
        "coco_sizes": {
            "small": int(np.count_nonzero(area_px < SMALL_PX**2)),
            "medium": int(np.count_nonzero((area_px >= SMALL_PX**2) & (area_px < MEDIUM_PX**2))),
            "large": int(np.count_nonzero(area_px >= MEDIUM_PX**2)),
        },
        "classes": {
            class_name(file.info.class_names, class_id) or WITHOUT_CLASS: {
                "boxes": count,
                "area_px": _median(area_px[file.class_ids == class_id]),
            }
            for class_id, count in class_counts(file).items()
        },
    }


def _keypoint_figures(file: MetadataFile, counts: NDArray[np.int64]) -> dict[str, Any]:
    visibility = file.rows[:, 2]
    return {
        "keypoints": len(file.rows),
        "keypoints_a_sample": _spread(counts),
        "visibility": {
            name: int(np.count_nonzero(visibility == value))
            for value, name in enumerate(("not_labelled", "hidden", "visible"))
        },
        "classes": {
            class_name(file.info.class_names, class_id) or WITHOUT_CLASS: count
            for class_id, count in class_counts(file).items()
        },
    }


def _image_sizes(sizes_wh: NDArray[np.int64]) -> dict[str, Any]:
    known = sizes_wh[(sizes_wh > 0).all(axis=1)]
    return {
        "known": len(known),
        "distinct": len(np.unique(known, axis=0)),
        "width_px": _quantiles(known[:, 0].astype(np.float64)),
        "height_px": _quantiles(known[:, 1].astype(np.float64)),
    }


def _spread(counts: NDArray[np.int64]) -> dict[str, Any]:
    values, images = np.unique(counts, return_counts=True)
    return {
        "mean": round(float(counts.mean()), _DECIMALS) if len(counts) else 0.0,
        "max": int(counts.max(initial=0)),
        "histogram": dict(zip(map(str, values.tolist()), images.tolist(), strict=True)),
    }


def _quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    """Return the quantiles of the finite values; empty where there are none."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return {}
    quantiles = np.quantile(finite, list(_QUANTILES.values()))
    return {name: round(float(value), _DECIMALS) for name, value in zip(_QUANTILES, quantiles, strict=True)}


def _median(values: NDArray[np.float64]) -> float | None:
    return _quantiles(values).get("median")
