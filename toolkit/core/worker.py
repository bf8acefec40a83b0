"""The worker process of the local engine: set a step up once, then do items until the driver hangs up.

The protocol over the pipe: the driver sends :class:`Start` and then items; the worker answers :class:`Ready` or
:class:`Stopped`, and then one :class:`Outcome` an item, or :class:`Stopped` when nothing further can succeed.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from toolkit.core.batch import Item, Outcome, Step
from toolkit.core.errors import BugError, MvtkError, StopRunError

ResultT = TypeVar("ResultT")

_PR_SET_PDEATHSIG = 1
_HANG_UP = (EOFError, ConnectionResetError, BrokenPipeError)
"""What the pipe raises when the driver is gone."""


@dataclass(frozen=True, slots=True)
class Start:
    """The driver's first message."""

    step: Step[Any]
    device: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The step is set up."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """Nothing further can succeed; ``outcome`` is that of the item under way, if there was one."""

    error: MvtkError | BugError
    outcome: Outcome | None = None


def set_up(step: Step[Any], device: str) -> Ready | Stopped:
    """Set ``step`` up; an exception becomes the reason why the run cannot begin."""
    try:
        step.setup(device)
    except MvtkError as error:
        return Stopped(error)
    except Exception as error:  # noqa: BLE001 - the boundary where a bug becomes a value
        return Stopped(BugError(f"setting up the work failed: {_summary(error)}", traceback.format_exc()))
    return Ready()


def process(step: Step[Any], item: Item) -> Outcome | Stopped:
    """Do one item; its trouble, expected or not, becomes its outcome."""
    result = _guarded(item, functools.partial(step.process_one, item))
    return result if isinstance(result, Outcome | Stopped) else _guarded(item, result)


def _guarded(item: Item, action: Callable[[], ResultT]) -> ResultT | Outcome | Stopped:
    """Return what ``action`` returns; its trouble becomes the outcome of ``item``."""
    try:
        return action()
    except StopRunError as error:
        return Stopped(error, Outcome.failed(item.source, str(error), kind="run stopped"))
    except MvtkError as error:
        return Outcome.failed(item.source, str(error))
    except MemoryError:
        return Outcome.failed(item.source, "there is not enough memory for it")
    except Exception as error:  # noqa: BLE001 - the boundary where a bug becomes a value
        return _bug(item, error)


def _bug(item: Item, error: Exception) -> Outcome:
    """Return the outcome of an item that failed unexpectedly with ``error``, which is being handled."""
    return Outcome(
        item.source,
        "failed",
        reason=f"unexpected {_summary(error)}",
        kind="bugs",
        traceback=traceback.format_exc(),
    )


def main(connection: Connection, parent: int) -> None:
    """Serve the driver at the other end of ``connection`` until it hangs up.

    Args:
        connection: the pipe to the driver.
        parent: the driver's process id, to notice that it died before this process could ask to die with it.
    """
    # The terminal sends Ctrl-C to the whole group, and a scheduler SIGTERM to every process: the driver decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    _die_with_parent(parent)
    # What this process starts must not keep the pipe open: its end tells the driver that this process has ended.
    fcntl.fcntl(connection.fileno(), fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    with suppress(*_HANG_UP):
        _preload(connection.recv())
        _serve(connection)


def _preload(module: str) -> None:
    """Import a module that the work will need; if it cannot be imported, the work will say so."""
    if module:
        with suppress(Exception):
            importlib.import_module(module)


def _serve(connection: Connection) -> None:
    try:
        start: Start = connection.recv()
        answer = set_up(start.step, start.device)
        connection.send(answer)
        if isinstance(answer, Ready):
            with ThreadPoolExecutor(1, thread_name_prefix="publisher") as publisher:
                _do_items(connection, start.step, publisher)
    except _HANG_UP:
        raise
    except Exception as error:  # noqa: BLE001 - the boundary where a bug becomes a value
        reason = f"a worker cannot take the work: {_summary(error)}"
        connection.send(Stopped(BugError(reason, traceback.format_exc())))


def _do_items(connection: Connection, step: Step[Any], publisher: Executor) -> None:
    """Do items until the driver hangs up; one is published while the next is begun. Answers keep the items' order."""
    publishing: tuple[Item, Future[Outcome | Stopped]] | None = None
    while True:
        if publishing and not connection.poll():
            _send(connection, publishing[0], publishing[1].result())
            publishing = None
        item: Item = connection.recv()
        result = _guarded(item, functools.partial(step.process_one, item))
        if publishing:
            _send(connection, publishing[0], publishing[1].result())
            publishing = None
        if isinstance(result, Outcome | Stopped):
            _send(connection, item, result)
        else:
            publishing = item, publisher.submit(_guarded, item, result)


def _send(connection: Connection, item: Item, result: Outcome | Stopped) -> None:
    try:
        connection.send(result)
    except _HANG_UP:
        raise
    except Exception as error:  # noqa: BLE001 - the boundary where a bug becomes a value
        connection.send(_bug(item, error))


def _die_with_parent(parent: int) -> None:
    """Ask the kernel (Linux) to kill this process when the driver dies: no orphan goes on writing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def _summary(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
