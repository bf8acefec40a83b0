"""Where boxes come from when no file has them: a detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from toolkit.core.errors import MvtkError


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
        weights: its file.
        device: ``cpu`` or a CUDA device as torch names it.

    Raises:
        MvtkError: always: YOLO models cannot be loaded yet.
    """
    raise MvtkError(
        f"{weights}: boxes from a YOLO model on {device} need the group `mvtk yolo`, which is not there yet",
        "save its detections as YOLO text files and give their folder with --boxes",
    )
