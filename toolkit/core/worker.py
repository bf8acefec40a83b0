"""The worker process of the local engine: set a step up once, then do items until the driver hangs up."""

from __future__ import annotations

import ctypes
import fcntl
import functools
import importlib
import os
import signal
import sys
import traceback
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from toolkit.core.answers import HANG_UP, Ready, Start, Stopped, guarded, send_answer, set_up, summary
from toolkit.core.batch import BatchStep, Item, Outcome, Step
from toolkit.core.errors import BugError
from toolkit.core.pipeline import Pipeline

_PR_SET_PDEATHSIG = 1


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
    with suppress(*HANG_UP):
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
        if isinstance(start.step, BatchStep):
            Pipeline(connection, start.step).serve(start.device)
            return
        answer = set_up(start.step, start.device)
        connection.send(answer)
        if isinstance(answer, Ready):
            with ThreadPoolExecutor(1, thread_name_prefix="publisher") as publisher:
                _do_items(connection, start.step, publisher)
    except HANG_UP:
        raise
    except Exception as error:  # noqa: BLE001 - the boundary where a bug becomes a value
        reason = f"a worker cannot take the work: {summary(error)}"
        connection.send(Stopped(BugError(reason, traceback.format_exc())))


def _do_items(connection: Connection, step: Step[Any], publisher: Executor) -> None:
    """Do items until the driver hangs up; one is published while the next is begun. Answers keep the items' order."""
    publishing: tuple[Item, Future[Outcome | Stopped]] | None = None
    while True:
        if publishing and not connection.poll():
            send_answer(connection, publishing[0], publishing[1].result())
            publishing = None
        item: Item = connection.recv()
        result = guarded(item, functools.partial(step.process_one, item))
        if publishing:
            send_answer(connection, publishing[0], publishing[1].result())
            publishing = None
        if isinstance(result, Outcome | Stopped):
            send_answer(connection, item, result)
        else:
            publishing = item, publisher.submit(guarded, item, result)


def _die_with_parent(parent: int) -> None:
    """Ask the kernel (Linux) to kill this process when the driver dies: no orphan goes on writing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
