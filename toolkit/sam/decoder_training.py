"""One optimiser step after another: losses of samples, gradients added up, weights moved.

The gradient of a step is that of the mean loss of all instances in its effective batch, whatever the number of batches,
of pieces that fit into memory, and of processes that it comes from: sums of losses are differentiated and added up, and
divided by the number of instances at the end.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from toolkit.core.errors import MvtkError
from toolkit.sam.data_loading import TrainingSample
from toolkit.sam.embedding import Embedding
from toolkit.sam.losses import instance_losses
from toolkit.sam.micro_batches import MicroBatches
from toolkit.sam.processes import Processes
from toolkit.sam.schedule import Schedule
from toolkit.sam.train_options import Precision

if TYPE_CHECKING:
    from torch import Tensor

    from toolkit.sam.trainable_sam import TrainableSam

_SHOWN_IDS: Final = 8
_MIN_SCALE: Final = 1e-3
_LOSS_HINT: Final = "the last good checkpoint is kept; look at the sample, or use a lower --learning-rate"


class DivergedError(MvtkError):
    """The loss or its gradient is not a number."""


@dataclass(frozen=True, slots=True, eq=False)
class InstanceScores:
    """What became of instances, in their order.

    Attributes:
        losses: (n,) float32.
        ious: (n,) float32: IoU of the logits above 0 with the targets, at the decoder's resolution.
        logits: for each image (N, L, L) float32; empty where they were not asked for.
    """

    losses: Tensor
    ious: Tensor
    logits: Sequence[Tensor] = ()


@dataclass(frozen=True, slots=True)
class StepFigures:
    """What one optimiser step did, in all processes together.

    Attributes:
        loss_sum: of the losses of its instances.
        instances: how many there were.
        learning_rate: that it used.
        is_skipped: whether the weights stayed, as the gradients were too large for fp16.
    """

    loss_sum: float
    instances: int
    learning_rate: float
    is_skipped: bool


class DecoderTraining:
    """A model, its optimiser (AdamW), and the arithmetic they use.

    Args:
        sam: the model.
        schedule: of the learning rate.
        weight_decay: of AdamW.
        precision: ``auto`` is bf16 where the GPU has it, else fp16, and fp32 on the CPU.
        max_grad_norm: longer gradients are shortened to it; 0: none is.
        batch_size: images at once.
        processes: those that train together.

    Attributes:
        step_count: optimiser steps done.
        precision: the arithmetic in use.
        micro_batches: how many images are worked on at once.
    """

    def __init__(
        self,
        sam: TrainableSam,
        schedule: Schedule,
        *,
        weight_decay: float = 0.0,
        precision: Precision = "auto",
        max_grad_norm: float = 0.0,
        batch_size: int = 1,
        processes: Processes,
    ) -> None:
        import torch

        self.sam = sam
        self.schedule = schedule
        self.processes = processes
        self.step_count = 0
        self.precision = choose_precision(precision, processes.device)
        self.micro_batches = MicroBatches(batch_size)
        self._max_grad_norm = max_grad_norm
        self._parameters = list(sam.trainable_parameters())
        self.optimizer = torch.optim.AdamW(self._parameters, lr=schedule.learning_rate(0), weight_decay=weight_decay)
        self.scaler = torch.amp.GradScaler(_device_type(processes.device), enabled=self.precision == "fp16")
        self._loss_sum = 0.0
        self._instances = 0
        self._seen_ids: list[str] = []
        self._diverged: list[str] = []

    def add(self, samples: Sequence[TrainingSample]) -> None:
        """Add the gradients of samples to those of the step under way; samples without instances add nothing."""
        self.sam.set_training(training=True)
        usable = [sample for sample in samples if len(sample)]
        for piece, (losses, gradients) in self.micro_batches.run(usable, self._differentiated):
            self._note(piece, losses)
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)

    def finish_step(self) -> StepFigures:
        """Move the weights by the gradients added since the last step.

        Raises:
            DivergedError: a loss or a gradient is not a number; the weights are still those of the step before.
        """
        import torch

        figures = torch.tensor([self._loss_sum, self._instances, len(self._diverged)], dtype=torch.float64)
        loss_sum, instances, diverged = self.processes.total_of_figures(figures).tolist()
        if diverged:
            raise DivergedError("; ".join(self.processes.gathered(self._diverged)), _LOSS_HINT)
        self._share_gradients(1 / max(1.0, instances))
        learning_rate = self.schedule.learning_rate(self.step_count)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        is_skipped = not self._move()
        self.optimizer.zero_grad(set_to_none=True)
        self.step_count += 1
        self._loss_sum, self._instances, self._seen_ids = 0.0, 0, []
        return StepFigures(loss_sum, int(instances), learning_rate, is_skipped)

    def scores(self, samples: Sequence[TrainingSample], *, with_logits: bool = False) -> InstanceScores:
        """Return losses and IoUs of the instances of ``samples``, on the CPU, without training.

        Args:
            samples: those to score; samples without instances have none.
            with_logits: whether to return the logits too.
        """
        import torch

        self.sam.set_training(training=False)
        usable = [sample for sample in samples if len(sample)]
        work = functools.partial(self._scored, with_logits=with_logits)
        results = [result for _, result in self.micro_batches.run(usable, work)]
        if not results:
            return InstanceScores(torch.zeros(0), torch.zeros(0))
        losses, ious = (torch.cat([getattr(result, name) for result in results]) for name in ("losses", "ious"))
        if not with_logits:
            return InstanceScores(losses, ious)
        # An image may have been done in parts.
        together = torch.cat([logits for result in results for logits in result.logits])
        return InstanceScores(losses, ious, torch.split(together, [len(sample) for sample in samples]))

    def logits(self, samples: Sequence[TrainingSample]) -> list[Tensor]:
        """Return the logits, (N, L, L) float32 an image, of samples that fit into memory together."""
        with self._autocast():
            decoded = self.sam.decode(self._embedded(samples), self._boxes(samples))
        return [logits.float() for logits in decoded.logits]

    def _differentiated(self, samples: Sequence[TrainingSample]) -> tuple[Tensor, Sequence[Tensor | None]]:
        """Return the losses, and the gradients of their sum: nothing is added up before all of it fitted."""
        import torch

        losses = instance_losses(self.logits(samples), self._targets(samples))
        gradients = torch.autograd.grad(self.scaler.scale(losses.sum()), self._parameters, allow_unused=True)
        return losses.detach().cpu(), gradients

    def _scored(self, samples: Sequence[TrainingSample], *, with_logits: bool) -> InstanceScores:
        import torch

        with torch.no_grad():
            logits, targets = self.logits(samples), self._targets(samples)
            ious = [low_resolution_ious(mine, true) for mine, true in zip(logits, targets, strict=True)]
            losses = instance_losses(logits, targets).cpu()
        kept = [each.cpu() for each in logits] if with_logits else ()
        return InstanceScores(losses, torch.cat(ious).cpu(), kept)

    def _embedded(self, samples: Sequence[TrainingSample]) -> Embedding:
        import torch

        device = self.processes.device
        if samples[0].pixel_values is not None:
            pixel_values = torch.stack([sample.pixel_values for sample in samples if sample.pixel_values is not None])
            return self.sam.encode(pixel_values.to(device, non_blocking=True))
        embeddings = [sample.embedding for sample in samples if sample.embedding is not None]
        return Embedding.concatenate(embeddings)

    def _boxes(self, samples: Sequence[TrainingSample]) -> list[Tensor]:
        return [sample.boxes_xyxy.to(self.processes.device, non_blocking=True) for sample in samples]

    def _targets(self, samples: Sequence[TrainingSample]) -> list[Tensor]:
        return [sample.targets.to(self.processes.device, non_blocking=True) for sample in samples]

    def _autocast(self) -> AbstractContextManager[Any]:
        import torch

        dtype = torch.float16 if self.precision == "fp16" else torch.bfloat16
        return torch.autocast(_device_type(self.processes.device), dtype, enabled=self.precision != "fp32")

    def _note(self, samples: Sequence[TrainingSample], losses: Tensor) -> None:
        import torch

        self._loss_sum += float(losses.double().sum())
        self._instances += len(losses)
        self._seen_ids += [sample.id for sample in samples]
        if not losses.isfinite().all():
            parts = torch.split(losses, [len(sample) for sample in samples])
            for sample, part in zip(samples, parts, strict=True):
                if not part.isfinite().all():
                    text = f"the loss of sample {sample.id} is {float(part[~part.isfinite()][0])}"
                    self._diverged.append(f"{text} in step {self.step_count + 1}")

    def _share_gradients(self, factor: float) -> None:
        """Replace the gradients by their sum over all processes, times ``factor``."""
        import torch

        if self.processes.count > 1:
            present = torch.tensor([float(parameter.grad is not None) for parameter in self._parameters])
            parts = [
                torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                for parameter in self._parameters
            ]
            flat = torch.cat([present.to(parts[0]), *(part.flatten() for part in parts)])
            present, *sums = torch.split(self.processes.total(flat), [len(parts), *(part.numel() for part in parts)])
            for parameter, has_any, total in zip(self._parameters, present.tolist(), sums, strict=True):
                parameter.grad = total.view_as(parameter).clone() if has_any else None
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(factor)

    def _move(self) -> bool:
        """Let the optimiser move the weights; tell whether it did."""
        import torch

        self.scaler.unscale_(self.optimizer)
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        if not gradients:
            return False
        norm = torch.nn.utils.get_total_norm(gradients)
        is_finite = bool(norm.isfinite())
        if not is_finite and (not self.scaler.is_enabled() or self.scaler.get_scale() < _MIN_SCALE):
            shown = ", ".join(self._seen_ids[:_SHOWN_IDS]) + (", …" if len(self._seen_ids) > _SHOWN_IDS else "")
            raise DivergedError(
                f"the gradient of step {self.step_count + 1} is not finite: samples {shown}", _LOSS_HINT
            )
        if self._max_grad_norm and is_finite:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self._max_grad_norm, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return is_finite


def choose_precision(precision: Precision, device: str) -> Literal["fp32", "bf16", "fp16"]:
    """Return the arithmetic that ``precision`` means on ``device``.

    Raises:
        MvtkError: the device has no such arithmetic.
    """
    import torch

    on_gpu = device.startswith("cuda")
    if precision == "fp16" and not on_gpu:
        raise MvtkError(f"--precision fp16 is for GPUs, and the device is {device}", "use fp32 or bf16")
    if precision != "auto":
        return precision
    if not on_gpu:
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def low_resolution_ious(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the IoU of each instance's logits above 0 with its target, at the decoder's resolution.

    Args:
        logits: (N, L, L), with the padding.
        targets: (N, h, w) bool, the valid area.

    Returns:
        (N,) float32; 1 where both are empty.
    """
    predicted = logits[:, : targets.shape[1], : targets.shape[2]] > 0
    intersection = (predicted & targets).flatten(1).sum(1)
    union = (predicted | targets).flatten(1).sum(1)
    return ((intersection + (union == 0)) / union.clamp(min=1)).float()


def _device_type(device: str) -> str:
    return device.partition(":")[0]
