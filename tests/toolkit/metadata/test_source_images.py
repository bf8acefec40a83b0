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
        ("detector/a/train/", "2.JPG", "detector/a/valid/2.JPG"),
        ("detector/a/annotations/", "3.png", "detector/a/images/3.png"),
        ("detector/a/train/", "/home/someone/3.png", "detector/a/images/3.png"),
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
        ("detector/a/", "valid/3.jpg", NO_FILE),
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
    assert images.problem_of(name) == problem


def test_an_image_by_its_stem_is_in_that_very_folder_the_first_suffix_counts(images: SourceImages) -> None:
    assert images.find_stem("detector/a/train/", "4") == "detector/a/train/4.jpg"
    assert images.find_stem("detector/a/valid/", "2") == "detector/a/valid/2.JPG"
    assert images.find_stem("detector/a/valid/", "3") is None
