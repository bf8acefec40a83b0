"""The strict check: a sound file has no problems, and each injected fault is found and named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.metadata_files import write_samples
from toolkit.metadata.boxes import BEYOND_EDGE
from toolkit.metadata.columns import Kind
from toolkit.metadata.reading import MetadataFile, open_metadata
from toolkit.metadata.record import ROW_FIELDS, MetadataInfo, SourceInfo
from toolkit.metadata.verification import check_metadata

COUNT = 6
NAMES = ("a", "b")


def info(samples: int = COUNT) -> MetadataInfo:
    return MetadataInfo(".", class_names=NAMES, sources=(SourceInfo("s", "coco", samples),))


def write_sound(path: Path, kind: Kind, count: int = COUNT) -> Path:
    row = [1, 2, 2] if kind == "landmarker" else [1, 2, 30, 40]
    rows = [row] if kind == "teacher" else [row, row]
    samples = [(f"ä/{index}.png", rows) for index in range(count)]
    return write_samples(path, kind, samples, info=info(count), sizes_wh=[(640, 480)] * count)


def damage(path: Path, change: Callable[[Any], None]) -> MetadataFile:
    """Change the record of a file in place."""
    record = np.lib.format.open_memmap(path, "r+")
    change(record)
    record.flush()
    return open_metadata(path)


def setting(field: str, index: Any, value: Any) -> Callable[[Any], None]:
    def change(record: Any) -> None:
        record[field][index] = value

    return change


@pytest.mark.parametrize("kind", ["detector", "landmarker", "teacher"])
def test_a_sound_file_has_no_problems(tmp_path: Path, kind: Kind) -> None:
    assert check_metadata(open_metadata(write_sound(tmp_path / "x.npy", kind))) == []


def test_a_file_without_samples_has_no_problems(tmp_path: Path) -> None:
    for kind in ("detector", "landmarker", "teacher"):
        path = write_samples(tmp_path / f"{kind}.npy", kind, [], info=info(0))
        assert check_metadata(open_metadata(path), images=True) == []


@pytest.mark.parametrize("field", ["path_starts", "box_starts"])
def test_falling_offsets(tmp_path: Path, field: str) -> None:
    path = write_sound(tmp_path / "x.npy", "detector")
    file = damage(path, setting(field, 3, 100))
    following = np.load(path, mmap_mode="r")[field][4]
    assert check_metadata(file) == [f"sample 3: `{field}` falls from 100 to {following}"]


UPWARDS = "an image path that leads upwards (..)"


@pytest.mark.parametrize(
    ("paths", "problems"),
    [
        (["", "b"], ["sample 0: an empty image path: ''"]),
        (["a", "/b"], ["sample 1: an absolute image path: '/b'"]),
        (["a", "b\0c"], ["sample 1: a NUL in the image path: 'b\\x00c'"]),
        (["../a", "b"], [f"sample 0: {UPWARDS}: '../a'"]),
        (["a/..", "b/../c"], [f"sample 0: {UPWARDS}: 'a/..'", f"sample 1: {UPWARDS}: 'b/../c'"]),
        (["a..b", "...", ".a", "a.", ".b"], []),
        (["a.", "./b"], []),
        (["ä", os.fsdecode(b"\xff")], []),
    ],
)
def test_paths(tmp_path: Path, paths: list[str], problems: list[str]) -> None:
    samples = [(path, []) for path in paths]
    path = write_samples(tmp_path / "x.npy", "detector", samples, info=info(len(paths)))
    assert check_metadata(open_metadata(path)) == problems


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ((np.nan, 0, 1, 1), "box with NaN or infinity"),
        ((0, 0, np.inf, 1), "box with NaN or infinity"),
        ((0, 0, 0, 1), "box of no area"),
        ((0, 0, 1, -1), "box of no area"),
        ((-0.02, 0, 10, 10), BEYOND_EDGE),
        ((630, 0, 10.02, 10), BEYOND_EDGE),
        ((0, 470, 10, 10.02), BEYOND_EDGE),
        ((700, 0, 10, 10), "box outside the image"),
        ((630, 470, 10.005, 10.005), None),
        ((-0.005, 0, 10, 10), None),
    ],
)
@pytest.mark.parametrize("kind", ["detector", "teacher"])
def test_boxes(tmp_path: Path, kind: Kind, box: tuple[float, ...], problem: str | None) -> None:
    row = 5 if kind == "detector" else 2
    file = damage(write_sound(tmp_path / "x.npy", kind), setting("boxes_xywh", row, box))
    problems = check_metadata(file)
    if problem is None or (kind == "teacher" and problem == BEYOND_EDGE):
        assert problems == []
    else:
        assert len(problems) == 1
        assert problems[0].startswith(f"sample 2, box {1 if kind == 'detector' else 0}: {problem} (")


def test_a_box_cannot_leave_an_image_of_unknown_size(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "x.npy", "detector", [("a", [[9000, 0, 1, 1]])], info=info(1))
    assert check_metadata(open_metadata(path)) == []


@pytest.mark.parametrize(
    ("keypoint", "problem"),
    [
        ((np.nan, 1, 0), "keypoint with NaN or infinity (nan, 1, 0)"),
        ((1, 1, 3), "keypoint whose visibility is not 0, 1 or 2 (1, 1, 3)"),
        ((1, 1, 0.5), "keypoint whose visibility is not 0, 1 or 2 (1, 1, 0.5)"),
    ],
)
def test_keypoints(tmp_path: Path, keypoint: tuple[float, ...], problem: str) -> None:
    file = damage(write_sound(tmp_path / "x.npy", "landmarker"), setting("keypoints_xyv", 4, keypoint))
    assert check_metadata(file) == [f"sample 2, keypoint 0: {problem}"]


@pytest.mark.parametrize(("kind", "sample"), [("detector", 1), ("landmarker", 3), ("teacher", 3)])
@pytest.mark.parametrize("class_id", [-2, 2])
def test_class_ids(tmp_path: Path, kind: Kind, sample: int, class_id: int) -> None:
    file = damage(write_sound(tmp_path / "x.npy", kind), setting("class_ids", 3, class_id))
    assert check_metadata(file) == [f"sample {sample}: class id {class_id}, with 2 class names"]


def test_sources(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "x.npy", "detector", [("a", [])], info=info(5))
    assert check_metadata(open_metadata(path)) == ["its sources have 5 samples, the file 1"]


def test_images(tmp_path: Path) -> None:
    samples = [("a.png", []), ("b.png", []), ("folder", []), ("b.png", [])]
    path = write_samples(tmp_path / "x.npy", "detector", samples, info=info(4))
    (tmp_path / "a.png").touch()
    (tmp_path / "folder").mkdir()
    assert check_metadata(open_metadata(path)) == []
    expected = ["sample 1: no such image: 'b.png'", "sample 2: no such image: 'folder'"]
    assert check_metadata(open_metadata(path), images=True) == expected
    away = MetadataInfo("gone", sources=(SourceInfo("s", "coco", 1),))
    path = write_samples(tmp_path / "y.npy", "detector", [("a.png", [])], info=away)
    assert check_metadata(open_metadata(path), images=True) == [f"the root folder {tmp_path / 'gone'} does not exist"]


def test_the_first_20_of_a_kind_are_listed(tmp_path: Path) -> None:
    file = damage(write_sound(tmp_path / "x.npy", "detector", 30), setting("boxes_xywh", slice(None), (0, 0, 0, 1)))
    problems = check_metadata(file)
    assert len(problems) == 21
    assert problems[-1] == "40 more like the last"


@given(st.sampled_from(["detector", "landmarker", "teacher"]), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_every_injected_fault_is_found(tmp_path: Path, kind: Kind, data: st.DataObject) -> None:
    path = tmp_path / f"{kind}.npy"
    path.unlink(missing_ok=True)
    write_sound(path, kind)
    row = data.draw(st.integers(0, (1 if kind == "teacher" else 2) * COUNT - 1))
    faults = {
        "class id": setting("class_ids", data.draw(st.integers(0, COUNT - 1)), data.draw(st.sampled_from([-2, 2, 99]))),
        "NaN": setting(ROW_FIELDS[kind], (row, data.draw(st.integers(0, 1))), np.nan),
        "absolute": setting("path_bytes", 0, ord("/")),
        "NUL": setting("path_bytes", data.draw(st.integers(3, 6)), 0),
    }
    chosen = data.draw(st.sets(st.sampled_from(sorted(faults)), min_size=1))
    for fault in chosen:
        damage(path, faults[fault])
    problems = check_metadata(open_metadata(path))
    for fault in chosen:
        assert any(fault in problem for problem in problems), (fault, problems)
