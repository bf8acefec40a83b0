"""Where boxes come from when no file has them: a detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from toolkit.core.errors import MvtkError

if TYPE_CHECKING:
    from toolkit.yolo.detector import YoloDetector

_RGB: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class Prompts:
    """The boxes of one image.

    Attributes:
        boxes_xyxy: (N, 4) float32: left, top, right, bottom in pixels of the image.
        class_ids: (N,) int64.
    """

    boxes_xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.boxes_xyxy)


class Detector(Protocol):
    """Finds the objects in images, on the device that it was loaded for."""

    def detect(self, images_hwc: Sequence[NDArray[np.uint8]]) -> Sequence[Prompts]:
        """Return the boxes in each (H, W, 3) uint8 RGB image, in pixels of that image and within it."""


def load_detector(weights: Path, device: str) -> Detector:
    """Load a YOLO model to take boxes from.

    Args:
        weights: its file (.pt), or the folder of a run of ``mvtk yolo train``.
        device: ``cpu`` or a CUDA device as torch names it.

    Raises:
        MissingExtraError: Ultralytics is not installed.
        MvtkError: the model cannot be loaded, or takes a mask beside the image.
    """
    from toolkit.yolo.detector import YoloDetector

    return _YoloPrompts(YoloDetector(weights, device), weights)


class _YoloPrompts:
    """A detector whose boxes are a YOLO model's."""

    def __init__(self, detector: YoloDetector, weights: Path) -> None:
        if detector.channels != _RGB:
            raise MvtkError(
                f"{weights}: takes {detector.channels} channels, image and mask, and there are images alone",
                "save its boxes with mvtk yolo predict, and give their folder with --boxes",
            )
        self._detector = detector

    def detect(self, images_hwc: Sequence[NDArray[np.uint8]]) -> list[Prompts]:
        """Return the boxes in each (H, W, 3) uint8 RGB image, the most confident first."""
        return [Prompts(found.boxes_xyxy, found.class_ids) for found in self._detector.detect(images_hwc)]
