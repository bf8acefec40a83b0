"""The options of training and of validation: a model each for flags, configuration files and Python callers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, field_validator

from toolkit.core.cpus import available_cpus
from toolkit.core.devices import DevicePolicy, resolve_devices
from toolkit.core.errors import OptionError
from toolkit.core.options import DeviceField
from toolkit.yolo.source import Attention

Cache = Literal["none", "ram", "disk"]

DEFAULT_MODEL: Final = "yolo11n.yaml"
_MOST_LOADERS: Final = 8
_STRIDE_PX: Final = 32
_MAY_DIFFER: Final = frozenset(
    {"data", "output", "resume", "device", "devices_exclude", "devices_prefer", "workers", "cache", "cache_dir"}
    | {"patience", "verbose"}
)
"""Options that a resumed run may have otherwise than the run it goes on with."""


def _loaders() -> int:
    return min(_MOST_LOADERS, available_cpus())


class _DeviceOptions(BaseModel):
    """What every command that runs Ultralytics takes.

    Attributes:
        device: as :func:`toolkit.core.devices.resolve_devices` takes it.
        devices_exclude: GPUs that must not be used.
        devices_prefer: GPUs that ``auto`` and ``cuda`` take first, in this order.
        workers: processes that read images ahead, a GPU; on the CPU they are read in between.
        settings: further settings of Ultralytics, as ``key=value``.
        verbose: log the layers of models, and results a class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    device: DeviceField = "auto"
    devices_exclude: tuple[NonNegativeInt, ...] = ()
    devices_prefer: tuple[NonNegativeInt, ...] = ()
    workers: int = Field(default_factory=_loaders, ge=0)
    settings: tuple[str, ...] = ()
    verbose: bool = False

    def ultralytics_device(self) -> str:
        """Return the devices as Ultralytics names them: ``cpu``, ``4``, ``1,2``.

        Raises:
            MvtkError: a device does not exist or is excluded.
        """
        policy = DevicePolicy(self.devices_exclude, self.devices_prefer)
        return ",".join(name.removeprefix("cuda:") for name in resolve_devices(self.device, policy))


class TrainYoloOptions(_DeviceOptions):
    """What a training run does.

    Attributes:
        data: a dataset's folder or data YAML.
        output: the run's folder.
        model: a model's YAML (random weights) or a checkpoint (.pt).
        attention: what becomes of the masks of pairs: ``none`` leaves them out, ``channel`` is a fourth channel of the
            input, ``mask-cbam`` also guides attention in the neck; ``auto``: ``channel`` for pairs.
        epochs: how often every training image is seen.
        imgsz: side of the model's input in pixels.
        batch: images a step; with a GPU, below 1 the part of its memory to fill, and -1 for 60 %.
        lr0: the learning rate at the start; None: Ultralytics chooses it with the optimiser.
        patience: stop after so many epochs without a better one; 0: never.
        seed: of weights, order and augmentation.
        cache: keep decoded images in memory or on disk.
        cache_dir: where on disk; None: in the run's folder.
        resume: go on with the run in ``output``.
    """

    data: Path
    output: Path
    model: str = Field(default=DEFAULT_MODEL, min_length=1)
    attention: Attention = "auto"
    epochs: int = Field(default=100, ge=1)
    imgsz: int = Field(default=640, ge=_STRIDE_PX, multiple_of=_STRIDE_PX)
    batch: float = 16
    lr0: float | None = Field(default=None, gt=0, le=1)
    patience: int = Field(default=100, ge=0)
    seed: int = Field(default=0, ge=0, lt=2**31)
    cache: Cache = "none"
    cache_dir: Path | None = None
    resume: bool = False

    @field_validator("batch")
    @classmethod
    def _a_number_or_a_part(cls, value: float) -> float:
        if value == -1 or 0 < value < 1 or (value >= 1 and value == int(value)):
            return value
        raise ValueError("give a whole number of images, a part of the GPU's memory between 0 and 1, or -1")

    @property
    def images_a_step(self) -> int | float:
        """The batch as Ultralytics takes it: a whole number of images, or a part of the memory."""
        return int(self.batch) if self.batch == int(self.batch) else self.batch

    def as_yaml(self) -> str:
        """Return the options as a configuration file that makes the same run."""
        values = self.model_dump(mode="json", exclude_none=True, exclude={"resume", "settings"})
        if self.settings:
            values["set"] = list(self.settings)
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


class ValYoloOptions(_DeviceOptions):
    """What a validation does.

    Attributes:
        data: a dataset's folder or data YAML.
        output: where the results go.
        model: a checkpoint (.pt).
        split: the part of the dataset.
        imgsz: side of the model's input in pixels; None: as it was trained.
        batch: images at once.
        conf: leave out detections with a lower confidence.
        iou: of two detections of one class that overlap so much, the less confident one is left out.
        overwrite: replace the results of an earlier validation in ``output``.
    """

    data: Path
    output: Path
    model: Path
    split: Literal["train", "val", "test"] = "val"
    imgsz: int | None = Field(default=None, ge=_STRIDE_PX, multiple_of=_STRIDE_PX)
    batch: int = Field(default=16, ge=1)
    conf: float = Field(default=0.001, ge=0, le=1)
    iou: float = Field(default=0.7, ge=0, le=1)
    overwrite: bool = False


def require_same_training(options: TrainYoloOptions, stored: Mapping[str, Any]) -> None:
    """Check that a run goes on with the options it began with.

    Args:
        options: of the run that goes on.
        stored: the content of the run's ``config.yaml``.

    Raises:
        OptionError: an option that decides what is learnt differs; the line has all of them.
    """
    now = yaml.safe_load(options.as_yaml())
    differing = [
        f"{name} {stored.get(name)!r} is now {now.get(name)!r}"
        for name in dict.fromkeys((*stored, *now))
        if name not in _MAY_DIFFER and stored.get(name) != now.get(name)
    ]
    if differing:
        raise OptionError(
            f"{options.output}: cannot resume with other options: {', '.join(differing)}",
            "use the options in its config.yaml, or another output folder",
        )
