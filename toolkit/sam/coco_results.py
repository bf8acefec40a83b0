"""Predicted masks as COCO results: a JSON list with one object a mask, run-length coded.

The format is described at https://cocodataset.org/#format-results: ``image_id``, ``category_id``, ``segmentation`` as
compressed RLE, ``score``; ``bbox`` and ``area`` are added, as COCO's annotations have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.annotations.rle import parse_segmentations
from toolkit.prediction_records import CocoResult
from toolkit.sam.mask_bounds import mask_boxes


def coco_results(
    masks_nhw: NDArray[np.bool_], scores: NDArray[np.float32], class_ids: NDArray[np.int64]
) -> list[CocoResult]:
    """Return the results of one image without their ``image_id``.

    Args:
        masks_nhw: (N, H, W) bool.
        scores: (N,) predicted IoU.
        class_ids: (N,); they become the category ids as they are.
    """
    boxes_xyxy = mask_boxes(masks_nhw)
    boxes_xywh = np.hstack((boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]))
    return [
        {
            "category_id": int(class_id),
            "segmentation": encode_rle(mask_hw),
            "area": int(np.count_nonzero(mask_hw)),
            "bbox": box_xywh.tolist(),
            "score": round(float(score), 6),
        }
        for mask_hw, score, class_id, box_xywh in zip(masks_nhw, scores, class_ids, boxes_xywh, strict=True)
    ]


def encode_rle(mask_hw: NDArray[np.bool_]) -> dict[str, Any]:
    """Return a mask as compressed RLE: ``{"size": [height, width], "counts": text}``."""
    from pycocotools import mask as coco_mask

    coded = coco_mask.encode(np.asfortranarray(mask_hw, np.uint8))
    return {"size": [int(side) for side in mask_hw.shape], "counts": coded["counts"].decode("ascii")}


def decode_rle(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return the mask of what :func:`encode_rle` made, (H, W) bool."""
    height, width = rle["size"]
    return parse_segmentations([rle], height, width).mask_hw(0).astype(np.bool_)
