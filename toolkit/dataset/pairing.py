"""Which image, mask and label belong together, and which output they become.

The mapping names, for each label image, the dataset image it was drawn on. The dataset image decides the split, the
output's stem and the mask's name; the label is looked up under the label image's stem in any split.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from toolkit.annotations.yolo_layout import IMAGE_SUFFIXES, find_split_folders, index_labels
from toolkit.core.batch import Outcome
from toolkit.core.errors import InputProblemsError, MvtkError, collected
from toolkit.core.files import read_bytes
from toolkit.core.listing import list_files

IMAGE_NOT_FOUND = "image not found"
MASK_NOT_FOUND = "mask not found"
LABEL_NOT_FOUND = "label not found"
CONFLICT = "conflict"

_MAX_MAPPING_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Pair:
    """One image with its mask and label, and the stem of what they become.

    Attributes:
        source: the image, relative to the root of the images dataset.
        mask: the mask, relative to the mask folder.
        label: the label file, relative to the root of the labels dataset.
        stem: ``<split>/<path of the image in its split, without suffix>``.
    """

    source: str
    mask: str
    label: str
    stem: str


class PairIndex:
    """The files of the input datasets, listed once, and the pairs they form.

    Args:
        images_root: a YOLO dataset with images.
        labels_root: a YOLO dataset with labels; may be the same.
        mask_folder: a folder with the masks.
        mapping: label image to dataset image; None: each dataset image is its own label image.
        splits: the splits of the images dataset to take.
        mask_suffix: what a mask's name adds to the image's stem.
        mask_extension: a mask's file suffix, with the dot.

    Raises:
        InputProblemsError: all that is missing or ambiguous among the folders and the mapping.
    """

    def __init__(
        self,
        images_root: Path,
        labels_root: Path,
        mask_folder: Path,
        mapping: Path | None,
        *,
        splits: Sequence[str],
        mask_suffix: str,
        mask_extension: str,
    ) -> None:
        self._images_root = images_root
        self._mask_ending = mask_suffix + mask_extension
        problems: list[str] = []
        self._mapping: dict[str, str] | None = None
        with collected(problems):
            if mapping:
                self._mapping = load_mapping(mapping)
        with collected(problems):
            self._folders = find_split_folders(images_root, "images", splits)
            suffixes = IMAGE_SUFFIXES | {
                PurePosixPath(image).suffix.lower() for image in (self._mapping or {}).values()
            }
            self._images = {
                split: dict.fromkeys(list_files(folder, suffixes)) for split, folder in self._folders.items()
            }
        with collected(problems):
            self._labels = index_labels(labels_root)
        with collected(problems):
            self._masks = set(_list_masks(mask_folder, mask_extension))
        if problems:
            raise InputProblemsError("cannot convert", problems)
        self._size = sum(1 for _ in self._entries())
        self._claims = self._count_claims()

    @property
    def split_folders(self) -> Mapping[str, Path]:
        """The folder of each split that the images dataset has."""
        return self._folders

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Pair | Outcome]:
        """Yield each pair in a deterministic order, or why there is none."""
        for label_image, image in self._entries():
            yield self._pair(label_image, image)

    def _entries(self) -> Iterator[tuple[str, str]]:
        """Yield each (label image, dataset image); without a mapping each image name once, in sorted order."""
        if self._mapping is not None:
            yield from self._mapping.items()
            return
        seen: set[str] = set()
        for images in self._images.values():
            for image in images:
                if image not in seen:
                    seen.add(image)
                    yield image, image

    def _pair(self, label_image: str, image: str) -> Pair | Outcome:
        splits = self._splits_of(image)
        source = self._source(splits[0], image) if len(splits) == 1 else image
        if len(splits) > 1:
            where = " and ".join(self._source(split, image) for split in splits)
            return Outcome.failed(source, f"the image is in two splits: {where}", CONFLICT)
        labels = self._labels.get(_stem(label_image), ())
        if len(labels) > 1:
            reason = f"two labels have the stem {_stem(label_image)}: {' and '.join(labels)}"
            return Outcome.failed(source, reason, CONFLICT)
        if not splits:
            where = ", ".join(map(str, self._folders.values()))
            return Outcome.failed(source, f"{IMAGE_NOT_FOUND}: not in {where}", IMAGE_NOT_FOUND)
        stem = f"{splits[0]}/{_stem(image)}"
        claimants = self._claims.get(stem, ())
        if claimants:
            return Outcome.failed(source, f"two entries want the output {stem}: {' and '.join(claimants)}", CONFLICT)
        return self._complete_pair(source, stem, label_image, labels)

    def _complete_pair(self, source: str, stem: str, label_image: str, labels: tuple[str, ...]) -> Pair | Outcome:
        in_split = stem.partition("/")[2]
        names = (in_split + self._mask_ending, stem + self._mask_ending)
        masks = [name for name in names if name in self._masks]
        missing = []
        if not masks:
            missing.append((f"{MASK_NOT_FOUND}: {names[0]}", MASK_NOT_FOUND))
        if not labels:
            missing.append((f"{LABEL_NOT_FOUND}: {_stem(label_image)}.txt is in no split", LABEL_NOT_FOUND))
        if missing:
            return Outcome.failed(source, "; ".join(reason for reason, _ in missing), missing[0][1])
        if len(masks) > 1:
            return Outcome.failed(source, f"two masks fit: {' and '.join(masks)}", CONFLICT)
        return Pair(source, masks[0], labels[0], stem)

    def _splits_of(self, image: str) -> list[str]:
        return [split for split, images in self._images.items() if image in images]

    def _source(self, split: str, image: str) -> str:
        return (self._folders[split] / image).relative_to(self._images_root).as_posix()

    def _count_claims(self) -> dict[str, tuple[str, ...]]:
        """Return, for each output that several entries want, the entries."""
        first: dict[str, str] = {}
        several: dict[str, tuple[str, ...]] = {}
        for label_image, image in self._entries():
            entry = image if label_image == image else f"{label_image} -> {image}"
            for split in self._splits_of(image):
                stem = f"{split}/{_stem(image)}"
                if stem in first:
                    several[stem] = (*several.get(stem, (first[stem],)), entry)
                else:
                    first[stem] = entry
        return several


def load_mapping(path: Path) -> dict[str, str]:
    """Return a mapping file's content: ``{"label_image.png": "dataset_image.png"}``.

    Raises:
        InputProblemsError: it is not an object of strings, has a key twice, or a path that leaves the dataset.
        MvtkError: it cannot be read, or is not JSON.
    """
    repeated: list[str] = []

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            keys = [key for key, _ in pairs]
            repeated.extend(sorted({key for key in keys if keys.count(key) > 1}))
        return content

    try:
        content = json.loads(read_bytes(path), object_pairs_hook=build)
    except json.JSONDecodeError as error:
        raise MvtkError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise MvtkError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        kind = "null" if content is None else f"a {type(content).__name__}"
        raise InputProblemsError(str(path), [f"expected an object of label image to dataset image, found {kind}"])
    problems = [f"the label image {key!r} is given twice" for key in repeated]
    if not content:
        problems.append("there are no entries in it")
    for key, value in content.items():
        problems += _entry_problems(key, value)
    if problems:
        more = len(problems) - _MAX_MAPPING_PROBLEMS
        shown = problems[:_MAX_MAPPING_PROBLEMS] + ([f"and {more} more"] if more > 0 else [])
        raise InputProblemsError(str(path), shown)
    return {_normal(key): _normal(value) for key, value in content.items()}


def _entry_problems(key: str, value: object) -> list[str]:
    if not isinstance(value, str):
        return [f"the dataset image of {key!r} is not a string but {json.dumps(value)[:40]}"]
    return [f"{name!r} {fault}" for name in (key, value) if (fault := _path_fault(name))]


def _path_fault(name: str) -> str:
    path = PurePosixPath(name)
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return "is not a file name"
    if not path.name or "\0" in name:
        return "is not a file name"
    if path.is_absolute() or ".." in path.parts:
        return "leaves the dataset"
    return ""


def _normal(name: str) -> str:
    return PurePosixPath(name).as_posix()


def _stem(image: str) -> str:
    """Return a relative path without its last suffix."""
    return PurePosixPath(image).with_suffix("").as_posix()


def _list_masks(folder: Path, extension: str) -> list[str]:
    if not folder.is_dir():
        raise MvtkError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'} (the masks)")
    return list_files(folder, {extension.lower()})
