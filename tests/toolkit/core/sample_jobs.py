"""Jobs and steps for the tests of the base; worker processes import them by name."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.core.batch import Figures, Job, Outcome, Step
from toolkit.core.errors import MvtkError, StopRunError
from toolkit.core.files import write_bytes
from toolkit.core.options import BatchOptions


@dataclass(frozen=True)
class Named:
    """An item: what to do with it stands in its name, before the colon."""

    source: str

    @property
    def action(self) -> str:
        return self.source.partition(":")[0]


class Unpicklable:
    def __reduce__(self) -> Any:
        raise TypeError("this is not to be pickled")


def _fail_to_load() -> None:
    raise RuntimeError("this is not to be unpickled")


@dataclass(frozen=True)
class Unloadable(Named):
    """An item that cannot be rebuilt in a worker."""

    def __reduce__(self) -> Any:
        return _fail_to_load, ()


def _die_once(marker: Path) -> None:
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Acting(Step[Named]):
    """Does what the item's name says.

    Attributes:
        folder: where items leave their marks: one file an item, its lines the process ids that began it.
    """

    folder: Path

    def process_one(self, item: Named) -> Outcome:
        with (self.folder / f"{item.source.replace('/', '_')}.began").open("a") as marks:
            marks.write(f"{os.getpid()}\n")
        actions: dict[str, Callable[[], object]] = {
            "fail": lambda: _raise(MvtkError(f"{item.source}: not good", "mend it")),
            "bug": lambda: _raise(ValueError(f"bad \x1b value in\n{item.source}")),
            "full": lambda: _raise(StopRunError(f"{item.source}: no space", "free some")),
            "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
            "segfault": lambda: ctypes.string_at(0),
            "exit": lambda: os._exit(7),
            "kill-once": lambda: _die_once(self.folder / "died"),
            "sleep": lambda: time.sleep(0.2),
            "forever": lambda: time.sleep(600),
            "print": lambda: os.write(1, b"native noise\n"),
            "orphan": self._die_with_a_child_that_holds_the_pipe,
        }
        actions.get(item.action, lambda: None)()
        write_bytes(self.folder / f"{item.source.replace('/', '_')}.done", b"whole", overwrite=True)
        if item.action == "unpicklable":
            return Outcome.done(item.source, object=Unpicklable())  # type: ignore[arg-type]  # the point of it
        return Outcome.done(item.source, text="x" * 2_000_000 if item.action == "huge" else "small")

    def _die_with_a_child_that_holds_the_pipe(self) -> None:
        if os.fork() == 0:
            time.sleep(3)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)


def _raise(error: Exception) -> None:
    raise error


@dataclass(frozen=True)
class Idle(Step[Named]):
    """Does nothing."""

    def process_one(self, item: Named) -> Outcome:
        return Outcome.done(item.source)


@dataclass(frozen=True)
class Describing(Step[Named]):
    """Says in its outcomes how its worker was set up."""

    names: tuple[str, ...]

    def process_one(self, item: Named) -> Outcome:
        return Outcome.done(item.source, pid=os.getpid(), **{name: os.environ.get(name, "-") for name in self.names})


@dataclass(frozen=True)
class BadSetUp(Step[Named]):
    """Cannot be set up: ``how`` is ``die``, ``die-once``, ``expected``, ``bug`` or ``hang``."""

    how: str
    folder: Path = Path()

    def setup(self, device: str) -> None:
        del device
        if self.how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "die-once":
            _die_once(self.folder / "died")
        if self.how == "expected":
            raise MvtkError("weights.pt: missing", "download it")
        if self.how == "bug":
            raise KeyError("surprise")
        if self.how == "hang":
            threading.Thread(target=time.sleep, args=(600,)).start()
            raise MvtkError("weights.pt: missing", "download it")

    def process_one(self, item: Named) -> Outcome:
        return Outcome.done(item.source)


@dataclass(frozen=True)
class HoldsALock(Step[Named]):
    """A step that cannot travel to a worker."""

    lock: Any = field(default_factory=threading.Lock)

    def process_one(self, item: Named) -> Outcome:
        return Outcome.done(item.source)


class SampleOptions(BatchOptions):
    """The options of :class:`SampleJob`."""

    folder: Path
    names: tuple[str, ...] = ()
    overwrite: bool = False


class SampleJob(Job[Named]):
    """Does what the names say; a name that begins with ``skip:`` is skipped by the plan."""

    command = "sample run"

    def __init__(self, options: SampleOptions) -> None:
        self._options = options
        self.watched: list[Outcome] = []
        self.finished_with: Figures | None = None

    @property
    def options(self) -> SampleOptions:
        return self._options

    def plan(self) -> Iterator[Named | Outcome]:
        for name in self._options.names:
            if name == "plan-error":
                raise MvtkError("the listing broke", "mend it")
            if name == "plan-bug":
                raise ZeroDivisionError("the listing has a bug")
            if self._options.shard.holds(name):
                yield Outcome.skipped(name, "already done") if name.startswith("skip:") else Named(name)

    def step(self) -> Step[Named]:
        return Acting(self._options.folder)

    def watch(self, outcome: Outcome) -> Outcome:
        self.watched.append(outcome)
        return outcome

    def finish(self, figures: Figures) -> None:
        self.finished_with = figures
        write_bytes(self._options.folder / "finished", b"", overwrite=True)


def items(names: Iterable[str]) -> list[Named]:
    return [Named(name) for name in names]


@dataclass(frozen=True)
class Publishing(Step[Named]):
    """Leaves the end of each item to a function, as the item's name says: ``fail`` and ``bug`` happen in there.

    Attributes:
        folder: where the ends are noted, one line each.
    """

    folder: Path

    def process_one(self, item: Named) -> Outcome | Callable[[], Outcome]:
        if item.action == "now":
            return Outcome.done(item.source)
        return functools.partial(self._publish, item)

    def _publish(self, item: Named) -> Outcome:
        time.sleep(0.02)
        if item.action == "fail":
            raise MvtkError(f"{item.source}: not good")
        if item.action == "bug":
            raise ValueError(item.source)
        if item.action == "full":
            raise StopRunError("no space")
        with (self.folder / "ends").open("a") as ends:
            ends.write(f"{item.source} {threading.current_thread().name}\n")
        return Outcome.done(item.source)
