"""Which images are for training: decided by a hash of what they show, so that it stays when data is added."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Literal

Split = Literal["train", "val", "test"]

SPLIT_FOLDERS: Final[dict[str, Split]] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""What folders of splits are called."""

_ROBOFLOW_COPY = re.compile(r"(?:_(?:bmp|gif|jpe?g|png|tiff?|webp))?\.rf\.[0-9A-Za-z]+$", re.IGNORECASE)
"""What Roboflow makes of the end of each augmented copy's stem: ``a.png`` becomes ``a_png.rf.<hash>.png``."""

_HASH_BYTES = 8


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How images are shared out between training and validation.

    Attributes:
        seed: another one shares them out differently.
        train_split: the part of the groups that is for training, 0 to 1.
        group_by: what it captures in an image's path tells which images belong together; None: the file's name
            without its suffix and without what Roboflow adds to it.
        fixed: groups that stay where their hash puts them, as other datasets have them, too.
    """

    seed: int
    train_split: float
    group_by: re.Pattern[str] | None = None
    fixed: frozenset[str] = frozenset()

    def group_of(self, path: str) -> str:
        """Return what an image shows: images of one group are never on both sides.

        Args:
            path: the image's path relative to the raw data folder.
        """
        group = captured(self.group_by, path)
        return image_identity(path) if group is None else group

    def groups_by_path(self, path: str) -> bool:
        """Tell whether ``group_by`` has a say about an image."""
        return self.group_by is not None and self.group_by.search(path) is not None

    def train_groups(self, groups: Sequence[str]) -> set[str]:
        """Return which of a source's groups are for training.

        Each group's hash decides, whatever other groups there are. Where all of several groups were on one side, the
        one whose hash is nearest to the threshold changes sides, unless a split of 0 or 1 asks for just that.
        """
        places = {group: place_of(group, self.seed) for group in groups}
        train = {group for group, place in places.items() if place < self.train_split}
        movable = places.keys() - self.fixed
        if len(places) == 1 or 0 < len(train) < len(places) or not 0 < self.train_split < 1 or not movable:
            return train
        nearest = min(movable, key=lambda group: (abs(places[group] - self.train_split), group))
        return train ^ {nearest}

    def moved_group(self, groups: Sequence[str], train: AbstractSet[str]) -> str | None:
        """Return the group that changed sides when :meth:`train_groups` made ``train`` of ``groups``, if one did."""
        places = ((group, place_of(group, self.seed)) for group in groups)
        return next((group for group, place in places if (place < self.train_split) != (group in train)), None)


def captured(pattern: re.Pattern[str] | None, path: str) -> str | None:
    """Return what ``pattern`` captures in a path, what it matches where it captures nothing; None without a match."""
    match = pattern.search(path) if pattern is not None else None
    if match is None:
        return None
    return "\0".join(part or "" for part in match.groups()) if match.re.groups else match[0]


def image_identity(path: str) -> str:
    """Return an image file's name without its suffix and without what Roboflow adds to the name of each copy."""
    name = path.rpartition("/")[2]
    return _ROBOFLOW_COPY.sub("", name.rpartition(".")[0] or name)


def place_of(group: str, seed: int) -> float:
    """Return a group's place between 0 and 1, evenly spread and the same for ever."""
    digest = hashlib.blake2b(os.fsencode(f"{seed}\0{group}"), digest_size=_HASH_BYTES).digest()
    return int.from_bytes(digest, "big") / float(2 ** (8 * _HASH_BYTES))
