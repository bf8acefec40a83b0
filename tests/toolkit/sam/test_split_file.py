"""Splits of SAM training data: sizes, strata, groups, and their file."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sam_datasets import make_dataset
from toolkit.core.errors import InputProblemsError, MvtkError, OptionError
from toolkit.core.files import TargetExistsError
from toolkit.sam.layout import read_layout
from toolkit.sam.split_file import Split, load_split, make_split, sample_groups, save_split, split_samples

COUNTS = st.lists(st.integers(1, 40), min_size=2, max_size=80).map(
    lambda counts: {f"id{place}": count for place, count in enumerate(counts)}
)
PARTS = st.floats(0.01, 0.99)


@given(COUNTS, PARTS, st.booleans(), st.integers(0, 99))
def test_every_sample_is_on_one_side_and_the_sizes_are_exact(
    counts: dict[str, int], part: float, stratify: bool, seed: int
) -> None:
    split = split_samples(counts, part, stratify_by_box_count=stratify, seed=seed)
    assert sorted(split.train + split.val) == sorted(counts)
    assert len(split.val) == min(max(round(part * len(counts)), 1), len(counts) - 1)


@given(COUNTS, PARTS, st.integers(0, 99))
def test_stratified_sides_have_alike_numbers_of_instances(counts: dict[str, int], part: float, seed: int) -> None:
    split = split_samples(counts, part, stratify_by_box_count=True, seed=seed)
    share = len(split.val) / len(counts)
    for threshold in set(counts.values()):
        below = [sample_id for sample_id in counts if counts[sample_id] <= threshold]
        assert abs(len(set(below) & set(split.val)) - share * len(below)) <= 1


@given(COUNTS, st.lists(st.integers(0, 9), min_size=80, max_size=80), PARTS, st.integers(0, 99))
def test_groups_are_never_torn_apart(counts: dict[str, int], numbers: list[int], part: float, seed: int) -> None:
    groups = {sample_id: f"g{number}" for sample_id, number in zip(counts, numbers, strict=False)}
    if len(set(groups.values())) < 2:
        return
    split = split_samples(counts, part, groups=groups, seed=seed)
    assert split.train
    assert split.val
    assert not {groups[sample_id] for sample_id in split.train} & {groups[sample_id] for sample_id in split.val}


def test_equal_groups_are_taken_by_their_share() -> None:
    counts = {f"{group}-{number}": 1 for group in range(50) for number in range(7)}
    groups = {sample_id: sample_id.partition("-")[0] for sample_id in counts}
    for seed in range(20):
        assert len(split_samples(counts, 0.2, groups=groups, seed=seed).val) == 70


@pytest.mark.parametrize("stratify", [False, True])
@pytest.mark.parametrize("group_size", [1, 7])
def test_each_group_is_as_likely_for_validation_as_any_other(group_size: int, stratify: bool) -> None:
    groups = {f"{group}-{place}": str(group) for group in range(10) for place in range(group_size)}
    counts = {sample_id: int(group) + 1 for sample_id, group in groups.items()}
    times: Counter[str] = Counter()
    for seed in range(400):
        split = split_samples(counts, 0.3, stratify_by_box_count=stratify, seed=seed, groups=groups)
        times.update({groups[sample_id] for sample_id in split.val})
    # 400 draws of 0.3: 120 expected, standard deviation 9.
    assert len(times) == 10
    assert all(75 <= count <= 165 for count in times.values())


def test_a_split_depends_on_the_names_and_the_seed_only() -> None:
    counts = {f"id{number}": number % 4 + 1 for number in range(40)}
    backwards = dict(reversed(counts.items()))
    assert split_samples(counts, seed=3) == split_samples(backwards, seed=3)
    assert split_samples(counts, seed=3) != split_samples(counts, seed=4)
    assert split_samples({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}) == Split(("a", "b", "d", "e"), ("c",))


def test_images_without_instances_validate_nothing() -> None:
    counts = {**{f"empty{number}": 0 for number in range(20)}, "a": 1, "b": 1}
    for seed in range(5):
        assert split_samples(counts, 0.5, seed=seed).val in {("a",), ("b",)}
    with pytest.raises(MvtkError, match="1 groups of images with instances cannot be shared out"):
        split_samples({"a": 1, "b": 0})


@pytest.mark.parametrize("part", [0, 1, -0.1, float("nan")])
def test_a_part_that_is_none_is_refused(part: float) -> None:
    with pytest.raises(OptionError, match="give a part between 0 and 1"):
        split_samples({"a": 1, "b": 1}, part)


def test_the_groups_of_a_dataset(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", {"p1-a": 1, "p1-b": 1, "p2-a": 1, "x": 1}, groups={"p2-a": "g", "x": "g"})
    layout = read_layout(root)
    assert sample_groups(layout) == {"p1-a": "p1-a", "p1-b": "p1-b", "p2-a": "g", "x": "g"}
    assert sample_groups(layout, re.compile(r"^(p\d)-")) == {"p1-a": "p1", "p1-b": "p1", "p2-a": "p2", "x": "g"}
    # The same file under another name joins the two groups.
    (root / "images/x.png").write_bytes((root / "images/p1-a.png").read_bytes())
    joined = sample_groups(layout, re.compile(r"^p\d"))
    assert joined["x"] == joined["p1-a"] == joined["p1-b"] != joined["p2-a"]


def test_a_split_of_a_dataset_is_written_and_told(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", (1, 1, 1, 1, 2, 2, 2, 2, 20, 20, 20, 20), size_hw=(32, 32))
    report = make_split(root, test_size=0.25)
    split = load_split(root / "split.json", read_layout(root).ids)
    assert len(split.val) == 3
    assert report.to_dict() == {
        "path": str(root / "split.json"),
        "groups": 12,
        "train_instances": 69,
        "val_instances": 23,
        "total": {"instances": "", "train": 9, "val": 3},
        "rows": (
            {"instances": "1", "train": 3, "val": 1},
            {"instances": "2", "train": 3, "val": 1},
            {"instances": "17 or more", "train": 3, "val": 1},
        ),
    }
    with pytest.raises(TargetExistsError):
        make_split(root)
    make_split(root, seed=1, overwrite=True)
    assert load_split(root / "split.json") != split


def test_a_wrong_expression_and_an_output_without_folder_are_said_first(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no regular expression"):
        make_split(tmp_path, group_by="(")
    with pytest.raises(MvtkError, match=r"the folder .* does not exist"):
        make_split(tmp_path, tmp_path / "no" / "split.json")


def test_a_split_comes_back_from_its_file(tmp_path: Path) -> None:
    split = Split(("a", "ü b"), ("c",))
    save_split(tmp_path / "split.json", split)
    assert load_split(tmp_path / "split.json") == split


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        ({"train": ["a"]}, ("val: missing",)),
        ({"train": ["a"], "val": []}, ("val: empty",)),
        ({"train": "a", "val": ["b"]}, ("train: not a list of ids",)),
        ({"train": ["a", "a"], "val": "b"}, ("val: not a list of ids", "'a' is in train and train")),
        (
            {"train": ["a", "b"], "val": ["b", "x"], "test": []},
            ("unknown key 'test'", "'b' is in train and val", "'x' is not in the dataset"),
        ),
    ],
)
def test_everything_wrong_with_a_split_is_said_at_once(
    tmp_path: Path, content: object, problems: tuple[str, ...]
) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputProblemsError) as caught:
        load_split(path, {"a", "b", "c"})
    assert caught.value.problems == problems
    assert caught.value.hint == "make it with mvtk sam split"


def test_a_split_that_is_no_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text("[]")
    with pytest.raises(MvtkError, match="not a JSON object"):
        load_split(tmp_path / "split.json")
