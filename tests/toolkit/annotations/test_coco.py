"""COCO files: what is read, what is left out and said, and that both ways of reading agree."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.annotations import coco, coco_records
from toolkit.annotations.coco import load_coco, parse_coco
from toolkit.annotations.table import AnnotationTable, Finding
from toolkit.core.errors import InputProblemsError, MvtkError

FETCH_AGAIN = "; export it again, or take it out of the folder"
CORRECT = "; correct the file, or export it again"


def image(image_id: object = 1, file_name: object = "a.jpg", **more: object) -> dict[str, Any]:
    return {"id": image_id, "file_name": file_name, "width": 64, "height": 48} | more


def annotation(annotation_id: object = 1, image_id: object = 1, **more: object) -> dict[str, Any]:
    return {"id": annotation_id, "image_id": image_id, "category_id": 1, "bbox": [1, 2.5, 3, 4]} | more


def content(images: object, annotations: object, categories: object = None) -> dict[str, Any]:
    if categories is None:
        categories = [{"id": 1, "name": "ear"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def parse(value: object) -> AnnotationTable:
    return parse_coco(json.dumps(value).encode(), "c.json")


def error_of(data: object) -> str:
    """The whole line of the error, without the file's name and the hint."""
    with pytest.raises(MvtkError) as caught:
        parse_coco(data if isinstance(data, bytes) else json.dumps(data).encode(), "c.json")
    line = str(caught.value)
    assert line.startswith("c.json: ")
    assert line.isprintable()
    assert len(line) < 10_000
    return line.removeprefix("c.json: ").removesuffix(FETCH_AGAIN).removesuffix(CORRECT)


def as_values(table: AnnotationTable) -> dict[str, Any]:
    """A table's fields, arrays as lists with their dtypes, NaN as text so that it equals itself."""

    def comparable(value: object) -> object:
        return (value.dtype, value.shape, repr(value.tolist())) if isinstance(value, np.ndarray) else value

    return {field.name: comparable(getattr(table, field.name)) for field in dataclasses.fields(table)}


def test_objects_are_in_order_of_their_images_and_then_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "_annotations.coco.json"
    annotations = [
        annotation(1, 8, bbox=[5, 6, 7, 8], category_id=2, segmentation=[[1, 2, 3]]),
        annotation(2, 7),
        annotation(3, 8, bbox=[0, 0, 1e-3, -1], category_id=3),
        annotation(4, 7, bbox=None, keypoints=[1, 2, 2, 3.5, 4, 1, 0, 0, 0], num_keypoints=2),
    ]
    categories = [{"id": 3, "name": "c"}, {"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    path.write_text(json.dumps(content([image(7, "a.jpg"), image(8, "b/ä.jpg", height=50)], annotations, categories)))
    table = load_coco(path)
    assert table.image_names == ["a.jpg", "b/ä.jpg"]
    assert table.image_sizes_wh.tolist() == [[64, 48], [64, 50]]
    assert table.image_indices.tolist() == [0, 0, 1, 1]
    assert table.has_box.tolist() == [True, False, True, True]
    assert table.boxes_xywh.tolist() == [[1, 2.5, 3, 4], [0, 0, 0, 0], [5, 6, 7, 8], [0, 0, 1e-3, -1]]
    assert table.class_ids.tolist() == [0, 0, 1, 2]
    assert table.class_names == ("a", "b", "c")
    assert table.keypoint_counts.tolist() == [0, 3, 0, 0]
    assert table.keypoints_xyv.tolist() == [[1, 2, 2], [3.5, 4, 1], [0, 0, 0]]
    assert table.findings == []


def test_keypoints_follow_their_objects() -> None:
    annotations = [annotation(n, image_id, keypoints=[n, n, 2] * n) for n, image_id in ((1, 3), (2, 2), (3, 1), (4, 3))]
    table = parse(content([image(n, f"{n}.jpg") for n in (1, 2, 3)], annotations))
    assert table.keypoint_counts.tolist() == [3, 2, 1, 4]
    assert table.keypoints_xyv[:, 0].tolist() == [3, 3, 3, 2, 2, 1, 4, 4, 4, 4]


def test_what_is_left_out_or_odd_is_found() -> None:
    annotations = [
        annotation(1, 99),
        annotation(2, bbox=None),
        annotation("three", bbox=[], keypoints=[], segmentation=[[1, 1, 5, 1, 5, 5]]),
        annotation(4, keypoints=[0, 0, 0, 0, 0, 0]),
        annotation(5, bbox=None, keypoints=[0, 0, 0]),
        annotation(6, iscrowd=1),
        annotation(6, category_id=77),
        {"image_id": 1, "bbox": [0, 0, 1, 1]},
    ]
    table = parse(content([image()], annotations))
    assert table.findings == [
        Finding("annotation without its image", "1"),
        Finding("annotation without box or keypoints", "2"),
        Finding("annotation without box or keypoints", "three"),
        Finding("object without labelled keypoints", "4"),
        Finding("object without labelled keypoints", "5"),
        Finding("unknown category", "6"),
        Finding("unknown category", "annotations[7]"),
        Finding("crowd box", "6"),
        Finding("duplicate annotation id", "6"),
    ]
    assert table.class_ids.tolist() == [0, 0, -1, -1]
    assert table.keypoint_counts.tolist() == [0, 0, 0, 0]
    assert table.keypoints_xyv.shape == (0, 3)


def test_a_file_listed_under_two_ids_is_one_image() -> None:
    images = [image(1, "a.jpg", width=None), image(2, "b.jpg"), image("1", "a.jpg"), image(2, "b.jpg")]
    table = parse(content(images, [annotation(1, "1"), annotation(2, 2), annotation(3, 1)]))
    assert table.image_names == ["a.jpg", "b.jpg"]
    assert table.image_sizes_wh.tolist() == [[64, 48], [64, 48]]
    assert table.image_indices.tolist() == [0, 0, 1]
    assert table.findings == [Finding("image listed twice", "a.jpg"), Finding("image listed twice", "b.jpg")]


def test_a_number_and_its_text_are_two_ids() -> None:
    images = [image(1, "number.jpg"), image("1", "text.jpg")]
    table = parse(content(images, [annotation(1, "1", category_id="1"), annotation("1", 1.0, category_id=1.0)]))
    assert table.image_indices.tolist() == [0, 1]
    assert table.class_ids.tolist() == [0, -1]
    assert table.findings == [Finding("unknown category", "1")]


@pytest.mark.parametrize("side", [0, -3, 2.5, True, "640", None, [1], 2**31, 10**30])
def test_a_side_that_is_no_size_makes_it_unknown(side: object) -> None:
    assert parse(content([image(width=side)], [])).image_sizes_wh.tolist() == [[0, 0]]
    assert parse(content([image(height=side)], [])).image_sizes_wh.tolist() == [[0, 0]]


def test_a_whole_float_is_a_side() -> None:
    assert parse(content([image(width=640.0)], [])).image_sizes_wh.tolist() == [[640, 48]]


@pytest.mark.parametrize(
    ("categories", "names"),
    [
        ([(0, "set", "none"), (1, "ear", "set")], ("ear",)),
        ([(0, "ear", "none"), (1, "ear", "ear")], ("ear",)),
        ([(0, "nose", "none"), (1, "ear", "none")], ("nose", "ear")),
        ([(0, "nose", "nose"), (1, "ear", "none")], ("nose", "ear")),
        ([(1, "set", "none"), (2, "ear", "set")], ("set", "ear")),
        ([(2, "ear", "set"), (3, "set", "none")], ("ear", "set")),
        ([("10", "c", None), (20, "a", None), ("9", "b", None)], ("a", "b", "c")),
        ([(5, "b", None), (3, "a", None), (4, "b", [])], ("a", "b")),
    ],
)
def test_class_names_are_those_of_the_categories_but_for_an_unused_set(
    categories: list[tuple[object, str, object]], names: tuple[str, ...]
) -> None:
    listed = [dict(zip(("id", "name", "supercategory"), each, strict=True)) for each in categories]
    assert parse(content([image()], [annotation()], listed)).class_names == names


def test_categories_of_one_name_are_one_class() -> None:
    categories = [{"id": 1, "name": "ear"}, {"id": 2, "name": "nose"}, {"id": 3, "name": "ear"}]
    annotations = [annotation(n, category_id=n) for n in (1, 2, 3)]
    assert parse(content([image()], annotations, categories)).class_ids.tolist() == [0, 1, 0]


def test_a_file_without_images_or_categories_is_an_empty_table() -> None:
    table = parse({"images": [], "annotations": []})
    assert (table.image_names, table.class_names, table.findings) == ([], (), [])
    assert (table.image_sizes_wh.shape, table.boxes_xywh.shape) == ((0, 2), (0, 4))


def test_nan_and_numbers_beyond_a_float_are_read() -> None:
    data = json.dumps(content([image()], [annotation(bbox=[math.nan, math.inf, "big", "small"])])).encode()
    table = parse_coco(data.replace(b'"big"', b"9" * 400).replace(b'"small"', b"-1e400"), "c.json")
    assert repr(table.boxes_xywh.tolist()) == "[[nan, inf, inf, -inf]]"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "cut short or no JSON: line 1 column 1: Expecting value"),
        (b'{"images":\n [{"id": 3', "cut short or no JSON: line 2 column 11: Expecting ',' delimiter"),
        (b'{"images": [],}', "cut short or no JSON: line 1 column 15: " + "*"),
        (b"PK\x03\x04\xff", "not UTF-8 text from byte 4 on"),
        (b'\xef\xbb\xbf"\xff"', "not UTF-8 text from byte 4 on"),
        (b"[" * 200_000, "its JSON is nested too deeply"),
        (b'{"a": ' * 200_000, "its JSON is nested too deeply"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "a number in it has thousands of digits"),
        (b"[1, 2]", "no COCO file: an object is expected, not [1, 2]"),
        (b"7", "no COCO file: an object is expected, not 7"),
        (b"{}", "no COCO file: it has no `images` and no `annotations`; it is empty"),
        (b'{"images": [], "info": 1}', "no COCO file: it has no `annotations`; its keys are 'images', 'info'"),
        (
            b'{"image": {}, "annotations": []}',
            "no COCO file: it has no `images`; its keys are 'image', 'annotations', as in an SA-1B file of one image",
        ),
    ],
)
def test_what_is_no_coco_file_is_said(data: bytes, problem: str) -> None:
    line = error_of(data)
    # Python's words for a comma too many differ between its versions.
    assert line.startswith(problem.removesuffix("*")) if problem.endswith("*") else line == problem


def test_everything_wrong_with_the_records_is_said_together() -> None:
    images = [
        image(None),
        image(1, None),
        image(True, 5),
        3,
        image(4, "x\0"),
        image(5, ""),
        {"width": 3},
        image(6, "\ud800"),
    ]
    annotations = [
        annotation(7, None),
        annotation(8, bbox=[1, 2, 3]),
        annotation(9, bbox=[1, 2, 3, "4"]),
        annotation(10, bbox={"x": 1}),
        annotation(11, keypoints=[1, 2, 2, 4]),
        annotation([12], category_id=True),
        annotation(13, bbox=[1, 2, 3, True]),
    ]
    lines = error_of(content(images, annotations, [{"id": 1}, {"name": "b"}])).split("; ")
    assert lines == [
        "images[0] (id None): has no `id`",
        "images[1] (id 1): has no `file_name`",
        "images[2] (id True): `id` is True, neither a whole number nor text",
        "images[2] (id True): `file_name` is 5, not text",
        "images[3] is 3, not an object",
        "images[4] (id 4): `file_name` is 'x\\x00', not text",
        "images[5] (id 5): has no `file_name`",
        "images[6]: has no `id`",
        "images[6]: has no `file_name`",
        "images[7] (id 6): `file_name` is '\\ud800', not text",
        "annotations[0] (id 7): has no `image_id`",
        "annotations[1] (id 8): `bbox` is [1, 2, 3], not a list of 4 numbers",
        "annotations[2] (id 9): `bbox` is [1, 2, 3, '4'], not a list of 4 numbers",
        "annotations[3] (id 10): `bbox` is {'x': 1}, not a list of 4 numbers",
        "annotations[4] (id 11): `keypoints` has 4 numbers, not an x, a y and a v for each point",
        "annotations[5] (id [12]): `id` is [12], neither a whole number nor text",
        "annotations[5] (id [12]): `category_id` is True, neither a whole number nor text",
        "annotations[6] (id 13): `bbox` is [1, 2, 3, True], not a list of 4 numbers",
        "categories[0] (id 1): has no `name`",
        "categories[1]: has no `id`",
    ]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (content([image(4, "x\0")], []), "images[0] (id 4): `file_name` is 'x\\x00', not text"),
        (content([image()], [], [{"id": 1, "name": "\0"}]), "categories[0] (id 1): `name` is '\\x00', not text"),
        (
            content([image()], [annotation(keypoints=[1, 2])]),
            "annotations[0] (id 1): `keypoints` has 2 numbers, not an x, a y and a v for each point",
        ),
    ],
)
def test_what_only_the_values_tell_is_said_too(value: object, problem: str) -> None:
    assert error_of(value) == problem


@pytest.mark.parametrize(("iscrowd", "found"), [(1, 1), (True, 1), (0, 0), (None, 0), ("1", 0), (2, 0), ([1], 0)])
def test_a_crowd_is_1(iscrowd: object, found: int) -> None:
    table = parse(content([image()], [annotation(iscrowd=iscrowd)]))
    assert table.findings == [Finding("crowd box", "1")] * found


def test_the_first_problems_are_listed_and_the_others_counted() -> None:
    with pytest.raises(InputProblemsError) as caught:
        parse(content([image(n, None) for n in range(25)], []))
    assert len(caught.value.problems) == 21
    assert caught.value.problems[-1] == "and 5 more"


def test_ids_and_names_that_contradict_each_other_are_said() -> None:
    images = [image(1, "a.jpg"), image(1, "b.jpg"), image(2, "c.jpg"), image(3, "c.jpg", width=65)]
    categories = [{"id": 1, "name": "ear"}, {"id": 1, "name": "nose"}]
    assert error_of(content(images, [], categories)).split("; ") == [
        "image 'c.jpg' has two sizes (width x height), 64x48 and 65x48",
        "image id 1 stands for 'a.jpg' and 'b.jpg'",
        "category id 1 stands for 'ear' and 'nose'",
    ]


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_a_part_that_is_no_list_is_said(key: str) -> None:
    assert error_of(content([], []) | {key: {"a": 1}}) == f"`{key}` is {{'a': 1}}, not a list"


def test_every_truncation_is_an_expected_error() -> None:
    data = json.dumps(content([image(file_name="ä.jpg")], [annotation(keypoints=[1, 2, 2])]), ensure_ascii=False)
    encoded = b"\xef\xbb\xbf" + data.encode()
    assert parse_coco(encoded, "c.json").image_names == ["ä.jpg"]
    for length in range(len(encoded)):
        with pytest.raises(MvtkError):
            parse_coco(encoded[:length], "c.json")


@given(st.data())
def test_any_damage_is_an_expected_error_or_a_table(data: st.DataObject) -> None:
    encoded = bytearray(json.dumps(content([image()], [annotation(keypoints=[1, 2, 2])])).encode())
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_coco(bytes(encoded), "c.json")
    except MvtkError as error:
        assert str(error).isprintable()  # noqa: PT017 - either outcome is right


ids = st.integers(-2, 3) | st.sampled_from(["1", "2", "", 2**70])
numbers = st.integers(-(10**25), 10**25) | st.floats(allow_nan=False, allow_infinity=False)
optional_ids = st.none() | ids


@st.composite
def coco_files(draw: st.DrawFn) -> dict[str, Any]:
    """A file without contradictions, in which annotations may lack anything that they may lack."""
    image_ids = draw(st.lists(ids, unique=True, max_size=4))
    name_of = {each: draw(st.sampled_from(["a.jpg", "b/ü.jpg", "c.jpg"])) for each in image_ids}
    side = st.sampled_from([0, 640])
    images = [image(each, name, width=draw(side)) for each, name in name_of.items()]
    boxes = st.none() | st.tuples(numbers, numbers, numbers, numbers)
    points = st.lists(st.tuples(numbers, numbers, st.sampled_from([0, 1, 2, 2.0])), max_size=3).map(
        lambda triples: [number for triple in triples for number in triple]
    )
    record = st.builds(
        annotation,
        optional_ids,
        ids,
        category_id=optional_ids,
        bbox=boxes,
        keypoints=st.none() | points,
        iscrowd=st.sampled_from([0, 1, True, None, "x"]),
        segmentation=st.just([[1, 2]]),
    )
    categories = [
        {"id": each, "name": f"n{index % 3}", "supercategory": draw(st.sampled_from(["none", "n0", None]))}
        for index, each in enumerate(draw(st.lists(ids, unique=True, max_size=4)))
    ]
    return content(images, draw(st.lists(record, max_size=6)), categories)


@given(coco_files())
def test_both_ways_of_reading_give_the_same_table(value: dict[str, Any]) -> None:
    data = json.dumps(value).encode()
    assert coco_records.read_quickly(data) is not None
    quick = as_values(parse_coco(data, "c.json"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coco, "read_quickly", lambda _data: None)
        careful = as_values(parse_coco(data, "c.json"))
    assert quick == careful


@given(coco_files())
def test_every_annotation_is_in_the_table_or_found(value: dict[str, Any]) -> None:
    table = parse(value)
    dropped = [
        finding
        for finding in table.findings
        if finding.kind in {"annotation without its image", "annotation without box or keypoints"}
    ]
    pointless = sum(finding.kind == "object without labelled keypoints" for finding in table.findings)
    kept = len(table.image_indices)
    assert kept + len(dropped) <= len(value["annotations"]) <= kept + len(dropped) + pointless
    assert (np.diff(table.image_indices) >= 0).all()
    assert table.keypoint_counts.sum() == len(table.keypoints_xyv)
    assert (table.has_box | (table.keypoint_counts > 0)).all()


@pytest.mark.parametrize(
    ("file", "images", "boxes", "names"),
    [
        ("roboflow_coco/rbc_boxes/test/_annotations.coco.json", 10, 221, ("rbc", "wbc")),
        ("roboflow_coco/mushroom_seg/test/_annotations.coco.json", 3, 594, ("Mushroom",)),
    ],
)
def test_roboflow_exports(shared_data: Path, file: str, images: int, boxes: int, names: tuple[str, ...]) -> None:
    table = load_coco(shared_data / file)
    assert (len(table.image_names), len(table.boxes_xywh), table.class_names) == (images, boxes, names)
    assert table.has_box.all()
    assert (table.class_ids >= 0).all()
    assert table.findings == []


def test_coco_itself(shared_data: Path) -> None:
    table = load_coco(shared_data / "coco128_subset/annotations/instances_train2017.json")
    assert (len(table.image_names), len(table.boxes_xywh), len(table.class_names)) == (8, 58, 80)
    assert table.image_sizes_wh[0].tolist() == [640, 428]
    assert table.boxes_xywh[0].tolist() == [204.86, 31.02, 254.88, 324.12]
    assert table.findings == [Finding("crowd box", "900100000257")]
