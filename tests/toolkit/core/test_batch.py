"""The batch shape: counts, shards, and a plan cut at --max-files."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.toolkit.core.sample_jobs import SampleJob, SampleOptions
from toolkit.core.batch import Figures, Outcome, Planned
from toolkit.core.errors import OptionError
from toolkit.core.options import ALL, BatchOptions, Shard

OUTCOMES = st.one_of(
    st.builds(Outcome.done, st.text(), warnings=st.lists(st.sampled_from(["w", "v"])).map(tuple)),
    st.builds(Outcome.skipped, st.text(), st.sampled_from(["done before", "not asked for"])),
    st.builds(Outcome.failed, st.text(), st.text(), st.sampled_from(["", "mask not found"])),
    st.builds(Outcome, st.text(), st.just("failed"), traceback=st.just("Traceback ...")),
)
FILE_NAMES = st.binary(min_size=1, max_size=40).map(lambda name: name.decode("utf-8", "surrogateescape"))


@given(st.lists(OUTCOMES))
def test_counts_add_up(outcomes: list[Outcome]) -> None:
    figures = Figures()
    for number, outcome in enumerate(outcomes, start=1):
        figures.add(outcome)
        assert figures.total == number == figures.done + figures.skipped + figures.failed
    assert sum(figures.skip_reasons.values()) == figures.skipped
    assert sum(figures.failure_kinds.values()) == figures.failed
    assert sum(figures.warnings.values()) == sum(len(outcome.warnings) for outcome in outcomes)
    assert figures.bugs == sum(bool(outcome.traceback) for outcome in outcomes)


def test_outcomes_travel_and_failed_reasons_are_one_line() -> None:
    outcome = Outcome.failed("a\nb", "line\nbreak \x1b[31m", kind="k")
    assert outcome.reason == r"line\nbreak \x1b[31m"
    assert pickle.loads(pickle.dumps(outcome)) == outcome


@given(FILE_NAMES, st.integers(1, 50))
def test_every_item_is_in_exactly_one_shard(source: str, count: int) -> None:
    assert sum(Shard(index, count).holds(source) for index in range(count)) == 1
    assert ALL.holds(source)


@pytest.mark.parametrize(
    ("source", "digest"),
    # what `printf %s NAME | b2sum -l 64` prints
    [("a", 0x40F89E395B66422F), ("images/train/0001.npz", 0xF7537450A828228D), ("ü", 0x55F19DF5C1392F37)],
)
@pytest.mark.parametrize("count", [1, 7, 8, 1000])
def test_shards_are_the_blake2b_of_the_path(source: str, digest: int, count: int) -> None:
    assert Shard(digest % count, count).holds(source)


@given(st.integers(0, 1000), st.integers(1, 1000))
def test_shards_are_read_as_they_are_written(index: int, count: int) -> None:
    shard = Shard(index % count, count)
    assert Shard.parse(str(shard)) == shard


@pytest.mark.parametrize(
    "text", ["", "1", "/", "1/", "/2", "2/2", "-1/2", "0/0", "1/2/3", "a/b", "1 / 2", "0.5/2", "+0/2"]
)
def test_what_is_no_shard_is_an_option_error(text: str) -> None:
    with pytest.raises(OptionError, match=r"^shard '.*'; give it as I/N with 0 <= I < N, such as 0/8$"):
        Shard.parse(text)
    with pytest.raises(ValidationError, match="give it as I/N"):
        BatchOptions.model_validate({"shard": text})


def test_options_survive_their_own_dump(tmp_path: Path) -> None:
    options = SampleOptions(folder=tmp_path, shard=Shard(1, 3), workers=2)
    assert options.model_dump(mode="json")["shard"] == "1/3"
    assert SampleOptions.model_validate(options.model_dump(mode="json")) == options


@pytest.mark.parametrize("values", [{"workers": -1}, {"max_files": -1}, {"unknown": 1}])
def test_bad_options_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        BatchOptions.model_validate(values)


@given(st.lists(st.sampled_from(["ok:1", "skip:1"]), max_size=12), st.integers(0, 6))
def test_a_plan_is_cut_after_so_many_items_that_need_work(names: list[str], limit: int) -> None:
    job = SampleJob(SampleOptions(folder=Path(), names=tuple(names), max_files=limit, workers=1))
    planned = Planned(job)
    assert planned.total is None
    entries = list(planned)
    to_do = sum(not isinstance(entry, Outcome) for entry in entries)

    assert to_do == (min(limit, names.count("ok:1")) if limit else names.count("ok:1"))
    assert len(entries) == planned.count == planned.total
    if planned.complete:
        assert len(entries) == len(names)
    if limit and to_do == limit:
        assert not planned.complete
        assert not isinstance(entries[-1], Outcome)


class _Sized(SampleJob):
    size = 7


@pytest.mark.parametrize(("limit", "total"), [(0, 7), (3, None)])
def test_the_total_is_known_beforehand_only_without_a_limit(limit: int, total: int | None) -> None:
    planned = Planned(_Sized(SampleOptions(folder=Path(), max_files=limit)))
    assert planned.total == total


def test_a_plan_that_raises_is_not_complete() -> None:
    planned = Planned(SampleJob(SampleOptions(folder=Path(), names=("ok:1", "plan-bug"))))

    def read() -> Iterator[object]:
        yield from planned

    with pytest.raises(ZeroDivisionError):
        list(read())
    assert not planned.complete
    assert planned.total is None
