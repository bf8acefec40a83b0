"""One epoch of training, and one of validation: generators that report as they go and return their figures."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np

from toolkit.sam.data_loading import SampleSource, TrainingSample, epoch_order, read_ahead
from toolkit.sam.decoder_training import DecoderTraining, DivergedError
from toolkit.sam.training_events import Notice, StepReport

if TYPE_CHECKING:
    from torch import Tensor

_AHEAD_BATCHES: Final = 2
"""Batches that are read while one is worked on."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How samples are put together and read.

    Attributes:
        batch_size: images at once.
        accumulate: batches to an optimiser step.
        threads: threads that read ahead.
        seed: of the order.
    """

    batch_size: int
    accumulate: int
    threads: int
    seed: int

    def steps(self, images: int, processes: int) -> int:
        """Return the optimiser steps of an epoch."""
        return math.ceil(images / (self.batch_size * self.accumulate * processes))


@dataclass(slots=True)
class PhaseFigures:
    """What an epoch of training or validation came to, in all processes together.

    Attributes:
        loss_sum: over the instances.
        iou_sum: over the instances; 0 in training.
        instances: how many there were.
        learning_rate: of the last step.
        skipped_steps: whose gradients were too large for fp16.
        seconds: it took.
        waited_s: of them, waiting for data.
        logits: (N, L, L) of images that are to be shown, by position.
    """

    loss_sum: float = 0.0
    iou_sum: float = 0.0
    instances: int = 0
    learning_rate: float = 0.0
    skipped_steps: int = 0
    seconds: float = 0.0
    waited_s: float = 0.0
    logits: dict[int, Tensor] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """Mean over the instances."""
        return self.loss_sum / self.instances if self.instances else math.nan

    @property
    def iou(self) -> float:
        """Mean over the instances."""
        return self.iou_sum / self.instances if self.instances else math.nan


def train_epoch(
    training: DecoderTraining, source: SampleSource, epoch: int, pace: Pace
) -> Generator[StepReport | Notice, None, PhaseFigures]:
    """Train on every image once, in the order that the seed and the epoch determine.

    Raises:
        DivergedError: a loss or a gradient is not a number.
        MvtkError: a sample cannot be read.
    """
    figures, started_s = PhaseFigures(), time.perf_counter()
    processes = training.processes
    order = epoch_order(len(source), pace.seed, epoch)
    step_size = pace.batch_size * pace.accumulate * processes.count
    # Of each step's images every process takes its part, so that a step has the same images whatever their number.
    parts = [
        order[start : start + step_size][processes.rank :: processes.count] for start in range(0, len(order), step_size)
    ]
    samples = _Reader(source, np.concatenate(parts).tolist(), epoch, pace)
    for number, part in enumerate(parts, start=1):
        for size in _batch_sizes(len(part), pace.batch_size):
            training.add(samples.take(size))
        step = training.finish_step()
        figures.loss_sum += step.loss_sum
        figures.instances += step.instances
        figures.learning_rate = step.learning_rate
        figures.skipped_steps += step.is_skipped
        yield from _notices(training)
        done = min(number * step_size, len(order))
        yield StepReport("train", epoch, done, len(order), figures.loss, step.learning_rate)
    figures.seconds, figures.waited_s = time.perf_counter() - started_s, samples.waited_s
    return figures


def validate_epoch(
    training: DecoderTraining, source: SampleSource, epoch: int, pace: Pace, shown: int = 0
) -> Generator[StepReport | Notice, None, PhaseFigures]:
    """Return the loss and IoU of every image, as it is, and the logits of the first ``shown``.

    Raises:
        DivergedError: the loss of a sample is not a number.
        MvtkError: a sample cannot be read.
    """
    import torch

    figures, started_s = PhaseFigures(), time.perf_counter()
    processes = training.processes
    own = range(processes.rank, len(source), processes.count)
    samples = _Reader(source, own, 0, pace)
    done = 0
    for size in _batch_sizes(len(own), pace.batch_size):
        batch = samples.take(size)
        scores = training.scores(batch, with_logits=done < shown)
        figures.logits.update(zip(own[done:shown], scores.logits, strict=False))
        _require_finite(batch, scores.losses.tolist(), epoch)
        figures.loss_sum += float(scores.losses.double().sum())
        figures.iou_sum += float(scores.ious.double().sum())
        figures.instances += len(scores.losses)
        yield from _notices(training)
        done += size
        yield StepReport("validate", epoch, done, len(own), figures.loss)
    sums = torch.tensor([figures.loss_sum, figures.iou_sum, figures.instances], dtype=torch.float64)
    loss_sum, iou_sum, instances = processes.total_of_figures(sums).tolist()
    figures.loss_sum, figures.iou_sum, figures.instances = loss_sum, iou_sum, int(instances)
    figures.seconds, figures.waited_s = time.perf_counter() - started_s, samples.waited_s
    return figures


class _Reader:
    """Samples in order, read ahead, and how long they were waited for."""

    def __init__(self, source: SampleSource, positions: Sequence[int], epoch: int, pace: Pace) -> None:
        ahead = _AHEAD_BATCHES * pace.batch_size
        self._samples = read_ahead(source, positions, epoch, threads=pace.threads, ahead=ahead)
        self.waited_s = 0.0

    def take(self, count: int) -> list[TrainingSample]:
        """Return the next ``count`` samples."""
        started_s = time.perf_counter()
        samples = list(islice(self._samples, count))
        self.waited_s += time.perf_counter() - started_s
        return samples


def _batch_sizes(count: int, batch_size: int) -> Iterator[int]:
    for start in range(0, count, batch_size):
        yield min(batch_size, count - start)


def _notices(training: DecoderTraining) -> Iterator[Notice]:
    notices = training.micro_batches.notices
    while notices:
        yield Notice(notices.pop(0))


def _require_finite(samples: Sequence[TrainingSample], losses: Sequence[float], epoch: int) -> None:
    position = 0
    for sample in samples:
        for loss in losses[position : position + len(sample)]:
            if not math.isfinite(loss):
                raise DivergedError(
                    f"the validation loss of sample {sample.id} is {loss} after epoch {epoch}",
                    "the last good checkpoint is kept; look at the sample, or use a lower --learning-rate",
                )
        position += len(sample)
