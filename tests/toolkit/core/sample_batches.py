"""Steps that work in batches, for the tests of the pipeline; worker processes import them by name."""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.toolkit.core.sample_jobs import Named, Unpicklable
from toolkit.core import pipeline
from toolkit.core.batch import BatchStep, Outcome, Publishing, Step
from toolkit.core.errors import MvtkError, StopRunError

PREPARE_S, BATCH_S, PUBLISH_S = 0.01, 0.03, 0.02

_counting = threading.Lock()
_held: set[str] = set()
"""The items of this worker that are prepared and not yet published."""


@dataclass(frozen=True)
class Padded(Named):
    """An item that is large on its way."""

    padding: bytes = b""


@dataclass(frozen=True)
class Batching(BatchStep[Named, Named]):
    """Does what the items' names say, where they say it: ``STAGE-WHAT:NUMBER``, such as ``batch-kill:3``.

    Attributes:
        folder: where each stage notes what it did, one line a call.
        setup_s: how long the set-up takes.
        patience_s: how long a batch waits for a further item.
    """

    folder: Path
    batch_size: int = 4
    threads: int = 2
    setup_s: float = 0.0
    patience_s: float = 0.05

    def setup(self, device: str) -> None:
        pipeline._PATIENCE_S = self.patience_s
        time.sleep(self.setup_s)
        self._note("setup", device)

    def prepare(self, item: Named) -> Named | Outcome:
        if item.action == "prepare-skip":
            return Outcome.skipped(item.source, "not wanted")
        self._act("prepare", [item])
        with _counting:
            _held.add(item.source)
        return item

    def process_batch(self, batch: Sequence[Named]) -> Sequence[Outcome | Publishing]:
        self._note("begin", *(item.source for item in batch))
        self._act("batch", batch)
        with _counting:
            held = len(_held)
        results = [self._result(item, len(batch), held) for item in batch]
        return results[1:] if any(item.action == "batch-short" for item in batch) else results

    def _result(self, item: Named, size: int, held: int) -> Outcome | Publishing:
        if item.action == "now":
            _held.discard(item.source)
            return Outcome.done(item.source, batch=size, held=held)
        return functools.partial(self._publish, item, size, held)

    def _publish(self, item: Named, size: int, held: int) -> Outcome:
        self._act("publish", [item])
        with _counting:
            _held.discard(item.source)
        if item.action == "publish-unpicklable":
            return Outcome.done(item.source, object=Unpicklable())  # type: ignore[arg-type]  # the point of it
        text = "x" * 2_000_000 if item.action == "publish-huge" else ""
        return Outcome.done(item.source, batch=size, held=held, text=text)

    def _act(self, stage: str, items: Sequence[Named]) -> None:
        for item in items:
            where, _, what = item.action.partition("-")
            if where == stage:
                self._suffer(what, item.source, {"prepare": PREPARE_S, "batch": BATCH_S, "publish": PUBLISH_S}[stage])
        self._note(stage, *(item.source for item in items))

    def _suffer(self, what: str, source: str, slow_s: float) -> None:
        actions: dict[str, Callable[[], object]] = {
            "fail": lambda: _raise(MvtkError(f"{source}: not good", "mend it")),
            "bug": lambda: _raise(ValueError(f"bad value in {source}")),
            "exit": lambda: _raise(SystemExit(source)),
            "memory": lambda: _raise(MemoryError()),
            "full": lambda: _raise(StopRunError(f"{source}: no space", "free some")),
            "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
            "killonce": lambda: self._die_once(source),
            "slow": lambda: time.sleep(slow_s),
            "forever": lambda: time.sleep(600),
        }
        actions.get(what, lambda: None)()

    def _die_once(self, source: str) -> None:
        marker = self.folder / f"{source}.died"
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def _note(self, stage: str, *words: str) -> None:
        with (self.folder / stage).open("a") as notes:
            notes.write(" ".join([threading.current_thread().name, *words]) + "\n")
        with (self.folder / "journal").open("a") as journal:
            journal.write(" ".join([stage, *words]) + "\n")


def _raise(error: BaseException) -> None:
    raise error


class Shrinking(Batching):
    """Finds after its first batch that two items are as many as it can take."""

    def process_batch(self, batch: Sequence[Named]) -> Sequence[Outcome | Publishing]:
        object.__setattr__(self, "batch_size", 2)
        return super().process_batch(batch)


@dataclass(frozen=True)
class BadBatchSetUp(Batching):
    """Cannot be set up."""

    def setup(self, device: str) -> None:
        del device
        raise MvtkError("weights.pt: missing", "download it")


class Located(Step[Named]):
    """Says where it runs: the device that its set-up got and what CUDA would see."""

    def setup(self, device: str) -> None:
        self._device = device

    def process_one(self, item: Named) -> Outcome:
        names = ("CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
        return Outcome.done(item.source, device=self._device, **{name: os.environ.get(name, "-") for name in names})
