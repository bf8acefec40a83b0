"""Which datasets a raw data folder holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.file_trees import make_files, make_folders
from toolkit.core.errors import MvtkError
from toolkit.metadata.columns import KINDS, Kind
from toolkit.metadata.raw_sources import RawSource, find_sources, kinds_of


def find(raw: Path, *paths: str, kinds: tuple[Kind, ...] = KINDS) -> list[RawSource]:
    make_files(raw, *paths)
    return find_sources(raw, kinds)


def only(raw: Path, *paths: str) -> RawSource:
    [source] = find(raw, *paths)
    return source


def files(source: RawSource) -> dict[str, str | None]:
    return {file.path: file.split for file in source.files}


def test_the_split_folders_of_a_roboflow_export_are_one_dataset(tmp_path: Path) -> None:
    names = [f"detector/ears/{split}/_annotations.coco.json" for split in ("train", "valid", "test")]
    source = only(tmp_path, *names, "detector/ears/train/a.jpg", "detector/ears/README.roboflow.txt")
    assert (source.source, source.branch, source.format) == ("detector/ears", "detector", "coco")
    assert files(source) == dict(zip(sorted(names), ("test", "train", "val"), strict=True))


@pytest.mark.parametrize(
    ("path", "source", "format_name", "read", "split"),
    [
        ("detector/a/b/_annotations.coco.json", "detector/a/b", "coco", None, None),
        ("detector/my_COCO/labels.json", "detector/my_COCO", "coco", None, None),
        ("detector/coco/annotations/instances_train2017.json", "detector/coco", "coco", None, "train"),
        ("detector/coco/annotations/instances_val.json", "detector/coco", "coco", None, "val"),
        ("detector/deer/Validation/_annotations.csv", "detector/deer", "csv", None, "val"),
        ("detector/deer/x_annotations.csv", "detector/deer", "csv", None, None),
        ("detector/train/_annotations.csv", "detector", "csv", None, "train"),
        ("landmarker/collectionA/a.pts", "landmarker/collectionA", "pts", "landmarker/collectionA/", None),
        ("landmarker/ibug/test/a.PTS", "landmarker/ibug", "pts", "landmarker/ibug/test/", "test"),
        ("landmarker/ear_coco/train/_annotations.coco.json", "landmarker/ear_coco", "coco", None, "train"),
        ("detector/roads/labels/a.txt", "detector/roads", "yolo", "detector/roads/labels/", None),
        ("detector/roads/labels/train/a.txt", "detector/roads", "yolo", "detector/roads/labels/train/", "train"),
        ("detector/roads/valid/labels/a.txt", "detector/roads", "yolo", "detector/roads/valid/labels/", "val"),
    ],
)
def test_each_form_is_recognised(
    tmp_path: Path, path: str, source: str, format_name: str, read: str | None, split: str | None
) -> None:
    found = only(tmp_path, path)
    assert (found.source, found.format) == (source, format_name)
    assert found.branch == path.partition("/")[0]
    assert files(found) == {read or path: split}


@pytest.mark.parametrize(
    "path",
    [
        "detector/a/annotations.json",  # no folder with coco in its name
        "detector/a/boxes.csv",
        "detector/a/face.pts",
        "landmarker/a/x_annotations.csv",
        "landmarker/a/labels/a.txt",
        "detector/a/notes.txt",
        "detector/.hidden_coco/a.json",
        "coco/a.json",
        "raw/detector/a/_annotations.csv",
    ],
)
def test_other_files_are_none(tmp_path: Path, path: str) -> None:
    with pytest.raises(MvtkError, match="no annotations found"):
        find(tmp_path, path)


def test_what_coco_publishes_for_other_tasks_is_not_read(tmp_path: Path) -> None:
    annotations = [
        f"{task}_{split}2017.json"
        for task in ("instances", "person_keypoints", "captions", "stuff")
        for split in ("train", "val")
    ]
    paths = [f"{branch}/coco/annotations/{name}" for branch in ("detector", "landmarker") for name in annotations]
    detector, landmarker = find(tmp_path, *paths)
    assert [file.name for file in detector.files] == ["instances_train2017.json", "instances_val2017.json"]
    assert [file.name for file in landmarker.files] == [
        "person_keypoints_train2017.json",
        "person_keypoints_val2017.json",
    ]


def test_a_coco_file_of_another_name_beside_them_is_read(tmp_path: Path) -> None:
    source = only(tmp_path, "detector/coco/instances_train2017.json", "detector/coco/mine.json")
    assert [file.name for file in source.files] == ["instances_train2017.json", "mine.json"]


def test_what_is_published_for_another_task_is_read_where_it_is_all_there_is(tmp_path: Path) -> None:
    source = only(tmp_path, "detector/coco/person_keypoints_val2017.json")
    assert [file.name for file in source.files] == ["person_keypoints_val2017.json"]


def test_a_dataset_in_two_formats_says_so(tmp_path: Path) -> None:
    source = only(tmp_path, "detector/a/train/_annotations.csv", "detector/a/train/_annotations.coco.json")
    assert source.formats == ("coco", "csv")
    assert [file.name for file in source.files] == ["_annotations.coco.json"]


def test_only_the_branches_of_the_kinds_are_searched(tmp_path: Path) -> None:
    make_files(tmp_path, "detector/a/_annotations.csv", "landmarker/b/a.pts")
    found = {kind: [source.source for source in find_sources(tmp_path, (kind,))] for kind in KINDS}
    assert found == {
        "detector": ["detector/a"],
        "landmarker": ["landmarker/b"],
        "teacher": ["detector/a", "landmarker/b"],
    }
    assert kinds_of("detector", KINDS) == ("detector", "teacher")
    assert kinds_of("landmarker", ("landmarker", "detector")) == ("landmarker",)


def test_an_empty_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    make_folders(tmp_path, "detector/a", "landmarker")
    with pytest.raises(MvtkError) as caught:
        find_sources(tmp_path, KINDS)
    assert str(caught.value) == (
        f"{tmp_path}: no annotations found; looked for detector/: _annotations.coco.json, *.json below a folder with "
        "coco in its name, *_annotations.csv, labels/*.txt; landmarker/: *.pts, _annotations.coco.json, *.json below a "
        "folder with coco in its name; check --raw-data-dir"
    )
    with pytest.raises(MvtkError) as caught:
        find_sources(tmp_path, ("landmarker",))
    assert "detector/" not in str(caught.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MvtkError) as caught:
        find_sources(tmp_path / "nowhere", KINDS)
    assert str(caught.value) == (
        f"{tmp_path}/nowhere: no such folder; name the folder that holds detector/ and landmarker/ (--raw-data-dir)"
    )
