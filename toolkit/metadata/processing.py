"""Turn raw annotations into metadata files: ``{train,val}_{detector,landmarker,teacher}.npy``.

Each dataset of the raw data folder is an item: its annotations are read once, its images are shared out between
training and validation, and its samples are written as a part. When all datasets are done, the parts become the
metadata files. Images stay where they are.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from toolkit.core.batch import Figures, Job, Outcome
from toolkit.core.claims import claimed_folder
from toolkit.core.errors import MvtkError
from toolkit.core.files import explain_os_error, make_folder
from toolkit.core.options import ALL, BatchOptions
from toolkit.metadata.boxes import BoxPolicy
from toolkit.metadata.columns import KINDS, Kind
from toolkit.metadata.outputs import MetadataOutput, find_stale, make_outputs, publish_outputs
from toolkit.metadata.raw_sources import RawSource, find_sources
from toolkit.metadata.shared_split import settle_moved_groups
from toolkit.metadata.source_processing import ProcessSource, part_path
from toolkit.metadata.spool import Part
from toolkit.splitting import SplitRule

DEFAULT_RAW_DATA_DIR = Path("common/data/raw")
DEFAULT_OUTPUT_DIR = Path("common/data/preprocessed")
DEFAULT_TRAIN_SPLIT = 0.8
DEFAULT_BATCH_SIZE = 500
DEFAULT_SEED = 42

_PARTS_FOLDER = ".mvtk-parts"
_MAX_LISTED = 1000


class ProcessOptions(BatchOptions):
    """The options of the processing.

    Attributes:
        raw_data_dir: the folder that holds ``detector/`` and ``landmarker/``.
        output_dir: where the metadata files go; made if missing.
        kinds: what to make.
        train_split: the part of the images that is for training, 0 to 1.
        seed: another one shares the images out differently.
        batch_size: images that are worked on together.
        flush_every: batches after which samples are handed to the disk.
        boxes: what becomes of boxes with NaN, without area, or beyond the image.
        group_by: a regular expression; what it captures in an image's path tells which images belong together.
        keep_splits: take the splits of folders train, valid and test as they are.
        check_images: decode every image.
        shift_pts: subtract 1 from the coordinates of PTS files.
        overwrite: replace metadata files with other content.
    """

    raw_data_dir: Path = DEFAULT_RAW_DATA_DIR
    output_dir: Path = DEFAULT_OUTPUT_DIR
    kinds: tuple[Kind, ...] = Field(default=KINDS, min_length=1)
    train_split: float = Field(default=DEFAULT_TRAIN_SPLIT, ge=0, le=1)
    seed: int = DEFAULT_SEED
    batch_size: int = Field(default=DEFAULT_BATCH_SIZE, ge=1)
    flush_every: int = Field(default=1, ge=1)
    boxes: BoxPolicy = "clip"
    group_by: str | None = None
    keep_splits: bool = False
    check_images: bool = False
    shift_pts: bool = False
    overwrite: bool = False

    @field_validator("group_by")
    @classmethod
    def _check_expression(cls, expression: str | None) -> str | None:
        try:
            re.compile(expression or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return expression

    @property
    def rule(self) -> SplitRule:
        """How images are shared out."""
        return SplitRule(self.seed, self.train_split, re.compile(self.group_by) if self.group_by else None)


class ProcessJob(Job[RawSource]):
    """The processing of all datasets of a raw data folder.

    Raises:
        MvtkError: there are none, or a folder cannot be listed.
    """

    command: ClassVar[str] = "dataset process"
    after_interrupt: ClassVar[str] = "no file was written; run the command again"

    def __init__(self, options: ProcessOptions) -> None:
        self._options = options
        found = find_sources(options.raw_data_dir, options.kinds)
        self._sources = [source for source in found if options.shard.holds(source.source)]
        self._done: set[str] = set()
        self._failed = 0
        self._parts: dict[RawSource, Part] = {}
        self._outputs: list[MetadataOutput] = []
        self._states: dict[str, str] = {}

    @property
    def options(self) -> ProcessOptions:
        """The options."""
        return self._options

    @property
    def size(self) -> int:
        """The number of datasets of this shard."""
        return len(self._sources)

    @property
    def devices(self) -> tuple[str, ...]:
        """One entry a worker; a single dataset is done in this process, which spares the start of another one."""
        workers = min(self._options.workers, len(self._sources))
        return ("cpu",) * workers if workers > 1 else ()

    def plan(self) -> Iterator[RawSource | Outcome]:
        """Yield each dataset; one with annotations in two formats fails, as its boxes would count twice."""
        for source in self._sources:
            if len(source.formats) > 1:
                reason = (
                    f"annotations in {' and '.join(source.formats)}, whose boxes would count twice; keep one format"
                )
                yield Outcome.failed(source.source, reason, "annotations in two formats")
            else:
                yield source

    def step(self) -> ProcessSource:
        """Return what is done to one dataset."""
        options = self._options
        return ProcessSource(
            raw_data_dir=options.raw_data_dir,
            parts_dir=self._parts_dir,
            kinds=options.kinds,
            rule=options.rule,
            keep_splits=options.keep_splits,
            boxes=options.boxes,
            batch_size=options.batch_size,
            flush_every=options.flush_every,
            check_images=options.check_images,
            shift_pts=options.shift_pts,
        )

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the output folder; parts are kept in it while the run lasts, and those of a killed run are removed."""
        options = self._options
        make_folder(options.output_dir)
        with claimed_folder(options.output_dir, self.command, options.shard):
            shutil.rmtree(self._parts_dir, ignore_errors=True)
            try:
                self._parts_dir.mkdir()
            except OSError as error:
                raise explain_os_error(error, self._parts_dir, "create the folder") from error
            try:
                yield
            finally:
                shutil.rmtree(self._parts_dir, ignore_errors=True)

    def watch(self, outcome: Outcome) -> Outcome:
        """Remember which datasets are done."""
        if outcome.status == "done":
            self._done.add(outcome.source)
        self._failed += outcome.status == "failed"
        return outcome

    def finish(self, figures: Figures) -> None:
        """Make the metadata files of the datasets that are done, unless the run was ended early.

        Raises:
            MvtkError: files exist with other content and may not be replaced, or one cannot be written.
        """
        del figures
        options = self._options
        asked_for = min(options.max_files or len(self._sources), len(self._sources))
        if len(self._done) + self._failed < asked_for or not self._done:
            return
        self._parts = {
            source: Part.open(part_path(self._parts_dir, source))
            for source in self._sources
            if source.source in self._done
        }
        if not options.keep_splits:
            settle_moved_groups(self._parts, options.rule, self._process_again)
        complete = len(self._done) == len(self._sources)
        outputs = make_outputs(
            self._parts,
            options.kinds,
            raw_data_dir=options.raw_data_dir,
            output_dir=options.output_dir,
            made_in=self._parts_dir,
            shard=options.shard,
            split_by=self._split_by() | ({} if complete else {"partial": True}),
        )
        self._outputs = list(outputs)
        if not self._outputs:
            raise MvtkError(f"{options.raw_data_dir}: no samples ({self._findings_in_words()})", "check the raw data")
        hint = "use --overwrite to replace them"
        if not complete:
            hint = "not all datasets are done, and only a complete run replaces files"
        self._states = publish_outputs(
            self._outputs,
            find_stale(self._outputs, options.output_dir, options.kinds, options.shard),
            complete=complete,
            overwrite=options.overwrite,
            hint=hint,
        )

    def _process_again(self, source: RawSource, rule: SplitRule) -> Part:
        """Return the part of a dataset that is shared out by another rule."""
        dataclasses.replace(self.step(), rule=rule).process_one(source)
        return Part.open(part_path(self._parts_dir, source))

    def stats(self, figures: Figures) -> Mapping[str, Any]:
        """Return the files with their samples, the balance of the splits, and what was left out."""
        del figures
        listed = [
            {"source": source.source, "kind": kind, "where": where}
            for source, part in self._parts.items()
            for kind, where in part.notes["listed"]
        ]
        counts = self._finding_counts()
        return {
            "files": {
                output.target.name: {
                    "samples": output.samples,
                    "rows": output.rows,
                    "bytes": output.size_bytes,
                    "state": self._states.get(output.target.name, "not published"),
                }
                for output in self._outputs
            },
            "train_part": self._balance(),
            "findings": dict(counts),
            "findings_listed": listed[:_MAX_LISTED],
            "findings_omitted": counts.total() - len(listed[:_MAX_LISTED]),
            "remarks": self._remarks(listed),
        }

    @property
    def _parts_dir(self) -> Path:
        shard = self._options.shard
        suffix = "" if shard == ALL else f"-{shard.index}-of-{shard.count}"
        return self._options.output_dir / f"{_PARTS_FOLDER}{suffix}"

    def _split_by(self) -> dict[str, Any]:
        options = self._options
        return {
            "seed": options.seed,
            "train_split": options.train_split,
            "group_by": options.group_by,
            "keep_splits": options.keep_splits,
        }

    def _finding_counts(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for part in self._parts.values():
            counts.update(part.notes["findings"])
        return counts

    def _findings_in_words(self) -> str:
        return ", ".join(f"{kind}: {count:,}" for kind, count in self._finding_counts().most_common()) or "no images"

    def _balance(self) -> dict[str, float]:
        """Return which part of each kind's samples is for training."""
        balance: dict[str, float] = {}
        for kind in self._options.kinds:
            samples = {output.split: output.samples for output in self._outputs if output.kind == kind}
            if sum(samples.values()):
                balance[kind] = round(samples["train"] / sum(samples.values()), 4)
        return balance

    def _remarks(self, listed: Sequence[Mapping[str, str]]) -> list[str]:
        remarks = []
        for kind in self._options.kinds:
            own = [output for output in self._outputs if output.kind == kind]
            if own:
                splits = ", ".join(f"{output.samples:,} {output.split}" for output in own)
                remarks.append(f"{kind}: {splits} ({self._balance().get(kind, 0):.1%} train)")
            elif self._outputs:
                remarks.append(f"{kind}: no samples, so no files")
        for finding, count in self._finding_counts().most_common():
            example = next((entry["where"] for entry in listed if entry["kind"] == finding), "")
            remarks.append(f"{finding}: {count:,}" + (f", such as {example}" if example else ""))
        unchanged = sum(state == "unchanged" for state in self._states.values())
        if unchanged:
            remarks.append(f"{unchanged} of {len(self._states)} files were up to date and are unchanged")
        removed = [name for name, state in self._states.items() if state == "removed"]
        if removed:
            remarks.append(f"removed, as no dataset has such samples now: {', '.join(removed)}")
        if self._states and len(self._done) < len(self._sources):
            remarks.append(f"the files are partial: {len(self._done)} of {len(self._sources)} datasets are in them")
        return remarks
