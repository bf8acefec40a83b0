"""The processes that train together, one a GPU: what they add up, and what they tell each other.

Gradients are added up by hand instead of by ``DistributedDataParallel``: that divides by the number of processes, while
here the mean is over the instances of all of them, of which each process has another number.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from toolkit.core.extras import require_extra

if TYPE_CHECKING:
    from torch import Tensor

_TIMEOUT: Final = timedelta(hours=2)
"""How long a process waits for the others: the first may have an epoch's panels to draw, or a slow disk."""


class Processes:
    """This process and those that train with it.

    Args:
        device: of this process.
        accelerator: of accelerate, where there are several processes.

    Attributes:
        device: of this process, such as ``"cuda:0"``.
        rank: its number, from 0.
        count: how many there are.
    """

    def __init__(self, device: str, accelerator: Any = None) -> None:
        self._accelerator = accelerator
        self.device = device
        self.rank: int = 0 if accelerator is None else accelerator.process_index
        self.count: int = 1 if accelerator is None else accelerator.num_processes

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of ``values`` over all processes, in each of them."""
        if self._accelerator is None:
            return values
        total: Tensor = self._accelerator.reduce(values, reduction="sum")
        return total

    def total_of_figures(self, figures: Tensor) -> Tensor:
        """Return the sum of figures, which are on the CPU, over all processes; on the CPU."""
        if self._accelerator is None:
            return figures
        # NCCL knows GPUs only.
        return self.total(figures.to(self.device)).cpu()

    def gathered(self, texts: Sequence[str]) -> list[str]:
        """Return the texts of all processes, in the order of their ranks."""
        if self._accelerator is None:
            return list(texts)
        utilities = require_extra("accelerate.utils", "sam")
        return list(utilities.gather_object(list(texts)))

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()

    def leave(self) -> None:
        """Leave the others; this process may join others later."""
        if self._accelerator is not None:
            self._accelerator.end_training()
            states = require_extra("accelerate.state", "sam")
            states.AcceleratorState._reset_state(reset_partial_state=True)


def is_launched() -> bool:
    """Tell whether a launcher (``accelerate launch``, ``torchrun``) started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def launched_rank() -> int:
    """Return which of a launcher's processes this one is; 0, too, for one that was started by itself."""
    return int(os.environ.get("RANK", "0")) if is_launched() else 0


def join_processes(*, on_cpu: bool) -> Processes:
    """Join the processes that a launcher started together with this one.

    Args:
        on_cpu: use no GPU, even if there are some.

    Raises:
        MissingExtraError: accelerate is not installed.
    """
    accelerate = require_extra("accelerate", "sam")
    timeout = accelerate.InitProcessGroupKwargs(timeout=_TIMEOUT)
    accelerator = accelerate.Accelerator(cpu=on_cpu, kwargs_handlers=[timeout])
    # accelerate numbers the CPU as well.
    return Processes("cpu" if accelerator.device.type == "cpu" else str(accelerator.device), accelerator)
