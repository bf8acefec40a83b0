from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from toolkit.annotations.rle import parse_segmentations
from toolkit.prediction_records import image_ids
from toolkit.sam.coco_results import coco_results, decode_rle, encode_rle


@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_run_lengths_survive_json_and_are_read_by_our_own_reader(mask_hw: NDArray[np.bool_]) -> None:
    rle = json.loads(json.dumps(encode_rle(mask_hw)))
    np.testing.assert_array_equal(decode_rle(rle), mask_hw)
    np.testing.assert_array_equal(parse_segmentations([rle], *mask_hw.shape).mask_hw(0), mask_hw)


def test_boxes_and_areas_are_those_of_pycocotools() -> None:
    masks_nhw = np.zeros((2, 20, 30), np.bool_)
    masks_nhw[0, 3:9, 12:17] = True
    results = coco_results(masks_nhw, np.array([0.75, 0.5], np.float32), np.array([3, 0]))
    for result in results:
        assert result["bbox"] == coco_mask.toBbox(result["segmentation"]).tolist()
        assert result["area"] == int(coco_mask.area(result["segmentation"]))
    assert [(result["category_id"], result["score"]) for result in results] == [(3, 0.75), (0, 0.5)]
    assert results[0]["bbox"] == [12, 3, 5, 6]


def test_image_ids_are_numbers_where_all_names_are_different_numbers() -> None:
    assert image_ids(["a/000139", "b/7"]) == {"a/000139": 139, "b/7": 7}
    assert image_ids(["a/7", "b/007"]) == {"a/7": "a/7", "b/007": "b/007"}
    assert image_ids(["7", "x"]) == {"7": "7", "x": "x"}
