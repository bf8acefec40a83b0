"""The one shape of a batch job: discover, plan, run, publish, report.

A service is an options model, a plan and a step, bound together by a :class:`Job`:

- the **options** are one frozen pydantic model for flags, configuration files and Python callers;
- the **plan** is an iterator that yields, in a deterministic order, each item that needs work and, for each that does
  not, the :class:`Outcome` that says why; it is never held in memory as a whole;
- the **step** does one item and publishes its result atomically, so that doing an item twice equals doing it once.

:class:`JobRun` drives a job through an engine and yields every outcome as it comes; nothing here knows of a terminal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, Self, TypeVar

from toolkit.core.errors import one_line

if TYPE_CHECKING:
    from toolkit.core.options import BatchOptions  # pydantic is not for the workers, which import this module

RUN_STOPPED = "run stopped"
"""The kind of a failure that ended the run: the run's own error says it."""

Status = Literal["done", "skipped", "failed"]
Figure = str | int | float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item; small and picklable.

    Attributes:
        source: the item's path relative to the job's root, POSIX style.
        status: done, skipped (nothing needed doing) or failed.
        reason: why it was skipped or failed, one line; of one that was done, what is worth knowing.
        kind: the category under which a failure is counted, such as ``"mask not found"``.
        details: figures for the log, such as ``{"bytes": 1024}``.
        warnings: remarks that are counted; the same text for the same kind, without the path.
        traceback: of an unexpected exception; empty otherwise.
    """

    source: str
    status: Status
    reason: str = ""
    kind: str = ""
    details: Mapping[str, Figure] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    traceback: str = ""

    @classmethod
    def done(cls, source: str, *, warnings: tuple[str, ...] = (), **details: Figure) -> Self:
        """Return the outcome of an item whose work was done."""
        return cls(source, "done", details=details, warnings=warnings)

    @classmethod
    def skipped(cls, source: str, reason: str) -> Self:
        """Return the outcome of an item that needs no work; ``reason`` is what the report counts."""
        return cls(source, "skipped", reason=reason, kind=reason)

    @classmethod
    def failed(cls, source: str, reason: str, kind: str = "") -> Self:
        """Return the outcome of an item that could not be done."""
        return cls(source, "failed", reason=one_line(reason), kind=kind)


@dataclass(frozen=True, slots=True)
class Gauge:
    """How far a job is, where its items are few and large.

    Attributes:
        done_bytes: read or written so far.
        total_bytes: what there is to do in all.
        files: made so far.
    """

    done_bytes: int
    total_bytes: int
    files: int


Publishing = Callable[[], Outcome]
"""What is left to do of an item when its result is made: to publish it."""


class Item(Protocol):
    """A unit of work: small, picklable, named by its path relative to the job's root."""

    @property
    def source(self) -> str:
        """The item's path relative to the job's root, POSIX style."""


ItemT = TypeVar("ItemT", bound=Item)
PreparedT = TypeVar("PreparedT")

_BATCHES_AHEAD = 3
"""One that is worked on, one that is ready for it, and one that is published."""


class Step(ABC, Generic[ItemT]):
    """What is done to one item. It travels to each worker once, so it holds options, not arrays."""

    def setup(self, device: str) -> None:
        """Prepare this worker, once, before its first item: load a model, set threads.

        Args:
            device: ``"cpu"`` or a CUDA device as torch names it.
        """

    @abstractmethod
    def process_one(self, item: ItemT) -> Outcome | Publishing:
        """Do one item and publish its result atomically.

        Returns:
            the outcome; or, where publishing waits long for the disk, a function that publishes and returns it. That
            one may run in another thread while the next item is begun; it raises as this method does.

        Raises:
            MvtkError: the item's trouble; it fails the item.
            StopRunError: trouble that no further item can escape; it ends the run.
        """


class BatchStep(Step[ItemT], Generic[ItemT, PreparedT]):
    """What is done to several items at once, typically on a GPU that must not wait for the disk or the processor.

    In a worker, threads prepare the next items while one batch is worked on and the results before it are published;
    see :mod:`toolkit.core.pipeline`, which also adds these figures to the details of each item's outcome (wall time):

    - ``prepare_ms`` in :meth:`prepare`; ``publish_ms`` in its publishing function;
    - ``batch_ms``: its part of the time in :meth:`process_batch`;
    - ``input_wait_ms``, ``writer_wait_ms``: its part of the time before, in which the thread that calls
      :meth:`process_batch` waited for prepared items, or for results to be published.

    Summed over a worker's items, the largest of the last three names the resource that was the limit.

    Attributes:
        batch_size: how many items :meth:`process_batch` gets at most. It is known before :meth:`setup`; the step may
            lower it later, for instance when the device's memory does not suffice.
        threads: how many threads prepare items.
    """

    batch_size: int
    threads: int

    @property
    def lookahead(self) -> int:
        """How many items a worker holds at most: this bounds what is prepared, and made but not yet published."""
        return _BATCHES_AHEAD * self.batch_size + self.threads

    @abstractmethod
    def prepare(self, item: ItemT) -> PreparedT | Outcome:
        """Return what :meth:`process_batch` needs of one item, or its outcome where that is known already.

        It is called in several threads at once and has no effect outside: its result may be dropped.

        Raises:
            MvtkError: the item's trouble; it fails the item.
            StopRunError: trouble that no further item can escape; it ends the run.
        """

    @abstractmethod
    def process_batch(self, batch: Sequence[PreparedT]) -> Sequence[Outcome | Publishing]:
        """Do 1 to ``batch_size`` items, always in the thread of :meth:`setup`, in the order of the items.

        Where it raises, each item of the batch is done again in a batch of its own, so that only the culprit fails.

        Returns:
            for each prepared item, in order, what :meth:`process_one` returns; functions that publish run in other
            threads, two at a time.

        Raises:
            MvtkError: the trouble of an item that is alone in its batch; it fails the item.
            StopRunError: trouble that no further item can escape; it ends the run.
        """

    def process_one(self, item: ItemT) -> Outcome | Publishing:
        """Do one item by itself."""
        prepared = self.prepare(item)
        if isinstance(prepared, Outcome):
            return prepared
        [result] = self.process_batch([prepared])
        return result


class Job(ABC, Generic[ItemT]):
    """One batch job, bound to its options."""

    command: ClassVar[str]
    """The command's name in reports, such as ``"dataset verify"``."""
    after_interrupt: ClassVar[str] = "run the command again to go on where it stopped"
    """What a person should know after an interrupt."""

    @property
    @abstractmethod
    def options(self) -> BatchOptions:
        """The options, shared ones included."""

    @abstractmethod
    def plan(self) -> Iterator[ItemT | Outcome]:
        """Yield each item of the shard that needs work, and for each that does not, why."""

    @abstractmethod
    def step(self) -> Step[ItemT]:
        """Return what is done to one item."""

    @property
    def size(self) -> int | None:
        """The number of items and outcomes that :meth:`plan` will yield, where it is known beforehand."""
        return None

    @property
    def devices(self) -> tuple[str, ...]:
        """One entry a worker: the device it is bound to."""
        return ("cpu",) * self.options.workers

    def gauge(self) -> Gauge | None:
        """Return how far the job is by another measure than items done; None for a job that items measure well.

        It is called by the thread that draws progress, at any moment of the run.
        """
        return None

    def claim(self) -> AbstractContextManager[None]:
        """Hold the destination while the job runs and remove what killed runs left there."""
        return nullcontext()

    def watch(self, outcome: Outcome) -> Outcome:
        """See each outcome once, in the driver, before it is counted; return it, or a corrected one."""
        return outcome

    def finish(self, figures: Figures) -> None:
        """Publish what belongs to the job as a whole, after the last item, also when a signal ended the run early."""

    def stats(self, figures: Figures) -> Mapping[str, Any]:
        """Return the command's own figures for the report, JSON types only.

        Lines under the key ``remarks`` are shown below the table.
        """
        del figures
        return {}


@dataclass(slots=True)
class Figures:
    """What a run has counted so far. ``total = done + skipped + failed``, always."""

    done: int = 0
    skipped: int = 0
    failed: int = 0
    bugs: int = 0
    skip_reasons: dict[str, int] = field(default_factory=dict)
    failure_kinds: dict[str, int] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """The number of items examined."""
        return self.done + self.skipped + self.failed

    def add(self, outcome: Outcome) -> None:
        """Count one outcome."""
        if outcome.status == "done":
            self.done += 1
        elif outcome.status == "skipped":
            self.skipped += 1
            _count(self.skip_reasons, outcome.reason)
        else:
            self.failed += 1
            self.bugs += bool(outcome.traceback)
            _count(self.failure_kinds, outcome.kind or "errors")
        for warning in outcome.warnings:
            _count(self.warnings, warning)


def _count(counts: dict[str, int], key: str) -> None:
    counts[key] = counts.get(key, 0) + 1


@dataclass(slots=True)
class Planned(Generic[ItemT]):
    """A job's plan as the engine sees it: cut at ``max_files``, and aware of whether it was read to its end."""

    job: Job[ItemT]
    count: int = 0
    complete: bool = False
    exhausted: bool = False

    def __iter__(self) -> Iterator[ItemT | Outcome]:
        limit, taken = self.job.options.max_files, 0
        for entry in self.job.plan():
            self.count += 1
            yield entry
            taken += not isinstance(entry, Outcome)
            if limit and taken >= limit:
                break
        else:
            self.complete = True
        self.exhausted = True

    @property
    def total(self) -> int | None:
        """The number of entries; None until it is known."""
        if self.exhausted:
            return self.count
        return None if self.job.options.max_files else self.job.size
