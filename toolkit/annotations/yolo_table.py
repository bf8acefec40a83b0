"""YOLO label files of many images as one table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from toolkit.annotations.table import AnnotationTable, Finding
from toolkit.annotations.yolo import ParsedLabels
from toolkit.annotations.yolo_data_yaml import MAX_CLASSES


def table_of_labels(
    labelled: Sequence[tuple[str, tuple[int, int], ParsedLabels]], class_names: Sequence[str]
) -> AnnotationTable:
    """Return the objects of label files, boxes in pixels; the box of a polygon is the smallest one around it.

    Rows with a problem are left out (``label row with a problem``). A class id beyond the names becomes -1 (``unknown
    category``). Rows with keypoints are not read: they cannot be told from polygons.

    Args:
        labelled: each image's name, its width and height in pixels (both above 0), and its labels; no two names are
            equal.
        class_names: by class id. None at all: a class is called ``class_<id>``, up to the highest id that is there,
            so that tables of several parts of a dataset may have different names.
    """
    parts = [(*labels.boxes, *(polygon.bounding_box() for polygon in labels.polygons)) for _, _, labels in labelled]
    sizes_wh = np.array([size_wh for _, size_wh, _ in labelled], np.int64).reshape(-1, 2)
    image_indices = np.repeat(np.arange(len(labelled)), [len(boxes) for boxes in parts])
    boxes_cxcywh = np.array([box[1:] for boxes in parts for box in boxes], np.float64).reshape(-1, 4)
    ids = [box.class_id for boxes in parts for box in boxes]
    findings = [
        Finding("label row with a problem", f"{name} line {problem.line}: {problem.text}")
        for name, _size_wh, labels in labelled
        for problem in labels.problems
    ]
    names = tuple(class_names) or tuple(f"class_{each}" for each in range(min(max(ids, default=-1) + 1, MAX_CLASSES)))
    findings += [
        Finding("unknown category", f"{labelled[image][0]}: class {class_id}")
        for image, class_id in zip(image_indices.tolist(), ids, strict=True)
        if class_id >= len(names)
    ]
    corners_xy = boxes_cxcywh[:, :2] - boxes_cxcywh[:, 2:] / 2
    return AnnotationTable(
        image_names=[name for name, _, _ in labelled],
        image_sizes_wh=sizes_wh,
        image_indices=image_indices,
        has_box=np.ones(len(ids), np.bool_),
        boxes_xywh=np.hstack((corners_xy, boxes_cxcywh[:, 2:])) * np.tile(sizes_wh[image_indices], 2),
        class_ids=np.array([each if each < len(names) else -1 for each in ids], np.int64),
        keypoint_counts=np.zeros(len(ids), np.int64),
        keypoints_xyv=np.empty((0, 3)),
        class_names=names,
        findings=findings,
    )
