"""Run a job from its plan to its report."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import Any, Generic

from toolkit.core import engines
from toolkit.core.batch import Gauge, ItemT, Job, Outcome, Planned
from toolkit.core.errors import BugError
from toolkit.core.report import Report
from toolkit.core.signals import StopRequest
from toolkit.core.spawning import Crew


class JobRun(Generic[ItemT]):
    """One run of a job.

    Attributes:
        report: what the run did so far; complete when the outcomes have ended, however they ended.
    """

    def __init__(self, job: Job[ItemT], stop: StopRequest | None = None, crew: Crew | None = None) -> None:
        self._job = job
        self._crew = crew
        self._stop = stop or StopRequest()
        self._plan = Planned(job)
        self.report = Report(job.command, job.options.model_dump(mode="json"))

    @property
    def total(self) -> int | None:
        """The number of items this run examines; None while the listing goes on."""
        return self._plan.total

    @property
    def after_interrupt(self) -> str:
        """What a person should know after an interrupt."""
        return self._job.after_interrupt

    @property
    def has_gauge(self) -> bool:
        """Whether :meth:`gauge` will tell more than the number of items done."""
        return type(self._job).gauge is not Job.gauge

    def gauge(self) -> Gauge | None:
        """Return how far the job is, measured in bytes; None for a job that items measure well, or before it began."""
        return self._job.gauge()

    def outcomes(self) -> Generator[Outcome]:
        """Do the work (or, for a dry run, plan it) and yield each outcome as it comes.

        Raises:
            MvtkError: the job could not run, or could not go on.
            BugError: an unexpected exception that stopped the run.
        """
        try:
            if self._job.options.dry_run:
                yield from self._dry_run()
            else:
                with self._job.claim():
                    yield from self._work()
                    self._job.finish(self.report.figures)
        except BaseException:
            self._plan.complete = False
            raise
        finally:
            self._close()

    def _work(self) -> Generator[Outcome]:
        # Closed explicitly: a traceback that holds this frame must not keep workers writing after the claim has ended.
        job = self._job
        with closing(
            engines.run(job.step(), self._plan, devices=job.devices, stop=self._stop, crew=self._crew)
        ) as outcomes:
            for outcome in outcomes:
                watched = job.watch(outcome)
                self.report.add(watched)
                yield watched

    def _dry_run(self) -> Generator[Outcome]:
        for entry in self._plan:
            outcome = entry if isinstance(entry, Outcome) else Outcome.done(entry.source, dry_run="would do")
            self.report.add(outcome)
            yield outcome
            if self._stop.requested:
                return

    def _close(self) -> None:
        stats = self._job.stats(self.report.figures)  # may take its time: a signal that comes meanwhile counts
        self.report.interrupted = self.report.interrupted or self._stop.requested
        self.report.stats = {"complete": self._plan.complete and not self.report.interrupted, **stats}
        self.report.close()


def run_to_end(job: Job[Any]) -> Report:
    """Run ``job`` without watching it; return its report.

    Raises:
        MvtkError: the job could not run, or could not go on.
        BugError: an item failed unexpectedly; the rest was done first.
    """
    run = JobRun(job)
    bug: Outcome | None = None
    for outcome in run.outcomes():
        if outcome.traceback:
            bug = bug or outcome
    if bug is not None:
        raise BugError(f"{bug.source}: {bug.reason}", bug.traceback)
    return run.report
