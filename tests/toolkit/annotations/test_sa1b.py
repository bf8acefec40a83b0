"""SA-1B annotation files: what is read, and the exact line that says what is wrong."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from toolkit.annotations.sa1b import ImageAnnotation, load_sa1b, parse_sa1b
from toolkit.core.errors import InputProblemsError, MvtkError

FETCH_AGAIN = "; a damaged file must be fetched or exported again"


def annotation(counts: object = "132", **more: object) -> dict[str, Any]:
    """An annotation of a 2 x 3 image (height x width)."""
    return {"segmentation": {"size": [2, 3], "counts": counts}, **more}


def content(*annotations: object, **image: object) -> dict[str, Any]:
    """A file's content, with what is given put into the image's facts."""
    facts = {"image_id": 257, "width": 3, "height": 2, "file_name": "sa_257.jpg"}
    return {"image": facts | image, "annotations": list(annotations)}


def parse(value: object, **options: int) -> ImageAnnotation:
    return parse_sa1b(json.dumps(value).encode(), "sa.json", **options)


def error_of(data: object, **options: int) -> str:
    """The whole line of the error, without the file's name and the hint."""
    with pytest.raises(MvtkError) as caught:
        parse_sa1b(data if isinstance(data, bytes) else json.dumps(data).encode(), "sa.json", **options)
    line = str(caught.value)
    assert line.startswith("sa.json: ")
    assert line.isprintable()
    assert str(pickle.loads(pickle.dumps(caught.value))) == line
    return line.removeprefix("sa.json: ").removesuffix(FETCH_AGAIN)


def test_a_file_gives_the_images_facts_and_its_masks(tmp_path: Path) -> None:
    path = tmp_path / "sa_257.json"
    path.write_text(json.dumps(content(annotation(id=7), annotation("06"), {"segmentation": []})))
    read = load_sa1b(path)
    assert (read.image_id, read.file_name, read.height, read.width) == (257, "sa_257.jpg", 2, 3)
    assert (read.masks.height, read.masks.width, len(read.masks)) == (2, 3, 3)
    np.testing.assert_array_equal(read.masks.mask_hw(0), [[0, 1, 0], [1, 1, 0]])
    np.testing.assert_array_equal(read.masks.mask_hw(1), np.ones((2, 3)))
    np.testing.assert_array_equal(read.masks.mask_hw(2), np.zeros((2, 3)))


def test_an_image_may_have_no_annotation() -> None:
    read = parse(content())
    assert len(read.masks) == 0
    assert read.masks.first.tolist() == [0]
    assert read.masks.counts.size == 0


def test_what_only_names_the_image_may_be_missing() -> None:
    read = parse({"image": {"width": 3, "height": 2}, "annotations": []})
    assert (read.image_id, read.file_name) == (None, "")
    assert parse(content(image_id="sa_7")).image_id == "sa_7"
    assert parse(content(image_id=[7], file_name=7)).image_id is None


def test_a_byte_order_mark_and_sizes_as_floats_are_accepted() -> None:
    data = b"\xef\xbb\xbf" + json.dumps(content(annotation(), width=3.0, height=2.0)).encode()
    read = parse_sa1b(data, "sa.json")
    assert (read.height, read.width, type(read.height)) == (2, 3, int)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "cut short or no JSON: line 1 column 1: Expecting value"),
        (b'{"image":\n {"width": 3', "cut short or no JSON: line 2 column 13: Expecting ',' delimiter"),
        (b"PK\x03\x04\xff", "not UTF-8 text from byte 4 on"),
        ('{"image": 1}'.encode("utf-16"), "not UTF-8 text from byte 0 on"),
        (b"[" * 200_000, "its JSON is nested too deeply"),
        (b'{"a": ' * 200_000, "its JSON is nested too deeply"),
        (b'{"image": 1' + b"0" * 5000 + b"}", "a number in it has thousands of digits"),
        (b"null", "no annotation file: an object is expected, not None"),
        (b"[1, 2]", "no annotation file: an object is expected, not [1, 2]"),
        (b"{}", "it has no `image`; it has no `annotations`"),
    ],
)
def test_what_is_no_annotation_file_is_said(data: bytes, problem: str) -> None:
    assert error_of(data) == problem


def test_a_coco_file_of_many_images_is_recognised() -> None:
    assert error_of({"images": [], "annotations": [], "categories": []}) == (
        "a COCO file of many images (it has `images`); one JSON file an image is expected; "
        "write each image's annotations to a file in SA-1B's layout"
    )


@pytest.mark.parametrize(
    ("side", "found"),
    [
        (0, "0"),
        (-3, "-3"),
        (2.5, "2.5"),
        (True, "True"),
        ("3", "'3'"),
        (None, "None"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        ([3], "[3]"),
    ],
)
def test_an_images_side_is_a_whole_number_above_0(side: object, found: str) -> None:
    assert error_of(content(width=side)) == f"image.width is {found}, not a whole number above 0"
    assert error_of(content(height=side)) == f"image.height is {found}, not a whole number above 0"


def test_a_missing_side_is_said() -> None:
    assert error_of({"image": {"height": 2}, "annotations": []}) == "image.width is missing"


@pytest.mark.parametrize("value", [None, 3, [], "x"])
def test_parts_of_the_wrong_type_are_said(value: object) -> None:
    assert error_of({"image": value, "annotations": []}) == f"`image` is {value!r}, not an object"
    if not isinstance(value, list):
        assert error_of(content() | {"annotations": value}) == f"`annotations` is {value!r}, not a list"


def test_an_image_beyond_the_limit_is_refused_before_its_masks_are_read() -> None:
    data = content({"segmentation": {"size": [1500, 2250], "counts": "damaged"}}, height=1500, width=2250)
    assert error_of(data, max_pixels=3_374_999) == (
        "the image's 1500x2250 pixels (height x width) are more than the limit of 3374999"
    )
    assert len(parse(content(height=1500, width=2250), max_pixels=3_375_000).masks) == 0


def test_no_limit_goes_beyond_what_run_lengths_can_hold() -> None:
    huge = content(height=int("9" * 3000), width=int("9" * 3000))
    assert error_of(huge, max_pixels=10**10000).endswith(" are more than the limit of 536870911")


def test_all_problems_of_a_file_are_said_at_once() -> None:
    data = content(
        annotation("5", id=11),
        7,
        annotation(id=13),
        {"id": 14},
        {"segmentation": {"size": [3, 2], "counts": "6"}},
    )
    assert error_of(data) == (
        "annotations[1] is 7, not an object; "
        "annotations[3] (id 14) has no `segmentation`; "
        "annotations[0] (id 11): the counts sum to 5, the image has 6 pixels; "
        "annotations[4]: RLE size 3x2 contradicts the image, 2x3 (height x width)"
    )


def test_a_wrong_image_does_not_hide_wrong_annotations() -> None:
    assert error_of({"image": {"width": 3}, "annotations": [None]}) == (
        "image.height is missing; annotations[0] is None, not an object"
    )


def test_many_problems_stay_a_readable_line() -> None:
    line = error_of(content(*[annotation("5", id=index) for index in range(1000)]))
    assert line.count("the counts sum to 5") == 5
    assert line.endswith("annotations[4] (id 4): the counts sum to 5, the image has 6 pixels; and 995 more")
    five = error_of(content(*[annotation("5")] * 5))
    assert five.endswith("annotations[4]: the counts sum to 5, the image has 6 pixels")


def test_names_from_the_file_cannot_break_the_line() -> None:
    line = error_of(content(annotation("5", id="a\n\x1b[31m" + "b" * 1000)))
    assert line == ("annotations[0] (id 'a\\n\\x1b[31mb...bbbbbbbbbbbbb'): the counts sum to 5, the image has 6 pixels")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "sa_1.json"
    with pytest.raises(MvtkError) as caught:
        load_sa1b(missing)
    assert str(caught.value) == f"{missing}: cannot read: No such file or directory; check the path"
    with pytest.raises(MvtkError) as caught:
        load_sa1b(tmp_path)
    assert str(caught.value) == f"{tmp_path}: cannot read: Is a directory; name a file"
    os.mkfifo(missing)
    with pytest.raises(MvtkError) as caught:
        load_sa1b(missing)
    assert str(caught.value) == f"{missing}: not a regular file"


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sa_1.json"
    with path.open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(MvtkError) as caught:
        load_sa1b(path)
    assert str(caught.value) == f"{path}: 1099511627776 bytes are more than the limit of 33554432"
    path.write_bytes(json.dumps(content()).encode())
    with pytest.raises(MvtkError, match="bytes are more than the limit of 10"):
        load_sa1b(path, max_bytes=10)


@given(st.integers(0, 2**32), st.binary(min_size=0, max_size=3), st.integers(0, 4))
def test_a_damaged_file_gives_an_annotation_or_one_line(place: int, inserted: bytes, removed: int) -> None:
    data = json.dumps(content(annotation(id=1), {"segmentation": [[0, 0, 2, 0, 2, 2]]}, annotation([1, 3, 2]))).encode()
    place %= len(data)
    try:
        read = parse_sa1b(data[:place] + inserted + data[place + removed :], "sa.json")
    except MvtkError as error:
        line = str(error)
    else:
        line = "sa.json: no trouble"
        assert all(read.masks.mask_hw(index).shape == (read.height, read.width) for index in range(len(read.masks)))
    assert line.startswith("sa.json: ")
    assert line.isprintable()


def test_several_problems_are_kept_apart() -> None:
    with pytest.raises(InputProblemsError) as caught:
        parse({})
    assert caught.value.message == "sa.json"
    assert caught.value.problems == ("it has no `image`", "it has no `annotations`")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # NumPy 2 about pycocotools' decode
def test_real_files_equal_pycocotools_and_their_areas(shared_data: Path) -> None:
    files = sorted((shared_data / "sa1b").rglob("*.json"))
    assert len(files) >= 4
    for file in files:
        expected = json.loads(file.read_bytes())
        read = load_sa1b(file)
        assert read.image_id == expected["image"]["image_id"]
        assert read.file_name == expected["image"]["file_name"]
        assert len(read.masks) == len(expected["annotations"])
        for index, record in enumerate(expected["annotations"]):
            mask_hw = read.masks.mask_hw(index)
            np.testing.assert_array_equal(mask_hw, coco_mask.decode(record["segmentation"]))
            assert mask_hw.sum() == record["area"]
