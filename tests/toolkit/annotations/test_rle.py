"""Segmentations as run lengths: equal to what pycocotools decodes, and refused where it would decode anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from toolkit.annotations.rle import MAX_MASK_PIXELS, RunLengths, parse_segmentations, whole_number
from toolkit.core.errors import InputProblemsError

# NumPy 2 about pycocotools' decode.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

masks_hw = npst.arrays(np.uint8, npst.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 1))


@st.composite
def mask_stacks(draw: st.DrawFn) -> NDArray[np.uint8]:
    """Several masks of one size, (masks, height, width); long runs and short ones, empty and full masks."""
    count, height, width = draw(st.tuples(st.integers(0, 6), st.integers(1, 50), st.integers(1, 50)))
    step = draw(st.integers(1, 20))
    shape = (count, -(-height // step), -(-width // step))
    coarse = draw(npst.arrays(np.uint8, shape, elements=st.integers(0, 1), fill=st.sampled_from([0, 1])))
    return coarse.repeat(step, axis=1).repeat(step, axis=2)[:, :height, :width]


def compressed(mask_hw: NDArray[np.uint8]) -> dict[str, Any]:
    """A mask as SA-1B has it."""
    rle = coco_mask.encode(np.asfortranarray(mask_hw))
    return {"size": list(mask_hw.shape), "counts": rle["counts"].decode()}


def uncompressed(mask_hw: NDArray[np.uint8]) -> dict[str, Any]:
    """A mask as COCO has crowd regions."""
    pixels = mask_hw.T.ravel()
    ends = [*(np.flatnonzero(np.diff(pixels)) + 1).tolist(), pixels.size]
    counts = np.diff(ends, prepend=0).tolist()
    return {"size": list(mask_hw.shape), "counts": [0, *counts] if pixels[0] else counts}


def masks_of(run_lengths: RunLengths) -> list[list[int]]:
    """The counts, a list a mask."""
    return [counts.tolist() for counts in np.split(run_lengths.counts, run_lengths.first[1:-1])][: len(run_lengths)]


def problems_of(segmentations: list[Any], height: int = 2, width: int = 3) -> tuple[str, ...]:
    with pytest.raises(InputProblemsError) as caught:
        parse_segmentations(segmentations, height, width)
    assert caught.value.message == "the segmentations cannot be read"
    return caught.value.problems


def problem_of(segmentation: Any, height: int = 2, width: int = 3) -> str:
    (problem,) = problems_of([segmentation], height, width)
    name, _, text = problem.partition(": ")
    assert name == "annotations[0]"
    return text


@pytest.mark.parametrize("form", [compressed, uncompressed])
@given(stack=mask_stacks())
def test_masks_come_back_from_both_kinds_of_counts(
    form: Callable[[NDArray[np.uint8]], dict[str, Any]], stack: NDArray[np.uint8]
) -> None:
    _, height, width = stack.shape
    run_lengths = parse_segmentations([form(mask_hw) for mask_hw in stack], height, width)
    assert len(run_lengths) == len(stack)
    assert (run_lengths.height, run_lengths.width) == (height, width)
    assert run_lengths.counts.dtype == run_lengths.first.dtype == np.int64
    for index, mask_hw in enumerate(stack):
        np.testing.assert_array_equal(run_lengths.mask_hw(index), mask_hw)
    assert masks_of(run_lengths) == [uncompressed(mask_hw)["counts"] for mask_hw in stack]


@given(mask_hw=masks_hw, as_bytes=st.booleans())
def test_forms_mix_in_one_image_and_keep_their_order(mask_hw: NDArray[np.uint8], as_bytes: bool) -> None:
    height, width = mask_hw.shape
    text = compressed(mask_hw)
    if as_bytes:
        text["counts"] = text["counts"].encode()
    whole = [[0, 0, width, 0, width, height, 0, height]]
    run_lengths = parse_segmentations([[], text, whole, uncompressed(mask_hw), text], height, width)
    counts = uncompressed(mask_hw)["counts"]
    assert masks_of(run_lengths) == [[height * width], counts, [0, height * width], counts, counts]


def test_large_counts_are_read() -> None:
    mask_hw = np.zeros((4000, 5000), np.uint8)
    mask_hw[17:3990, 100:4900:50] = 1
    mask_hw[:, 4000:] = 1
    run_lengths = parse_segmentations([compressed(mask_hw), uncompressed(mask_hw)], *mask_hw.shape)
    np.testing.assert_array_equal(run_lengths.mask_hw(0), mask_hw)
    np.testing.assert_array_equal(run_lengths.mask_hw(1), mask_hw)


def test_the_largest_image_is_read() -> None:
    empty, full = masks_of(parse_segmentations([[], {"size": [1, MAX_MASK_PIXELS], "counts": "0ooooo?"}], 1, 2**29 - 1))
    assert empty == [2**29 - 1]
    assert full == [0, 2**29 - 1]


@pytest.mark.parametrize(("height", "width"), [(0, 5), (-2, -3), (1, 2**29)])
def test_sizes_that_no_image_has_are_the_callers_mistake(height: int, width: int) -> None:
    with pytest.raises(ValueError, match="no masks of"):
        parse_segmentations([], height, width)


coordinates = st.one_of(st.integers(-5, 30), st.floats(-20, 60))
polygons = st.lists(coordinates, min_size=6, max_size=16).map(lambda numbers: numbers[: len(numbers) // 2 * 2])


@given(st.lists(polygons, min_size=1, max_size=5), st.integers(1, 25), st.integers(1, 25))
@example([[0.0, 0.0, 3.0, 0.0, 3.0, 3.0]], 3, 3)
def test_polygons_are_rasterised_and_united_as_pycocotools_does(
    parts: list[list[float]], height: int, width: int
) -> None:
    expected_hw = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, height, width)))
    np.testing.assert_array_equal(parse_segmentations([parts], height, width).mask_hw(0), expected_hw)


@given(masks_hw, st.data())
def test_damaged_text_is_refused_or_read_as_pycocotools_reads_it(
    mask_hw: NDArray[np.uint8], data: st.DataObject
) -> None:
    height, width = mask_hw.shape
    text = compressed(mask_hw)["counts"]
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        stop = data.draw(st.integers(start, min(start + 2, len(text))))
        text = (
            text[:start]
            + data.draw(st.text(st.characters(min_codepoint=46, max_codepoint=113), max_size=3))
            + text[stop:]
        )
    segmentation = {"size": [height, width], "counts": text}
    try:
        run_lengths = parse_segmentations([segmentation], height, width)
    except InputProblemsError:
        return
    assert run_lengths.counts.sum() == height * width
    assert np.all(run_lengths.counts[1:] > 0)
    np.testing.assert_array_equal(run_lengths.mask_hw(0), coco_mask.decode(segmentation))


@pytest.mark.parametrize("text", ["121O0", "121oO0", "121oooooO0", "VP0", "VPPPP0", "PPPPP06"])
def test_numbers_longer_than_they_must_be_are_read_as_pycocotools_reads_them(text: str) -> None:
    segmentation = {"size": [2, 3], "counts": text}
    np.testing.assert_array_equal(parse_segmentations([segmentation], 2, 3).mask_hw(0), coco_mask.decode(segmentation))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just([2, 3]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["size", "counts"]), inner),
    max_leaves=12,
)


@given(st.lists(json_values, max_size=3))
def test_any_json_gives_masks_or_problems(segmentations: list[Any]) -> None:
    with suppress(InputProblemsError):
        assert len(parse_segmentations(segmentations, 2, 3)) == len(segmentations)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12).filter(any))
@example([0, 0, 0, 5, 0, 0])
@example([0, 6])
def test_empty_runs_are_removed_and_the_pixels_stay(counts: list[int]) -> None:
    pixels = sum(counts)
    values = np.arange(len(counts), dtype=np.uint8) % 2
    expected_hw = np.repeat(values, counts).reshape(1, pixels)
    other = {"size": [1, pixels], "counts": [pixels]}
    run_lengths = parse_segmentations([other, {"size": [1, pixels], "counts": counts}, other], 1, pixels)
    assert masks_of(run_lengths) == [[pixels], uncompressed(expected_hw)["counts"], [pixels]]


@pytest.mark.parametrize(
    ("counts", "problem"),
    [
        ("", "the counts sum to 0, the image has 6 pixels"),
        ("5", "the counts sum to 5, the image has 6 pixels"),
        ("7", "counts[0] is 7, not a whole number from 0 to 6"),
        ("331", "the counts sum to 7, the image has 6 pixels"),
        ("O7", "counts[0] is -1, not a whole number from 0 to 6"),
        ("121M1", "counts[3] is -1, not a whole number from 0 to 6"),
        ("ooooo?ooooo?", "counts[0] is 536870911, not a whole number from 0 to 6"),
        ("6 ", "character 1 of the counts is 0x20, not one from '0' to 'o'"),
        ("/6", "character 0 of the counts is 0x2f, not one from '0' to 'o'"),
        ("p6", "character 0 of the counts is 0x70, not one from '0' to 'o'"),
        ("1é", "character 1 of the counts is 0xc3, not one from '0' to 'o'"),
        ("6\0", "character 1 of the counts is 0x00, not one from '0' to 'o'"),
        ("\ud8006", "character 0 of the counts is 0xed, not one from '0' to 'o'"),
        ("6P", "the last number of the counts does not end: the text is cut short"),
        ("3PPPPPP03", "the number at character 1 of the counts has more than 6 characters"),
        ("P" * 1000, "the number at character 0 of the counts has more than 6 characters"),
        ([], "the counts sum to 0, the image has 6 pixels"),
        ([1, 2], "the counts sum to 3, the image has 6 pixels"),
        ([1, -2, 7], "counts[1] is -2, not a whole number from 0 to 6"),
        ([10**30], "counts[0] is 1000000000000000000000000000000, not a whole number from 0 to 6"),
        ([True, 5], "counts[0] is True, not a whole number from 0 to 6"),
        ([1, 4.5], "counts[1] is 4.5, not a whole number from 0 to 6"),
        ([6, float("nan")], "counts[1] is nan, not a whole number from 0 to 6"),
        ([6, float("inf")], "counts[1] is inf, not a whole number from 0 to 6"),
        ([6, "0"], "counts[1] is '0', not a whole number from 0 to 6"),
        ([[6]], "counts[0] is [6], not a whole number from 0 to 6"),
        (None, "the RLE's counts are None, neither text nor a list"),
        ({"a": 6}, "the RLE's counts are {'a': 6}, neither text nor a list"),
    ],
)
def test_wrong_counts_are_named(counts: object, problem: str) -> None:
    assert problem_of({"size": [2, 3], "counts": counts}) == problem


@pytest.mark.parametrize(
    ("size", "problem"),
    [
        ([3, 2], "RLE size 3x2 contradicts the image, 2x3 (height x width)"),
        ([10**9, 10**9], "RLE size 1000000000x1000000000 contradicts the image, 2x3 (height x width)"),
        ([2], "the RLE's size is [2], not [height, width]"),
        ([2, "3"], "the RLE's size is [2, '3'], not [height, width]"),
        ([True, 3], "the RLE's size is [True, 3], not [height, width]"),
        (6, "the RLE's size is 6, not [height, width]"),
        (None, "the RLE's size is None, not [height, width]"),
    ],
)
def test_wrong_sizes_are_named(size: object, problem: str) -> None:
    assert problem_of({"size": size, "counts": "6"}) == problem


@pytest.mark.parametrize(
    ("segmentation", "problem"),
    [
        (None, "the segmentation is None, neither an RLE object nor a list of polygons"),
        ("6", "the segmentation is '6', neither an RLE object nor a list of polygons"),
        ({}, "the RLE's size is None, not [height, width]"),
        ([[]], "a polygon has 0 numbers, not an x and a y for each of at least 3 points"),
        ([[0, 0, 1, 1]], "a polygon has 4 numbers, not an x and a y for each of at least 3 points"),
        ([[0, 0, 1, 1, 2, 2, 3]], "a polygon has 7 numbers, not an x and a y for each of at least 3 points"),
        ([0, 0, 1, 0, 1, 1], "a polygon is 0, not a list of numbers x1, y1, x2, y2, …"),
        ([[0, 0, 1, 0, 1, None]], "a polygon has the coordinate None, not one within ±1000000 px"),
        ([[0, 0, 1, 0, 1, False]], "a polygon has the coordinate False, not one within ±1000000 px"),
        ([[0, 0, 1, 0, 1, float("nan")]], "a polygon has the coordinate nan, not one within ±1000000 px"),
        (
            [[0, 0, 1, 0, 1, 10**400]],
            "a polygon has the coordinate 100000000000000000...0000000000000000000, not one within ±1000000 px",
        ),
    ],
)
def test_what_is_no_segmentation_is_named(segmentation: object, problem: str) -> None:
    assert problem_of(segmentation) == problem


def test_outlines_that_would_take_for_ever_are_refused() -> None:
    near, far = [[0, 0, 1, 0, 1, 1]], [[0, 0, 900_000, 0, 900_000, 900_000]]
    assert problems_of([near, far, near, far]) == (
        "annotations[3]: the image's polygons have outlines of more than 4000000 pixels in all",
    )


def test_all_problems_of_all_annotations_are_reported_in_their_order() -> None:
    segmentations = [
        {"size": [2, 3], "counts": "5"},
        {"size": [2, 3], "counts": "6"},
        {"size": [2, 3], "counts": ""},
        {"size": [3, 2], "counts": "6"},
        [],
        {"size": [2, 3], "counts": [9]},
        {"size": [2, 3], "counts": "O7"},
    ]
    assert problems_of(segmentations) == (
        "annotations[0]: the counts sum to 5, the image has 6 pixels",
        "annotations[2]: the counts sum to 0, the image has 6 pixels",
        "annotations[3]: RLE size 3x2 contradicts the image, 2x3 (height x width)",
        "annotations[5]: counts[0] is 9, not a whole number from 0 to 6",
        "annotations[6]: counts[0] is -1, not a whole number from 0 to 6",
    )


def test_sums_are_right_where_another_mask_overflows() -> None:
    # Differences that pile up: each count is 2**28 more than the one two before.
    hostile = {"size": [2, 3], "counts": "0" + "PPPPP8" * 300_000}
    problems = problems_of([hostile, {"size": [2, 3], "counts": "6"}, {"size": [2, 3], "counts": "4"}])
    assert problems == (
        "annotations[0]: counts[1] is 268435456, not a whole number from 0 to 6",
        "annotations[2]: the counts sum to 4, the image has 6 pixels",
    )


def test_the_caller_names_the_annotations() -> None:
    with pytest.raises(InputProblemsError) as caught:
        parse_segmentations([[], {}], 2, 3, name_of="box {}".format)
    assert caught.value.problems == ("box 1: the RLE's size is None, not [height, width]",)


@pytest.mark.parametrize(
    ("value", "number"), [(3, 3), (848.0, 848), (-1, -1), (0.5, None), (True, None), ("3", None), (float("inf"), None)]
)
def test_whole_numbers_of_json(value: object, number: int | None) -> None:
    assert whole_number(value) == number


def test_real_masklets_equal_pycocotools(shared_data: Path) -> None:
    files = sorted((shared_data / "sa_v").glob("*.json"))
    assert files
    for file in files:
        for frame in json.loads(file.read_bytes())["masklet"]:
            height, width = frame[0]["size"]
            run_lengths = parse_segmentations(frame, height, width)
            for index, rle in enumerate(frame):
                np.testing.assert_array_equal(run_lengths.mask_hw(index), coco_mask.decode(rle))


def test_real_coco_polygons_and_crowds_equal_pycocotools(shared_data: Path) -> None:
    file = shared_data / "coco128_subset" / "annotations" / "instances_train2017.json"
    coco = json.loads(file.read_bytes())
    forms = set()
    for image in coco["images"]:
        height, width = image["height"], image["width"]
        segmentations = [a["segmentation"] for a in coco["annotations"] if a["image_id"] == image["id"]]
        run_lengths = parse_segmentations(segmentations, height, width)
        for index, segmentation in enumerate(segmentations):
            forms.add(type(segmentation))
            rle = coco_mask.frPyObjects(segmentation, height, width)
            expected_hw = coco_mask.decode(coco_mask.merge(rle) if isinstance(rle, list) else rle)
            np.testing.assert_array_equal(run_lengths.mask_hw(index), expected_hw)
    assert forms == {list, dict}
