"""What a step that works in batches may rely on: order, bounds, isolation of failures, exactly-once effects, an end."""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.toolkit.core.sample_batches import (
    BATCH_S,
    PREPARE_S,
    PUBLISH_S,
    BadBatchSetUp,
    Batching,
    Padded,
    Shrinking,
)
from tests.toolkit.core.sample_jobs import Named, SampleJob, SampleOptions, Unloadable, items
from toolkit.core import engines
from toolkit.core.batch import Outcome, Step
from toolkit.core.driver import JobRun
from toolkit.core.errors import BugError, MvtkError, StopRunError
from toolkit.core.signals import StopRequest

CPU = ("cpu",)
EVERYTHING = [
    "ok:1",
    "prepare-fail:1",
    "now:1",
    "prepare-skip:1",
    "prepare-bug:1",
    "batch-fail:1",
    "ok:2",
    "batch-bug:1",
    "batch-memory:1",
    "batch-exit:1",
    "batch-short:1",
    "prepare-slow:1",
    "publish-slow:1",
    "publish-fail:1",
    "publish-bug:1",
    "ok:3",
]


def children() -> set[int]:
    """Return the process ids of this process's children."""
    own = os.getpid()
    return {int(pid) for pid in Path(f"/proc/{own}/task/{own}/children").read_text().split()}


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    before = children()
    yield
    gc.collect()
    assert children() <= before


def notes(folder: Path, stage: str) -> list[list[str]]:
    """Return the lines that ``stage`` noted: the thread's name and the items."""
    path = folder / stage
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def sources(folder: Path, stage: str) -> list[str]:
    return [source for line in notes(folder, stage) for source in line[1:]]


def names(kind: str, count: int) -> list[str]:
    return [f"{kind}:{number}" for number in range(count)]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_each_stage_fails_its_own_item_only(tmp_path: Path, workers: int) -> None:
    outcomes = list(engines.run(Batching(tmp_path), items(EVERYTHING), devices=CPU * workers))

    assert Counter(outcome.source for outcome in outcomes) == Counter(EVERYTHING)
    if workers < 2:
        assert [outcome.source for outcome in outcomes] == EVERYTHING
    reasons = {outcome.source: outcome.reason for outcome in outcomes if outcome.status != "done"}
    short = reasons.pop("batch-short:1")
    assert short.startswith("unexpected ValueError: ")
    assert reasons == {
        "prepare-fail:1": "prepare-fail:1: not good; mend it",
        "prepare-skip:1": "not wanted",
        "prepare-bug:1": "unexpected ValueError: bad value in prepare-bug:1",
        "batch-fail:1": "batch-fail:1: not good; mend it",
        "batch-bug:1": "unexpected ValueError: bad value in batch-bug:1",
        "batch-memory:1": "there is not enough memory for it",
        "batch-exit:1": "unexpected SystemExit: batch-exit:1",
        "publish-fail:1": "publish-fail:1: not good; mend it",
        "publish-bug:1": "unexpected ValueError: bad value in publish-bug:1",
    }
    assert sorted(sources(tmp_path, "publish")) == ["ok:1", "ok:2", "ok:3", "prepare-slow:1", "publish-slow:1"]


def test_a_failed_batch_is_done_item_by_item_and_says_so(tmp_path: Path) -> None:
    entries = items(["ok:1", "ok:2", "batch-fail:1", "ok:3"])
    outcomes = list(engines.run(Batching(tmp_path, patience_s=60), entries, devices=CPU))
    remark = "a batch failed with MvtkError and was done item by item"
    assert [(outcome.source, outcome.status, outcome.warnings) for outcome in outcomes] == [
        ("ok:1", "done", (remark,)),
        ("ok:2", "done", (remark,)),
        ("batch-fail:1", "failed", (remark,)),
        ("ok:3", "done", (remark,)),
    ]
    assert sorted(sources(tmp_path, "publish")) == ["ok:1", "ok:2", "ok:3"]


@pytest.mark.parametrize("workers", [1, 2])
def test_thousands_of_items_come_back_once_each_in_order(tmp_path: Path, workers: int) -> None:
    expected = names("now", 2000)
    outcomes = [outcome.source for outcome in engines.run(Batching(tmp_path), items(expected), devices=CPU * workers)]
    assert Counter(outcomes) == Counter(expected)
    if workers == 1:
        assert outcomes == expected


@pytest.mark.parametrize("slow", ["prepare", "batch", "publish"])
def test_whatever_is_slow_batches_are_full_ordered_and_bounded(tmp_path: Path, slow: str) -> None:
    step = Batching(tmp_path, patience_s=60)
    kinds = [f"{slow}-slow" if number % 3 else "ok" for number in range(48)]
    expected = [f"{kind}:{number}" for number, kind in enumerate(kinds)]
    outcomes = list(engines.run(step, items(expected), devices=CPU))

    assert [outcome.source for outcome in outcomes] == expected
    assert sources(tmp_path, "begin") == expected
    assert max(int(outcome.details["held"]) for outcome in outcomes) <= step.lookahead
    assert {outcome.details["batch"] for outcome in outcomes} == {4}


def test_no_more_is_planned_than_a_worker_may_hold(tmp_path: Path) -> None:
    step, planned = Batching(tmp_path), 0

    def plan() -> Iterator[Named]:
        nonlocal planned
        for name in names("ok", 200):
            planned += 1
            yield Named(name)

    for done, _ in enumerate(engines.run(step, plan(), devices=CPU * 2), start=1):
        assert planned - done <= 2 * step.lookahead + 1


def test_results_wait_for_the_writers(tmp_path: Path) -> None:
    """At most one batch is unpublished when the next is begun, though the driver would give more items."""
    list(engines.run(Batching(tmp_path), items(names("publish-slow", 40)), devices=CPU))
    unpublished: set[str] = set()
    for line in (tmp_path / "journal").read_text().splitlines():
        stage, *words = line.split()
        if stage == "begin":
            assert len(unpublished) <= 4
            unpublished.update(words)
        elif stage == "publish":
            unpublished -= set(words)


def test_the_set_up_and_every_batch_run_in_the_main_thread(tmp_path: Path) -> None:
    list(engines.run(Batching(tmp_path, threads=3), items(names("prepare-slow", 30)), devices=CPU))
    assert notes(tmp_path, "setup") == [["MainThread", "cpu"]]
    assert {line[0] for line in notes(tmp_path, "begin")} == {"MainThread"}
    assert {line[0] for line in notes(tmp_path, "prepare")} == {"preparer_0", "preparer_1", "preparer_2"}
    assert {line[0] for line in notes(tmp_path, "publish")} <= {"writer_0", "writer_1"}


def test_a_batch_that_cannot_be_filled_does_not_wait_for_ever(tmp_path: Path) -> None:
    def plan() -> Iterator[Named | Outcome]:
        for name in names("ok", 3):
            yield Named(name)
            while name not in sources(tmp_path, "publish"):
                time.sleep(0.01)
                yield Outcome.skipped("s", "done before")

    outcomes = [outcome for outcome in engines.run(Batching(tmp_path), plan(), devices=CPU) if outcome.source != "s"]
    assert [(outcome.source, outcome.details["batch"]) for outcome in outcomes] == [(f"ok:{n}", 1) for n in range(3)]


def test_nothing_is_started_where_everything_is_skipped(tmp_path: Path) -> None:
    before = children()
    for _ in engines.run(Batching(tmp_path), [Outcome.skipped("s", "x")] * 100, devices=CPU * 2):
        assert children() == before


@pytest.mark.parametrize(("count", "started"), [(4, 1), (5, 2)])
def test_a_worker_has_a_batch_to_do_before_another_is_started(tmp_path: Path, count: int, started: int) -> None:
    list(engines.run(Batching(tmp_path, setup_s=0.3), items(names("ok", count)), devices=CPU * 3))
    assert len(notes(tmp_path, "setup")) == started


def test_a_step_may_lower_its_batch_size(tmp_path: Path) -> None:
    step = Shrinking(tmp_path, patience_s=60)
    outcomes = list(engines.run(step, items(names("ok", 10)), devices=CPU))
    assert [outcome.details["batch"] for outcome in outcomes] == [4] * 4 + [2] * 6


def test_large_items_and_outcomes_never_block_each_other(tmp_path: Path) -> None:
    """Together they are many times what a pipe holds, also while the worker is set up."""
    entries = [Padded(name, b"x" * 300_000) for name in names("publish-huge", 20)]
    outcomes = list(engines.run(Batching(tmp_path, setup_s=0.2), entries, devices=CPU))
    assert [outcome.source for outcome in outcomes] == names("publish-huge", 20)


def test_times_are_told(tmp_path: Path) -> None:
    entries = items(["prepare-slow:1", "batch-slow:1", "publish-slow:1", "ok:1"])
    outcomes = {outcome.source: outcome.details for outcome in engines.run(Batching(tmp_path), entries, devices=CPU)}
    for details in outcomes.values():
        figures = {name: float(value) for name, value in details.items() if name.endswith("_ms")}
        assert set(figures) == {"prepare_ms", "batch_ms", "publish_ms", "input_wait_ms", "writer_wait_ms"}
        assert all(value >= 0 for value in figures.values())
    assert float(outcomes["prepare-slow:1"]["prepare_ms"]) >= 1000 * PREPARE_S
    assert float(outcomes["publish-slow:1"]["publish_ms"]) >= 1000 * PUBLISH_S
    assert sum(float(details["batch_ms"]) for details in outcomes.values()) >= 1000 * BATCH_S


@pytest.mark.parametrize("stage", ["prepare", "batch", "publish"])
def test_an_item_that_kills_its_worker_is_found_and_the_others_are_done(tmp_path: Path, stage: str) -> None:
    deadly = f"{stage}-kill:1"
    expected = [*names("ok", 6), deadly, *(f"ok:{number}" for number in range(6, 30))]
    outcomes = list(engines.run(Batching(tmp_path), items(expected), devices=CPU * 2))

    assert Counter(outcome.source for outcome in outcomes) == Counter(expected)
    failed = [outcome for outcome in outcomes if outcome.status != "done"]
    reason = "the worker was killed (SIGKILL; often the system's answer to too little memory) while doing it, twice"
    assert failed == [Outcome.failed(deadly, reason, kind="worker died")]
    assert set(expected) - set(sources(tmp_path, "publish")) == {deadly}


def test_all_that_a_dead_worker_held_are_suspects_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "MAX_DEATHS_IN_A_ROW", 3)
    expected = [*names("ok", 5), "batch-kill:1"]
    outcomes = list(engines.run(Batching(tmp_path, batch_size=8), items(expected), devices=CPU))
    assert [(outcome.source, outcome.status) for outcome in outcomes] == [
        *((name, "done") for name in names("ok", 5)),
        ("batch-kill:1", "failed"),
    ]


@pytest.mark.parametrize("stage", ["prepare", "batch", "publish"])
def test_an_item_that_killed_its_worker_once_is_done(tmp_path: Path, stage: str) -> None:
    expected = ["ok:1", f"{stage}-killonce:1", "ok:2"]
    outcomes = list(engines.run(Batching(tmp_path), items(expected), devices=CPU))
    assert sorted((outcome.source, outcome.status) for outcome in outcomes) == sorted((s, "done") for s in expected)


def test_twenty_deaths_in_a_row_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "MAX_DEATHS_IN_A_ROW", 3)
    with pytest.raises(MvtkError, match="3 workers in a row died; the last one was killed"):
        list(engines.run(Batching(tmp_path), items(names("prepare-kill", 200)), devices=CPU))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_request_finishes_the_batch_under_way_and_hands_the_rest_back(tmp_path: Path, workers: int) -> None:
    step, stop, outcomes = Batching(tmp_path, threads=40), StopRequest(), []
    for outcome in engines.run(step, items(names("batch-slow", 500)), devices=CPU * workers, stop=stop):
        outcomes.append(outcome)
        stop.signum = 2
    done = sorted(outcome.source for outcome in outcomes)
    assert done == sorted(sources(tmp_path, "begin")) == sorted(sources(tmp_path, "publish"))
    assert len(done) <= workers * step.lookahead / 2


def test_a_stop_request_while_workers_are_set_up_ends_them(tmp_path: Path) -> None:
    stop = StopRequest()

    def plan() -> Iterator[Named]:
        yield from items(names("ok", 5))
        stop.signum = 15
        yield Named("ok:6")

    assert list(engines.run(Batching(tmp_path, setup_s=600), plan(), devices=CPU * 2, stop=stop)) == []
    assert notes(tmp_path, "setup") == []


def test_counts_are_right_after_a_stop(tmp_path: Path) -> None:
    class Job(SampleJob):
        def step(self) -> Step[Named]:
            return Batching(tmp_path)

    stop = StopRequest()
    job = Job(SampleOptions(folder=tmp_path, names=("skip:1", *names("batch-slow", 300)), workers=1))
    run = JobRun(job, stop)
    for outcome in run.outcomes():
        if outcome.status == "done":
            stop.signum = 15
    content = run.report.as_dict()
    done = len(sources(tmp_path, "publish"))
    assert content["counts"] == {"total": done + 1, "done": done, "skipped": 1, "failed": 0}
    assert content["interrupted"]
    assert not content["stats"]["complete"]


@pytest.mark.parametrize("stage", ["prepare", "batch", "publish"])
def test_a_full_disk_stops_the_run_and_keeps_the_results_of_the_others(tmp_path: Path, stage: str) -> None:
    outcomes: list[Outcome] = []
    entries = items([*names("ok", 6), f"{stage}-full:1", *names("batch-slow", 300)])
    with pytest.raises(StopRunError, match=rf"^{stage}-full:1: no space; free some$"):
        outcomes.extend(engines.run(Batching(tmp_path, threads=40), entries, devices=CPU))
    by_source = {outcome.source: outcome for outcome in outcomes}
    assert by_source[f"{stage}-full:1"].kind == "run stopped"
    kept = names("ok", 4 if stage == "prepare" else 6)  # two are prepared, but their batch is not begun
    assert [by_source[name].status for name in kept] == ["done"] * len(kept)
    assert len(outcomes) < 6 + 1 + 24
    done = {source for source, outcome in by_source.items() if outcome.status == "done"}
    assert done == set(sources(tmp_path, "publish"))


def test_a_plan_that_breaks_ends_the_run_and_loses_nothing_that_was_begun(tmp_path: Path) -> None:
    def broken() -> Iterator[Named]:
        yield from items(names("batch-slow", 8))
        while not sources(tmp_path, "publish"):
            time.sleep(0.01)
        raise MvtkError("listing broke")

    outcomes: list[Outcome] = []
    with pytest.raises(MvtkError, match="listing broke"):
        outcomes.extend(engines.run(Batching(tmp_path), broken(), devices=CPU))
    assert sorted(outcome.source for outcome in outcomes) == sorted(sources(tmp_path, "publish"))


def test_closing_early_leaves_no_worker(tmp_path: Path) -> None:
    outcomes = engines.run(
        Batching(tmp_path), items(["now:1", *names("ok", 3), "publish-forever:1", "batch-forever:1"]), devices=CPU * 2
    )
    next(outcomes)
    outcomes.close()
    assert "batch-forever:1" not in sources(tmp_path, "batch")


def test_twenty_bugs_in_a_row_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(BugError, match=r"^20 items in a row failed unexpectedly: unexpected ValueError: bad value in "):
        list(engines.run(Batching(tmp_path), items(names("batch-bug", 100)), devices=CPU))


def test_set_up_errors_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(MvtkError, match=r"^weights\.pt: missing; download it$"):
        list(engines.run(BadBatchSetUp(tmp_path), items(names("ok", 30)), devices=CPU * 2))


@pytest.mark.parametrize(("threads", "entry"), [(2, Unloadable("a")), (0, Named("a"))], ids=["item", "threads"])
def test_what_a_worker_cannot_take_ends_the_run(tmp_path: Path, threads: int, entry: Named) -> None:
    entries: list[Any] = [*items(names("ok", 2)), entry]
    with pytest.raises(BugError, match=r"^a worker cannot take the work: "):
        list(engines.run(Batching(tmp_path, threads=threads), entries, devices=CPU))


def test_an_outcome_that_cannot_travel_is_a_bug_of_its_item(tmp_path: Path) -> None:
    outcomes = list(engines.run(Batching(tmp_path), items(["publish-unpicklable:1", "ok:1"]), devices=CPU))
    assert [outcome.status for outcome in outcomes] == ["failed", "done"]
    assert outcomes[0].reason == "unexpected TypeError: this is not to be pickled"
