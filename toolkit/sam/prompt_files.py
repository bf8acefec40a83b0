"""Boxes to prompt SAM with, from YOLO text files: labels, or the saved predictions of a YOLO model."""

from __future__ import annotations

from typing import Final

import numpy as np

from toolkit.annotations.problems import raise_problems
from toolkit.annotations.yolo import YoloBox, boxes_to_xyxy, parse_labels, parse_number, shown
from toolkit.sam.detection import Prompts

_PREDICTION_FIELDS: Final = 6
_HINT: Final = "a line is `class x_center y_center width height`, with a confidence behind it in predictions"


def parse_prompts(data: bytes, source: str, height: int, width: int, *, class_count: int | None = None) -> Prompts:
    """Read the boxes of one image, in the order of the lines; equal lines are kept.

    A line is a box, a box with its confidence (which Ultralytics saves with predictions; it is passed over), or a
    polygon, which stands for the smallest box around it. Boxes are clipped to the image.

    Args:
        data: the file's content; an empty one has no boxes.
        source: names the file in errors.
        height: of the image in pixels.
        width: of the image in pixels.
        class_count: how many classes there are; None: any class will do.

    Raises:
        InputProblemsError: every line that is wrong, and every box without a part in the image.
    """
    boxes: list[YoloBox] = []
    problems: list[str] = []
    for number, line in enumerate(data.splitlines(), start=1):
        fields = line.decode("utf-8", "surrogateescape").split()
        faults = _confidence_faults(fields.pop()) if len(fields) == _PREDICTION_FIELDS else []
        parsed = parse_labels(" ".join(fields), class_count=class_count)
        faults += [problem.text for problem in parsed.problems]
        found = [*parsed.boxes, *(polygon.bounding_box() for polygon in parsed.polygons)]
        faults += ["the box has no area in the image" for box in found if not _has_area(box)]
        problems += [f"line {number}: {fault}" for fault in faults]
        boxes += found
    raise_problems(source, problems, _HINT)
    boxes_xyxy = boxes_to_xyxy(boxes, width, height).clip(0, np.array((width, height, width, height), np.float32))
    return Prompts(boxes_xyxy, np.array([box.class_id for box in boxes], np.int64))


def _confidence_faults(field: str) -> list[str]:
    confidence = parse_number(field)
    if confidence is None or not 0 <= confidence <= 1:
        return [f"confidence {shown(field)} is not from 0 to 1"]
    return []


def _has_area(box: YoloBox) -> bool:
    """Tell whether a box has a part within the image."""
    return all(
        min(centre + size / 2, 1) > max(centre - size / 2, 0)
        for centre, size in ((box.x_center, box.width), (box.y_center, box.height))
    )
