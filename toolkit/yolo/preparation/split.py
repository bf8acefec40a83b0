"""Which images are for training, for validation and for testing.

The place of a group, between 0 and 1, is a hash of its name: below ``val`` it is for validation, from ``1 - test`` on
for testing, else for training. So a group stays where it is when images are added, and another part for testing takes
from, or gives to, training alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from toolkit.splitting import Split, captured, image_identity, place_of
from toolkit.yolo.preparation.source import FoundImage

SPLITS: Final[tuple[Split, ...]] = ("train", "val", "test")


class Shares(NamedTuple):
    """The parts of the groups, and which of the ways to share them out.

    Attributes:
        val: the part for validation, 0 to 1.
        test: the part for testing; both together leave something for training.
        seed: another one shares them out differently.
    """

    val: float
    test: float
    seed: int

    def side_of(self, place: float) -> Split:
        """Return the split of a place between 0 and 1."""
        if place < self.val:
            return "val"
        return "test" if place >= 1 - self.test else "train"

    def distance(self, place: float, split: Split) -> float:
        """Return how far a place is from those of a split."""
        low, high = {
            "val": (0.0, self.val),
            "train": (self.val, 1 - self.test),
            "test": (1 - self.test, 1.0),
        }[split]
        return max(low - place, place - high, 0.0)

    @property
    def wanted(self) -> tuple[Split, ...]:
        """The splits that are to have something."""
        return tuple(split for split in SPLITS if split == "train" or getattr(self, split) > 0)


class SharedOut(NamedTuple):
    """What :func:`share_out_images` decided.

    Attributes:
        splits: of each image, in their order.
        groups: how many groups each split has.
        divided: the groups whose images were in several splits already, which were kept; sorted.
    """

    splits: list[Split]
    groups: dict[Split, int]
    divided: list[str]


def image_group(image: FoundImage, pattern: re.Pattern[str] | None, sample_groups: Mapping[str, str]) -> str:
    """Return what an image shows: images of one group are never on two sides.

    It is what ``pattern`` captures in the image's path, else the group that SAM data name, else the path below the
    split's folder without suffix and without what Roboflow adds to each copy.
    """
    group = captured(pattern, image.path)
    if group is None:
        group = sample_groups.get(image.stem)
    if group is None:
        folder, slash, _ = image.below.rpartition("/")
        return folder + slash + image_identity(image.below)
    return group


def share_out_images(
    images: Sequence[FoundImage], groups: Sequence[str], shares: Shares, *, keep_splits: bool
) -> SharedOut:
    """Return the split of each image.

    Args:
        images: all images.
        groups: the group of each.
        shares: how they are shared out.
        keep_splits: images in a split's folder stay in that split, and other images of their group go there, too.
    """
    kept: dict[str, set[Split]] = {}
    if keep_splits:
        for image, group in zip(images, groups, strict=True):
            if image.split is not None:
                kept.setdefault(group, set()).add(image.split)
    sides = share_out(set(groups) - kept.keys(), shares)
    for group, splits in kept.items():
        sides[group] = min(splits, key=SPLITS.index)
    splits_of = [
        (image.split if keep_splits else None) or sides[group] for image, group in zip(images, groups, strict=True)
    ]
    counts = Counter(split for split, _ in set(zip(splits_of, groups, strict=True)))
    divided = sorted(group for group, splits in kept.items() if len(splits) > 1)
    return SharedOut(splits_of, {split: counts[split] for split in SPLITS if counts[split]}, divided)


def share_out(groups: Collection[str], shares: Shares) -> dict[str, Split]:
    """Return the split of each group.

    Each group's hash decides, whatever other groups there are. Where a split is left without any although there are
    enough of them, the group whose hash is nearest to it moves there, from a split that has more than one.
    """
    places = {group: place_of(group, shares.seed) for group in groups}
    sides = {group: shares.side_of(place) for group, place in places.items()}
    due = shares.wanted[: len(places)]
    for split in due:
        counts = Counter(sides.values())
        if counts[split]:
            continue
        movable = [group for group, side in sides.items() if counts[side] > 1 or side not in due]
        nearest = min(movable, key=lambda group: (shares.distance(places[group], split), group))
        sides[nearest] = split
    return sides
