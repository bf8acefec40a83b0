"""All that is to be known of a source before anything is written: what becomes of each image, and all that is wrong."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from toolkit.core.errors import InputProblemsError, MvtkError, collected
from toolkit.npz.errors import NpzError
from toolkit.npz.reading import image_and_mask_keys, open_npz
from toolkit.yolo.preparation.labels import LabelFigures
from toolkit.yolo.preparation.names import ClassNames, read_class_names
from toolkit.yolo.preparation.options import PrepareOptions
from toolkit.yolo.preparation.source import IMAGES, FoundImage, Source, find_source
from toolkit.yolo.preparation.split import SharedOut, image_group, share_out_images
from toolkit.yolo.preparation.step import PreparedImage

_SHOWN_OF_A_KIND: Final = 20
"""How many problems of one kind are said in words."""


@dataclass(frozen=True, slots=True)
class PreparationInputs:
    """What a dataset is made of.

    Attributes:
        source: the files that were found.
        images: what becomes of each image, in the order of ``source.images``.
        groups: the group of each image, in the same order.
        shared: how they were shared out.
        names: what is known of the classes.
        channels: how many channels the images have, those of masks included.
        labels: what the label files say.
    """

    source: Source
    images: tuple[PreparedImage, ...]
    groups: tuple[str, ...]
    shared: SharedOut
    names: ClassNames
    channels: int
    labels: LabelFigures

    @property
    def class_names(self) -> dict[int, str]:
        """The names of the classes by id; where nothing names them, of all up to the highest that occurs."""
        if self.names.names is not None:
            return self.names.names
        return {class_id: f"class_{class_id}" for class_id in range(self.labels.highest_class + 1)}


def examine(options: PrepareOptions) -> PreparationInputs:
    """Return what a dataset is made of; every label file is read, and the beginning of every NPZ file.

    Raises:
        InputProblemsError: all that is wrong in the source; of each kind the first 20 in words.
        MvtkError: there are no images or labels.
    """
    source = find_source(options.source, options.labels_from)
    problems: list[str] = []
    names = ClassNames(None)
    with collected(problems):
        names = read_class_names(options.source, source.label_folder, options.names_yaml)
    problems += _pattern_problems(options, source.images)
    groups = tuple(image_group(image, options.pattern, names.groups) for image in source.images)
    shared = share_out_images(source.images, groups, options.shares, keep_splits=options.keep_splits)
    images = tuple(
        PreparedImage(
            image.path, image.label if image.label in source.labels else "", f"{split}/{image.stem}", image.suffix
        )
        for image, split in zip(source.images, shared.splits, strict=True)
    )
    problems += _missing(options.source, source.images) + _misplaced(source.images)
    problems += _clashes(source.images, images, keep_splits=options.keep_splits)
    channels = _read_channels(source, problems) or names.channels
    labels = LabelFigures()
    labelled = zip(shared.splits, (image.label for image in images), strict=True)
    labels.read(options.source, labelled, names.class_count)
    problems += _shortened(labels.problems)
    if problems:
        own = [problem.removeprefix(f"{options.source}: ").removeprefix(f"{options.source}/") for problem in problems]
        raise InputProblemsError(str(options.source), own)
    return PreparationInputs(source, images, groups, shared, names, channels, labels)


def _pattern_problems(options: PrepareOptions, images: Sequence[FoundImage]) -> list[str]:
    pattern = options.pattern
    if pattern is None or any(pattern.search(image.path) for image in images):
        return []
    return [f"--group-by {options.group_by!r} matches no image's path, such as {images[0].path}"]


def _missing(root: Path, images: Sequence[FoundImage]) -> list[str]:
    """Return which images are links that lead nowhere, or to what is no file."""
    return _shortened([f"{image.path}: leads to no file" for image in images if not (root / image.path).is_file()])


def _misplaced(images: Sequence[FoundImage]) -> list[str]:
    """Return which images are where Ultralytics would not find their labels."""
    return _shortened(
        [
            f"{image.path}: Ultralytics looks for labels beside the last folder {IMAGES}; rename that one"
            for image in images
            if IMAGES in image.below.split("/")[:-1]
        ]
    )


def _clashes(found: Sequence[FoundImage], images: Sequence[PreparedImage], *, keep_splits: bool) -> list[str]:
    """Return which images would share a label file, here or where names that differ by case are one name.

    Unless splits are kept, it does not count on which sides images are: that may change with the next option.
    """
    first_of: dict[str, tuple[str, FoundImage]] = {}
    problems = []
    for image, prepared in zip(found, images, strict=True):
        stem = prepared.stem if keep_splits else image.stem
        first_stem, first = first_of.setdefault(unicodedata.normalize("NFC", stem).lower(), (stem, image))
        if first is image:
            continue
        names = f"{first.path} and {image.path}"
        if first_stem != stem:
            problems.append(f"{names}: their names differ only by case, or by Unicode form")
        else:
            other = ", or use --keep-splits" if first.split != image.split else ""
            problems.append(f"{names} would share one label file, {stem}.txt: rename one{other}")
    return _shortened(problems)


def _read_channels(source: Source, problems: list[str]) -> int | None:
    """Return how many channels NPZ files have; None where there are none."""
    pairs = [image.path for image in source.images if image.is_pair]
    if not pairs:
        return None
    others = [image.path for image in source.images if not image.is_pair]
    if others:
        counts = f"{len(pairs):,} NPZ files and {len(others):,} other images"
        problems.append(f"{counts}, such as {pairs[0]} and {others[0]}: a dataset has one kind")
    first_with: dict[int, str] = {}
    damaged = []
    for path in pairs:
        try:
            first_with.setdefault(_channels_of(source.root / path), path)
        except MvtkError as error:
            damaged.append(str(error))
    problems += _shortened(damaged)
    if len(first_with) > 1:
        some = ", ".join(f"{path} has {channels}" for channels, path in sorted(first_with.items()))
        problems.append(f"NPZ files with different numbers of channels: {some}")
    return next(iter(first_with), None)


def _channels_of(path: Path) -> int:
    """Return how many channels an image has together with its mask.

    Raises:
        NpzError: the file is damaged, or holds something else.
    """
    with open_npz(path) as npz:
        keys = image_and_mask_keys(npz.members.keys())
        header = npz.header(keys[0]) if keys is not None else None
        if header is None or len(header.shape) not in (2, 3):
            raise NpzError(path, "holds no image with its mask", "mvtk dataset convert-mask-attention makes such files")
        return (header.shape[2] if len(header.shape) > 2 else 1) + 1


def _shortened(problems: list[str]) -> list[str]:
    hidden = len(problems) - _SHOWN_OF_A_KIND
    return [*problems[:_SHOWN_OF_A_KIND], f"and {hidden:,} more like it"] if hidden > 0 else problems
