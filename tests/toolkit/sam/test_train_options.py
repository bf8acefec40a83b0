"""Options of a training run, its learning rate, and what a resumed run may change."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from toolkit.core.config import load_config
from toolkit.core.errors import OptionError
from toolkit.sam.schedule import Schedule
from toolkit.sam.train_options import TrainOptions, require_same_training


def _options(**values: Any) -> TrainOptions:
    return TrainOptions(data=Path("data"), output=Path("run"), **values)


def test_the_written_configuration_makes_the_same_options(tmp_path: Path) -> None:
    options = _options(augment=("colour", "boxes"), learning_rate=3e-4, cache_dir=Path("cache"), device="cpu")
    path = tmp_path / "config.yaml"
    path.write_text(options.as_yaml())
    assert TrainOptions.model_validate(load_config(path, TrainOptions.model_fields)) == options


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, True),
        ({"augment": ("boxes",), "cache_variants": "dihedral"}, True),
        ({"augment": ("colour",)}, False),
        ({"augment": ("boxes", "crop")}, False),
        ({"cache": False}, False),
    ],
)
def test_the_cache_is_used_where_no_augmentation_changes_the_image(values: dict[str, Any], expected: bool) -> None:
    assert _options(**values).uses_cache is expected


@pytest.mark.parametrize("values", [{"epochs": 0}, {"learning_rate": 0}, {"augment": ("blur",)}, {"learning_rat": 1}])
def test_wrong_values_and_unknown_names_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(values))):
        _options(**values)


def test_a_resumed_run_may_change_its_length_but_not_what_it_learns() -> None:
    stored = _options().model_dump(mode="json")
    require_same_training(_options(epochs=99, device="cpu", threads=7, resume=True), stored)
    with pytest.raises(OptionError, match=r"batch_size 4 is now 2, learning_rate 1e-05 is now 0\.001"):
        require_same_training(_options(learning_rate=1e-3, batch_size=2), stored)


@given(st.integers(1, 400), st.floats(0, 0.9), st.floats(0, 1))
def test_the_learning_rate_rises_to_its_peak_and_falls_to_its_end(total: int, warmup: float, final: float) -> None:
    schedule = Schedule.of_run(2.0, total, warmup, final)
    rates = [schedule.learning_rate(step) for step in range(total)]
    peak = max(schedule.warmup_steps - 1, 0)
    assert rates[peak] == pytest.approx(2.0)
    assert all(before <= after for before, after in itertools.pairwise(rates[: peak + 1]))
    assert all(before >= after - 1e-12 for before, after in itertools.pairwise(rates[peak:]))
    assert schedule.learning_rate(total + 5) == pytest.approx(2.0 * final)


def test_the_cosine_is_halfway_down_in_its_middle() -> None:
    assert Schedule(1.0, 10, 30, 0.0).learning_rate(20) == pytest.approx(0.5)
