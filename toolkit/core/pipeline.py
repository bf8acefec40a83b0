"""The worker's side of a :class:`toolkit.core.batch.BatchStep`: prepare ahead, work in batches, publish behind.

::

    receiver ──> preparers (step.threads) ──> main thread: process_batch ──> writers (2) ──> answerer

The receiver takes what the driver sends at once, so that the driver never waits for this process; as the driver hands
out no more than ``step.lookahead`` items before it gets answers, every queue here is bounded. The answerer answers in
the order of the items, whatever finishes first. The main thread sets the step up and does every batch.
"""

from __future__ import annotations

import functools
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any, Generic

from toolkit.core.answers import (
    HANG_UP,
    Answer,
    HandedBack,
    Ready,
    Recall,
    Stopped,
    guarded,
    send_answer,
    set_up,
)
from toolkit.core.batch import BatchStep, ItemT, Outcome, PreparedT, Publishing

_WRITERS = 2
"""Two, so that one computes checksums and copies while the other waits for the disk."""
_PATIENCE_S = 0.05
"""How long a batch that is not full waits for a further item when all that came are prepared."""


@dataclass(slots=True)
class _Slot(Generic[ItemT]):
    """An item, the answer it will get, and what the outcome will say besides: times by name, and warnings."""

    item: ItemT
    answer: Future[Answer] = field(default_factory=Future)
    times_s: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def settle(self, answer: Answer) -> None:
        """Give the answer; an outcome gets the times and warnings added."""
        if isinstance(answer, Outcome):
            figures = {f"{name}_ms": round(1000 * time_s, 3) for name, time_s in self.times_s.items()}
            answer = replace(answer, details={**answer.details, **figures}, warnings=(*answer.warnings, *self.warnings))
        self.answer.set_result(answer)


@dataclass(frozen=True, slots=True)
class _Prepared(Generic[ItemT, PreparedT]):
    slot: _Slot[ItemT]
    value: PreparedT


class Pipeline(Generic[ItemT, PreparedT]):
    """A worker's threads and what goes between them.

    Args:
        connection: the pipe to the driver, which has sent its first message.
        step: what is done to items.
    """

    def __init__(self, connection: Connection, step: BatchStep[ItemT, PreparedT]) -> None:
        self._connection = connection
        self._step = step
        self._ready = threading.Event()
        self._recalled = threading.Event()
        self._received: queue.SimpleQueue[tuple[_Slot[ItemT], Future[PreparedT | Answer]] | None] = queue.SimpleQueue()
        self._unanswered: queue.SimpleQueue[_Slot[ItemT] | None] = queue.SimpleQueue()
        self._unpublished: deque[Future[Answer]] = deque()
        self._error: Exception | None = None
        self._ended = False
        self._preparers = ThreadPoolExecutor(step.threads, "preparer", initializer=self._ready.wait)
        self._writers = ThreadPoolExecutor(_WRITERS, "writer")

    def serve(self, device: str) -> None:
        """Set the step up and do items until the driver hangs up.

        Args:
            device: what the step's ``setup`` gets.

        Raises:
            Exception: the driver sent something that cannot be loaded.
        """
        threading.Thread(target=self._receive, name="receiver", daemon=True).start()
        try:
            answer = set_up(self._step, device)
            self._connection.send(answer)
            if isinstance(answer, Ready):
                self._ready.set()
                self._work()
        finally:
            self._recalled.set()
            self._ready.set()
            self._preparers.shutdown(wait=False, cancel_futures=True)

    def _work(self) -> None:
        answerer = threading.Thread(target=self._answer, name="answerer", daemon=True)
        answerer.start()
        while not self._ended:
            self._do(*self._next_batch())
        self._writers.shutdown()
        self._unanswered.put(None)
        answerer.join()
        if self._error:
            raise self._error

    def _receive(self) -> None:
        try:
            while True:
                message: Any = self._connection.recv()
                if isinstance(message, Recall):
                    self._recalled.set()
                else:
                    self._accept(message)
        except HANG_UP:
            self._recalled.set()
        except Exception as error:  # noqa: BLE001 - the main thread raises it when all before it is done
            self._error = error
        self._received.put(None)

    def _accept(self, item: ItemT) -> None:
        slot = _Slot(item)
        self._unanswered.put(slot)
        self._received.put((slot, self._preparers.submit(self._prepare, slot)))

    def _answer(self) -> None:
        try:
            for slot in iter(self._unanswered.get, None):
                send_answer(self._connection, slot.item, slot.answer.result())
        except HANG_UP:
            return
        except BaseException:  # noqa: BLE001 - without its answerer the process must end, or the driver waits for ever
            os._exit(1)

    def _prepare(self, slot: _Slot[ItemT]) -> PreparedT | Answer:
        if self._recalled.is_set():
            return HandedBack()
        began = time.perf_counter()
        prepared = guarded(slot.item, functools.partial(self._step.prepare, slot.item))
        slot.times_s["prepare"] = time.perf_counter() - began
        return prepared

    def _next_batch(self) -> tuple[list[_Prepared[ItemT, PreparedT]], float]:
        """Return the next items in order, as soon as the batch is full or nothing further is on its way, and the wait.

        Items that need no batch are answered on the way.
        """
        began = time.perf_counter()
        batch: list[_Prepared[ItemT, PreparedT]] = []
        while len(batch) < max(1, self._step.batch_size):
            try:
                received = self._received.get(timeout=_PATIENCE_S if batch else None)
            except queue.Empty:
                break
            if received is None:
                self._ended = True
                break
            slot, preparation = received
            prepared = preparation.result()
            if isinstance(prepared, Answer):
                self._settle(slot, prepared)
            else:
                batch.append(_Prepared(slot, prepared))
        return batch, time.perf_counter() - began

    def _do(self, batch: Sequence[_Prepared[ItemT, PreparedT]], input_wait_s: float) -> None:
        began = time.perf_counter()
        self._wait_for_writers()
        writer_wait_s = time.perf_counter() - began
        for prepared in batch:
            prepared.slot.times_s |= {
                "input_wait": input_wait_s / len(batch),
                "writer_wait": writer_wait_s / len(batch),
            }
        for slot, result in self._results(batch):
            if isinstance(result, Answer):
                self._settle(slot, result)
            else:
                self._unpublished.append(slot.answer)
                self._writers.submit(self._publish, slot, result)

    def _wait_for_writers(self) -> None:
        """Wait until at most one batch of results is held here."""
        while self._unpublished and (len(self._unpublished) > self._step.batch_size or self._unpublished[0].done()):
            self._unpublished.popleft().result()

    def _results(
        self, batch: Sequence[_Prepared[ItemT, PreparedT]]
    ) -> Iterator[tuple[_Slot[ItemT], Publishing | Answer]]:
        """Yield each item of the batch with its result: of all together or, where that fails, one by one."""
        warnings: tuple[str, ...] = ()
        if len(batch) > 1 and not self._recalled.is_set():
            began = time.perf_counter()
            results = self._try([prepared.value for prepared in batch])
            batch_s = (time.perf_counter() - began) / len(batch)
            if not isinstance(results, str):
                for prepared, result in zip(batch, results, strict=True):
                    prepared.slot.times_s["batch"] = batch_s
                    yield prepared.slot, result
                return
            warnings = (results,)
        for prepared in batch:
            prepared.slot.warnings = warnings
            yield prepared.slot, HandedBack() if self._recalled.is_set() else self._do_alone(prepared)

    def _do_alone(self, prepared: _Prepared[ItemT, PreparedT]) -> Publishing | Answer:
        began = time.perf_counter()
        results = guarded(prepared.slot.item, functools.partial(self._process, [prepared.value]))
        prepared.slot.times_s["batch"] = time.perf_counter() - began
        return results if isinstance(results, Answer) else results[0]

    def _try(self, values: Sequence[PreparedT]) -> Sequence[Outcome | Publishing] | str:
        """Return the results or, in words, why there are none.

        The exception itself ends here: its frames hold arrays whose memory the next attempt may need.
        """
        try:
            return self._process(values)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - done alone, the culprit will say what it is
            return f"a batch failed with {type(error).__name__} and was done item by item"

    def _process(self, values: Sequence[PreparedT]) -> Sequence[Outcome | Publishing]:
        results = self._step.process_batch(values)
        if len(results) != len(values):
            raise ValueError(f"process_batch returned {len(results)} results for {len(values)} items")
        return results

    def _publish(self, slot: _Slot[ItemT], publishing: Publishing) -> None:
        try:
            began = time.perf_counter()
            answer = guarded(slot.item, publishing)
            slot.times_s["publish"] = time.perf_counter() - began
            self._settle(slot, answer)
        except BaseException as error:  # noqa: BLE001 - somebody waits for the answer
            slot.answer.set_exception(error)

    def _settle(self, slot: _Slot[ItemT], answer: Answer) -> None:
        if isinstance(answer, Stopped):
            self._recalled.set()
        slot.settle(answer)
