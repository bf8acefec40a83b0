"""What the driver and its workers say to each other, and how an item's trouble becomes an answer.

Over the pipe the driver sends :class:`Start` and then items; the worker answers :class:`Ready` or :class:`Stopped`, and
then each item, in order, with an :class:`Outcome`, or with :class:`Stopped` when nothing further can succeed. A worker
that holds many items can be asked to give up those it has not begun (:class:`Recall`): it answers :class:`HandedBack`.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from toolkit.core.batch import RUN_STOPPED, Item, Outcome, Step
from toolkit.core.errors import BugError, MvtkError, StopRunError

ResultT = TypeVar("ResultT")

HANG_UP = (EOFError, ConnectionResetError, BrokenPipeError)
"""What the pipe raises when the other end is gone."""


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


@dataclass(frozen=True, slots=True)
class Recall:
    """The driver's request to begin no further item, and to answer those that were not begun."""


@dataclass(frozen=True, slots=True)
class HandedBack:
    """The item was not begun, and will not be."""


Answer = Outcome | Stopped | HandedBack
"""What becomes of an item that a worker got."""


def set_up(step: Step[Any], device: str) -> Ready | Stopped:
    """Set ``step`` up; an exception becomes the reason why the run cannot begin."""
    try:
        step.setup(device)
    except MvtkError as error:
        return Stopped(error)
    except Exception as error:  # noqa: BLE001 - the boundary where a bug becomes a value
        return Stopped(BugError(f"setting up the work failed: {summary(error)}", traceback.format_exc()))
    return Ready()


def process(step: Step[Any], item: Item) -> Outcome | Stopped:
    """Do one item; its trouble, expected or not, becomes its outcome."""
    result = guarded(item, functools.partial(step.process_one, item))
    return result if isinstance(result, Outcome | Stopped) else guarded(item, result)


def guarded(item: Item, action: Callable[[], ResultT]) -> ResultT | Outcome | Stopped:
    """Return what ``action`` returns; its trouble becomes the outcome of ``item``."""
    try:
        return action()
    except StopRunError as error:
        return Stopped(error, Outcome.failed(item.source, str(error), kind=RUN_STOPPED))
    except MvtkError as error:
        return Outcome.failed(item.source, str(error))
    except MemoryError:
        return Outcome.failed(item.source, "there is not enough memory for it")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the boundary where a bug becomes a value
        return _as_bug(item, error)


def _as_bug(item: Item, error: BaseException) -> Outcome:
    """Return the outcome of an item that failed unexpectedly with ``error``, which is being handled."""
    return Outcome(
        item.source,
        "failed",
        reason=f"unexpected {summary(error)}",
        kind="bugs",
        traceback=traceback.format_exc(),
    )


def send_answer(connection: Connection, item: Item, result: Answer) -> None:
    """Send the answer for ``item``; one that cannot travel becomes a bug of the item."""
    try:
        connection.send(result)
    except HANG_UP:
        raise
    except Exception as error:  # noqa: BLE001 - the boundary where a bug becomes a value
        connection.send(_as_bug(item, error))


def summary(error: BaseException) -> str:
    """Return the first line of what an unexpected exception says."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
