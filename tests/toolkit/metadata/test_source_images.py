"""How the image that an annotation names is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.file_trees import make_files
from toolkit.metadata.source_images import NO_FILE, TWO_FILES, SourceImages


@pytest.fixture
def images(tmp_path: Path) -> SourceImages:
    make_files(
        tmp_path,
        *("detector/a/train/1.jpg", "detector/a/valid/1.jpg", "detector/a/valid/2.JPG", "detector/a/images/3.png"),
        *("detector/a/train/4.jpg", "detector/a/train/4.png", "detector/a/notes.txt", "detector/b/5.jpg"),
    )
    return SourceImages(tmp_path, "detector/a")


@pytest.mark.parametrize(
    ("folder", "name", "found"),
    [
        ("detector/a/train/", "1.jpg", "detector/a/train/1.jpg"),
        ("detector/a/valid/", "1.jpg", "detector/a/valid/1.jpg"),
        ("detector/a/", "train/1.jpg", "detector/a/train/1.jpg"),
        ("detector/a/annotations/", "2.JPG", "detector/a/valid/2.JPG"),
        ("detector/a/annotations/", "3.png", "detector/a/images/3.png"),
        ("detector/a/", "images\\3.png", "detector/a/images/3.png"),
        ("detector/a/train/", "detector/a/images/3.png", "detector/a/images/3.png"),
        ("detector/a/train/", "/home/someone/images/3.png", "detector/a/images/3.png"),
        ("detector/a/train/", "/home/someone/1.jpg", "detector/a/train/1.jpg"),
        ("detector/a/train/", "C:\\images\\3.png", "detector/a/images/3.png"),
        ("detector/a/train/", "../images/3.png", "detector/a/images/3.png"),
    ],
)
def test_beside_the_annotation_else_the_one_of_that_name(
    images: SourceImages, folder: str, name: str, found: str
) -> None:
    assert images.find(folder, name) == found


@pytest.mark.parametrize(
    ("folder", "name", "problem"),
    [
        ("detector/a/", "1.jpg", TWO_FILES),
        ("detector/a/", "valid/3.png", NO_FILE),
        ("detector/a/train/", "2.JPG", NO_FILE),
        ("detector/a/train/", "valid/1.jpg.png", NO_FILE),
        ("detector/a/", "2.jpg", NO_FILE),
        ("detector/a/", "5.jpg", NO_FILE),
        ("detector/a/", "../b/5.jpg", NO_FILE),
        ("detector/a/", "notes.txt", NO_FILE),
        ("detector/a/train/", "", NO_FILE),
        ("detector/a/train/", "nowhere/", NO_FILE),
    ],
)
def test_none_or_several_files_are_a_finding(images: SourceImages, folder: str, name: str, problem: str) -> None:
    assert images.find(folder, name) is None
    assert images.problem_of(folder, name) == problem


def test_an_image_by_its_stem_is_in_that_very_folder_the_first_suffix_counts(images: SourceImages) -> None:
    assert images.find_stem("detector/a/train/", "4") == "detector/a/train/4.jpg"
    assert images.find_stem("detector/a/valid/", "2") == "detector/a/valid/2.JPG"
    assert images.find_stem("detector/a/valid/", "3") is None


def test_a_link_that_leads_nowhere_is_no_image(tmp_path: Path) -> None:
    make_files(tmp_path, "detector/a/1.jpg")
    (tmp_path / "detector/a/2.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "detector/a/3.jpg").symlink_to(tmp_path / "detector/a/1.jpg")
    images = SourceImages(tmp_path, "detector/a")
    assert images.find("detector/a/", "2.jpg") is None
    assert images.find("detector/a/", "3.jpg") == "detector/a/3.jpg"
    assert images.in_folder("detector/a/") == ["1.jpg", "3.jpg"]
