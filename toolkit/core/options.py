"""The options that every batch job takes, as one pydantic model for flags, configuration files and Python callers."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, PlainSerializer, PlainValidator

from toolkit.core.cpus import available_cpus
from toolkit.core.devices import DevicePolicy, parse_devices
from toolkit.core.errors import OptionError


@dataclass(frozen=True, slots=True)
class Shard:
    """Part ``index`` of ``count`` of the work, stable from run to run.

    An item belongs to the shard that is the BLAKE2b hash of its relative POSIX path modulo ``count``.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard that ``text`` (``I/N``, 0 ≤ I < N) names.

        Raises:
            OptionError: ``text`` is not of that form.
        """
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise OptionError(f"shard {text!r}", "give it as I/N with 0 <= I < N, such as 0/8")
        return cls(int(index), int(count))

    def holds(self, source: str) -> bool:
        """Tell whether the item with the relative POSIX path ``source`` belongs to this shard."""
        if self.count == 1:
            return True
        digest = hashlib.blake2b(os.fsencode(source), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def _shard(value: Any) -> Shard:
    if isinstance(value, Shard):
        return value
    try:
        return Shard.parse(str(value))
    except OptionError as error:
        raise ValueError(str(error)) from error


def _device(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    try:
        parse_devices(text)
    except OptionError as error:
        raise ValueError(str(error)) from error
    return text


ALL = Shard(0, 1)
ShardField = Annotated[Shard, PlainValidator(_shard), PlainSerializer(str)]
DeviceField = Annotated[str, BeforeValidator(_device)]


class BatchOptions(BaseModel):
    """The options that every batch job takes; a service adds its own by inheritance.

    Attributes:
        workers: parallel worker processes; 0 does the work in the calling process.
        max_files: stop after so many items that need work; 0: no limit.
        shard: the part of the items to do.
        dry_run: plan only.
        overwrite: replace what exists.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: int = Field(default_factory=available_cpus, ge=0)
    max_files: int = Field(default=0, ge=0)
    shard: ShardField = ALL
    dry_run: bool = False


class DeviceBatchOptions(BatchOptions):
    """The options of a batch job that can use GPUs.

    Attributes:
        device: as :func:`toolkit.core.devices.resolve_devices` takes it; a list is joined with commas.
        devices_exclude: GPUs that must not be used.
        devices_prefer: GPUs that ``auto`` and ``cuda`` take first, in this order.
    """

    device: DeviceField = "auto"
    devices_exclude: tuple[NonNegativeInt, ...] = ()
    devices_prefer: tuple[NonNegativeInt, ...] = ()

    @property
    def device_policy(self) -> DevicePolicy:
        """Which GPUs may be used, and in which order."""
        return DevicePolicy(self.devices_exclude, self.devices_prefer)
