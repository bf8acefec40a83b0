"""One split for all datasets: a group that several of them have is on one side.

A group's hash says which side it is on, the same in every dataset. The exception is a small dataset whose groups are
all on one side: one of them changes sides. Where another dataset has that group, too, one that no other has does so.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Iterator

from toolkit.metadata.columns import KINDS
from toolkit.metadata.raw_sources import RawSource
from toolkit.metadata.spool import Part
from toolkit.splitting import Split, SplitRule


def settle_moved_groups(
    parts: dict[RawSource, Part], rule: SplitRule, process: Callable[[RawSource, SplitRule], Part]
) -> None:
    """Replace the part of each dataset that moved a group which other datasets have on the other side.

    Args:
        parts: all datasets that are done, with their parts.
        rule: how images were shared out.
        process: makes the part of a dataset anew by another rule.
    """
    moved = [source for source, part in parts.items() if part.notes["moved"] is not None]
    if not moved:
        return
    splits_of = {source: dict(_group_splits(part, rule)) for source, part in parts.items()}
    for source in moved:
        elsewhere = _united(splits for other, splits in splits_of.items() if other != source)
        if elsewhere.get(parts[source].notes["moved"], set()) - splits_of[source].get(
            parts[source].notes["moved"], set()
        ):
            own_groups = frozenset(splits_of[source])
            fixed = dataclasses.replace(rule, fixed=own_groups & elsewhere.keys())
            parts[source] = process(source, fixed)
            splits_of[source] = dict(_group_splits(parts[source], rule))


def _group_splits(part: Part, rule: SplitRule) -> Iterator[tuple[str, set[Split]]]:
    """Yield each group of a part with the splits that its samples are in."""
    splits_of: dict[str, set[Split]] = {}
    for kind in KINDS:
        for split in part.splits(kind):
            for chunk in part.chunks(split, kind):
                data = chunk.path_bytes.tobytes()
                for start, stop in itertools.pairwise([0, *chunk.path_lengths.cumsum().tolist()]):
                    splits_of.setdefault(rule.group_of(os.fsdecode(data[start:stop])), set()).add(split)
    yield from splits_of.items()


def _united(splits: Iterable[dict[str, set[Split]]]) -> dict[str, set[Split]]:
    united: dict[str, set[Split]] = {}
    for one in splits:
        for group, sides in one.items():
            united.setdefault(group, set()).update(sides)
    return united
