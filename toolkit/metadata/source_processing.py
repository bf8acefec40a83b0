"""What is done to one raw dataset: its annotations become a part file of samples, each in its split."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.annotations.problems import raise_problems
from toolkit.annotations.table import AnnotationTable, Finding
from toolkit.core.batch import Figure, Outcome, Step
from toolkit.core.errors import InputProblemsError
from toolkit.images import ImageError, load_image, read_size
from toolkit.metadata.boxes import BEYOND_EDGE, NO_AREA, NOT_A_NUMBER, OUTSIDE, BoxPolicy
from toolkit.metadata.columns import Kind, SampleColumns
from toolkit.metadata.raw_sources import RawSource, kinds_of
from toolkit.metadata.sample_building import SampleBuilder, SplitImages
from toolkit.metadata.source_images import SourceImages
from toolkit.metadata.source_reading import UNUSABLE, Document, read_documents
from toolkit.metadata.spool import PartWriter
from toolkit.splitting import Split, SplitRule

UNREADABLE = "image that cannot be read"
OTHER_SIZE = "image of another size than annotated"
NOT_GROUPED = "image that --group-by does not match, grouped by its name"
ANNOTATED_TWICE = "image that two files of a dataset annotate"
ON_TWO_SIDES = "group that the split folders have on several sides"

_FEW_GROUPS = 10_000
"""More groups are never all on one side: the chance is less than one in 10^200 for any part from 0.1 to 0.9."""

MAX_FINDINGS_KEPT = 1000
"""Findings of one dataset that are listed; all are counted."""

_BOX_FAULTS = frozenset({NOT_A_NUMBER, NO_AREA, OUTSIDE, BEYOND_EDGE})


@dataclass(frozen=True, slots=True)
class ProcessSource(Step[RawSource]):
    """Read one raw dataset and write its samples as a part file.

    Attributes:
        raw_data_dir: the raw data folder.
        parts_dir: where part files go.
        kinds: the kinds of samples to make.
        rule: how images are shared out.
        keep_splits: take the splits of split folders as they are.
        boxes: what becomes of faulty boxes.
        batch_size: images that are worked on together.
        flush_every: batches after which samples are handed to the disk.
        check_images: decode every image.
        shift_pts: subtract 1 from the coordinates of PTS files, which count from 1.
    """

    raw_data_dir: Path
    parts_dir: Path
    kinds: tuple[Kind, ...]
    rule: SplitRule
    keep_splits: bool
    boxes: BoxPolicy
    batch_size: int
    flush_every: int
    check_images: bool
    shift_pts: bool

    def process_one(self, item: RawSource) -> Outcome:
        """Make the part file of one dataset.

        Raises:
            MvtkError: its annotations cannot be read or are wrong, or the part cannot be written.
        """
        images = SourceImages(self.raw_data_dir, item.source)
        documents = list(read_documents(self.raw_data_dir, item, images, shift_pts=self.shift_pts))
        findings = [finding for document in documents for finding in document.findings]
        splits, moved = _split_documents(documents, self.rule, findings, keep=self.keep_splits)
        samples: Counter[str] = Counter()
        class_names = dict.fromkeys(name for document in documents for name in document.class_names)
        with PartWriter(part_path(self.parts_dir, item)) as part:
            for split, columns in self._samples(item, documents, splits, class_names, findings):
                part.append(split, columns)
                samples[f"{split}_{columns.kind}"] += len(columns)
            self._refuse_box_faults(findings)
            counts = Counter(finding.kind for finding in findings)
            part.note(class_names=list(class_names), moved=moved, findings=counts, listed=findings[:MAX_FINDINGS_KEPT])
        details: dict[str, Figure] = {"format": item.format, **samples, "findings": len(findings)}
        return Outcome(item.source, "done", details=details)

    def _samples(
        self,
        item: RawSource,
        documents: Sequence[Document],
        splits: Sequence[Sequence[Split | None]],
        class_names: dict[str, None],
        findings: list[Finding],
    ) -> Iterator[tuple[Split, SampleColumns]]:
        """Yield the samples of ``flush_every`` batches together; classes that only a batch knows of are added.

        Raises:
            InputProblemsError: everything that is wrong with the annotations, when all were looked at.
        """
        builder = SampleBuilder(kinds_of(item.branch, self.kinds), self.boxes)
        step = self.batch_size * self.flush_every
        problems: list[str] = []
        for document, document_splits in zip(documents, splits, strict=True):
            for start in range(0, len(document.paths), step):
                waiting: dict[tuple[Split, Kind], list[SampleColumns]] = {}
                for first in range(start, min(start + step, len(document.paths)), self.batch_size):
                    stop = min(first + self.batch_size, len(document.paths))
                    try:
                        table = document.batch(first, stop)
                    except InputProblemsError as error:  # all batches are read first: nothing will be kept
                        problems += error.problems
                        continue
                    findings += table.findings
                    batch = SplitImages(
                        _with_classes(table, class_names), document.paths[first:stop], document_splits[first:stop]
                    )
                    for split, columns in builder.build(self._with_sizes(batch, findings), findings):
                        waiting.setdefault((split, columns.kind), []).append(columns)
                for (split, _), chunks in waiting.items():
                    yield split, SampleColumns.joined(chunks)
        raise_problems(UNUSABLE, problems, "")

    def _with_sizes(self, images: SplitImages, findings: list[Finding]) -> SplitImages:
        """Return the images with the sizes that the annotations do not say; those that cannot be read are left out."""
        sizes_wh = images.table.image_sizes_wh
        used = np.array([split is not None for split in images.splits], np.bool_)
        wanted = np.flatnonzero(used if self.check_images else used & (sizes_wh == 0).any(axis=1))
        if not len(wanted):
            return images
        sizes_wh, splits = sizes_wh.copy(), list(images.splits)
        for image in wanted.tolist():
            path = str(images.paths[image])
            try:
                size_wh = self._read_size_wh(self.raw_data_dir / path)
            except ImageError as error:
                findings.append(Finding(UNREADABLE, str(error)))
                splits[image] = None
                continue
            if sizes_wh[image].any() and tuple(sizes_wh[image]) != size_wh:
                annotated, actual = ("x".join(map(str, size)) for size in (sizes_wh[image], size_wh))
                findings.append(Finding(OTHER_SIZE, f"{path}: {actual} (width x height), annotated {annotated}"))
            sizes_wh[image] = size_wh
        return replace(images, table=replace(images.table, image_sizes_wh=sizes_wh), splits=splits)

    def _read_size_wh(self, path: Path) -> tuple[int, int]:
        if self.check_images:
            height, width = load_image(path, to_8bit=True).pixels.shape[:2]
        else:
            height, width = read_size(path)
        return width, height

    def _refuse_box_faults(self, findings: Sequence[Finding]) -> None:
        if self.boxes != "error":
            return
        problems = [f"{finding.kind}: {finding.where}" for finding in findings if finding.kind in _BOX_FAULTS]
        raise_problems("boxes that no image can have", problems, "correct them, or take --boxes clip or drop")


def part_path(parts_dir: Path, source: RawSource) -> Path:
    """Return where the part file of a dataset is."""
    return parts_dir / f"{hashlib.blake2b(os.fsencode(source.source), digest_size=16).hexdigest()}.part"


def _with_classes(table: AnnotationTable, class_names: dict[str, None]) -> AnnotationTable:
    """Return the table with its class ids replaced by the dataset's own; its class names are added to those."""
    if table.class_names == tuple(class_names):
        return table
    class_names.update(dict.fromkeys(table.class_names))
    places = {name: place for place, name in enumerate(class_names)}
    own: NDArray[np.int64] = np.array([*(places[name] for name in table.class_names), -1], np.int64)  # -1 stays -1
    return replace(table, class_ids=own[table.class_ids])


def _split_documents(
    documents: Sequence[Document], rule: SplitRule, findings: list[Finding], *, keep: bool
) -> tuple[list[list[Split | None]], str | None]:
    """Return the split of each image of each document, None for images without a file; and a group that was moved."""
    groups: dict[str, str] = {}
    for document in documents:
        for path in document.paths:
            if path is None:
                continue
            if path in groups:
                findings.append(Finding(ANNOTATED_TWICE, path))
            groups[path] = rule.group_of(path)
    if rule.group_by is not None:
        findings.extend(Finding(NOT_GROUPED, path) for path in groups if not rule.groups_by_path(path))
    shared_out = [
        path for document in documents if not (keep and document.file.split) for path in document.paths if path
    ]
    shared_groups = list(dict.fromkeys(groups[path] for path in shared_out))
    train = rule.train_groups(shared_groups)
    splits: list[list[Split | None]] = []
    for document in documents:
        kept = document.file.split if keep else None
        splits.append([_split_of(path, groups, train, kept) for path in document.paths])
    if keep:
        findings.extend(_groups_on_two_sides(documents, splits, groups))
    return splits, rule.moved_group(shared_groups, train) if len(shared_groups) < _FEW_GROUPS else None


def _split_of(path: str | None, groups: dict[str, str], train: set[str], kept: Split | None) -> Split | None:
    if path is None:
        return None
    return kept or ("train" if groups[path] in train else "val")


def _groups_on_two_sides(
    documents: Sequence[Document], splits: Sequence[Sequence[Split | None]], groups: dict[str, str]
) -> Iterator[Finding]:
    sides: dict[str, Split] = {}
    for document, document_splits in zip(documents, splits, strict=True):
        for path, split in zip(document.paths, document_splits, strict=True):
            if path is not None and split is not None and sides.setdefault(groups[path], split) != split:
                yield Finding(ON_TWO_SIDES, f"{path} is in {split}, its group also in {sides[groups[path]]}")
