"""Memory for the images of a batch, used again for the next one."""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

_BLOCKS_KEPT: Final = 2
"""A loop still holds the last batch while the next one is made."""


class BatchMemory:
    """Arrays whose memory is used again once nobody holds them, a part of them, or a tensor made from them.

    A system gives large memory out zeroed, page by page, and takes it back when it is freed: for a batch of photographs
    that costs a tenth of the time of decoding them. Memory for up to two batches stays allocated instead. Threads may
    share it; a pickle of it is empty.
    """

    def __init__(self) -> None:
        self._free: deque[memoryview] = deque(maxlen=_BLOCKS_KEPT)

    def __reduce__(self) -> tuple[type[BatchMemory], tuple[()]]:
        return type(self), ()

    def take(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array that is nobody else's, with any content."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        block = self._block(size)
        # NumPy lets each part of an array refer to the array that took its memory from something else: to this one.
        whole = np.asarray(block[:size])
        weakref.finalize(whole, self._free.append, block).atexit = False
        return whole.view(dtype).reshape(shape)

    def _block(self, size: int) -> memoryview:
        """Return free memory of ``size`` bytes or little more, new if there is none."""
        try:
            block = self._free.popleft()
        except IndexError:
            return np.empty(size, np.uint8).data
        return block if size <= block.nbytes <= 2 * size else np.empty(size, np.uint8).data
