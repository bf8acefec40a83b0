"""SIGINT and SIGTERM as requests: the first one asks, the second one ends the run at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass(slots=True)
class StopRequest:
    """Whether somebody asked the run to stop.

    Attributes:
        signum: the signal that asked first; 0 while nobody has.
    """

    signum: int = 0

    @property
    def requested(self) -> bool:
        """Whether a stop was asked for."""
        return self.signum != 0


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM within the block into a request; the second raises KeyboardInterrupt.

    Signals reach Python's main thread only; in another thread the block runs without handlers.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(signum: int, frame: FrameType | None) -> None:
        del frame
        if request.requested:
            raise KeyboardInterrupt
        request.signum = signum

    previous = {signum: signal.signal(signum, handle) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
