"""How groups are shared out: each by its own hash, none on two sides, no side empty without need."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from toolkit.splitting import place_of
from toolkit.yolo.preparation.source import FoundImage
from toolkit.yolo.preparation.split import SPLITS, Shares, image_group, share_out, share_out_images

names = st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6), max_size=40)
shares = st.builds(
    lambda val, test, seed: Shares(val, test * (0.99 - val), seed),
    st.floats(0, 0.9),
    st.floats(0, 1),
    st.integers(-5, 2**40),
)
images = st.lists(
    st.builds(
        lambda name, split: FoundImage(f"{split}/images/{name}.jpg", "", split, f"{name}.jpg"),
        st.text("ab", min_size=1, max_size=3),
        st.sampled_from([None, *SPLITS]),
    ),
    unique=True,
)


@given(names, shares)
def test_no_wanted_split_is_empty_where_there_are_groups_enough(groups: set[str], rule: Shares) -> None:
    sides = share_out(groups, rule)
    assert sides.keys() == groups
    assert share_out(sorted(groups), rule) == share_out(sorted(groups, reverse=True), rule) == sides
    assert set(rule.wanted[: len(groups)]) <= set(sides.values()) <= set(rule.wanted)


@given(names, names, shares)
def test_a_group_stays_when_others_come_unless_a_split_was_empty(
    groups: set[str], more: set[str], rule: Shares
) -> None:
    before, after = share_out(groups, rule), share_out(groups | more, rule)
    for group in groups:
        own = rule.side_of(place_of(group, rule.seed))
        if before[group] == own == after[group]:
            continue
        # Only a group that had to fill an empty split is not where its hash puts it.
        counts = Counter(
            rule.side_of(place_of(each, rule.seed)) for each in (groups if before[group] != own else after)
        )
        assert any(not counts[split] for split in rule.wanted)


@given(names, shares)
def test_a_larger_part_for_testing_takes_from_training_alone(groups: set[str], rule: Shares) -> None:
    more = rule._replace(test=rule.test + (1 - rule.val - rule.test) / 2)
    for group in groups:
        before, after = (each.side_of(place_of(group, rule.seed)) for each in (rule, more))
        assert before == after or (before, after) == ("train", "test")


def test_the_parts_are_what_was_asked_for() -> None:
    counts = Counter(share_out([f"image {number}" for number in range(20_000)], Shares(0.2, 0.1, 0)).values())
    assert abs(counts["val"] - 4000) < 250
    assert abs(counts["test"] - 2000) < 200


@given(images, shares)
def test_no_group_is_on_two_sides(found: list[FoundImage], rule: Shares) -> None:
    groups = [image_group(image, None, {}) for image in found]
    shared = share_out_images(found, groups, rule, keep_splits=False)
    splits_of: dict[str, set[str]] = {}
    for group, split in zip(groups, shared.splits, strict=True):
        splits_of.setdefault(group, set()).add(split)
    assert all(len(splits) == 1 for splits in splits_of.values())
    assert (sum(shared.groups.values()), shared.divided) == (len(splits_of), [])


@given(images, shares)
def test_kept_splits_are_kept_and_others_of_a_group_go_along(found: list[FoundImage], rule: Shares) -> None:
    groups = [image_group(image, None, {}) for image in found]
    shared = share_out_images(found, groups, rule, keep_splits=True)
    kept: dict[str, set[str]] = {}
    for image, group, split in zip(found, groups, shared.splits, strict=True):
        if image.split is not None:
            assert split == image.split
            kept.setdefault(group, set()).add(split)
    for image, group, split in zip(found, groups, shared.splits, strict=True):
        if image.split is None and group in kept:
            assert split in kept[group]
    assert shared.divided == sorted(group for group, splits in kept.items() if len(splits) > 1)


def test_the_group_of_an_image() -> None:
    import re

    image = FoundImage("train/images/p1/a_png.rf.0c.jpg", "", "train", "p1/a_png.rf.0c.jpg")
    assert image_group(image, None, {}) == "p1/a"
    assert image_group(image, None, {"p1/a_png.rf.0c": "patient"}) == "patient"
    assert image_group(image, re.compile(r"/(p\d)/"), {"p1/a_png.rf.0c": "patient"}) == "p1"
    assert image_group(image, re.compile("nothing"), {}) == "p1/a"
    flat = FoundImage("images/a.jpg", "", None, "a.jpg")
    assert image_group(flat, None, {}) == "a"
