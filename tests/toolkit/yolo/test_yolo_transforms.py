"""Augmentation of pairs: the mask goes where its image goes, to the nearest pixel, and keeps its values."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("contained")

SIDE = 64


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Seed the generators that Ultralytics draws from, and leave them as they were."""
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    yield
    random.setstate(state)
    np.random.set_state(numpy_state)  # noqa: NPY002


def sample(image_hwc: Any, boxes: Any = ((0.5, 0.5, 0.5, 0.5),)) -> dict[str, Any]:
    from ultralytics.utils.instance import Instances

    return {
        "img": image_hwc,
        "im_file": "pair.npz",
        "cls": np.zeros((len(boxes), 1), np.float32),
        "ori_shape": image_hwc.shape[:2],
        "resized_shape": image_hwc.shape[:2],
        "ratio_pad": (1.0, 1.0),
        "instances": Instances(np.float32(boxes).reshape(-1, 4), np.zeros((0, 1000, 2), np.float32), normalized=True),
    }


def disc_pair(value: int = 255) -> Any:
    """Return a bright disc on black whose mask is the disc itself."""
    pair = np.zeros((SIDE, SIDE, 4), np.uint8)
    disc = np.zeros((SIDE, SIDE), np.uint8)
    cv2.circle(disc, (SIDE // 2, SIDE // 2), SIDE // 4, 1, -1)
    pair[..., :3] = disc[..., None] * 255
    pair[..., 3] = disc * value
    return pair


@pytest.mark.parametrize("perspective", [0.0, 0.001])
@pytest.mark.parametrize("value", [255, 130])
def test_a_warped_mask_covers_its_object_and_keeps_its_values(perspective: float, value: int) -> None:
    from toolkit.yolo.engine.transforms import PairPerspective

    for _ in range(20):
        warp = PairPerspective(degrees=40, translate=0.2, scale=0.4, shear=10, perspective=perspective, size=(96, 80))
        moved = warp(sample(disc_pair(value)))["img"]
        assert moved.shape == (80, 96, 4)
        assert set(np.unique(moved[..., 3])) <= {0, value}
        bright = moved[..., 0] > 200
        certain = cv2.erode(bright.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        assert (moved[..., 3][certain] == value).all()
        around = cv2.dilate(bright.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        assert (moved[..., 3][~around] == 0).all()


def test_warping_is_what_ultralytics_does_to_the_image() -> None:
    from ultralytics.data.augment import RandomPerspective

    from toolkit.yolo.engine.transforms import PairPerspective

    random.seed(3)
    moved = PairPerspective(degrees=20, size=(SIDE, SIDE))(sample(disc_pair()))
    random.seed(3)
    stock = RandomPerspective(degrees=20, size=(SIDE, SIDE))(sample(np.ascontiguousarray(disc_pair()[..., :3])))
    np.testing.assert_array_equal(moved["img"][..., :3], stock["img"])
    np.testing.assert_array_equal(moved["instances"].bboxes, stock["instances"].bboxes)


def test_colours_change_in_the_image_alone() -> None:
    from ultralytics.data.augment import RandomHSV

    from toolkit.yolo.engine.transforms import PairHSV

    pair = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 4), np.uint8)
    bgr = np.ascontiguousarray(pair[..., 2::-1])
    changed = PairHSV(0.5, 0.5, 0.5)(sample(pair.copy()))["img"]
    np.random.seed(0)  # noqa: NPY002
    stock = RandomHSV(0.5, 0.5, 0.5)({"img": bgr.copy()})["img"]
    np.testing.assert_array_equal(changed[..., 3], pair[..., 3])
    np.testing.assert_array_equal(changed[..., 2::-1], stock)
    assert (changed[..., :3] != pair[..., :3]).any()
    np.testing.assert_array_equal(PairHSV(0, 0, 0)(sample(pair.copy()))["img"], pair)


class FourPairs:
    """A dataset to draw mosaics from: pair k is of the value k everywhere."""

    cache = "ram"
    data: ClassVar[dict[str, Any]] = {}

    def __len__(self) -> int:
        return 4

    def get_image_and_label(self, index: int) -> dict[str, Any]:
        return sample(np.full((40, 30, 4), 50 + index, np.uint8))


def test_a_mosaic_is_grey_without_a_mask_where_there_is_no_image() -> None:
    from ultralytics.data.augment import Mosaic

    from toolkit.yolo.engine.transforms import PairMosaic

    pair = np.full((SIDE, SIDE, 4), 200, np.uint8)
    for seed in range(10):
        random.seed(seed)
        joined = PairMosaic(FourPairs(), imgsz=SIDE, p=1.0)(sample(pair.copy()))
        random.seed(seed)
        stock = Mosaic(FourPairs(), imgsz=SIDE, p=1.0)(sample(pair.copy()))
        image = joined["img"]
        assert image.shape == (2 * SIDE, 2 * SIDE, 4)
        np.testing.assert_array_equal(image[..., :3], stock["img"][..., :3])
        np.testing.assert_array_equal(joined["instances"].bboxes, stock["instances"].bboxes)
        empty = (image[..., :3] == 114).all(-1)
        assert empty.any()
        assert (image[empty][:, 3] == 0).all()
        assert (image[~empty][:, 3] == image[~empty][:, 0]).all()


def test_the_whole_augmentation_keeps_mask_and_image_together() -> None:
    from ultralytics.cfg import get_cfg

    from toolkit.yolo.engine.transforms import PairFormat, pair_augmentation

    class Discs(FourPairs):
        def get_image_and_label(self, index: int) -> dict[str, Any]:
            del index
            return sample(disc_pair())

    settings = get_cfg(overrides={"degrees": 20, "hsv_v": 0.0, "hsv_s": 0.0, "hsv_h": 0.0, "flipud": 0.5})
    augment = pair_augmentation(Discs(), SIDE, settings)
    augment.append(PairFormat(bbox_format="xywh", normalize=True, batch_idx=True))
    for _ in range(20):
        made = augment(sample(disc_pair()))
        image = made["img"].numpy()
        assert image.shape == (4, SIDE, SIDE)
        disc = cv2.erode((image[0] > 200).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        assert (image[3][disc] == 255).all()
        assert set(np.unique(image[3])) <= {0, 255}
        padding = cv2.erode((image[:3] == 114).all(0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        assert (image[3][padding] == 0).all()


def test_bgr_swaps_the_colours_and_not_the_mask() -> None:
    from toolkit.yolo.engine.transforms import PairFormat

    pair = np.random.default_rng(0).integers(0, 256, (8, 8, 4), np.uint8)
    swapped = PairFormat(bgr=1.0)(sample(pair.copy()))["img"].numpy()
    np.testing.assert_array_equal(swapped, pair[..., [2, 1, 0, 3]].transpose(2, 0, 1))
    plain = PairFormat(bgr=0.0)(sample(pair.copy()))["img"].numpy()
    np.testing.assert_array_equal(plain, pair.transpose(2, 0, 1))
