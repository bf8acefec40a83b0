"""Which samples are for training and which for validation: how that is decided, and the file that says it.

The file is a JSON object with the keys ``train`` and ``val``, each a list of ids. Samples of one group, and samples
with the same image file, are always on the same side: a validation on what was trained on would measure memory.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from toolkit.annotations.json_text import parse_json
from toolkit.core.errors import InputProblemsError, MvtkError, OptionError
from toolkit.core.files import read_bytes, require_writable, write_bytes
from toolkit.core.shuffling import shuffle_key
from toolkit.sam.layout import SamLayout, read_layout
from toolkit.splitting import captured

SPLIT_NAME: Final = "split.json"
SIDES: Final = ("train", "val")

_HINT: Final = "make it with mvtk sam split"
_BINS: Final = ((0, 0), (1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, None))
"""First and last number of instances of the rows of a report."""


@dataclass(frozen=True, slots=True)
class Split:
    """The two sides of a dataset.

    Attributes:
        train: ids of the samples for training.
        val: ids of the samples for validation.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SplitRow:
    """How the images with some number of instances are shared out.

    Attributes:
        instances: the number of instances, such as ``3-4``; "" for all images.
        train: how many of them are for training.
        val: how many of them are for validation.
    """

    instances: str
    train: int
    val: int


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What a split is like.

    Attributes:
        path: the file that was written.
        groups: how many groups there are; an image that belongs to none counts as one.
        train_instances: instances for training.
        val_instances: instances for validation.
        total: all images.
        rows: of each number of instances that there is.
    """

    path: str
    groups: int
    train_instances: int
    val_instances: int
    total: SplitRow
    rows: tuple[SplitRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return asdict(self)


def make_split(
    root: Path,
    output: Path | None = None,
    *,
    test_size: float = 0.2,
    stratify_by_box_count: bool = True,
    seed: int = 0,
    group_by: str | None = None,
    overwrite: bool = False,
) -> SplitReport:
    """Share the samples of a dataset out and write the split.

    Args:
        root: the dataset.
        output: the file to write; None: ``split.json`` in the dataset.
        test_size: the part for validation, between 0 and 1.
        stratify_by_box_count: whether both sides get images of few and of many instances alike.
        seed: another one gives another split.
        group_by: a regular expression: what it captures in an id (all that it matches, where it has no group) is the
            sample's group. None, or where it does not match: the groups of ``summary.json``.
        overwrite: whether ``output`` may be replaced.

    Raises:
        OptionError: ``test_size`` or ``group_by`` cannot be used.
        TargetExistsError: ``output`` exists and ``overwrite`` is false.
        MvtkError: the dataset cannot be read or has too few groups, or ``output`` cannot be written.
    """
    path = output or root / SPLIT_NAME
    pattern = _pattern(group_by)
    require_writable(path)
    layout = read_layout(root)
    counts = {files.id: len(files.mask_names) for files in layout.samples}
    groups = sample_groups(layout, pattern)
    split = split_samples(counts, test_size, stratify_by_box_count=stratify_by_box_count, seed=seed, groups=groups)
    save_split(path, split, overwrite=overwrite)
    return _report(path, split, counts, len(set(groups.values())))


def split_samples(
    counts: Mapping[str, int],
    test_size: float = 0.2,
    *,
    stratify_by_box_count: bool = False,
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
) -> Split:
    """Share samples out between training and validation.

    Groups are put in an order, by their number of instances or by chance, and every so many samples one is taken for
    validation: systematic sampling (Cochran, "Sampling Techniques", 1977, chapter 8), which is stratification with as
    many strata as there is room for. Without groups the validation has round(``test_size`` · samples) samples, at least
    one and not all; with groups as many as whole groups come near to that. Groups without instances have nothing to
    validate: they are for training, and do not count. Chance is a hash of the seed and the group's
    name, so that a split depends on nothing else.

    Args:
        counts: the number of instances of each sample.
        test_size: the part for validation, between 0 and 1.
        stratify_by_box_count: whether the order is by number of instances.
        seed: another one gives another split.
        groups: the group of each sample; a sample that is not in it is a group of its own.

    Returns:
        the ids of both sides, sorted.

    Raises:
        OptionError: ``test_size`` is not between 0 and 1.
        MvtkError: there are fewer than two groups with instances.
    """
    if not 0 < test_size < 1:
        raise OptionError(f"test size {test_size:g}", "give a part between 0 and 1, such as 0.2")
    members: dict[str, list[str]] = {}
    for sample_id in sorted(counts):
        members.setdefault((groups or {}).get(sample_id, sample_id), []).append(sample_id)
    drawn = [group for group, ids in members.items() if any(counts[sample_id] for sample_id in ids)]
    if len(drawn) < 2:
        problem = f"{len(drawn)} groups of images with instances cannot be shared out between training and validation"
        raise MvtkError(problem, "give more images, or smaller groups")

    def rank(group: str) -> tuple[float, bytes]:
        mean = sum(counts[sample_id] for sample_id in members[group]) / len(members[group])
        return mean if stratify_by_box_count else 0.0, shuffle_key(seed, group)

    order = sorted(drawn, key=rank)
    chosen = _systematic([len(members[group]) for group in order], test_size, seed)
    val = [sample_id for place in chosen for sample_id in members[order[place]]]
    return Split(tuple(sorted(counts.keys() - set(val))), tuple(sorted(val)))


def sample_groups(layout: SamLayout, pattern: re.Pattern[str] | None = None) -> dict[str, str]:
    """Return the group of each sample of a dataset.

    Samples whose image files are equal are in one group, and so are the groups that they are in.

    Args:
        layout: the dataset.
        pattern: finds the group in an id; see :func:`make_split`.

    Raises:
        MvtkError: an image cannot be read.
    """
    parent: dict[str, str] = {}

    def root_of(group: str) -> str:
        while parent.setdefault(group, group) != group:
            group = parent[group]
        return group

    own = {files.id: _own_group(files.id, layout.groups, pattern) for files in layout.samples}
    first_of: dict[bytes, str] = {}
    for files in layout.samples:
        digest = hashlib.blake2b(read_bytes(files.image), digest_size=16).digest()
        twin, group = sorted((root_of(own[first_of.setdefault(digest, files.id)]), root_of(own[files.id])))
        parent[group] = twin
    return {sample_id: root_of(group) for sample_id, group in own.items()}


def save_split(path: Path, split: Split, *, overwrite: bool = False) -> None:
    """Write a split.

    Raises:
        TargetExistsError: the file exists and ``overwrite`` is false.
        MvtkError: it cannot be written.
    """
    write_bytes(path, (json.dumps(asdict(split), indent=2) + "\n").encode(), overwrite=overwrite)


def load_split(path: Path, ids: Collection[str] | None = None) -> Split:
    """Read a split.

    Args:
        path: the JSON file.
        ids: those of the dataset; None does not check that there are such samples.

    Raises:
        InputProblemsError: all problems: a side that is missing, empty or no list of ids, an id that is on both sides,
            twice on one, or that the dataset has not.
        MvtkError: the file cannot be read or is no JSON object.
    """
    content = parse_json(read_bytes(path), str(path), _HINT)
    if not isinstance(content, dict):
        raise MvtkError(f"{path}: not a JSON object", _HINT)
    problems = [f"unknown key {key!r}" for key in content if key not in SIDES]
    sides: dict[str, list[str]] = {}
    for side in SIDES:
        names = content.get(side)
        if isinstance(names, list) and all(isinstance(name, str | int) for name in names):
            sides[side] = [str(name) for name in names]
            problems += [] if names else [f"{side}: empty"]
        else:
            problems.append(f"{side}: {'missing' if names is None else 'not a list of ids'}")
    places = Counter(name for names in sides.values() for name in names)
    for name, count in places.items():
        if count > 1:
            where = [side for side, names in sides.items() for _ in range(names.count(name))]
            problems.append(f"{name!r} is in {' and '.join(where)}")
        if ids is not None and name not in ids:
            problems.append(f"{name!r} is not in the dataset")
    if problems:
        raise InputProblemsError(str(path), problems, _HINT)
    return Split(tuple(sides["train"]), tuple(sides["val"]))


def _systematic(sizes: Sequence[int], part: float, seed: int) -> list[int]:
    """Return the places of the groups to take so that about ``part`` of all samples, spread evenly, are taken.

    What is owed grows with each group by its share of the samples to take; a group is taken where that leaves less owed
    or overdrawn than half of it. Where all groups are equally large, each is as likely to be taken as any other.

    Args:
        sizes: the number of samples of each group, in order; two groups or more.
        part: how much to take.
        seed: chooses what is owed at the start.
    """
    total = sum(sizes)
    wanted = round(part * total)
    usual = max(total // len(sizes), 1)
    owed = int.from_bytes(shuffle_key(seed, "start of the split"), "big") % (total * usual)
    chosen = []
    for place, size in enumerate(sizes):
        owed += wanted * size
        if 2 * owed >= total * (size + usual):
            chosen.append(place)
            owed -= total * size
    if 0 < len(chosen) < len(sizes):
        return chosen
    # Too little is to be taken, or left, for any group: the one that fits best is alone on its side.
    alone = wanted if not chosen else total - wanted
    fitting = min(range(len(sizes)), key=lambda place: abs(sizes[place] - alone))
    return [fitting] if not chosen else [place for place in chosen if place != fitting]


def _pattern(group_by: str | None) -> re.Pattern[str] | None:
    try:
        return re.compile(group_by) if group_by is not None else None
    except re.error as error:
        raise OptionError(f"group by {group_by!r}: no regular expression ({error})") from error


def _own_group(sample_id: str, groups: Mapping[str, str], pattern: re.Pattern[str] | None) -> str:
    group = captured(pattern, sample_id)
    return groups.get(sample_id, sample_id) if group is None else group


def _report(path: Path, split: Split, counts: Mapping[str, int], groups: int) -> SplitReport:
    def row(label: str, first: int, last: int | None) -> SplitRow:
        train, val = (
            sum(first <= counts[sample_id] and (last is None or counts[sample_id] <= last) for sample_id in ids)
            for ids in (split.train, split.val)
        )
        return SplitRow(label, train, val)

    rows = [row(_bin_label(first, last), first, last) for first, last in _BINS]
    return SplitReport(
        path=str(path),
        groups=groups,
        train_instances=sum(counts[sample_id] for sample_id in split.train),
        val_instances=sum(counts[sample_id] for sample_id in split.val),
        total=row("", 0, None),
        rows=tuple(row for row in rows if row.train or row.val),
    )


def _bin_label(first: int, last: int | None) -> str:
    if last is None:
        return f"{first} or more"
    return str(first) if first == last else f"{first}-{last}"
