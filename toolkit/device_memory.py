"""Running out of memory on a device, as an expected error after which a smaller batch may do."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeVar

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
