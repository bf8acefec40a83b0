from __future__ import annotations

import numpy as np
import pytest

from toolkit.preview import CLASS_COLOURS
from toolkit.sam.mask_bounds import mask_boxes
from toolkit.sam.panels import (
    AGREED_COLOUR,
    EXCESS_COLOUR,
    MISSED_COLOUR,
    paint_difference,
    paint_instances,
    prediction_panel,
    write_labels,
)

GREY = np.full((40, 60, 3), 100, np.uint8)


def masks(*places: tuple[slice, slice]) -> np.ndarray:
    masks_nhw = np.zeros((len(places), 40, 60), np.bool_)
    for mask_hw, place in zip(masks_nhw, places, strict=True):
        mask_hw[place] = True
    return masks_nhw


LEFT = (slice(10, 20), slice(5, 15))
RIGHT = (slice(10, 20), slice(40, 50))


def mixed(colour: tuple[int, int, int], opacity: float) -> list[int]:
    return np.rint(np.array(colour) * opacity + 100 * (1 - opacity)).astype(int).tolist()


def test_instances_have_their_own_colours_and_an_outline_around_them() -> None:
    painted = paint_instances(GREY, masks(LEFT, RIGHT))
    assert painted[15, 10].tolist() == mixed(CLASS_COLOURS[0], 0.45)
    assert painted[15, 45].tolist() == mixed(CLASS_COLOURS[1], 0.45)
    assert painted[15, 4].tolist() == list(CLASS_COLOURS[0])
    assert painted[15, 30].tolist() == [100, 100, 100]
    assert (GREY == 100).all()


def test_colours_may_be_those_of_classes() -> None:
    painted = paint_instances(GREY, masks(LEFT, RIGHT), [2, 2 + len(CLASS_COLOURS)])
    assert painted[15, 10].tolist() == painted[15, 45].tolist() == mixed(CLASS_COLOURS[2], 0.45)


def test_difference_tells_agreed_missed_and_excess_pixels_apart() -> None:
    truth, predicted = masks((slice(10, 20), slice(5, 15))), masks((slice(10, 20), slice(10, 25)))
    painted = paint_difference(GREY, truth, predicted)
    assert painted[15, 12].tolist() == mixed(AGREED_COLOUR, 0.65)
    assert painted[15, 7].tolist() == mixed(MISSED_COLOUR, 0.65)
    assert painted[15, 20].tolist() == mixed(EXCESS_COLOUR, 0.65)
    assert painted[30, 30].tolist() == [100, 100, 100]


def test_difference_compares_each_instance_with_its_own_prediction() -> None:
    swapped = paint_difference(GREY, masks(LEFT, RIGHT), masks(RIGHT, LEFT))
    assert swapped[15, 10].tolist() == mixed(MISSED_COLOUR, 0.65)


def written(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    black = np.zeros((40, 60, 3), np.uint8)
    return write_labels(black, np.array(boxes, np.float32), ["0.51"] * len(boxes)).any(axis=2)


def test_labels_are_above_their_boxes_and_within_the_image() -> None:
    above = written((20, 20, 50, 30))
    assert above[:21].any()
    assert not above[21:].any()
    assert written((57, 0, 60, 3))[:16, 25:].sum() == pytest.approx(above.sum(), rel=0.1)


def test_a_label_goes_elsewhere_where_another_one_is_and_is_left_out_at_last() -> None:
    box = (20, 15, 50, 24)
    places = [written(*[box] * count).sum() for count in (1, 2, 5)]
    assert places[1] > 1.8 * places[0]
    assert written(*[box] * 3).sum() == places[2]


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("size_hw", [(40, 60), (900, 30)])
def test_panel_shows_four_pictures_of_any_size(count: int, size_hw: tuple[int, int]) -> None:
    image = np.full((*size_hw, 3), 90, np.uint8)
    truth = np.zeros((count, *size_hw), np.bool_)
    truth[:, 5:25, 5:25] = True
    panel = prediction_panel(image, truth, ~truth, mask_boxes(truth), title="image 7", panel_px=120)
    assert panel.dtype == np.uint8
    assert panel.shape[1] == 4 * (120 + 12) + 12
