"""What the local engine promises: the same outcomes with any number of workers, and survival of dying ones."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.toolkit.core.sample_jobs import (
    Acting,
    BadSetUp,
    Describing,
    HoldsALock,
    Idle,
    Named,
    Publishing,
    Unloadable,
    items,
)
from toolkit.core import engines, spawning
from toolkit.core.batch import Outcome, Step
from toolkit.core.errors import BugError, MvtkError, StopRunError
from toolkit.core.signals import StopRequest

CPU = ("cpu",)


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


def by_source(outcomes: Iterator[Outcome]) -> dict[str, Outcome]:
    return {outcome.source: outcome for outcome in outcomes}


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_any_number_of_workers_gives_the_same_outcomes(tmp_path: Path, workers: int) -> None:
    entries = [*items(["fail:1", "ok:1", "huge:1"]), Outcome.skipped("s", "done before"), *items(["ok:2", "ok:3"])]
    outcomes = list(engines.run(Acting(tmp_path), entries, devices=CPU * workers))

    assert sorted((outcome.source, outcome.status, outcome.reason) for outcome in outcomes) == [
        ("fail:1", "failed", "fail:1: not good; mend it"),
        ("huge:1", "done", ""),
        ("ok:1", "done", ""),
        ("ok:2", "done", ""),
        ("ok:3", "done", ""),
        ("s", "skipped", "done before"),
    ]


def test_one_item_starts_one_process_and_skipped_ones_none() -> None:
    before = children()
    for outcome in engines.run(Idle(), [Outcome.skipped("a", "x"), *items("b")], devices=CPU * 8):
        assert len(children() - before) == (0 if outcome.source == "a" else 1)


def test_thousands_of_items_come_back_once_each() -> None:
    names = [str(number) for number in range(3000)]
    outcomes = engines.run(Idle(), items(names), devices=CPU * 2)
    assert Counter(outcome.source for outcome in outcomes) == Counter(names)


@pytest.mark.parametrize(
    ("action", "how"),
    [
        ("kill", "was killed (SIGKILL; often the system's answer to too little memory)"),
        ("segfault", "was killed by SIGSEGV"),
        ("exit", "ended with status 7"),
    ],
)
def test_an_item_that_kills_its_worker_is_retried_alone_and_fails_without_harm_to_others(
    tmp_path: Path, action: str, how: str
) -> None:
    deadly = f"{action}:x"
    outcomes = list(engines.run(Acting(tmp_path), items(["ok:1", deadly, "ok:2", "ok:3"]), devices=CPU * 2))

    assert Counter(outcome.source for outcome in outcomes) == Counter(["ok:1", "ok:2", "ok:3", deadly])
    assert outcomes[-1] == Outcome.failed(deadly, f"the worker {how} while doing it, twice", kind="worker died")
    assert len((tmp_path / f"{deadly}.began").read_text().split()) == 2


def test_an_item_that_killed_its_worker_once_is_done(tmp_path: Path) -> None:
    outcomes = list(engines.run(Acting(tmp_path), items(["kill-once:1", "ok:1"]), devices=CPU))
    assert [(outcome.source, outcome.status) for outcome in outcomes] == [("ok:1", "done"), ("kill-once:1", "done")]


def test_a_dead_worker_is_noticed_though_its_child_holds_the_pipe(tmp_path: Path) -> None:
    outcomes = list(engines.run(Acting(tmp_path), items(["ok:1", "orphan:1"]), devices=CPU))
    assert [(outcome.source, outcome.status) for outcome in outcomes] == [("ok:1", "done"), ("orphan:1", "failed")]


def test_deaths_in_set_up_end_the_run() -> None:
    with pytest.raises(MvtkError, match=r"^a worker was killed .* while it started, 3 times in a row; run with --work"):
        list(engines.run(BadSetUp("die"), items("abc"), devices=CPU * 2))


def test_one_death_in_set_up_loses_nothing(tmp_path: Path) -> None:
    outcomes = by_source(engines.run(BadSetUp("die-once", tmp_path), items("abc"), devices=CPU))
    assert {source: outcome.status for source, outcome in outcomes.items()} == dict.fromkeys("abc", "done")


@pytest.mark.parametrize("workers", [0, 2])
def test_set_up_errors_end_the_run(workers: int) -> None:
    with pytest.raises(MvtkError, match=r"^weights\.pt: missing; download it$"):
        list(engines.run(BadSetUp("expected"), items("abc"), devices=CPU * workers))
    with pytest.raises(BugError, match=r"^setting up the work failed: KeyError: 'surprise'$") as caught:
        list(engines.run(BadSetUp("bug"), items("abc"), devices=CPU * workers))
    assert 'raise KeyError("surprise")' in caught.value.traceback


def test_a_worker_that_cannot_end_by_itself_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawning, "_CLOSE_TIMEOUT_S", 0.1)
    with pytest.raises(MvtkError, match="weights"):
        list(engines.run(BadSetUp("hang"), items("abc"), devices=CPU))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk_stops_the_run_and_keeps_the_results_of_the_others(tmp_path: Path, workers: int) -> None:
    outcomes: list[Outcome] = []
    with pytest.raises(StopRunError, match=r"^full:1: no space; free some$"):
        outcomes.extend(engines.run(Acting(tmp_path), items(["ok:1", *["full:1"] * 50]), devices=CPU * workers))

    assert 2 <= len(outcomes) <= 2 + 2 * workers
    assert by_source(iter(outcomes))["ok:1"].status == "done"
    assert by_source(iter(outcomes))["full:1"].kind == "run stopped"


@pytest.mark.parametrize("workers", [0, 1])
def test_twenty_bugs_in_a_row_stop_the_run(tmp_path: Path, workers: int) -> None:
    entries = [*items(["bug:1"] * 10), *[Outcome.skipped("s", "done before")] * 5, *items(["bug:2"] * 15)]
    outcomes: list[Outcome] = []
    with pytest.raises(BugError, match=r"^20 items in a row failed unexpectedly: unexpected ValueError: bad "):
        outcomes.extend(engines.run(Acting(tmp_path), entries, devices=CPU * workers))
    assert sum(outcome.status == "failed" for outcome in outcomes) == 20
    assert "process_one" in outcomes[0].traceback


def test_nineteen_bugs_and_a_success_do_not_stop_the_run(tmp_path: Path) -> None:
    names = (["bug:1"] * 19 + ["ok:1"]) * 2
    assert len(list(engines.run(Acting(tmp_path), items(names)))) == 40


def test_an_outcome_that_cannot_travel_is_a_bug_of_its_item(tmp_path: Path) -> None:
    outcomes = by_source(engines.run(Acting(tmp_path), items(["unpicklable:1", "ok:1"]), devices=CPU))
    assert outcomes["ok:1"].status == "done"
    assert outcomes["unpicklable:1"].reason == "unexpected TypeError: this is not to be pickled"
    assert outcomes["unpicklable:1"].traceback


def test_a_step_that_cannot_travel_ends_the_run() -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        list(engines.run(HoldsALock(), items("ab"), devices=CPU))


@pytest.mark.parametrize(
    ("step", "entry"),
    [(Idle(), Unloadable("a")), (Idle, Named("a"))],
    ids=["item", "step"],
)
def test_what_a_worker_cannot_load_ends_the_run(step: Step[Named], entry: Named) -> None:
    with pytest.raises(BugError, match=r"^(a worker cannot take the work|setting up the work failed): "):
        list(engines.run(step, [entry], devices=CPU))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("error", [MvtkError("listing broke"), ZeroDivisionError("oh")], ids=["expected", "bug"])
def test_a_plan_that_breaks_ends_the_run(tmp_path: Path, workers: int, error: Exception) -> None:
    def broken() -> Iterator[Named]:
        yield Named("sleep:1")
        yield Named("ok:1")
        raise error

    outcomes: list[Outcome] = []
    with pytest.raises(type(error), match=str(error)):
        outcomes.extend(engines.run(Acting(tmp_path), broken(), devices=CPU * workers))
    if isinstance(error, MvtkError):
        assert {outcome.source for outcome in outcomes} == {"sleep:1", "ok:1"}


@pytest.mark.parametrize("later", [0, 10], ids=["plan read to its end", "plan under way"])
def test_closing_early_kills_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: int) -> None:
    ended: list[bool] = []

    def end(worker: spawning.WorkerProcess, *, at_once: bool) -> int:
        ended.append(at_once)
        return really_end(worker, at_once=at_once)

    really_end = spawning.WorkerProcess.end
    monkeypatch.setattr(spawning.WorkerProcess, "end", end)
    entries = items(["ok:1", "forever:1", "forever:2", *["ok:2"] * later])
    outcomes = engines.run(Acting(tmp_path), entries, devices=CPU * 2)
    next(outcomes)
    outcomes.close()
    assert ended == [True, True]
    assert not list(tmp_path.glob("forever*.done"))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stop_request_finishes_what_was_handed_out(tmp_path: Path, workers: int) -> None:
    stop, outcomes = StopRequest(), []
    for outcome in engines.run(
        Acting(tmp_path), (Named(f"ok:{number}") for number in range(1000)), devices=CPU * workers, stop=stop
    ):
        outcomes.append(outcome)
        stop.signum = 2
    assert 1 <= len(outcomes) <= 1 + 2 * workers
    assert {outcome.source for outcome in outcomes} == {path.stem for path in tmp_path.glob("*.began")}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stop_request_is_heard_while_everything_is_skipped(workers: int) -> None:
    stop, count = StopRequest(), 0
    for _ in engines.run(Idle(), (Outcome.skipped("s", "x") for _ in range(1000)), devices=CPU * workers, stop=stop):
        count += 1
        stop.signum = 15
    assert count == 1


def test_the_plan_is_read_only_as_fast_as_it_is_worked_off() -> None:
    planned = 0

    def plan() -> Iterator[Named]:
        nonlocal planned
        for number in range(300):
            planned += 1
            yield Named(str(number))

    for done, _ in enumerate(engines.run(Idle(), plan(), devices=CPU * 2), start=1):
        assert planned - done <= 2 * 2 + 1


def test_workers_share_the_cpus_and_see_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    step = Describing(("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"))
    shared = next(engines.run(step, items("a"), devices=CPU * 2)).details
    alone = next(engines.run(step, items("a"), devices=CPU)).details
    assert (shared["OMP_NUM_THREADS"], alone["OMP_NUM_THREADS"]) == ("1", "-")
    assert shared["CUDA_VISIBLE_DEVICES"] == alone["CUDA_VISIBLE_DEVICES"] == ""
    assert shared["pid"] != os.getpid()


def test_what_workers_print_never_reaches_standard_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    list(engines.run(Acting(tmp_path), items(["print:1"]), devices=CPU))
    assert capfd.readouterr() == ("", "native noise\n")


def test_a_worker_that_cannot_be_started_is_an_expected_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    for name in ("subprocess.Popen", "Pipe"):
        with monkeypatch.context() as patch:
            patch.setattr(f"toolkit.core.spawning.{name}", refuse)
            with pytest.raises(MvtkError, match="cannot start a worker process: Resource"):
                list(engines.run(Idle(), items("a"), devices=CPU))


def test_memory_stays_flat_over_many_skipped_entries() -> None:
    import tracemalloc

    def measure(count: int) -> int:
        entries = (Outcome.skipped(str(number), "done before") for number in range(count))
        tracemalloc.start()
        for _ in engines.run(Idle(), entries, devices=CPU):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    measure(10)
    assert measure(20_000) < 2 * measure(100) + 10_000


def test_twenty_deaths_in_a_row_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "MAX_DEATHS_IN_A_ROW", 3)
    deadly = items(f"kill:{index}" for index in range(50))
    with pytest.raises(MvtkError, match="3 workers in a row died; the last one was killed"):
        list(engines.run(Acting(tmp_path), deadly, devices=CPU))


def test_an_early_crew_does_the_work_and_what_is_not_needed_ends(tmp_path: Path) -> None:
    with spawning.early_crew(2, "toolkit.npz.reading") as crew:
        first, second = list(crew._waiting)
        outcomes = list(engines.run(Acting(tmp_path), items(["ok:1"]), devices=CPU * 2, crew=crew))
        assert [outcome.status for outcome in outcomes] == ["done"]
        assert first.process.returncode == 0
        assert second.process.poll() is None
    assert second.process.returncode is not None


def test_a_preload_that_fails_is_left_to_the_work(tmp_path: Path) -> None:
    with spawning.early_crew(1, "no.such.module") as crew:
        assert len(list(engines.run(Acting(tmp_path), items(["ok:1"]), devices=CPU, crew=crew))) == 1


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_what_is_published_later_is_answered_for_like_anything_else(tmp_path: Path, workers: int) -> None:
    names = ["ok:1", "now:1", "fail:1", "bug:1", "now:2", "ok:2", "ok:3"]
    outcomes = list(engines.run(Publishing(tmp_path), items(names), devices=CPU * workers))
    assert sorted(outcome.source for outcome in outcomes) == sorted(names)
    if workers < 2:
        assert [outcome.source for outcome in outcomes] == names
    statuses = {outcome.source: outcome.status for outcome in outcomes}
    assert statuses == {name: "failed" if name[0] in "fb" else "done" for name in names}
    assert [outcome.source for outcome in outcomes if outcome.traceback] == ["bug:1"]
    ends = (tmp_path / "ends").read_text()
    assert sorted(line.split()[0] for line in ends.splitlines()) == ["ok:1", "ok:2", "ok:3"]
    assert ("publisher" in ends) == bool(workers)


def test_publishing_that_finds_the_disk_full_stops_the_run(tmp_path: Path) -> None:
    outcomes: list[Outcome] = []
    run = engines.run(Publishing(tmp_path), items(["ok:1", "full:1", *["ok:2"] * 50]), devices=CPU)
    with pytest.raises(StopRunError):
        outcomes.extend(run)
    assert [outcome.status for outcome in outcomes[:2]] == ["done", "failed"]
    assert len(outcomes) < 6
