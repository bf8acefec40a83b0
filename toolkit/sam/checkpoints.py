"""Checkpoints of a training run: all that it takes to go on, in one safetensors file that appears at once.

Tensors are named ``decoder.<weight>`` (what is trained), ``optimizer.<index>.<moment>`` and ``rng.<device>``; the
file's metadata holds the rest as JSON under the key ``mvtk``. Nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from toolkit.core.errors import MvtkError
from toolkit.core.extras import require_extra
from toolkit.core.files import atomic_write, explain_os_error

if TYPE_CHECKING:
    from torch import Tensor

FORMAT: Final = "mvtk.sam-checkpoint/1"
_KEY: Final = "mvtk"
_DECODER, _OPTIMIZER, _RNG = "decoder.", "optimizer.", "rng."


@dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """What a checkpoint says besides tensors; JSON types only.

    Attributes:
        model_hash: of the model that the weights belong to.
        epoch: epochs done.
        step: optimiser steps done.
        options: those of the run.
        history: the figures of each epoch, in order.
        threads: of torch on the CPU: another number adds up in another order.
        limits: images, and instances, at once.
        scaler: the state of the gradients' scale in fp16; empty otherwise.
    """

    model_hash: str
    epoch: int
    step: int
    options: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)
    threads: int = 1
    limits: tuple[int, int | None] = (1, None)
    scaler: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A training run at the end of an epoch.

    Attributes:
        facts: what is no tensor.
        decoder: a snapshot of the trained weights, on the CPU.
        optimizer: of each trained weight, in their order, the optimiser's tensors by name.
        rng: states of torch's random generators, uint8, by device.
    """

    facts: CheckpointFacts
    decoder: Mapping[str, Tensor]
    optimizer: Mapping[int, Mapping[str, Tensor]]
    rng: Mapping[str, Tensor]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, atomically replacing an older one.

    Raises:
        StopRunError: no space is left; the older one is still there.
        MvtkError: it cannot be written.
    """
    from safetensors.torch import save

    tensors = {f"{_DECODER}{name}": tensor for name, tensor in checkpoint.decoder.items()}
    for index, moments in checkpoint.optimizer.items():
        tensors |= {f"{_OPTIMIZER}{index}.{name}": tensor for name, tensor in moments.items()}
    tensors |= {f"{_RNG}{device}": state for device, state in checkpoint.rng.items()}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    facts = json.dumps({"format": FORMAT, **asdict(checkpoint.facts)})
    with atomic_write(path, overwrite=True) as stream:
        stream.write(save(contiguous, metadata={_KEY: facts}))


def load_checkpoint(path: Path) -> Checkpoint:
    """Return what :func:`save_checkpoint` wrote, on the CPU.

    Raises:
        MvtkError: it cannot be read, or is no checkpoint of a training run.
    """
    require_extra("safetensors", "sam")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except OSError as error:
        raise explain_os_error(error, path, "read the checkpoint") from error
    except SafetensorError as error:
        raise MvtkError(f"{path}: damaged, or no safetensors file ({error})", "use the other checkpoint") from error
    optimizer: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below(tensors, _OPTIMIZER).items():
        index, _, moment = name.partition(".")
        optimizer.setdefault(int(index), {})[moment] = tensor
    return Checkpoint(_facts(path, metadata), _below(tensors, _DECODER), optimizer, _below(tensors, _RNG))


def require_same_model(path: Path, checkpoint: Checkpoint, model_hash: str) -> None:
    """Check that a checkpoint belongs to the model with the hash ``model_hash``.

    Raises:
        MvtkError: it does not; the line names both.
    """
    stored = checkpoint.facts.model_hash
    if stored != model_hash:
        name = checkpoint.facts.options.get("model", "?")
        raise MvtkError(
            f"{path}: belongs to another model: {name} with the encoder {stored[:12]}, not {model_hash[:12]}",
            "use --model with the model that it was made with, or another output folder",
        )


def _facts(path: Path, metadata: Mapping[str, str]) -> CheckpointFacts:
    try:
        facts = json.loads(metadata[_KEY])
        if facts.pop("format") == FORMAT:
            return CheckpointFacts(**facts | {"limits": tuple(facts["limits"])})
    except (KeyError, TypeError, ValueError, AttributeError):
        pass  # it is told below what the file is not
    raise MvtkError(f"{path}: no checkpoint of a SAM training run ({FORMAT})", "give a checkpoints/last.safetensors")


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
