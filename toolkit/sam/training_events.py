"""What a training run says while it goes on: values to draw, to write or to pass over."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Notice:
    """Something worth a line: the path that runs, a memory that did not suffice, an epoch that was the last."""

    text: str


@dataclass(frozen=True, slots=True)
class EncodingProgress:
    """How far the computation of embeddings is.

    Attributes:
        done: embeddings on disk that were not there before.
        total: how many will be.
    """

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class StepReport:
    """An optimiser step, or a batch of validation.

    Attributes:
        phase: ``"train"`` or ``"validate"``.
        epoch: from 1; 0 is the validation before the first.
        done: images done in this phase of the epoch.
        total: images it has.
        loss: mean over the instances of the phase so far.
        learning_rate: of the step; 0 in validation.
    """

    phase: str
    epoch: int
    done: int
    total: int
    loss: float
    learning_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class EpochReport:
    """The figures of an epoch, one row of ``metrics.csv``.

    Attributes:
        epoch: from 1; 0 is the model as it came, validated but not trained.
        step: optimiser steps done so far.
        learning_rate: of the epoch's last step.
        train_loss: mean over the training instances, each as it was when its step began; not a number for epoch 0.
        val_loss: mean over the validation instances after the epoch.
        val_iou: mean IoU of the validation instances at the decoder's resolution; ``sam evaluate`` has it at the
            images' own.
        train_instances: training instances seen.
        val_instances: validation instances.
        skipped_steps: steps whose gradients were too large for fp16.
        train_s: seconds of training.
        waited_s: those of ``train_s`` spent waiting for data.
        validate_s: seconds of validation.
        is_best: whether no epoch before was better.
    """

    epoch: int
    step: int
    learning_rate: float
    train_loss: float
    val_loss: float
    val_iou: float
    train_instances: int
    val_instances: int
    skipped_steps: int = 0
    train_s: float = 0.0
    waited_s: float = 0.0
    validate_s: float = 0.0
    is_best: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON types; what is not a number becomes None."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EpochReport:
        """Return what :meth:`as_dict` was made of."""
        figures: dict[str, Any] = {name: math.nan if value is None else value for name, value in values.items()}
        return cls(**figures)


@dataclass(frozen=True, slots=True)
class RunReport:
    """The end of a run.

    Attributes:
        folder: the run's folder.
        model: the folder of the best model as a whole; None where it was not wanted.
        start: the model as it came.
        best: the best epoch.
        epochs: epochs done.
        reason: why it ended.
    """

    folder: Path
    model: Path | None
    start: EpochReport
    best: EpochReport
    epochs: int
    reason: str


TrainingEvent = Notice | EncodingProgress | StepReport | EpochReport | RunReport
