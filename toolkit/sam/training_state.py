"""A training run's state as a checkpoint, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from toolkit.sam.checkpoints import Checkpoint, CheckpointFacts
from toolkit.sam.decoder_training import DecoderTraining
from toolkit.sam.train_options import TrainOptions
from toolkit.sam.training_events import EpochReport

_CPU = "cpu"


def capture(training: DecoderTraining, options: TrainOptions, history: Sequence[EpochReport]) -> Checkpoint:
    """Return the state of a run at the end of an epoch; the weights are a snapshot."""
    import torch

    limits = training.micro_batches.max_images, training.micro_batches.max_instances
    facts = CheckpointFacts(
        model_hash=training.sam.model_hash,
        epoch=history[-1].epoch,
        step=training.step_count,
        options=options.model_dump(mode="json"),
        history=[report.as_dict() for report in history],
        threads=torch.get_num_threads(),
        limits=limits,
        scaler=training.scaler.state_dict(),
    )
    moments = training.optimizer.state_dict()["state"]
    rng = {_CPU: torch.get_rng_state()}
    device = training.processes.device
    if device != _CPU:
        rng[device] = torch.cuda.get_rng_state(device)
    return Checkpoint(facts, training.sam.decoder_state(), moments, rng)


def restore(training: DecoderTraining, checkpoint: Checkpoint, path: Path) -> list[EpochReport]:
    """Set a run to the state of a checkpoint; return the figures of its epochs.

    Raises:
        MvtkError: the checkpoint's weights are those of another decoder.
    """
    import torch

    facts = checkpoint.facts
    training.sam.load_decoder_state(dict(checkpoint.decoder), str(path))
    groups = training.optimizer.state_dict()["param_groups"]
    state = {index: dict(moments) for index, moments in checkpoint.optimizer.items()}
    training.optimizer.load_state_dict({"state": state, "param_groups": groups})
    if facts.scaler:
        training.scaler.load_state_dict(facts.scaler)
    training.step_count = facts.step
    training.micro_batches.max_images = min(training.micro_batches.max_images, facts.limits[0])
    training.micro_batches.max_instances = facts.limits[1]
    torch.set_rng_state(checkpoint.rng[_CPU])
    device = training.processes.device
    if device in checkpoint.rng and device != _CPU:
        torch.cuda.set_rng_state(checkpoint.rng[device], device)
    return [EpochReport.from_dict(values) for values in facts.history]
