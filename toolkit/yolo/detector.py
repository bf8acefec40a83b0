"""Finding objects in images with a trained YOLO model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from toolkit.yolo.containment import contained_ultralytics
from toolkit.yolo.detections import DetectionOptions, Detections, PreparedImage

if TYPE_CHECKING:
    from toolkit.yolo.engine.detector import LoadedDetector


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
