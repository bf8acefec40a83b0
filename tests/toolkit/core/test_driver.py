"""From plan to report: what a run counts, passes on, claims and finishes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.toolkit.core.sample_jobs import SampleJob, SampleOptions
from toolkit.core.batch import Figures, Outcome
from toolkit.core.driver import JobRun, run_to_end
from toolkit.core.errors import BugError, MvtkError, StopRunError
from toolkit.core.options import Shard
from toolkit.core.signals import StopRequest


def job_of(folder: Path, *names: str, **options: Any) -> SampleJob:
    return SampleJob(SampleOptions(folder=folder, names=names, **{"workers": 0, **options}))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_counts_watches_and_finishes(tmp_path: Path, workers: int) -> None:
    job = job_of(tmp_path, "ok:1", "skip:1", "fail:1", "ok:2", workers=workers)
    report = run_to_end(job)

    content = report.as_dict()
    assert content["counts"] == {"total": 4, "done": 2, "skipped": 1, "failed": 1}
    assert content["skipped"] == {"already done": 1}
    assert content["failed"] == [{"source": "fail:1", "reason": "fail:1: not good; mend it"}]
    assert content["stats"] == {"warnings": {}, "complete": True}
    assert not content["interrupted"]
    assert sorted(outcome.source for outcome in job.watched) == ["fail:1", "ok:1", "ok:2", "skip:1"]
    assert job.finished_with is report.figures


def test_what_watch_returns_is_what_counts(tmp_path: Path) -> None:
    class Strict(SampleJob):
        def watch(self, outcome: Outcome) -> Outcome:
            return Outcome.failed(outcome.source, "taken twice") if outcome.status == "done" else outcome

    report = run_to_end(Strict(SampleOptions(folder=tmp_path, names=("ok:1",), workers=0)))
    assert report.failed == [{"source": "ok:1", "reason": "taken twice"}]


def test_a_dry_run_plans_and_touches_nothing(tmp_path: Path) -> None:
    class Untouchable(SampleJob):
        def claim(self) -> AbstractContextManager[None]:
            raise AssertionError("a dry run claims nothing")

    job = Untouchable(SampleOptions(folder=tmp_path, names=("ok:1", "skip:1", "kill:1"), dry_run=True))
    outcomes = list(JobRun(job).outcomes())
    assert [(outcome.source, outcome.status) for outcome in outcomes] == [
        ("ok:1", "done"),
        ("skip:1", "skipped"),
        ("kill:1", "done"),
    ]
    assert outcomes[0].details == {"dry_run": "would do"}
    assert not job.finished_with
    assert not list(tmp_path.iterdir())


def test_max_files_makes_the_run_incomplete(tmp_path: Path) -> None:
    report = run_to_end(job_of(tmp_path, "skip:1", "ok:1", "ok:2", max_files=1))
    assert report.figures.total == 2
    assert report.stats["complete"] is False


def test_shards_do_everything_once(tmp_path: Path) -> None:
    names = [f"ok:{number}" for number in range(30)]
    jobs = [job_of(tmp_path, *names, shard=Shard(index, 3)) for index in range(3)]
    done = [outcome.source for job in jobs for outcome in JobRun(job).outcomes()]
    assert sorted(done) == sorted(names)
    assert all(job.watched for job in jobs)


def test_a_stop_request_is_an_interrupted_run_that_is_finished(tmp_path: Path) -> None:
    stop = StopRequest()
    job = job_of(tmp_path, "ok:1", "ok:2")
    run = JobRun(job, stop)
    for _ in run.outcomes():
        stop.signum = 2
    assert run.report.interrupted
    assert run.report.stats["complete"] is False
    assert job.finished_with is not None
    assert run.report.figures.total == 1


def test_a_dry_run_hears_a_stop_request(tmp_path: Path) -> None:
    stop = StopRequest(15)
    run = JobRun(job_of(tmp_path, "ok:1", "ok:2", dry_run=True), stop)
    assert len(list(run.outcomes())) == 1
    assert run.report.interrupted


@pytest.mark.parametrize(
    ("names", "error"),
    [
        (["ok:1", "full:1", "ok:2"], StopRunError),
        (["ok:1", "plan-error"], MvtkError),
        (["ok:1", "plan-bug"], ZeroDivisionError),
        (["ok:1", *["bug:1"] * 20], BugError),
    ],
)
def test_a_run_that_ends_early_reports_what_it_did(tmp_path: Path, names: list[str], error: type[Exception]) -> None:
    job = job_of(tmp_path, *names)
    run = JobRun(job)
    with pytest.raises(error):
        list(run.outcomes())
    assert run.report.figures.done == 1
    assert run.report.stats["complete"] is False
    assert not run.report.interrupted
    assert run.report.elapsed_s > 0
    assert job.finished_with is None


def test_a_run_whose_end_fails_is_not_complete(tmp_path: Path) -> None:
    class Unfinished(SampleJob):
        def finish(self, figures: Figures) -> None:
            raise MvtkError(f"data.yaml: cannot write after {figures.total}")

    run = JobRun(Unfinished(SampleOptions(folder=tmp_path, names=("ok:1",), workers=0)))
    with pytest.raises(MvtkError, match=r"data\.yaml"):
        list(run.outcomes())
    assert run.report.stats["complete"] is False


def test_the_claim_is_held_until_the_last_worker_is_gone(tmp_path: Path) -> None:
    own = os.getpid()
    children_at_release: list[str] = []

    class Claiming(SampleJob):
        @contextmanager
        def _hold(self) -> Iterator[None]:
            try:
                yield
            finally:
                children_at_release.append(Path(f"/proc/{own}/task/{own}/children").read_text())

        def claim(self) -> AbstractContextManager[None]:
            return self._hold()

        def watch(self, outcome: Outcome) -> Outcome:
            raise ArithmeticError(f"watch has a bug: {outcome.source}")

    before = Path(f"/proc/{own}/task/{own}/children").read_text()
    job = Claiming(SampleOptions(folder=tmp_path, names=("ok:1", "forever:1"), workers=2))
    with pytest.raises(ArithmeticError):
        list(JobRun(job).outcomes())
    assert children_at_release == [before]


def test_statistics_of_the_command_reach_the_report(tmp_path: Path) -> None:
    class Counting(SampleJob):
        def stats(self, figures: Figures) -> dict[str, Any]:
            return {"processed": figures.done}

    report = run_to_end(Counting(SampleOptions(folder=tmp_path, names=("ok:1",), workers=0)))
    assert json.loads(report.as_json())["stats"] == {"warnings": {}, "complete": True, "processed": 1}


def test_run_to_end_raises_the_first_bug_after_the_rest_is_done(tmp_path: Path) -> None:
    job = job_of(tmp_path, "bug:1", "bug:2", "ok:1")
    with pytest.raises(BugError, match=r"^bug:1: unexpected ValueError: bad \\x1b value in$") as caught:
        run_to_end(job)
    assert "ValueError" in caught.value.traceback
    assert job.finished_with is not None
    assert job.finished_with.done == 1
