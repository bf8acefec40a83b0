"""The files of a training run that other commands look for."""

from __future__ import annotations

from pathlib import Path
from typing import Final

CONFIG_NAME: Final = "config.yaml"
RESULTS_NAME: Final = "results.csv"
BEST: Final = Path("weights/best.pt")
LAST: Final = Path("weights/last.pt")


def weights_of(model: Path) -> Path:
    """Return the weights that a path stands for: of a training run's folder the best ones, any other as it is."""
    return model / BEST if (model / CONFIG_NAME).is_file() or (model / BEST).is_file() else model
