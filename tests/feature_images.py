"""Trees of images with features files of real shapes, and an encoder that takes no time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.builders import gradient, write_image
from toolkit.core.driver import run_to_end
from toolkit.core.report import Report
from toolkit.device_memory import OutOfMemoryError
from toolkit.features import Weights
from toolkit.features.bulk_fix import BulkFixJob
from toolkit.features.options import BulkFixOptions

HEIGHT, WIDTH = 48, 64
P4_SHAPE, P5_SHAPE = (1, 256, 64, 64), (1, 256, 32, 32)
STALE_VALUE = -1.0
RANDOM: dict[str, Any] = {"weights": "random:0", "model": "sam2.1_hiera_tiny"}
"""Weights that need no file."""


def picture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """An HxWx3 uint8 RGB picture, another one for each seed."""
    return gradient(height, width) // np.uint8(1 + seed % 7) + np.uint8(seed % 30)


def features(image_id: str, **more: Any) -> dict[str, Any]:
    """The arrays of a features file that was never repaired; an array given as None is left out."""
    arrays: dict[str, Any] = {
        "image_id": np.array(image_id),
        "P4_S16": np.full(P4_SHAPE, STALE_VALUE, np.float32),
        "edge_64x64": np.ones((64, 64), np.uint8),
        "P5_S32": np.full(P5_SHAPE, STALE_VALUE, np.float32),
        "image_shape": np.array([HEIGHT, WIDTH, 3]),
        "model_type": np.array("sam2_hiera_b+"),
    }
    return {key: array for key, array in (arrays | more).items() if array is not None}


@dataclass
class ImageTree:
    """Images and features files below one folder."""

    root: Path

    def add(
        self, image_id: str, *, seed: int = 0, folder: str = "", suffix: str = "_features.npz", **arrays: Any
    ) -> Path:
        """Write an image and its features file side by side; return the features file."""
        self.add_image(f"{folder}/{image_id}.png", seed)
        return self.add_npz(f"{folder}/{image_id}{suffix}", features(image_id, **arrays))

    def add_image(self, name: str, seed: int = 0) -> Path:
        return write_image(self.root / name.lstrip("/"), picture(seed))

    def add_npz(self, name: str, arrays: dict[str, Any]) -> Path:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **arrays)
        return path

    def bulk_fix(self, **options: Any) -> Report:
        """Repair the tree in this process."""
        return run_to_end(BulkFixJob(self.options(**options)))

    def options(self, **options: Any) -> BulkFixOptions:
        return BulkFixOptions(**{"root": self.root, "workers": 0, "device": "cpu", **RANDOM, **options})


def failure(report: Report) -> str:
    """The reason why the only item failed, in one line."""
    assert (report.figures.done, report.figures.failed, report.figures.bugs) == (0, 1, 0)
    assert "\n" not in report.failed[0]["reason"]
    return report.failed[0]["reason"]


class FakeEncoder:
    """Features that are one number, told by the pixels, all over: P4 the number, P5 the number and a half.

    Args:
        weights: as for Sam2Encoder, and so are the others.
    """

    largest_batch: int | None = None
    """Where it is set, larger batches do not fit the memory."""
    batches: list[int]

    def __init__(self, weights: Weights, device: str, *, dtype: str = "float32", compiled: bool = False) -> None:
        self.weights, self.device, self.dtype, self.compiled = weights, device, dtype, compiled
        self.batches = []

    def prepare(self, image_hwc: NDArray[np.uint8]) -> int:
        assert (image_hwc.dtype, image_hwc.shape[2]) == (np.uint8, 3)
        return number_of(image_hwc)

    def encode(self, batch: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if self.largest_batch is not None and len(batch) > self.largest_batch:
            raise OutOfMemoryError(f"not enough memory for a batch of {len(batch)}", "use a smaller --batch-size")
        self.batches.append(len(batch))
        p4 = np.stack([np.full(P4_SHAPE[1:], number, np.float32) for number in batch])
        p5 = np.stack([np.full(P5_SHAPE[1:], number + 0.5, np.float32) for number in batch])
        return p4, p5


def number_of(image_hwc: NDArray[np.uint8]) -> int:
    """The number that FakeEncoder makes of an image: all pixels count, and the order of the channels."""
    return int((image_hwc.astype(np.int64) * (1, 3, 7)).sum() % 1009)


def use_fake_encoder(monkeypatch: pytest.MonkeyPatch, largest_batch: int | None = None) -> None:
    """Let all jobs of the test that work in this process use the fake encoder."""
    monkeypatch.setattr(FakeEncoder, "largest_batch", largest_batch)
    monkeypatch.setattr("toolkit.features.sam2_encoder.Sam2Encoder", FakeEncoder)
