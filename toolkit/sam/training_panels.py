"""What the model says of a few validation images, drawn after an epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from toolkit.preview import stacked
from toolkit.sam.geometry import ResizeGeometry
from toolkit.sam.panels import prediction_panel
from toolkit.sam.samples import SamSamples
from toolkit.sam.training_events import EpochReport

if TYPE_CHECKING:
    from torch import Tensor

_MAX_INSTANCES: Final = 32
"""Drawn in one image: more are not told apart."""


def panel_picture(
    samples: SamSamples,
    logits: Mapping[int, Tensor],
    geometry: Callable[[int, int], ResizeGeometry],
    report: EpochReport,
) -> NDArray[np.uint8]:
    """Return image, truth, prediction and difference of some images, one below the other.

    Args:
        samples: the validation images.
        logits: (N, L, L) of those to draw, by position.
        geometry: of an image of a height and width.
        report: of the epoch.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    shown = slice(0, _MAX_INSTANCES)
    panels = []
    for position, logits_nhw in logits.items():
        sample = samples[position]
        original_nhw = geometry(*sample.image_hwc.shape[:2]).to_original(logits_nhw[shown])
        panels.append(
            prediction_panel(
                sample.image_hwc,
                sample.masks_nhw[shown],
                (original_nhw > 0).numpy(),
                sample.boxes_xyxy[shown],
                title=f"{sample.id}, epoch {report.epoch}",
            )
        )
    return stacked(panels)
