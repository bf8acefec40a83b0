"""Finding objects in images with a trained YOLO model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from toolkit.yolo.containment import contained_ultralytics

if TYPE_CHECKING:
    from toolkit.yolo.engine.detector import LoadedDetector


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


class YoloDetector:
    """A detection model on one device.

    Args:
        weights: a checkpoint (.pt), or the folder of a training run.
        device: ``cpu`` or a CUDA device as torch names it.
        options: how it is asked.

    Raises:
        MissingExtraError: Ultralytics is not installed.
        MvtkError: the weights cannot be loaded.

    Attributes:
        channels: of the images it takes: 3, or 4 with the mask as the last one.
        class_names: by class id.
    """

    def __init__(self, weights: Path, device: str = "cpu", options: DetectionOptions | None = None) -> None:
        with contained_ultralytics(quiet=True):
            from toolkit.yolo.engine.detector import LoadedDetector

            self._loaded: LoadedDetector = LoadedDetector(weights, device, options or DetectionOptions())
        self.channels = self._loaded.channels
        self.class_names = self._loaded.class_names

    def detect(self, images_hwc: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Return what is found in each image.

        Args:
            images_hwc: each (H, W, C) uint8: RGB, and the mask (0 to 255) where the model takes one.

        Raises:
            OutOfMemoryError: the device's memory does not suffice for so many at once.
            MvtkError: an image has another number of channels than the model takes.
        """
        return self.find([self.prepare(image_hwc) for image_hwc in images_hwc])

    def prepare(self, image_hwc: NDArray[np.uint8]) -> PreparedImage:
        """Scale and pad an image as validation does; may run in another thread than `find`.

        Raises:
            MvtkError: it has another number of channels than the model takes.
        """
        return self._loaded.prepare(image_hwc)

    def find(self, images: Sequence[PreparedImage]) -> list[Detections]:
        """Return what is found in prepared images.

        Raises:
            OutOfMemoryError: the device's memory does not suffice for so many at once.
        """
        with contained_ultralytics(quiet=True):
            return self._loaded.find(images)


@dataclass(frozen=True, slots=True, eq=False)
class PreparedImage:
    """An image as the model takes it.

    Attributes:
        size_hw: its own height and width in pixels.
        input_chw: (C, imgsz, imgsz) uint8.
    """

    size_hw: tuple[int, int]
    input_chw: NDArray[np.uint8]
