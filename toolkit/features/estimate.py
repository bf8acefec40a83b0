"""How long encoding will take: a few images are encoded to see."""

from __future__ import annotations

import time
from dataclasses import dataclass

from toolkit.core import engines
from toolkit.core.batch import Outcome, Step
from toolkit.core.errors import MvtkError
from toolkit.features.encoding import EncodingSettings

_IMAGE_SHAPE = (1500, 2250, 3)
"""As most of SA-1B's are; the encoder squashes all images to one size."""

_ROUNDS = 1


@dataclass(frozen=True, slots=True)
class _Trial:
    source: str = "estimate"


class _MeasureEncoder(Step[_Trial]):
    """Encode one batch to warm up, and then one more against the clock."""

    def __init__(self, settings: EncodingSettings) -> None:
        self._settings = settings
        self._device = "cpu"

    def setup(self, device: str) -> None:
        """Note the device: the encoder is loaded with the item, so that its errors fail the item."""
        self._device = device

    def process_one(self, item: _Trial) -> Outcome:
        """Return the seconds an image takes.

        Raises:
            MvtkError: the encoder cannot be loaded.
        """
        import numpy as np

        from toolkit.features.sam2_encoder import Sam2Encoder

        settings = self._settings
        encoder = Sam2Encoder(settings.weights, self._device, dtype=settings.dtype, compiled=settings.compiled)
        batch = [encoder.prepare(np.zeros(_IMAGE_SHAPE, np.uint8))] * settings.batch_size
        encoder.encode(batch)
        start_s = time.perf_counter()
        for _ in range(_ROUNDS):
            encoder.encode(batch)
        elapsed_s = time.perf_counter() - start_s
        return Outcome.done(item.source, seconds=elapsed_s / (_ROUNDS * len(batch)))


def seconds_an_image(settings: EncodingSettings, device: str) -> float:
    """Return how long one worker on ``device`` takes to encode an image, measured in a process of its own.

    Raises:
        MvtkError: the encoder cannot be loaded or used there.
    """
    (outcome,) = engines.run(_MeasureEncoder(settings), [_Trial()], devices=(device,))
    if outcome.status != "done":
        raise MvtkError(outcome.reason)
    return float(outcome.details["seconds"])
