"""From annotated images to samples: which objects are used, and in which kinds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.annotations.table import AnnotationTable, Finding
from toolkit.metadata.boxes import BEYOND_EDGE, BoxPolicy
from toolkit.metadata.columns import KINDS, Kind, SampleColumns
from toolkit.metadata.sample_building import BAD_KEYPOINTS, NO_EXTENT, SampleBuilder, SplitImages
from toolkit.splitting import Split

Object = tuple[int, Sequence[float] | None, Sequence[tuple[float, float, float]]]
"""Image, box or None, and keypoints."""


def table(count: int, objects: Sequence[Object], size_wh: tuple[int, int] = (64, 48)) -> AnnotationTable:
    objects = sorted(objects, key=lambda each: each[0])
    return AnnotationTable(
        image_names=[f"{image}.jpg" for image in range(count)],
        image_sizes_wh=np.tile(np.array(size_wh, np.int64), (count, 1)),
        image_indices=np.array([image for image, _, _ in objects], np.int64),
        has_box=np.array([box is not None for _, box, _ in objects], np.bool_),
        boxes_xywh=np.array([box or (0, 0, 0, 0) for _, box, _ in objects], np.float64).reshape(-1, 4),
        class_ids=np.arange(len(objects)) % 3 - 1,
        keypoint_counts=np.array([len(points) for _, _, points in objects], np.int64),
        keypoints_xyv=np.array([point for _, _, own in objects for point in own], np.float64).reshape(-1, 3),
        class_names=("a", "b"),
    )


def build(
    images: AnnotationTable,
    splits: Sequence[Split | None],
    *,
    kinds: Sequence[Kind] = KINDS,
    policy: BoxPolicy = "clip",
) -> tuple[dict[tuple[Split, Kind], SampleColumns], list[Finding]]:
    findings: list[Finding] = []
    paths = [None if split is None else f"r/{name}" for split, name in zip(splits, images.image_names, strict=True)]
    built = list(SampleBuilder(kinds, policy).build(SplitImages(images, paths, splits), findings))
    assert len({(split, columns.kind) for split, columns in built}) == len(built)
    return {(split, columns.kind): columns for split, columns in built}, findings


def content(columns: SampleColumns) -> list[tuple[str, list[list[float]], list[int]]]:
    """The samples one by one: path, rows, class ids."""
    path_ends, row_ends = np.cumsum(columns.path_lengths), np.cumsum(columns.row_counts)
    samples = []
    for index in range(len(columns)):
        path = columns.path_bytes[path_ends[index] - columns.path_lengths[index] : path_ends[index]].tobytes().decode()
        rows = slice(row_ends[index] - columns.row_counts[index], row_ends[index])
        ids = columns.class_ids[index : index + 1] if columns.kind == "landmarker" else columns.class_ids[rows]
        samples.append((path, columns.rows[rows].tolist(), ids.tolist()))
    return samples


SOUND = (1.0, 2.0, 3.5, 4.0)
POINTS = ((10.0, 20.0, 2.0), (30.0, 40.0, 1.0), (0.0, 0.0, 0.0))


def test_all_boxes_of_an_image_are_one_detector_sample_and_a_teacher_sample_each() -> None:
    images = table(3, [(0, SOUND, ()), (0, (5, 6, 7, 8), ()), (2, (9, 9, 1, 1), ())])
    built, findings = build(images, ["train", "train", "val"])
    assert content(built["train", "detector"]) == [("r/0.jpg", [[*SOUND], [5, 6, 7, 8]], [-1, 0]), ("r/1.jpg", [], [])]
    assert content(built["val", "detector"]) == [("r/2.jpg", [[9, 9, 1, 1]], [1])]
    assert content(built["train", "teacher"]) == [("r/0.jpg", [[*SOUND]], [-1]), ("r/0.jpg", [[5, 6, 7, 8]], [0])]
    assert content(built["val", "teacher"]) == [("r/2.jpg", [[9, 9, 1, 1]], [1])]
    assert built["val", "detector"].image_sizes_wh.tolist() == [[64, 48]]
    assert len(built["train", "landmarker"]) == 0
    assert findings == []


def test_keypoints_are_a_landmarker_sample_an_object_and_make_a_box_where_there_is_none() -> None:
    images = table(2, [(0, SOUND, POINTS), (1, None, POINTS), (1, SOUND, ())])
    built, findings = build(images, ["train", "train"])
    assert content(built["train", "landmarker"]) == [
        ("r/0.jpg", [list(point) for point in POINTS], [-1]),
        ("r/1.jpg", [list(point) for point in POINTS], [0]),
    ]
    assert content(built["train", "detector"]) == [("r/0.jpg", [[*SOUND]], [-1]), ("r/1.jpg", [[*SOUND]], [1])]
    assert content(built["train", "teacher"]) == [
        ("r/0.jpg", [[*SOUND]], [-1]),
        ("r/1.jpg", [[8, 18, 24, 24]], [0]),
        ("r/1.jpg", [[*SOUND]], [1]),
    ]
    assert findings == []


def test_images_that_are_left_out_leave_their_objects_out_without_a_word() -> None:
    bad = (math.nan, 1, 1, 1)
    images = table(3, [(0, bad, ()), (1, SOUND, ()), (1, None, ((math.nan, 1, 2),)), (2, SOUND, POINTS)])
    built, findings = build(images, [None, None, "val"])
    assert findings == []
    assert {split for split, _ in built} == {"val"}
    assert [len(built["val", kind]) for kind in KINDS] == [1, 1, 1]


def test_faulty_boxes_are_left_out_or_clipped_and_said_with_their_numbers() -> None:
    images = table(2, [(0, (-2, 1, 4, 5), ()), (1, (1, 1, 0, 5), ()), (1, SOUND, ())])
    built, findings = build(images, ["train", "train"])
    assert content(built["train", "detector"]) == [("r/0.jpg", [[0, 1, 2, 5]], [-1]), ("r/1.jpg", [[*SOUND]], [1])]
    assert findings == [
        Finding("box of no area", "r/1.jpg: [1, 1, 0, 5]"),
        Finding(BEYOND_EDGE, "r/0.jpg: [-2, 1, 4, 5]"),
    ]
    dropped, _ = build(images, ["train", "train"], policy="drop")
    assert content(dropped["train", "detector"]) == [("r/0.jpg", [], []), ("r/1.jpg", [[*SOUND]], [1])]
    assert [rows for _, rows, _ in content(dropped["train", "teacher"])] == [[[*SOUND]]]


def test_an_object_whose_own_box_is_faulty_gets_none_from_its_keypoints() -> None:
    images = table(1, [(0, (1, 1, -1, 5), POINTS)])
    built, _ = build(images, ["train"])
    assert len(built["train", "teacher"]) == 0
    assert len(built["train", "landmarker"]) == 1


@pytest.mark.parametrize("odd", [math.nan, math.inf, 1e39])
def test_keypoints_that_are_no_numbers_of_a_file_are_left_out(odd: float) -> None:
    images = table(1, [(0, SOUND, ((1, 1, 2), (odd, 5, 2))), (0, None, POINTS)])
    built, findings = build(images, ["train"])
    assert findings == [Finding(BAD_KEYPOINTS, "r/0.jpg")]
    assert len(built["train", "landmarker"]) == 1
    assert len(built["train", "teacher"]) == 2


@pytest.mark.parametrize(
    "points",
    [((5, 5, 2),), ((5, 5, 2), (5, 9, 2)), ((100, 100, 2), (120, 120, 2)), ((-90, -90, 2), (-50, -50, 2))],
)
def test_keypoints_without_a_box_in_the_image_are_no_teacher_sample(points: Any) -> None:
    built, findings = build(table(1, [(0, None, points)]), ["train"])
    assert findings == [Finding(NO_EXTENT, "r/0.jpg")]
    assert len(built["train", "landmarker"]) == 1
    assert len(built["train", "teacher"]) == 0


def test_a_box_around_keypoints_is_clipped_at_0_and_may_go_over_the_far_edge() -> None:
    built, findings = build(table(1, [(0, None, ((1, 40, 2), (61, 47, 2)))]), ["train"])
    [(_, [box], _)] = content(built["train", "teacher"])
    assert box == pytest.approx([0, 39.3, 67, 8.4])
    assert findings == []


def test_only_the_kinds_asked_for_are_built() -> None:
    built, _ = build(table(1, [(0, SOUND, POINTS)]), ["val"], kinds=("teacher",))
    assert list(built) == [("val", "teacher")]


numbers = st.floats(-100, 100)
objects_strategy = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.none() | st.tuples(numbers, numbers, numbers, numbers),
        st.lists(st.tuples(numbers, numbers, st.sampled_from([0.0, 1.0, 2.0])), max_size=3),
    ),
    max_size=8,
)
splits_strategy = st.lists(st.sampled_from(["train", "val", "test", None]), min_size=5, max_size=5)


@given(objects_strategy, splits_strategy, st.integers(1, 4))
def test_batches_give_what_the_whole_gives(objects: list[Object], splits: list[Split | None], cut: int) -> None:
    images = table(5, objects)
    whole, findings = build(images, splits)
    first, first_findings = build(images.images(0, cut), splits[:cut])
    second, second_findings = build(images.images(cut, 5), splits[cut:])
    assert sorted(first_findings + second_findings) == sorted(findings)
    for key in {*whole, *first, *second}:
        parts = [content(part[key]) for part in (first, second) if key in part]
        assert [sample for part in parts for sample in part] == content(whole[key])
