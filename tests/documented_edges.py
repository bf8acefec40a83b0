"""The documented algorithm of Method B, as the lab script had it: the oracle of tests and benchmarks."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_utils

EdgeMaps = dict[str | int, NDArray[np.uint8]]


def documented_edges(masks_hw: list[NDArray[np.uint8]], height: int, width: int, kernel_size: int) -> EdgeMaps:
    """Every mask at full size: full-frame gradient, OR, area interpolation of the float32 union."""
    kernel = np.ones((kernel_size, kernel_size), np.uint8)
    combined = np.zeros((height, width), np.uint8)
    for mask_hw in masks_hw:
        edge = cv2.morphologyEx(mask_hw, cv2.MORPH_GRADIENT, kernel)
        combined = np.bitwise_or(combined, (edge > 0).astype(np.uint8))
    maps: EdgeMaps = {"original": combined}
    for side in (256, 64, 32):
        resized = cv2.resize(combined.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
        maps[side] = (resized > 0).astype(np.uint8)
    return maps


def documented_extract(json_path: Path, kernel_size: int = 3) -> EdgeMaps:
    """From an annotation file with compressed run lengths."""
    record = json.loads(json_path.read_text())
    masks = [decoded(annotation["segmentation"]) for annotation in record["annotations"]]
    return documented_edges(masks, record["image"]["height"], record["image"]["width"], kernel_size)


def decoded(rle: dict[str, Any]) -> NDArray[np.uint8]:
    """A mask from its run lengths, HxW; pycocotools 2.0.11 warns of NumPy 2 when it does that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        mask_hw: NDArray[np.uint8] = mask_utils.decode(rle)
    return mask_hw


def encoded(mask_hw: NDArray[np.uint8]) -> dict[str, Any]:
    """A mask as SA-1B stores it."""
    rle = mask_utils.encode(np.asfortranarray(mask_hw))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}


def annotation_json(segmentations: list[Any], height: int, width: int, name: str = "sa_1") -> dict[str, Any]:
    """An SA-1B record with these segmentations."""
    return {
        "image": {"image_id": 1, "width": width, "height": height, "file_name": f"{name}.jpg"},
        "annotations": [
            {"id": number, "segmentation": segmentation, "area": 1, "bbox": [0, 0, 1, 1]}
            for number, segmentation in enumerate(segmentations)
        ],
    }
