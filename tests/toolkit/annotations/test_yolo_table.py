"""YOLO labels of many images as a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from toolkit.annotations.table import Finding
from toolkit.annotations.yolo import ParsedLabels, YoloBox, load_labels, parse_labels
from toolkit.annotations.yolo_data_yaml import load_data_yaml
from toolkit.annotations.yolo_table import table_of_labels


def test_boxes_and_polygons_become_boxes_in_pixels() -> None:
    labelled = [
        ("a.jpg", (200, 100), parse_labels("1 0.5 0.5 0.25 0.5\n0 0.25 0.25 0.5 0.5")),
        ("empty.jpg", (10, 10), parse_labels("")),
        ("b.jpg", (8, 4), parse_labels("1 0.25 0.5 0.75 0.5 0.5 1")),
    ]
    table = table_of_labels(labelled, ["ear", "nose"])
    assert table.image_names == ["a.jpg", "empty.jpg", "b.jpg"]
    assert table.image_sizes_wh.tolist() == [[200, 100], [10, 10], [8, 4]]
    assert table.image_indices.tolist() == [0, 0, 2]
    assert table.boxes_xywh.tolist() == [[75, 25, 50, 50], [0, 0, 100, 50], [2, 2, 4, 2]]
    assert table.class_ids.tolist() == [1, 0, 1]
    assert table.class_names == ("ear", "nose")
    assert table.has_box.all()
    assert (table.keypoint_counts.tolist(), table.keypoints_xyv.shape, table.findings) == ([0, 0, 0], (0, 3), [])


def test_rows_with_problems_and_classes_without_a_name_are_found() -> None:
    labels = parse_labels("0 0.5 0.5 0.5 0.5\n7 0.5 0.5 0.25 0.25\n0 x 0.5 0.5 0.5")
    table = table_of_labels([("a.jpg", (8, 8), labels)], ["ear"])
    assert table.class_ids.tolist() == [0, -1]
    assert table.findings == [
        Finding("label row with a problem", "a.jpg line 3: 'x' is not a number"),
        Finding("unknown category", "a.jpg: class 7"),
    ]


def test_without_names_classes_are_called_by_their_ids() -> None:
    labels = parse_labels("2 0.5 0.5 0.5 0.5\n1e300 0.5 0.5 0.25 0.25")
    table = table_of_labels([("a.jpg", (8, 8), parse_labels("2 0.5 0.5 0.5 0.5"))], [])
    assert table.class_names == ("class_0", "class_1", "class_2")
    assert table.class_ids.tolist() == [2]
    far = table_of_labels([("a.jpg", (8, 8), labels)], [])
    assert len(far.class_names) == 100_000
    assert far.class_ids.tolist() == [2, -1]


def test_no_images_make_an_empty_table() -> None:
    table = table_of_labels([], [])
    assert (table.image_sizes_wh.shape, table.boxes_xywh.shape, table.image_indices.shape) == ((0, 2), (0, 4), (0,))
    assert table.class_names == ()


sixteenths = st.integers(0, 16).map(lambda number: number / 16)


@given(
    st.lists(
        st.tuples(
            st.tuples(st.integers(1, 10_000), st.integers(1, 10_000)),
            st.lists(st.builds(YoloBox, st.integers(0, 3), sixteenths, sixteenths, sixteenths, sixteenths), max_size=4),
        ),
        max_size=5,
    )
)
def test_each_box_is_its_fractions_of_its_own_image(images: list[tuple[tuple[int, int], list[YoloBox]]]) -> None:
    labelled = [(f"{place}.jpg", size, ParsedLabels(boxes, [], ())) for place, (size, boxes) in enumerate(images)]
    expected = [
        [
            (box.x_center - box.width / 2) * width,
            (box.y_center - box.height / 2) * height,
            box.width * width,
            box.height * height,
        ]
        for (width, height), boxes in images
        for box in boxes
    ]
    assert table_of_labels(labelled, "abcd").boxes_xywh.tolist() == expected


def test_a_roboflow_export(shared_data: Path) -> None:
    root = shared_data / "roboflow_yolo/wildlife"
    paths = sorted((root / "test/labels").glob("*.txt"))
    names = load_data_yaml(root / "data.yaml").names
    labelled = [(f"{path.stem}.jpg", (640, 640), load_labels(path)) for path in paths]
    table = table_of_labels(labelled, list(names.values()))
    assert table.image_names == [f"{path.stem}.jpg" for path in paths]
    assert table.class_names == ("bear", "deer", "person")
    assert table.class_ids.tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]
    assert table.image_indices.tolist() == [0, 1, 2, 3, 4, 4, 4, 5, 5, 5, 6, 6]
    np.testing.assert_allclose(table.boxes_xywh[0], [166, 3, 384, 637])
    assert table.findings == []
