"""Where a YOLO dataset's files are found, in both layouts, with links, and what is said when they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.file_trees import make_files, make_folders
from toolkit.annotations.yolo_layout import IMAGE_SUFFIXES, find_split_folders, index_labels
from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.core.listing import list_files


@pytest.mark.parametrize("template", ["images/{}", "{}/images"])
@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
@pytest.mark.parametrize("asked", ["val", "valid"])
def test_both_layouts_and_all_names_of_the_validation_split(
    tmp_path: Path, template: str, validation: str, asked: str
) -> None:
    make_folders(tmp_path, template.format("train"), template.format(validation))
    assert find_split_folders(tmp_path, "images", ["train", asked, "test"]) == {
        "train": tmp_path / template.format("train"),
        asked: tmp_path / template.format(validation),
    }


def test_two_folders_for_a_split_are_all_named(tmp_path: Path) -> None:
    make_folders(tmp_path, "labels/train", "train/labels", "labels/val", "labels/valid", "labels/test")
    with pytest.raises(InputProblemsError) as caught:
        find_split_folders(tmp_path, "labels", ["train", "val", "test"])
    assert caught.value.problems == (
        "split train has two folders, labels/train and train/labels",
        "split val has two folders, labels/val and labels/valid",
    )


def test_a_link_from_one_name_to_the_other_is_one_folder(tmp_path: Path) -> None:
    make_folders(tmp_path, "images/valid")
    (tmp_path / "images" / "val").symlink_to("valid")
    [folder] = find_split_folders(tmp_path, "images", ["val"]).values()
    assert folder.samefile(tmp_path / "images" / "valid")


def test_nothing_found_says_what_was_expected_and_what_is_there(tmp_path: Path) -> None:
    make_files(tmp_path, "images/a.png", "images/b.png", ".hidden", *(f"n{number}.txt" for number in range(9)))
    with pytest.raises(MvtkError) as caught:
        find_split_folders(tmp_path, "images", ["train", "val"])
    assert caught.value.message == (
        f"{tmp_path}: no split of images found; expected images/train, train/images or images/val, val/images; "
        "there is images/, n0.txt, n1.txt, n2.txt, n3.txt, n4.txt, n5.txt, n6.txt and 2 more; "
        "in images/ there is a.png, b.png"
    )


def test_a_root_that_is_missing_empty_or_a_file(tmp_path: Path) -> None:
    with pytest.raises(MvtkError, match=r"gone: no such folder; give a dataset's folder"):
        index_labels(tmp_path / "gone")
    with pytest.raises(MvtkError, match=r"expected labels/<split>, <split>/labels; there is nothing;"):
        index_labels(tmp_path)
    make_files(tmp_path, "file")
    with pytest.raises(MvtkError, match=r"file: not a folder"):
        find_split_folders(tmp_path / "file", "images", ["train"])


def test_a_link_to_itself_is_no_folder(tmp_path: Path) -> None:
    make_files(tmp_path, "labels/train/one.txt")
    (tmp_path / "self").symlink_to("self")
    assert index_labels(tmp_path) == {"one": ("labels/train/one.txt",)}
    with pytest.raises(MvtkError, match=r"there is labels/, self;"):
        find_split_folders(tmp_path, "images", ["train"])


def test_labels_are_indexed_over_all_splits_of_both_layouts(tmp_path: Path) -> None:
    make_files(
        tmp_path,
        "labels/train/one.txt", "labels/val/one.txt", "labels/val/sub/two.txt", "labels/flat.v1.txt",
        "labels/train.cache", "valid/labels/three.txt", "valid/labels/sub/four.TXT", "valid/images/three.jpg",
        "readme.txt",
    )  # fmt: skip
    assert index_labels(tmp_path) == {
        "flat.v1": ("labels/flat.v1.txt",),
        "one": ("labels/train/one.txt", "labels/val/one.txt"),
        "sub/two": ("labels/val/sub/two.txt",),
        "sub/four": ("valid/labels/sub/four.TXT",),
        "three": ("valid/labels/three.txt",),
    }


def test_real_datasets_are_found(shared_data: Path) -> None:
    coco, wildlife = shared_data / "coco128_subset", shared_data / "roboflow_yolo/wildlife"
    assert len(list_files(find_split_folders(coco, "images", ["train2017"])["train2017"], IMAGE_SUFFIXES)) == 8
    assert len(index_labels(coco)) == 7
    assert find_split_folders(wildlife, "images", ["train", "val", "test"]) == {"test": wildlife / "test/images"}
    assert len(index_labels(wildlife)) == 7
