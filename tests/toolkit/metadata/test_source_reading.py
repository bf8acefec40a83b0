"""The annotations of one dataset, whatever their format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.raw_annotations import RawTree, coco_content
from toolkit.annotations.table import Finding
from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.metadata.columns import KINDS
from toolkit.metadata.raw_sources import find_sources
from toolkit.metadata.source_images import NO_FILE, TWO_FILES, SourceImages
from toolkit.metadata.source_reading import Document, read_documents

BOX = [1, 2, 3, 4]


@pytest.fixture
def tree(tmp_path: Path) -> RawTree:
    return RawTree(tmp_path)


def read(tree: RawTree, *, shift_pts: bool = False) -> list[Document]:
    """Read the only dataset of the tree."""
    [source] = find_sources(tree.raw, KINDS)
    return list(read_documents(tree.raw, source, SourceImages(tree.raw, source.source), shift_pts=shift_pts))


def read_all(tree: RawTree) -> None:
    for document in read(tree):
        document.batch(0, len(document.paths))


def problems_of(tree: RawTree) -> list[str]:
    with pytest.raises(MvtkError) as caught:
        read_all(tree)
    error = caught.value
    assert str(error).isprintable()
    return list(error.problems) if isinstance(error, InputProblemsError) else [str(error)]


def test_coco_images_without_their_files_are_findings(tree: RawTree) -> None:
    tree.add_coco("detector/x/train", {"a.jpg": [BOX], "b.jpg": [BOX, BOX], "sub/c.jpg": []}, classes=("ear", "nose"))
    (tree.raw / "detector/x/train/b.jpg").unlink()
    (tree.raw / "detector/x/train/sub/c.jpg").rename(tree.raw / "detector/x/c.jpg")
    [document] = read(tree)
    assert document.paths == ["detector/x/train/a.jpg", None, None]
    assert document.findings == [
        Finding(NO_FILE, "detector/x/train/b.jpg"),
        Finding(NO_FILE, "detector/x/train/sub/c.jpg"),
    ]
    assert document.class_names == ("ear", "nose")
    assert document.batch(1, 3).boxes_xywh.tolist() == [BOX, BOX]


def test_a_coco_file_without_images_beside_it_finds_them_in_its_dataset(tree: RawTree) -> None:
    tree.write("detector/x_coco/annotations/a.json", json.dumps(coco_content({"a.jpg": [], "b.jpg": []})))
    for path in ("images/a.jpg", "images/b.jpg", "more/b.jpg"):
        tree.write(f"detector/x_coco/{path}", b"")
    [document] = read(tree)
    assert document.paths == ["detector/x_coco/images/a.jpg", None]
    assert document.findings == [Finding(TWO_FILES, "detector/x_coco/annotations/b.jpg")]


def test_findings_of_the_reader_are_kept(tree: RawTree) -> None:
    content = tree.add_coco("detector/x/train", {"a.jpg": [BOX]})
    content["annotations"].append({"id": 9, "image_id": 5, "bbox": BOX})
    tree.write("detector/x/train/_annotations.coco.json", json.dumps(content))
    [document] = read(tree)
    assert document.findings == [Finding("annotation without its image", "detector/x/train/_annotations.coco.json: 9")]


def test_a_csv_file_and_a_coco_file_give_the_same(tree: RawTree) -> None:
    boxes = {"a.jpg": [BOX, [5, 6, 7, 8]], "b.jpg": [BOX]}
    tree.add_csv("detector/x/train", boxes)
    other = RawTree(tree.root / "other")
    other.add_coco("detector/x/train", boxes, classes=("deer",))
    [[csv], [coco]] = read(tree), read(other)
    assert csv.paths == coco.paths
    assert csv.class_names == coco.class_names
    one, two = csv.batch(0, 2), coco.batch(0, 2)
    assert np.array_equal(one.boxes_xywh, two.boxes_xywh)
    assert np.array_equal(one.image_sizes_wh, two.image_sizes_wh)


def test_pts_points_are_as_written_or_shifted_by_one(tree: RawTree) -> None:
    tree.add_pts("landmarker/a", {"one": [(1.5, 2), (30, 40)], "two": [(5, 6)]})
    (tree.raw / "landmarker/a/two.png").unlink()
    [document] = read(tree)
    assert document.paths == ["landmarker/a/one.png", None]
    assert document.findings == [Finding(NO_FILE, "landmarker/a/two.pts")]
    assert document.class_names == ()
    points = [[1.5, 2, 2], [30, 40, 2]]
    assert document.batch(0, 2).keypoints_xyv.tolist() == points
    assert document.batch(1, 2).keypoints_xyv.tolist() == []
    [shifted] = read(tree, shift_pts=True)
    assert shifted.batch(0, 2).keypoints_xyv.tolist() == [[x - 1, y - 1, v] for x, y, v in points]


def test_yolo_boxes_are_in_pixels_of_their_image(tree: RawTree) -> None:
    tree.add_yolo("detector/x", {"train/a": "1 0.5 0.5 0.25 0.5\n", "train/b": ""}, ["car", "bike"])
    tree.write("detector/x/labels/train/classes.txt", "car\n")
    [document] = read(tree)
    assert document.paths == ["detector/x/images/train/a.png", "detector/x/images/train/b.png"]
    table = document.batch(0, 2)
    assert table.boxes_xywh.tolist() == [[24, 12, 16, 24]]
    assert table.image_sizes_wh.tolist() == [[64, 48], [64, 48]]
    assert table.class_ids.tolist() == [1]
    assert document.class_names == ("car", "bike")


def test_yolo_class_names_may_be_in_a_classes_file(tree: RawTree) -> None:
    tree.add_yolo("detector/x", {"a": "1 0.5 0.5 0.25 0.5\n"})
    assert read(tree)[0].class_names == ()
    classes = tree.write("detector/x/classes.txt", b"\xef\xbb\xbfcar\r\nbike\n")
    assert read(tree)[0].class_names == ("car", "bike")
    classes.write_bytes(b"car\n\xff")
    assert problems_of(tree) == [f"{classes}: not UTF-8 text from byte 4 on; save it as UTF-8"]


def test_the_images_of_a_label_folder_are_beside_the_folder_called_labels(tree: RawTree) -> None:
    tree.write("detector/x/labels/hard_labels/a.txt", "0 0.5 0.5 0.25 0.5\n")
    tree.add_images("detector/x/images/hard_labels", "a.png")
    [document] = read(tree)
    assert document.paths == ["detector/x/images/hard_labels/a.png"]


def test_a_yolo_image_that_cannot_be_read_has_no_boxes_yet(tree: RawTree) -> None:
    tree.add_yolo("detector/x", {"a": "0 0.5 0.5 0.25 0.5\n"})
    tree.write("detector/x/images/a.png", b"no image")
    [document] = read(tree)
    table = document.batch(0, 1)
    assert len(table.boxes_xywh) == 0
    assert table.image_sizes_wh.tolist() == [[0, 0]]


def test_all_files_of_a_dataset_that_are_wrong_are_said_together(tree: RawTree) -> None:
    one = tree.write("detector/x/train/_annotations.coco.json", '{"images": [],\n "annotations": [')
    two = tree.write("detector/x/valid/_annotations.coco.json", '{"images": []}')
    three = tree.write("detector/x/test/_annotations.coco.json", b'{"images": "\xff"}')
    problems = problems_of(tree)
    assert len(problems) == 3
    assert problems[0].startswith(f"{three}: not UTF-8 text from byte 12 on")
    assert problems[1].startswith(f"{one}: cut short or no JSON: line 2 column 18: ")
    assert problems[2].startswith(f"{two}: no COCO file: it has no `annotations`")


def test_all_label_files_of_a_batch_that_are_wrong_are_said_together(tree: RawTree) -> None:
    tree.add_pts("landmarker/a", {f"{number:02}": [(1, 2)] for number in range(23)})
    for number in range(22):
        tree.write(f"landmarker/a/{number:02}.pts", "version: 1\nn_points: 3\n{\n1 2\n}")
    problems = problems_of(tree)
    folder = tree.raw / "landmarker/a"
    assert problems[0] == f"{folder}/00.pts: n_points is 3, but there are 1 points"
    assert len(problems) == 22
