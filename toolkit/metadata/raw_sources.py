"""Where the raw annotations are: which datasets a raw data folder holds, and in which format each one is.

::

    raw/detector/<name>/{train,valid,test}/_annotations.coco.json        COCO, as Roboflow exports it
    raw/detector/<name with coco>/**/*.json                              COCO, as published
    raw/detector/**/*_annotations.csv                                    CSV
    raw/detector/**/labels/**/*.txt                                      YOLO, with images/ beside labels/
    raw/landmarker/<name>/**/*.pts                                       PTS, the image beside it
    raw/landmarker/<name with coco>/…                                    COCO with keypoints
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from toolkit.core.errors import MvtkError
from toolkit.core.listing import is_folder, require_folder, walk_files
from toolkit.metadata.columns import Kind
from toolkit.splitting import SPLIT_FOLDERS, Split

Branch = Literal["detector", "landmarker"]
SourceFormat = Literal["coco", "csv", "pts", "yolo"]

_BRANCHES: Final[dict[Kind, tuple[Branch, ...]]] = {
    "detector": ("detector",),
    "landmarker": ("landmarker",),
    "teacher": ("detector", "landmarker"),
}
_LOOKED_FOR: Final[dict[Branch, str]] = {
    "detector": "_annotations.coco.json, *.json below a folder with coco in its name, *_annotations.csv, labels/*.txt",
    "landmarker": "*.pts, _annotations.coco.json, *.json below a folder with coco in its name",
}
_ROBOFLOW_COCO = "_annotations.coco.json"
_CSV_ENDING = "_annotations.csv"
_LABELS = "labels"
_PUBLISHED_COCO: Final[dict[Branch, str]] = {"detector": "instances_", "landmarker": "person_keypoints_"}
"""What the names of the published COCO files with boxes, and with keypoints, begin with."""
_YEAR_SPLIT = re.compile(r"(?:^|_)(train|val|test)(?:\d{4})?$")
"""The end of the stem of a published COCO file, such as ``instances_train2017``."""


@dataclass(frozen=True, slots=True)
class AnnotationFile:
    """A file with annotations (for PTS and YOLO: a folder of them), relative to the raw data folder."""

    path: str
    split: Split | None

    @property
    def folder(self) -> str:
        """The folder that the file is in, with a slash at its end; "" for the raw data folder itself."""
        return self.path[: self.path.rfind("/") + 1]

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.path[len(self.folder) :]


@dataclass(frozen=True, slots=True)
class RawSource:
    """One dataset of the raw data folder: what is read, split and reported as a whole.

    Attributes:
        source: its folder relative to the raw data folder.
        branch: what it is meant for.
        formats: of its annotations; one that has several cannot be told apart from one that is annotated twice.
        files: its annotation files, or the folders of its PTS or YOLO files, sorted.
    """

    source: str
    branch: Branch
    formats: tuple[SourceFormat, ...]
    files: tuple[AnnotationFile, ...]

    @property
    def format(self) -> SourceFormat:
        """The format of the files."""
        return self.formats[0]


def kinds_of(branch: Branch, kinds: Sequence[Kind]) -> tuple[Kind, ...]:
    """Return those of ``kinds`` that the datasets of a branch have samples of."""
    return tuple(kind for kind in kinds if branch in _BRANCHES[kind])


def find_sources(raw_data_dir: Path, kinds: Sequence[Kind]) -> list[RawSource]:
    """Return the datasets that samples of ``kinds`` can be made of, sorted by name.

    Raises:
        MvtkError: there is no such folder, or there are none.
    """
    require_folder(raw_data_dir, "name the folder that holds detector/ and landmarker/ (--raw-data-dir)")
    branches = tuple(dict.fromkeys(branch for kind in kinds for branch in _BRANCHES[kind]))
    sources = [source for branch in branches for source in _sources_of(raw_data_dir, branch)]
    if not sources:
        looked_for = "; ".join(f"{branch}/: {_LOOKED_FOR[branch]}" for branch in branches)
        raise MvtkError(f"{raw_data_dir}: no annotations found; looked for {looked_for}", "check --raw-data-dir")
    return sorted(sources, key=lambda source: source.source)


def _sources_of(raw: Path, branch: Branch) -> list[RawSource]:
    folder = raw / branch
    if not is_folder(folder):
        return []
    found: dict[tuple[str, SourceFormat], set[AnnotationFile]] = defaultdict(set)
    for prefix, entry in walk_files(folder, lambda name: name.lower().endswith((".json", ".csv", ".pts", ".txt"))):
        described = _describe(branch, f"{branch}/{prefix}", entry.name)
        if described is not None:
            source_format, source, file = described
            found[source, source_format].add(file)
    formats: dict[str, list[SourceFormat]] = defaultdict(list)
    for source, source_format in sorted(found):
        formats[source].append(source_format)
    return [
        RawSource(source, branch, tuple(formats[source]), tuple(_without_other_tasks(branch, files)))
        for (source, source_format), files in found.items()
        if source_format == formats[source][0]
    ]


def _without_other_tasks(branch: Branch, files: Iterable[AnnotationFile]) -> list[AnnotationFile]:
    """Return the files, sorted, without those that COCO publishes for the same images and another purpose."""
    ordered = sorted(files, key=lambda file: file.path)
    wanted = [file for file in ordered if file.name.startswith(_PUBLISHED_COCO[branch])]
    others = (*_PUBLISHED_COCO.values(), "captions_", "panoptic_", "stuff_", "image_info_")
    return [file for file in ordered if file in wanted or not file.name.startswith(others)] if wanted else ordered


def _describe(branch: Branch, prefix: str, name: str) -> tuple[SourceFormat, str, AnnotationFile] | None:
    """Return the format of an annotation file, the source it belongs to, and what is read; None for another file."""
    lower = name.lower()
    folders = prefix.rstrip("/").split("/")
    if lower.endswith(_ROBOFLOW_COCO) or (lower.endswith(".json") and "coco" in prefix.lower()):
        split = SPLIT_FOLDERS.get(folders[-1].lower()) or _split_of_stem(lower)
        return "coco", _without_split(folders, "annotations"), AnnotationFile(prefix + name, split)
    if lower.endswith(_CSV_ENDING) and branch == "detector":
        return "csv", _without_split(folders), AnnotationFile(prefix + name, SPLIT_FOLDERS.get(folders[-1].lower()))
    if lower.endswith(".pts") and branch == "landmarker":
        return "pts", _without_split(folders), AnnotationFile(prefix, SPLIT_FOLDERS.get(folders[-1].lower()))
    if lower.endswith(".txt") and branch == "detector" and _LABELS in folders:
        place = folders.index(_LABELS)
        around = [*folders[place + 1 : place + 2], folders[place - 1]]
        split = next((SPLIT_FOLDERS[part.lower()] for part in around if part.lower() in SPLIT_FOLDERS), None)
        return "yolo", _without_split(folders[:place]), AnnotationFile(prefix, split)
    return None


def _split_of_stem(name: str) -> Split | None:
    match = _YEAR_SPLIT.search(name.rpartition(".")[0])
    return SPLIT_FOLDERS[match[1]] if match else None


def _without_split(folders: list[str], also: str = "") -> str:
    """Return the folder that the splits are in; a branch's own folder is never taken away."""
    kept = list(folders)
    while len(kept) > 1 and (kept[-1].lower() in SPLIT_FOLDERS or kept[-1] == also):
        kept.pop()
    return "/".join(kept)
