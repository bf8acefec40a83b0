"""What the jobs that run a SAM over many images share: their options, their devices, and smaller batches in need."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Final

from pydantic import ConfigDict, Field

from toolkit.core.batch import BatchStep, ItemT, Outcome, PreparedT, Publishing
from toolkit.core.devices import resolve_devices
from toolkit.core.options import DeviceBatchOptions
from toolkit.device_memory import OutOfMemoryError
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


class ModelStep(BatchStep[ItemT, PreparedT]):
    """A batch step that does a batch in halves, and from then on smaller ones, where the memory does not suffice."""

    def process_batch(self, batch: Sequence[PreparedT]) -> Sequence[Outcome | Publishing]:
        """Do a batch.

        Raises:
            OutOfMemoryError: the memory does not suffice for one item.
            MvtkError: the trouble of an item that is alone in its batch.
        """
        try:
            return self.process_at_once(batch)
        except OutOfMemoryError:
            if len(batch) == 1:
                raise
        half = len(batch) // 2
        self.batch_size = min(self.batch_size, half)
        return [*self.process_batch(batch[:half]), *self.process_batch(batch[half:])]

    @abstractmethod
    def process_at_once(self, batch: Sequence[PreparedT]) -> Sequence[Outcome | Publishing]:
        """Do all items of a batch together; see :meth:`toolkit.core.batch.BatchStep.process_batch`.

        Raises:
            OutOfMemoryError: a smaller batch may do.
        """
