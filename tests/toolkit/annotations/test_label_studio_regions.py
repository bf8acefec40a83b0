"""Regions of Label Studio annotations as masks: geometry, labels, and what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.label_studio_exports import HEIGHT, WIDTH, brush, polygon, rectangle, result
from toolkit.annotations.label_studio import RegionKind
from toolkit.annotations.label_studio_regions import Region, Regions, parse_regions
from toolkit.core.errors import InputProblemsError, MvtkError

ALL: tuple[RegionKind, ...] = ("brush", "polygon", "rectangle", "ellipse")
percent = st.floats(0, 100, allow_subnormal=False)


def parsed(*results: Any, kinds: tuple[RegionKind, ...] = ALL) -> Regions:
    return parse_regions(json.dumps(results).encode(), kinds)


def only(*results: Any) -> Region:
    [region] = parsed(*results).regions
    return region


def test_a_rectangle_is_its_pixels() -> None:
    mask_hw = only(rectangle(25, 10, 50, 40, "cell")).mask_hw(HEIGHT, WIDTH)
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[3:15, 10:30] = True
    assert np.array_equal(mask_hw, expected)
    assert only(rectangle(25, 10, 50, 40, "cell")).labels == ("cell",)


def test_a_rotation_turns_clockwise_about_the_upper_left_corner() -> None:
    # From (50 %, 0 %), 20 px to the right and 10 px down: by 90 degrees it reaches 10 px to the left and 20 px down.
    mask_hw = only(rectangle(50, 0, 50, 100 / 3, "cell", rotation=90)).mask_hw(HEIGHT, WIDTH)
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[0:20, 10:20] = True
    assert np.array_equal(mask_hw, expected)


@given(percent, percent, st.floats(5, 60), st.floats(5, 60), st.floats(-360, 360))
def test_a_turned_rectangle_covers_the_pixels_inside(
    left: float, top: float, width: float, height: float, rotation: float
) -> None:
    size_hw = (150, 200)
    turned = rectangle(left, top, width, height, "cell", rotation=rotation) | {"original_width": None}
    mask_hw = only(turned).mask_hw(*size_hw)
    y, x = np.mgrid[: size_hw[0], : size_hw[1]] + 0.5
    x, y = x - left * 2, y - top * 1.5
    angle = math.radians(rotation)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    inside_px = np.minimum(np.minimum(along, width * 2 - along), np.minimum(across, height * 1.5 - across))
    # pycocotools decides by its own rule for pixels that the outline crosses.
    assert mask_hw[inside_px > 1].all()
    assert not mask_hw[inside_px < -1].any()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # NumPy 2 about pycocotools
@given(st.lists(st.tuples(percent, percent), min_size=3, max_size=8))
def test_a_polygon_is_that_of_its_percentages(points: list[tuple[float, float]]) -> None:
    pixels = [value * side / 100 for x, y in points for value, side in ((x, WIDTH), (y, HEIGHT))]
    [encoded] = coco_mask.frPyObjects([pixels], HEIGHT, WIDTH)
    expected = coco_mask.decode(encoded)
    region = only(polygon([list(point) for point in points], "cell"))
    assert np.array_equal(region.mask_hw(HEIGHT, WIDTH), expected)


def test_an_ellipse_has_its_area_and_place() -> None:
    value = {"x": 50, "y": 50, "radiusX": 30, "radiusY": 20}
    mask_hw = only(result("ellipse", value, "cell", size_wh=(400, 300))).mask_hw(300, 400)
    assert mask_hw.sum() == pytest.approx(math.pi * 120 * 60, rel=0.01)
    rows, columns = np.nonzero(mask_hw)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == pytest.approx((90, 210, 80, 320), abs=1)


def test_alpha_is_a_mask_from_its_threshold_on() -> None:
    alpha_hw = np.array([[0, 1, 127], [128, 200, 255]], np.uint8)
    region = only(brush(alpha_hw, "cell"))
    assert region.mask_hw(2, 3).tolist() == [[False, False, False], [True, True, True]]
    assert region.mask_hw(2, 3, alpha_threshold=1).tolist() == [[False, True, True], [True, True, True]]
    assert region.mask_hw(2, 3, alpha_threshold=255).sum() == 1


def test_regions_without_an_area_are_empty() -> None:
    for each in (
        rectangle(10, 10, 0, 0, "cell"),
        polygon([[0, 0], [50, 50]], "cell"),
        rectangle(150, 150, 20, 20, "cell"),
        result("brush", {"format": "rle", "rle": []}, "cell"),
    ):
        assert not only(each).mask_hw(HEIGHT, WIDTH).any()


def test_labels_may_stand_in_results_of_their_own() -> None:
    shape = {**rectangle(0, 0, 50, 50), "type": "rectangle", "id": "r1"}
    label = {**shape, "type": "labels", "value": {"x": 0, "labels": ["cell"]}}
    other = {**shape, "type": "choices", "value": {"choices": ["blurred"]}}
    found = parsed(label, shape, other, {"type": "relation", "from_id": "r1", "to_id": "r1"})
    assert [region.labels for region in found.regions] == [("cell",)]
    assert found.left_out == ()


def test_what_is_left_out_is_named() -> None:
    point = result("keypoint", {"x": 1, "y": 2}, "nose")
    found = parsed(point, rectangle(0, 0, 9, 9, "a"), polygon([[0, 0], [9, 0], [0, 9]], "b"), kinds=("polygon",))
    assert [region.labels for region in found.regions] == [("b",)]
    assert found.left_out == ("keypointlabels", "rectanglelabels")


def test_all_that_is_wrong_is_said() -> None:
    turned = {**rectangle(0, 0, 9, 9, "a"), "image_rotation": 90, "id": "t"}
    text = {**rectangle(0, 0, 9, 9, "a"), "id": "x"}
    text["value"]["width"] = "wide"
    with pytest.raises(InputProblemsError) as caught:
        parsed(turned, text, rectangle(0, 0, 9, 9, "a"))
    assert caught.value.problems == (
        "result[0] (id 't'): the image was turned by 90 degrees in Label Studio",
        "result[1] (id 'x'): Expected `float`, got `str` - at `$.width` of its value",
    )
    with pytest.raises(MvtkError, match=r"the results cannot be read: Expected `array`, got `object`"):
        parse_regions(b"{}", ALL)


@pytest.mark.parametrize(
    ("region", "size_hw", "message"),
    [
        (rectangle(0, 0, 9, 9, "a"), (HEIGHT, 41), "was drawn in an image of 30x40, and this one has 30x41"),
        (
            result("brush", {"format": "png", "rle": [1]}, "a"),
            (HEIGHT, WIDTH),
            "a brush mask in the format 'png', not rle",
        ),
        (result("brush", {"rle": [1, 2]}, "a"), (HEIGHT, WIDTH), "the brush mask has 2 bytes, which is less than"),
        (polygon([[0, 0], [1e9, 0], [0, 9]], "a"), (HEIGHT, WIDTH), "a polygon has the coordinate"),
    ],
)
def test_a_shape_that_cannot_be_drawn_names_its_region(
    region: dict[str, Any], size_hw: tuple[int, int], message: str
) -> None:
    with pytest.raises(MvtkError) as caught:
        only(region).mask_hw(*size_hw)
    assert caught.value.message.startswith("result[0] (id ")
    assert message in caught.value.message
