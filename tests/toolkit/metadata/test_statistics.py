"""Statistics: figures that can be counted by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from tests.metadata_files import write_samples
from toolkit.metadata.reading import open_metadata
from toolkit.metadata.record import MetadataInfo
from toolkit.metadata.statistics import metadata_statistics


def test_boxes(tmp_path: Path) -> None:
    samples = [
        ("a", [[0, 0, 31, 32], [0, 0, 32, 32], [0, 0, 96, 96]]),
        ("b", []),
        ("c", [[0, 0, 95, 97]]),
        ("d", [[0, 0, math.nan, 10]]),
    ]
    path = write_samples(
        tmp_path / "x.npy",
        "detector",
        samples,
        info=MetadataInfo(".", class_names=("ear",)),
        class_ids=[0, 0, -1, 0, 0],
        sizes_wh=[(640, 480), (640, 480), (0, 0), (100, 200)],
    )
    figures = metadata_statistics(open_metadata(path))
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert figures["boxes"] == 5
    assert figures["boxes_an_image"] == {"mean": 1.25, "max": 3, "histogram": {"0": 1, "1": 2, "3": 1}}
    assert figures["images_without_boxes"] == 1
    assert figures["coco_sizes"] == {"small": 1, "medium": 2, "large": 1}
    assert (figures["width_px"]["min"], figures["width_px"]["median"], figures["width_px"]["max"]) == (31, 63.5, 96)
    assert figures["height_px"]["p25"] == 32
    assert figures["aspect_ratio"]["max"] == 1
    assert figures["classes"] == {"without class": {"boxes": 1, "area_px": 9216}, "ear": {"boxes": 4, "area_px": 1024}}
    assert figures["image_sizes"]["known"] == 3
    assert figures["image_sizes"]["distinct"] == 2
    assert figures["image_sizes"]["height_px"]["min"] == 200


def test_a_teachers_boxes_are_counted_by_image(tmp_path: Path) -> None:
    box = [0, 0, 5, 5]
    path = write_samples(tmp_path / "x.npy", "teacher", [("a", box), ("b", box), ("a", box)])
    figures = metadata_statistics(open_metadata(path))
    assert figures["boxes_an_image"] == {"mean": 1.5, "max": 2, "histogram": {"1": 1, "2": 1}}


def test_keypoints(tmp_path: Path) -> None:
    samples = [("a", [[1, 2, 0], [3, 4, 1], [5, 6, 2], [7, 8, 2]]), ("b", [])]
    path = write_samples(
        tmp_path / "x.npy", "landmarker", samples, class_ids=[0, -1], info=MetadataInfo(".", "", ("f",))
    )
    figures = metadata_statistics(open_metadata(path))
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert figures["keypoints"] == 4
    assert figures["keypoints_a_sample"] == {"mean": 2, "max": 4, "histogram": {"0": 1, "4": 1}}
    assert figures["visibility"] == {"not_labelled": 1, "hidden": 1, "visible": 2}
    assert figures["classes"] == {"without class": 1, "f": 1}


def test_a_file_without_samples(tmp_path: Path) -> None:
    for kind in ("detector", "landmarker", "teacher"):
        figures = metadata_statistics(open_metadata(write_samples(tmp_path / f"{kind}.npy", kind, [])))
        assert json.loads(json.dumps(figures, allow_nan=False)) == figures
        assert figures["samples"] == 0


def test_quantiles_are_those_of_numpy(tmp_path: Path) -> None:
    widths = np.random.default_rng(3).integers(1, 500, 200)
    path = write_samples(tmp_path / "x.npy", "teacher", [("a", [0, 0, width, 2]) for width in widths])
    figures = metadata_statistics(open_metadata(path))
    assert figures["width_px"]["p95"] == round(float(np.quantile(widths, 0.95)), 3)
    assert figures["area_px"]["median"] == 2 * float(np.median(widths))
