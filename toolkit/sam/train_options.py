"""The options of a SAM training run: one model for flags, the configuration file of a run, and Python callers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, field_validator

from toolkit.core.devices import DevicePolicy
from toolkit.core.errors import OptionError
from toolkit.core.options import DeviceField

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Augmentation = Literal["colour", "rotation", "crop", "boxes"]
CacheVariants = Literal["none", "flips", "dihedral"]
CacheDtype = Literal["float32", "float16"]
Selection = Literal["loss", "iou"]

DEFAULT_MODEL: Final = "facebook/sam-vit-base"
PIXEL_AUGMENTATIONS: Final[frozenset[Augmentation]] = frozenset({"colour", "rotation", "crop"})
"""Those that change what the encoder sees without end: its embeddings cannot be kept."""

_MAY_DIFFER: Final = frozenset(
    {"output", "resume", "epochs", "patience", "min_delta", "panels", "tensorboard", "threads", "export"}
    | {"device", "devices_exclude", "devices_prefer", "cache_dir", "data"}
)
"""Options that a resumed run may have otherwise than the run it goes on with."""


class TrainOptions(BaseModel):
    """What a training run does.

    Attributes:
        data: the dataset's folder (``images/ masks/ boxes/ summary.json``).
        output: the run's folder.
        model: a folder that holds a SAM model of transformers, or a Hugging Face id.
        epochs: how often every training image is seen.
        batch_size: images at once; with less memory than they need, fewer, with the same result.
        accumulate: batches to an optimiser step.
        learning_rate: the highest learning rate, at the end of the warm-up.
        weight_decay: of AdamW (Loshchilov and Hutter, 2019).
        warmup: the part of all steps over which the learning rate rises from 0.
        final_learning_rate: where the cosine ends, as a fraction of ``learning_rate``.
        max_grad_norm: longer gradients are shortened to this length; 0: none is.
        precision: the decoder's arithmetic; ``auto`` is bf16 where the GPU has it, else fp16, and fp32 on the CPU.
        patience: stop after so many epochs without a better one; 0: never.
        min_delta: by how much an epoch must be better to count.
        select_by: what the best epoch is best by, on the validation images: the lowest loss or the highest mean IoU.
        val_size: the fraction of images to validate on, where the dataset has no ``split.json``.
        stratify_by_box_count: keep the distribution of instances an image alike in both parts.
        seed: of the split, the order of images, augmentation, and new weights (LoRA).
        augment: ``colour``, ``rotation`` and ``crop`` change the image and run the encoder for each; ``boxes`` takes
            the prompts from the masks, shifted, and costs nothing.
        cache_variants: mirrored (``flips``: 4) or also turned (``dihedral``: 8) images, of which each epoch draws one.
        cache: keep the encoder's embeddings on disk, where the augmentation allows it.
        cache_dir: where; None: ``.mvtk-embeddings`` in the dataset's folder.
        cache_dtype: of the embeddings on disk.
        lora: train low-rank updates of the decoder's attention (Hu et al., 2021) instead of its weights.
        lora_rank: their rank.
        lora_alpha: their scale is ``lora_alpha / lora_rank``.
        lora_dropout: the fraction of their inputs that is left out at random.
        panels: validation images drawn after every epoch.
        tensorboard: write TensorBoard's event files where it is installed.
        threads: threads that read ahead.
        export: write the best model as a whole when the run ends.
        resume: go on with the run in ``output``.
        device: as :func:`toolkit.core.devices.resolve_devices` takes it; several GPUs share the work.
        devices_exclude: GPUs that must not be used.
        devices_prefer: GPUs that ``auto`` and ``cuda`` take first, in this order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    data: Path
    output: Path
    model: str = Field(default=DEFAULT_MODEL, min_length=1)
    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=4, ge=1)
    accumulate: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=1e-5, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    warmup: float = Field(default=0.05, ge=0, lt=1)
    final_learning_rate: float = Field(default=0.01, ge=0, le=1)
    max_grad_norm: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    precision: Precision = "auto"
    patience: int = Field(default=0, ge=0)
    min_delta: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    select_by: Selection = "loss"
    val_size: float = Field(default=0.2, gt=0, lt=1)
    stratify_by_box_count: bool = True
    seed: int = Field(default=0, ge=0, lt=2**31)
    augment: tuple[Augmentation, ...] = ()
    cache_variants: CacheVariants = "none"
    cache: bool = True
    cache_dir: Path | None = None
    cache_dtype: CacheDtype = "float32"
    lora: bool = False
    lora_rank: int = Field(default=8, ge=1)
    lora_alpha: float = Field(default=16.0, gt=0, allow_inf_nan=False)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    panels: int = Field(default=4, ge=0)
    tensorboard: bool = True
    threads: int = Field(default=2, ge=1)
    export: bool = True
    resume: bool = False
    device: DeviceField = "auto"
    devices_exclude: tuple[NonNegativeInt, ...] = ()
    devices_prefer: tuple[NonNegativeInt, ...] = ()

    @field_validator("augment")
    @classmethod
    def _each_once(cls, value: tuple[Augmentation, ...]) -> tuple[Augmentation, ...]:
        return tuple(dict.fromkeys(value))

    @property
    def device_policy(self) -> DevicePolicy:
        """Which GPUs may be used, and in which order."""
        return DevicePolicy(self.devices_exclude, self.devices_prefer)

    @property
    def uses_cache(self) -> bool:
        """Whether embeddings are computed once and kept: no augmentation changes the image, and nobody forbids it."""
        return self.cache and not PIXEL_AUGMENTATIONS.intersection(self.augment)

    def as_yaml(self) -> str:
        """Return the options as a configuration file that makes the same run."""
        values = self.model_dump(mode="json", exclude_none=True, exclude={"resume"})
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def require_same_training(options: TrainOptions, stored: Mapping[str, Any]) -> None:
    """Check that a run goes on with the options it began with.

    Args:
        options: of the run that goes on.
        stored: of the run that began, as JSON types.

    Raises:
        OptionError: an option that decides what is learnt differs; the line has all of them.
    """
    now = options.model_dump(mode="json")
    differing = [
        f"{name} {stored[name]!r} is now {value!r}"
        for name, value in now.items()
        if name not in _MAY_DIFFER and name in stored and stored[name] != value
    ]
    if differing:
        raise OptionError(
            f"{options.output}: cannot resume with other options: {', '.join(differing)}",
            "use the options in its config.yaml, or another output folder",
        )
