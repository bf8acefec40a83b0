"""Running out of memory on a device: an expected error, and a batch step that then does smaller batches."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from toolkit.core.batch import BatchStep, ItemT, Outcome, PreparedT, Publishing
from toolkit.core.errors import MvtkError

T = TypeVar("T")

_NO_MEMORY: Final = re.compile(r"out of memory|can't allocate memory|ALLOC_FAILED")


class OutOfMemoryError(MvtkError):
    """The memory of the device does not suffice for a batch; what the batch took is free again."""


def within_memory(work: Callable[[], T], failure: str, hint: str = "use a smaller batch, or another device") -> T:
    """Return what ``work`` returns.

    Args:
        work: something that torch computes.
        failure: what to say when the memory does not suffice.
        hint: what to do then.

    Raises:
        OutOfMemoryError: the memory did not suffice; what ``work`` took has been freed.
    """
    import torch

    try:
        return work()
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and _NO_MEMORY.search(str(error)) is None:
            raise
    # Here the error is gone, and with it the frames that held the tensors: raised above, it would keep them alive.
    torch.cuda.empty_cache()
    raise OutOfMemoryError(failure, hint)


class HalvingStep(BatchStep[ItemT, PreparedT]):
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
