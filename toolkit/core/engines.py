"""Where the work is done: one driver loop over a plan, with local worker processes.

Each worker is a fresh Python process, started when there is work for it, that imports what the step needs and nothing
of the caller: no ``__main__`` guard is needed, and torch sees only the device the worker is bound to. A worker that
dies is replaced; the item it died on is done again at the end, alone, and reported as failed if that dies too. Of a
worker that prepares ahead (:class:`toolkit.core.batch.BatchStep`) any item it held may be the one, and all are.
At-least-once execution, a deterministic target and an atomic publish make the effect exactly-once.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Generic

from toolkit.core.answers import HandedBack, Ready, Recall, Start, Stopped, process, set_up
from toolkit.core.batch import BatchStep, ItemT, Outcome, Step
from toolkit.core.errors import BugError, MvtkError
from toolkit.core.signals import StopRequest
from toolkit.core.spawning import Crew, WorkerProcess

MAX_BUGS_IN_A_ROW = 20
_QUEUED_ITEMS = 2
"""Items a worker of a plain step holds: the one under way and the next, so that it never waits for the driver."""
MAX_DEATHS_IN_A_ROW = 20
_MAX_DEATHS_IN_SETUP = 3
_POLL_S = 0.2
"""How soon the loop notices a signal while every worker is busy."""


def run(
    step: Step[ItemT],
    entries: Iterable[ItemT | Outcome],
    *,
    devices: Sequence[str] = (),
    stop: StopRequest | None = None,
    crew: Crew | None = None,
) -> Generator[Outcome]:
    """Do every item of ``entries`` with ``step`` and yield each outcome as it comes.

    Outcomes among the entries (what the plan skipped) are passed on. When ``stop`` is requested, no further item is
    handed out and those that were (two a worker at most) are finished; so too when ``entries`` raises an expected
    error. Workers of a :class:`BatchStep` hold more: they finish the batch under way and hand the others back, which
    get no outcome. Closing the iterator early ends the workers at once.

    Args:
        step: what is done to an item; it must be importable by name.
        entries: the plan; read only as fast as workers take items.
        devices: one worker for each, bound to it; empty: the work is done in this process.
        stop: a request to end, which signal handlers may set.
        crew: workers that were started early.

    Raises:
        MvtkError: ``entries`` raised it, the step cannot be set up, or nothing further can succeed (a full disk, 20
            workers in a row that died).
        BugError: an unexpected exception in the set-up, or in 20 items in a row.
    """
    stop = stop or StopRequest()
    bugs_in_a_row = 0
    with closing(
        _WorkerPool(step, devices, stop, crew or Crew()).outcomes(entries) if devices else _inline(step, entries, stop)
    ) as outcomes:
        for outcome in outcomes:
            yield outcome
            if outcome.traceback:
                bugs_in_a_row += 1
            elif outcome.status != "skipped":
                bugs_in_a_row = 0
            if bugs_in_a_row == MAX_BUGS_IN_A_ROW:
                message = f"{bugs_in_a_row} items in a row failed unexpectedly: {outcome.reason}"
                raise BugError(message, outcome.traceback)


def _inline(step: Step[ItemT], entries: Iterable[ItemT | Outcome], stop: StopRequest) -> Generator[Outcome]:
    answer: Ready | Stopped | None = None
    for entry in entries:
        if isinstance(entry, Outcome):
            yield entry
        else:
            answer = answer or set_up(step, "cpu")
            result = answer if isinstance(answer, Stopped) else process(step, entry)
            if isinstance(result, Stopped):
                if result.outcome:
                    yield result.outcome
                raise result.error
            yield result
        if stop.requested:
            return


class _Worker(Generic[ItemT]):
    """A worker process and the items it holds."""

    def __init__(self, process: WorkerProcess, step: Step[ItemT]) -> None:
        self.process = process
        self.device = process.device
        self.connection: Connection = process.connection
        self.pending: deque[ItemT] = deque()
        self.ready = False
        self._recalled = False
        try:
            with suppress(BrokenPipeError, ConnectionResetError):
                self.connection.send(Start(step, process.own_device))
        except BaseException:
            process.end(at_once=True)
            raise

    def submit(self, item: ItemT) -> None:
        self.pending.append(item)
        # A worker that has just died is noticed when its pipe is read; the item is in `pending` and not lost.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(item)

    def recall(self) -> None:
        """Ask, once, for the items that were not begun."""
        if not self._recalled:
            self._recalled = True
            with suppress(BrokenPipeError, ConnectionResetError):
                self.connection.send(Recall())

    def death(self) -> str:
        """Return how the process ended, in words; one that hung up without ending is ended."""
        code = self.process.end(at_once=False)
        if code == -signal.SIGKILL:
            return "was killed (SIGKILL; often the system's answer to too little memory)"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with status {code}"


class _WorkerPool(Generic[ItemT]):
    """The local workers of one run."""

    def __init__(self, step: Step[ItemT], devices: Sequence[str], stop: StopRequest, crew: Crew) -> None:
        self._step = step
        self._crew = crew
        self._free_devices = deque(devices)
        self._own_machine = len(devices) == 1
        self._batches = isinstance(step, BatchStep)
        self._room, self._share = (
            (step.lookahead, step.batch_size) if isinstance(step, BatchStep) else (_QUEUED_ITEMS, 1)
        )
        self._stop = stop
        self._workers: list[_Worker[ItemT]] = []
        self._returned: deque[ItemT] = deque()
        self._suspects: deque[ItemT] = deque()
        self._retrying = False
        self._deaths_in_setup = 0
        self._deaths_in_a_row = 0
        self._error: MvtkError | BugError | None = None

    def outcomes(self, entries: Iterable[ItemT | Outcome]) -> Generator[Outcome]:
        source = iter(entries)
        planned = ended = False
        try:
            while True:
                planned = (yield from self._feed(source)) or planned
                if self._ending and self._batches:
                    self._recall()
                if not self._busy and (planned or self._ending) and not self._retry_one():
                    break
                yield from self._collect()
            ended = True
            if self._error:
                raise self._error
        finally:
            self._close(at_once=not ended)

    @property
    def _ending(self) -> bool:
        return self._stop.requested or self._error is not None

    @property
    def _busy(self) -> bool:
        return any(worker.pending for worker in self._workers)

    def _feed(self, source: Iterator[ItemT | Outcome]) -> Generator[Outcome, None, bool]:
        """Hand out items while workers have room, passing outcomes on; return whether the plan is exhausted."""
        while not self._ending:
            if self._returned:
                worker = self._worker_with_room()
                if worker is None:
                    return False
                worker.submit(self._returned.popleft())
                continue
            if not self._has_room:
                return False
            try:
                entry = next(source, None)
            except MvtkError as error:
                self._error = error
                return True
            if entry is None:
                return True
            if isinstance(entry, Outcome):
                yield entry
            else:
                self._returned.append(entry)
        return False

    @property
    def _has_room(self) -> bool:
        return bool(self._free_devices) or any(len(worker.pending) < self._room for worker in self._workers)

    def _worker_with_room(self) -> _Worker[ItemT] | None:
        """Return the least loaded worker if it lacks work to begin with; else a new one; else the former, if it may."""
        worker = min(self._workers, key=lambda candidate: len(candidate.pending), default=None)
        if worker is not None and len(worker.pending) < self._share:
            return worker
        if self._free_devices:
            device = self._free_devices.popleft()
            worker = _Worker(self._crew.take(device, own_machine=self._own_machine), self._step)
            self._workers.append(worker)
            return worker
        return worker if worker is not None and len(worker.pending) < self._room else None

    def _recall(self) -> None:
        """Take back what was not begun, from workers that hold many items; those not set up yet have begun nothing."""
        for worker in list(self._workers):
            if worker.ready or worker.connection.poll():  # what is there to read may be its Ready
                worker.recall()
            else:
                self._workers.remove(worker)
                worker.process.end(at_once=True)

    def _retry_one(self) -> bool:
        """Begin the next suspect, alone; return whether there was one."""
        if self._ending or not self._suspects:
            return False
        worker = self._worker_with_room()
        if worker is None:
            return False
        self._retrying = True
        worker.submit(self._suspects.popleft())
        return True

    def _collect(self) -> Iterator[Outcome]:
        by_connection = {worker.connection: worker for worker in self._workers}
        readable = wait(list(by_connection), timeout=_POLL_S)
        if not readable:
            yield from self._bury_silent()
        for connection in readable:
            worker = by_connection[connection]  # type: ignore[index]  # wait() returns what it was given
            try:
                message: Any = worker.connection.recv()
            except (EOFError, OSError):
                yield from self._bury(worker)
                continue
            yield from self._receive(worker, message)

    def _receive(self, worker: _Worker[ItemT], message: Ready | Stopped | Outcome | HandedBack) -> Iterator[Outcome]:
        if isinstance(message, Ready):
            worker.ready = True
            self._deaths_in_setup = 0
            return
        if isinstance(message, Stopped):
            self._error = self._error or message.error
            if message.outcome is None:  # the set-up failed: the worker ends, and its items were never begun
                worker.pending.clear()
                return
            message = message.outcome
        worker.pending.popleft()
        if isinstance(message, HandedBack):
            return
        self._deaths_in_a_row = 0
        yield message

    def _bury_silent(self) -> Iterator[Outcome]:
        """Bury workers that ended while a process they left behind holds their end of the pipe open."""
        for worker in [worker for worker in self._workers if worker.process.process.poll() is not None]:
            yield from self._bury(worker)

    def _bury(self, worker: _Worker[ItemT]) -> Iterator[Outcome]:
        """Replace a dead worker: its queued items go back; what may have killed it is retried once."""
        self._workers.remove(worker)
        self._free_devices.append(worker.device)
        death = worker.death()
        if self._error:
            return
        if not worker.ready:
            self._returned.extendleft(reversed(worker.pending))
            self._deaths_in_setup += 1
            if self._deaths_in_setup == _MAX_DEATHS_IN_SETUP:
                self._error = MvtkError(
                    f"a worker {death} while it started, {_MAX_DEATHS_IN_SETUP} times in a row",
                    "run with --workers 0 to see what happens",
                )
            return
        if worker.pending:
            suspects = [worker.pending.popleft() for _ in range(len(worker.pending) if self._batches else 1)]
            self._returned.extendleft(reversed(worker.pending))
            self._deaths_in_a_row += 1
            if self._deaths_in_a_row == MAX_DEATHS_IN_A_ROW:
                self._error = MvtkError(
                    f"{MAX_DEATHS_IN_A_ROW} workers in a row died; the last one {death}",
                    "run with --workers 0 to see what happens",
                )
            if self._retrying:
                for item in suspects:
                    yield Outcome.failed(item.source, f"the worker {death} while doing it, twice", kind="worker died")
            else:
                self._suspects.extend(suspects)

    def _close(self, *, at_once: bool) -> None:
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.process.end(at_once=at_once)
