"""Checkpoints: read without unpickling what is not known, and fitted to more channels than they were made for."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from ultralytics.nn.tasks import DetectionModel, load_checkpoint

from toolkit.core.errors import MvtkError
from toolkit.npz.pair_options import RGB_AND_MASK
from toolkit.yolo.engine.models import MaskGuidedAttention, MaskGuidedDetectionModel
from toolkit.yolo.source import Attention

DEFAULT_IMGSZ: Final = 640
_FIRST_CONVOLUTION: Final = "model.0.conv.weight"
_UNREADABLE: Final = (TypeError, RuntimeError, ValueError, KeyError, AttributeError, ImportError, EOFError, OSError)

torch.serialization.add_safe_globals([MaskGuidedAttention, MaskGuidedDetectionModel])


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A detection model as it was saved.

    Attributes:
        model: in float32, in evaluation mode, on the CPU.
        content: everything in the file.
    """

    model: Any
    content: dict[str, Any]

    @property
    def channels(self) -> int:
        """Channels of its input, the mask included where it has one."""
        return int(self.model.state_dict()[_FIRST_CONVOLUTION].shape[1])

    @property
    def attention(self) -> Attention:
        """What it does with masks, for a model of pairs."""
        if isinstance(self.model, MaskGuidedDetectionModel):
            return "mask-cbam"
        return "channel" if self.channels == RGB_AND_MASK else "none"

    @property
    def imgsz(self) -> int:
        """Side of the input that it was trained with, in pixels; Ultralytics' usual one where it does not say."""
        arguments = self.content.get("train_args") or {}
        size = arguments.get("imgsz") if isinstance(arguments, dict) else None
        return size if isinstance(size, int) and size > 0 else DEFAULT_IMGSZ

    @property
    def class_names(self) -> dict[int, str]:
        """Its class names by id."""
        return {int(class_id): str(name) for class_id, name in self.model.names.items()}


def load_weights(path: Path) -> Checkpoint:
    """Read a checkpoint of Ultralytics. Only classes of Ultralytics, torch and mvtk are built; no other code is run.

    Raises:
        MvtkError: there is no such file, it names other classes, is damaged, or is no detection model.
    """
    if not path.is_file():
        raise MvtkError(
            f"{path}: no such file", "weights are not downloaded: give a file, or a model's YAML such as yolo11n.yaml"
        )
    if path.suffix != ".pt":
        raise MvtkError(f"{path}: not a checkpoint (.pt)", "give a .pt file of Ultralytics or of mvtk yolo train")
    try:
        with warnings.catch_warnings(action="ignore"):  # torch tells of pickles of other versions, then refuses them
            model, content = load_checkpoint(str(path.absolute()))
    except (pickle.UnpicklingError, *_UNREADABLE) as error:
        raise MvtkError(
            f"{path}: {_reason(error)}", "only checkpoints of Ultralytics' detection models are read"
        ) from error
    if getattr(model, "task", "") != "detect" or not isinstance(model, DetectionModel):
        raise MvtkError(f"{path}: a model for {getattr(model, 'task', 'another task')}", "give a detection model")
    if _FIRST_CONVOLUTION not in model.state_dict():
        raise MvtkError(f"{path}: its first layer is no plain convolution", "give a YOLO detection model")
    return Checkpoint(model, content)


def load_into(model: DetectionModel, weights: nn.Module) -> None:
    """Copy weights into a model, also into one whose input has more channels.

    Where the first convolution is wider than the one it is filled from, its further channels become zero: the model
    then gives what the other one gives, whatever they hold, and learns what to make of them.

    Args:
        model: changed in place.
        weights: the model to copy from.
    """
    model.load(weights)
    source = weights.state_dict().get(_FIRST_CONVOLUTION)
    target = model.state_dict().get(_FIRST_CONVOLUTION)
    if source is not None and target is not None and source.shape[1] < target.shape[1]:
        target[:, source.shape[1] :] = 0


def _reason(error: Exception) -> str:
    """Return what was wrong with a file, without what Ultralytics adds to it."""
    text = str(error).replace("ERROR ❌️ ", "").strip()
    if isinstance(error, LookupError | EOFError | AttributeError):  # of a pickle machine that is fed other bytes
        return "damaged, cut short, or no checkpoint at all"
    if "outside the supported" in text or "weights_only" in text.lower() or "unsafe" in text:
        return "names classes or functions that a model does not need; it was not loaded, as it could run any program"
    if "not a loadable checkpoint" in text or "PytorchStreamReader" in text:
        return "damaged, cut short, or no checkpoint at all"
    return (text or type(error).__name__).splitlines()[0]
