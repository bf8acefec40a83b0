"""The options that the jobs which run a SAM over many images share, and their devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic import ConfigDict, Field

from toolkit.core.devices import resolve_devices
from toolkit.core.options import DeviceBatchOptions
from toolkit.sam.model import DEFAULT_MODEL

_CPU_BATCH: Final = 1
_GPU_BATCH: Final = 4


class ModelOptions(DeviceBatchOptions):
    """The options of a job that runs a SAM.

    Attributes:
        model: a folder that holds a SAM model of transformers, or a Hugging Face id.
        batch_size: images encoded at once; None: 1 on the CPU, 4 on a GPU. Halved when the memory does not suffice.
        threads: threads that read ahead, a worker.
    """

    model_config = ConfigDict(protected_namespaces=())

    model: str = Field(default=DEFAULT_MODEL, min_length=1)
    batch_size: int | None = Field(default=None, ge=1)
    threads: int = Field(default=2, ge=1)

    def worker_devices(self) -> tuple[str, ...]:
        """Return the devices, each of which has a worker.

        Raises:
            MvtkError: there is no such device.
        """
        return resolve_devices(self.device, self.device_policy)

    def images_at_once(self, devices: Sequence[str]) -> int:
        """Return the batch size on these devices."""
        return self.batch_size or (_CPU_BATCH if "cpu" in devices else _GPU_BATCH)
