"""How a model is asked for objects, what it gets, and what it finds: values, without what makes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class DetectionOptions:
    """How a model is asked.

    Attributes:
        imgsz: side of the model's input in pixels, a multiple of its stride; None: as it was trained.
        conf: leave out detections with a lower confidence.
        iou: of two detections of one class that overlap so much, the less confident one is left out.
        max_det: keep so many of an image's, the most confident ones.
        class_ids: keep these classes only; none: all.
    """

    imgsz: int | None = None
    conf: float = 0.25
    iou: float = 0.7
    max_det: int = 300
    class_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What was found in one image, the most confident first.

    Attributes:
        boxes_xyxy: (N, 4) float32: left, top, right, bottom in pixels of the image, within it.
        scores: (N,) float32 confidences.
        class_ids: (N,) int64.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, slots=True, eq=False)
class PreparedImage:
    """An image as the model takes it.

    Attributes:
        size_hw: its own height and width in pixels.
        input_chw: (C, imgsz, imgsz) uint8.
    """

    size_hw: tuple[int, int]
    input_chw: NDArray[np.uint8]
