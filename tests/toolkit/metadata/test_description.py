"""Descriptions: what a file and a sample hold, in types that JSON has."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tests.metadata_files import write_samples
from toolkit.core.errors import OptionError
from toolkit.metadata.description import describe_metadata, describe_sample
from toolkit.metadata.reading import MetadataFile, open_metadata
from toolkit.metadata.record import MetadataInfo, SourceInfo


@pytest.fixture
def file(tmp_path: Path) -> MetadataFile:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").touch()
    info = MetadataInfo("images", "train", ("ear", "eye"), (SourceInfo("s", "coco", 3),), "mvtk 1", {"seed": 42})
    samples = [("a.png", [[10.1, 2, 3, 4], [5, 6, math.nan, 8]]), ("b.png", []), ("a.png", [[1, 2, 3, 4]])]
    path = write_samples(
        tmp_path / "x.npy", "detector", samples, info=info, class_ids=[1, -1, 7], sizes_wh=[(640, 480), (0, 0), (0, 0)]
    )
    return open_metadata(path)


def test_a_file(file: MetadataFile) -> None:
    described = describe_metadata(file)
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert described == {
        "path": str(file.path),
        "kind": "detector",
        "version": 1,
        "bytes": file.path.stat().st_size,
        "samples": 3,
        "rows": 3,
        "images": 2,
        "root": str(file.path.parent / "images"),
        "root_exists": True,
        "split": "train",
        "classes": {"eye": 1, "class 7": 1},
        "without_class": 1,
        "sources": [{"name": "s", "format": "coco", "samples": 3}],
        "split_by": {"seed": 42},
        "written_by": "mvtk 1",
    }


def test_a_root_that_is_gone(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "x.npy", "detector", [], info=MetadataInfo("gone"))
    assert describe_metadata(open_metadata(path))["root_exists"] is False


def test_a_sample(file: MetadataFile) -> None:
    described = describe_sample(file, 0)
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert described == {
        "index": 0,
        "image_path": "a.png",
        "image": str(file.path.parent / "images/a.png"),
        "image_exists": True,
        "image_size_wh": [640, 480],
        "boxes_xywh": [[10.1, 2, 3, 4], [5, 6, None, 8]],
        "classes": ["eye", None],
    }
    assert describe_sample(file, -2)["index"] == 1
    assert describe_sample(file, 1)["image_exists"] is False
    assert describe_sample(file, 1)["image_size_wh"] is None


def test_a_sample_of_keypoints(tmp_path: Path) -> None:
    info = MetadataInfo(".", class_names=("face",))
    path = write_samples(tmp_path / "x.npy", "landmarker", [("a", [[1, 2, 0], [3, 4, 2]])], info=info)
    described = describe_sample(open_metadata(path), 0)
    assert described["keypoints_xyv"] == [[1, 2, 0], [3, 4, 2]]
    assert described["classes"] == ["face"]


@pytest.mark.parametrize("index", [3, -4])
def test_no_such_sample(file: MetadataFile, index: int) -> None:
    with pytest.raises(OptionError, match=rf"x.npy: there is no sample {index}; give -3 to 2"):
        describe_sample(file, index)


def test_no_samples_at_all(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "x.npy", "detector", [])
    with pytest.raises(OptionError, match="there is no sample 0; it has none"):
        describe_sample(open_metadata(path), 0)
