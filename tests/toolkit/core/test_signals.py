"""Signals: the first asks, the second ends."""

from __future__ import annotations

import signal
import threading

import pytest

from toolkit.core.signals import StopRequest, stop_on_signals


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_raises(signum: signal.Signals) -> None:
    before = signal.getsignal(signum)
    with stop_on_signals() as stop:
        assert not stop.requested
        signal.raise_signal(signum)
        assert stop.signum == signum
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert stop.signum == signum
    assert signal.getsignal(signum) is before


def test_in_another_thread_the_block_runs_without_handlers() -> None:
    seen: list[StopRequest] = []

    def run() -> None:
        with stop_on_signals() as stop:
            seen.append(stop)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not seen[0].requested
