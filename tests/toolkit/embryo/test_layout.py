"""The published archives and what they become."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.embryo_trees import MiniatureEmbryos
from toolkit.core.errors import MvtkError
from toolkit.embryo.layout import ARCHIVE_NAMES, EXTRACTED_NAMES, open_tree
from toolkit.embryo.planes import PLANES, FocalPlane

DOCUMENTED_ARCHIVES = {
    "embryo_dataset_annotations.tar.gz",
    "embryo_dataset_F-15.tar.gz",
    "embryo_dataset_F15.tar.gz",
    "embryo_dataset_F-30.tar.gz",
    "embryo_dataset_F30.tar.gz",
    "embryo_dataset_F-45.tar.gz",
    "embryo_dataset_F45.tar.gz",
    "embryo_dataset_grades.csv",
    "embryo_dataset.tar.gz",
    "embryo_dataset_time_elapsed.tar.gz",
}


def test_the_ten_names() -> None:
    assert set(ARCHIVE_NAMES) == DOCUMENTED_ARCHIVES
    assert len(ARCHIVE_NAMES) == len(EXTRACTED_NAMES) == 10
    assert {name.removesuffix(".tar.gz") for name in ARCHIVE_NAMES} == set(EXTRACTED_NAMES)


def test_a_complete_tree(tmp_path: Path) -> None:
    embryos = MiniatureEmbryos(tmp_path)
    embryos.add_video("B-10", frames=[1])
    embryos.add_video("AA83-7", frames=[1])
    (tmp_path / "embryo_dataset/.hidden").mkdir()
    (tmp_path / "embryo_dataset/notes.txt").touch()
    tree = embryos.tree
    assert tree.planes == PLANES
    assert tree.missing == ()
    assert tree.parts == EXTRACTED_NAMES
    assert tree.videos(FocalPlane.F_00) == ["AA83-7", "B-10"]
    assert tree.video_folder(FocalPlane.F_MINUS_15, "B-10") == tmp_path / "embryo_dataset_F-15/B-10"
    assert tree.phases_path("B-10").is_file()
    assert tree.times_path("B-10").is_file()
    assert tree.grades_path.is_file()


def test_videos_are_sorted_folders_and_links_to_folders(tmp_path: Path) -> None:
    names = ["GS490-_6", "AA83-7", "Z-1", "DML271-2", "B-1", "C-10", "C-2"]
    plane_folder = tmp_path / "embryo_dataset"
    plane_folder.mkdir()
    for name in names:
        (plane_folder / name).mkdir()
    (plane_folder / "linked").symlink_to(plane_folder / "B-1")
    (plane_folder / "loop").symlink_to(plane_folder / "loop")
    (plane_folder / "nowhere").symlink_to(plane_folder / "none")
    expected = ["AA83-7", "B-1", "C-10", "C-2", "DML271-2", "GS490-_6", "Z-1", "linked"]
    assert open_tree(tmp_path).videos(FocalPlane.F_00) == expected


def test_a_part_of_a_tree_is_a_tree(tmp_path: Path) -> None:
    (tmp_path / "embryo_dataset_F15").mkdir()
    tree = open_tree(tmp_path)
    assert tree.planes == (FocalPlane.F_PLUS_15,)
    assert tree.missing == tuple(name for name in EXTRACTED_NAMES if name != "embryo_dataset_F15")


def test_a_folder_without_a_plane(tmp_path: Path) -> None:
    (tmp_path / "embryo_dataset_annotations").mkdir()
    with pytest.raises(MvtkError, match="no focal plane in it; looked for the folders embryo_dataset_F-45, ") as caught:
        open_tree(tmp_path)
    assert all(plane.folder in str(caught.value) for plane in PLANES)
    with pytest.raises(MvtkError, match=r"nowhere: no such folder; give the folder that mvtk embryo extract made"):
        open_tree(tmp_path / "nowhere")
