"""What a folder holds that is to become a YOLO dataset: its images, their label files, their splits.

These layouts are read: ``images/`` beside ``labels/``, each flat or with a folder a split; ``<split>/images`` beside
``<split>/labels`` (Roboflow); and ``images/`` beside ``boxes/`` (the training data of ``mvtk sam``). Folders may be
nested in them; a label file is at the path of its image.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from toolkit.annotations.yolo_layout import LABEL_SUFFIXES, folder_contents
from toolkit.core.errors import MvtkError
from toolkit.core.listing import is_folder, list_files, require_folder, visible_entries, walk_files
from toolkit.splitting import SPLIT_FOLDERS, Split

LabelFolder: TypeAlias = Literal["labels", "boxes"]

IMAGES: Final = "images"
PAIR_SUFFIX: Final = ".npz"
IMAGE_SUFFIXES: Final = frozenset(
    {".avif", ".bmp", ".dng", ".heic", ".heif", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"}
)
"""Lower-case suffixes of the images that Ultralytics reads: ``IMG_FORMATS`` in ``ultralytics/data/utils.py`` (8.4)."""
CLASSES_NAME: Final = "classes.txt"
"""What annotation tools put beside label files and is none."""

_HINT: Final = "give the folder that holds images/ and labels/, or images/ and boxes/"
_YEAR: Final = re.compile(r"(19|20)[0-9]{2}")


class FoundImage(NamedTuple):
    """One image of the source; paths are POSIX style.

    Attributes:
        path: relative to the source.
        label: the path of its label file, relative to the source, whether there is one or not.
        split: of the split folder that it is in; None for one that is in none.
        below: its path below the images' folder and the split's.
    """

    path: str
    label: str
    split: Split | None
    below: str

    @property
    def suffix(self) -> str:
        """The suffix with its dot, as it is written."""
        return self.path[self.path.rindex(".") :]

    @property
    def stem(self) -> str:
        """``below`` without the suffix."""
        return self.below.rpartition(".")[0]

    @property
    def is_pair(self) -> bool:
        """Whether it is an image with its mask, in an NPZ file."""
        return self.suffix.lower() == PAIR_SUFFIX


@dataclass(frozen=True, slots=True)
class Source:
    """What was found; about 500 bytes an image are held.

    Attributes:
        root: the folder.
        images: sorted by path.
        labels: the label files that there are, relative to ``root``.
        label_folder: where they come from.
        orphans: the label files without an image, sorted.
        others: how many files beside the images are none.
        other: one of them.
    """

    root: Path
    images: tuple[FoundImage, ...]
    labels: frozenset[str]
    label_folder: LabelFolder
    orphans: tuple[str, ...]
    others: int = 0
    other: str = ""


class _Folders(NamedTuple):
    """A folder of images and that of their labels, relative to the source.

    Attributes:
        images: the images' folder.
        labels: the labels' folder; it may be missing.
        split: whose folders they are; None: those of all splits, or of none.
    """

    images: str
    labels: str
    split: Split | None


def find_source(root: Path, labels_from: LabelFolder | None = None) -> Source:
    """Return what is to become a dataset; no file is opened.

    Args:
        root: the source.
        labels_from: which folder to take where there are both.

    Raises:
        MvtkError: there are no images or no labels, or it is not clear which labels are meant.
    """
    require_folder(root, _HINT)
    folders = list(_image_folders(root, labels_from))
    if folders and folders[0].split is not None and labels_from == "boxes":
        raise MvtkError(f"{root}: no {IMAGES}/ to which boxes/ could belong", "leave out --labels-from")
    if not folders:
        looked_for = f"{IMAGES}/, train/{IMAGES}/, val/{IMAGES}/, test/{IMAGES}/"
        raise MvtkError(f"{root}: no images: looked for {looked_for}; there is {folder_contents(root)}", _HINT)
    images: list[FoundImage] = []
    others: list[str] = []
    for each in folders:
        for prefix, entry in walk_files(root / each.images, bool):
            below = prefix + entry.name
            if _is_image(entry.name):
                images.append(_found(each, below))
            else:
                others.append(f"{each.images}/{below}")
    if not images:
        formats = ", ".join(sorted(IMAGE_SUFFIXES | {PAIR_SUFFIX}))
        where = ", ".join(f"{each.images}/" for each in folders)
        raise MvtkError(f"{root}: no images in {where}: looked for {formats}", _HINT)
    labels = frozenset(_list_labels(root, folders))
    images.sort()
    _require_labels(root, folders, images, labels)
    expected = {image.label for image in images}
    orphans = sorted(path for path in labels - expected if path.rpartition("/")[2] != CLASSES_NAME)
    return Source(
        root=root,
        images=tuple(images),
        labels=labels,
        label_folder="boxes" if folders[0].labels == "boxes" else "labels",
        orphans=tuple(orphans),
        others=len(others),
        other=min(others, default=""),
    )


def split_of_folder(name: str) -> Split | None:
    """Return the split that a folder is called after, as ``valid`` and ``train2017`` are; None for another folder."""
    return SPLIT_FOLDERS.get(_YEAR.sub("", name.lower()))


def _is_image(name: str) -> bool:
    stem, dot, ending = name.rpartition(".")
    suffix = (dot + ending).lower()
    return bool(stem) and (suffix in IMAGE_SUFFIXES or suffix == PAIR_SUFFIX)


def _image_folders(root: Path, labels_from: LabelFolder | None) -> Iterator[_Folders]:
    """Yield the folders of images, that of all splits first."""
    listed = set()
    if is_folder(root / IMAGES):
        yield _Folders(IMAGES, _label_folder(root, labels_from), None)
        listed = {os.path.realpath(entry.path) for entry in visible_entries(root / IMAGES) if entry.is_dir()}
    for name in sorted(entry.name for entry in visible_entries(root)):
        split = split_of_folder(name)
        images = root / name / IMAGES
        if split is not None and is_folder(images) and os.path.realpath(images) not in listed:
            yield _Folders(f"{name}/{IMAGES}", f"{name}/labels", split)


def _label_folder(root: Path, labels_from: LabelFolder | None) -> str:
    there = [name for name in ("labels", "boxes") if is_folder(root / name)]
    if labels_from is not None and labels_from not in there:
        raise MvtkError(f"{root}: no folder {labels_from}/; there is {folder_contents(root)}", "check --labels-from")
    if labels_from is None and len(there) > 1:
        raise MvtkError(f"{root}: has both labels/ and boxes/", "choose one with --labels-from")
    return labels_from or (there[0] if there else "labels")


def _found(folders: _Folders, below: str) -> FoundImage:
    """Return an image by its path below its folder of images."""
    path, stem = f"{folders.images}/{below}", below.rpartition(".")[0]
    label = f"{folders.labels}/{stem}.txt"
    if folders.split is not None:
        return FoundImage(path, label, folders.split, below)
    first, slash, rest = below.partition("/")
    split = split_of_folder(first) if slash else None
    return FoundImage(path, label, split, rest if split else below)


def _list_labels(root: Path, folders: list[_Folders]) -> Iterator[str]:
    for each in folders:
        if is_folder(root / each.labels):
            for path in list_files(root / each.labels, LABEL_SUFFIXES):
                yield f"{each.labels}/{path}"


def _require_labels(root: Path, folders: list[_Folders], images: list[FoundImage], labels: frozenset[str]) -> None:
    """Check that the labels belong to the images at all.

    Raises:
        MvtkError: there are no label files, or none is at the path of an image.
    """
    first = images[0]
    if not labels:
        looked_for = [f"{each.labels}/" for each in folders]
        if folders[0].split is None:
            looked_for.insert(1, "boxes/")
        message = f"{root}: no label files: looked for {', '.join(dict.fromkeys(looked_for))}"
        raise MvtkError(f"{message}; there is {folder_contents(root)}", _HINT)
    if not any(image.label in labels for image in images):
        message = (
            f"{root}: no image has a label file: {first.path} would have {first.label}, and there is {min(labels)}"
        )
        raise MvtkError(message, "name label files as their images, at the same path")
