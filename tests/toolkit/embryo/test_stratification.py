"""Sharing videos out: a partition of the sizes asked for, the same every time, with every phase in every set."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.core.errors import OptionError
from toolkit.embryo.phases import PHASES, Phase
from toolkit.embryo.stratification import set_sizes, shuffle_key, split_videos

WEIGHTS = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=3)
VIDEOS = st.dictionaries(st.text(min_size=1, max_size=8), st.frozensets(st.sampled_from(PHASES)), max_size=40)


def made_up(count: int, seed: int) -> dict[str, frozenset[Phase]]:
    """Videos that go from an early phase to a late one, as the published ones do, and miss one in twenty between."""
    dice = random.Random(seed)
    videos = {}
    for number in range(count):
        first = dice.choices(range(4), [0.6, 0.3, 0.05, 0.05])[0]
        last = dice.choices(range(7, 16), [1, 1, 2, 3, 2, 2, 3, 4, 1])[0]
        videos[f"AA{number}-1"] = frozenset(phase for phase in PHASES[first : last + 1] if dice.random() < 0.95)
    return videos


@given(videos=VIDEOS, weights=WEIGHTS, seed=st.integers())
@settings(deadline=None)
def test_each_video_is_in_one_set_of_the_size_asked_for(
    videos: Mapping[str, Collection[Phase]], weights: list[float], seed: int
) -> None:
    sets = split_videos(videos, weights, seed)
    assert list(sets) == (["train", "test"] if len(weights) == 2 else ["train", "eval", "test"])
    assert sorted(name for names in sets.values() for name in names) == sorted(videos)
    assert all(names == sorted(names) for names in sets.values())
    assert [len(names) for names in sets.values()] == set_sizes(len(videos), weights)


@given(count=st.integers(0, 10_000), weights=WEIGHTS)
def test_sizes_are_the_shares_and_no_set_is_empty(count: int, weights: list[float]) -> None:
    sizes = set_sizes(count, weights)
    assert sum(sizes) == count
    assert all(sizes) or count < len(weights)
    targets = [weight / math.fsum(weights) * count for weight in weights]
    if min(targets) >= 1:
        assert all(abs(size - target) < 1 + 1e-6 for size, target in zip(sizes, targets, strict=True))


@given(videos=VIDEOS, seed=st.integers(0, 9), dice=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_listing_does_not_matter(
    videos: dict[str, frozenset[Phase]], seed: int, dice: random.Random
) -> None:
    shuffled = list(videos.items())
    dice.shuffle(shuffled)
    assert split_videos(dict(shuffled), (3, 1, 1), seed) == split_videos(videos, (3, 1, 1), seed)


@given(
    phase=st.sampled_from(PHASES),
    having=st.integers(1, 15),
    lacking=st.integers(15, 40),
    weights=st.lists(st.floats(0.2, 0.6), min_size=2, max_size=3),
)
@settings(deadline=None)
def test_the_rarest_phase_is_less_than_a_video_off_its_share(
    phase: Phase, having: int, lacking: int, weights: list[float]
) -> None:
    videos = {f"V{number}": [Phase.T2, phase] if number < having else [Phase.T2] for number in range(having + lacking)}
    for weight, names in zip(weights, split_videos(videos, weights).values(), strict=True):
        reached = sum(phase in videos[name] for name in names)
        if phase is not Phase.T2:
            assert abs(reached - weight / sum(weights) * having) < 1 + 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_every_phase_is_less_than_a_video_off_its_share(seed: int) -> None:
    videos = made_up(704, seed)
    for share, names in zip((0.6, 0.2, 0.2), split_videos(videos, (0.6, 0.2, 0.2), seed).values(), strict=True):
        for phase in PHASES:
            having = sum(phase in phases for phases in videos.values())
            reached = sum(phase in videos[name] for name in names)
            assert abs(reached - share * having) < 1, phase


def test_videos_without_phases_are_shared_out_by_weight() -> None:
    videos: dict[str, list[Phase]] = {f"V{number}": [] for number in range(100)}
    assert [len(names) for names in split_videos(videos, (0.6, 0.2, 0.2)).values()] == [60, 20, 20]


def test_another_seed_gives_another_split() -> None:
    videos = made_up(50, 0)
    splits = [split_videos(videos, (0.6, 0.2, 0.2), seed) for seed in range(5)]
    assert len({tuple(split["test"]) for split in splits}) == 5


def test_a_split_is_the_same_on_every_machine_and_version() -> None:
    videos = {f"V{number}": [PHASES[number % 16], PHASES[(number * 5 + 3) % 16]] for number in range(12)}
    assert split_videos(videos, (2, 1, 1), seed=7) == {
        "train": ["V10", "V3", "V4", "V6", "V8", "V9"],
        "eval": ["V0", "V11", "V7"],
        "test": ["V1", "V2", "V5"],
    }
    assert shuffle_key(7, "V1").hex() == "5a28bffb9e7d39db5f679e236f87261b"


@pytest.mark.parametrize("weights", [(), (1,), (1, 1, 1, 1), (0.5, 0), (0.5, -1), (1, math.inf), (math.nan, 1)])
def test_weights_are_two_or_three_positive_numbers(weights: tuple[float, ...]) -> None:
    with pytest.raises(OptionError, match=r"^weights .*; give two \(train,test\) or three .* positive numbers$"):
        split_videos({"V": []}, weights)
