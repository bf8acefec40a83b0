"""What the imports of all formats have in common: the options, the job and what is done to one sample."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, Literal, TypeVar

from pydantic import Field

from toolkit.core.batch import Figures, Job, Outcome, Step
from toolkit.core.claims import claimed_folder
from toolkit.core.errors import InputProblemsError, MvtkError, OptionError
from toolkit.core.files import make_folder
from toolkit.core.options import ALL, BatchOptions
from toolkit.images import ExifPolicy
from toolkit.sam.image_references import ImageMatch
from toolkit.sam.import_writing import ImportedObject, ImportFolder, read_image
from toolkit.sam.layout import SUMMARY

ALREADY_IMPORTED: Final = "imported already"
NO_OBJECTS: Final = "no objects"
EMPTY_OBJECT: Final = "an object without pixels is left out"
OTHER_LABEL: Final = "objects of other classes are left out"

OptionsT = TypeVar("OptionsT", bound="ImportOptions")


class ImportOptions(BatchOptions):
    """The options that all imports take.

    Attributes:
        images: the folder with the images, which is searched to any depth.
        output: the folder to make, new or empty, or one that an earlier run began.
        image_match: how references map to files; see :data:`toolkit.sam.image_references.ImageMatch`.
        image_prefix: the folder of references that stands for ``images``.
        classes: the names of the classes 0, 1, …; None: all that occur, sorted by name or by their ids.
        other_labels: what becomes of labels that are none of ``classes``: an error, or their objects are left out.
        exif: whether objects were drawn in images as EXIF data turn them, or as they are stored.
        overwrite: make samples again that are there, and remove those of other imports.
    """

    images: Path | None = None
    output: Path
    image_match: ImageMatch = "auto"
    image_prefix: str = ""
    classes: tuple[str, ...] | None = Field(default=None, min_length=1)
    other_labels: Literal["error", "skip"] = "error"
    exif: ExifPolicy = "ignore"
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class ImportItem:
    """One sample to make.

    Attributes:
        source: the sample's id.
        reference: of its image, as the export has it.
        digest: of what it is made from.
    """

    source: str
    reference: str
    digest: str


ItemT = TypeVar("ItemT", bound=ImportItem)


@dataclass(slots=True)
class Remarks:
    """What is to be said of a sample: each remark once, however many objects it concerns."""

    texts: dict[str, None] = field(default_factory=dict)

    def add(self, text: str) -> None:
        """Add a remark."""
        self.texts[text] = None


class ImportStep(Step[ItemT], Generic[ItemT, OptionsT]):
    """Find one image, draw its objects' masks and write both.

    Args:
        options: the job's.
        class_names: of the classes 0, 1, ….
    """

    def __init__(self, options: OptionsT, class_names: Sequence[str]) -> None:
        self._options = options
        self._folder = ImportFolder(options.output)
        self._class_of = {name: class_id for class_id, name in enumerate(class_names)}

    @abstractmethod
    def find_image(self, item: ItemT, staging: Path) -> Path:
        """Return the image of an item, which may be put into ``staging``.

        Raises:
            MvtkError: there is none.
        """

    @abstractmethod
    def objects(self, item: ItemT, height: int, width: int, remarks: Remarks) -> Iterator[ImportedObject]:
        """Yield the objects of an item; what is odd about them goes to ``remarks``.

        Args:
            item: the item.
            height: of its image, in pixels.
            width: of its image, in pixels.
            remarks: grows.

        Raises:
            MvtkError: they cannot be read.
        """

    def process_one(self, item: ItemT) -> Outcome:
        """Write one sample.

        Raises:
            StopRunError: the disk is full, or a server cannot be reached.
            MvtkError: the image or the objects cannot be read, or the sample cannot be written.
        """
        remarks = Remarks()
        with self._folder.staging() as staging:
            image = read_image(self.find_image(item, staging), self._options.exif)
            objects = self.objects(item, image.height, image.width, remarks)
            count = self._folder.write_sample(item.source, image, objects, item.digest, staging)
        if not count:
            return Outcome.skipped(item.source, NO_OBJECTS)
        return Outcome.done(item.source, warnings=(*image.warnings, *remarks.texts), masks=count)

    def class_id(self, label: str) -> int | None:
        """Return a label's class; None where it is none and may be left out."""
        return self._class_of.get(label)


class ImportJob(Job[ItemT], Generic[ItemT, OptionsT]):
    """An import: its samples are known when it begins.

    Runs of shards fill the folder together; ``summary.json`` is written by a run of all, which then only looks.

    Args:
        options: the job's.
        entries: each sample to make, and for each that cannot or need not be made, why.
        class_names: of the classes 0, 1, ….
        groups: the group of each sample that has one.

    Raises:
        OptionError: options that contradict each other.
        MvtkError: there is nothing to do, or the output folder cannot be used.
    """

    def __init__(
        self,
        options: OptionsT,
        entries: Sequence[ItemT | Outcome],
        class_names: Sequence[str],
        groups: Mapping[str, str],
    ) -> None:
        if options.overwrite and options.shard != ALL:
            raise OptionError("--overwrite with --shard: shards would remove each other's samples", "give one of them")
        self._options = options
        self._entries = entries
        self._class_names = class_names
        self._groups = groups
        self._sample_ids = [entry.source for entry in entries if not isinstance(entry, Outcome)]
        self._folder = ImportFolder(options.output)
        self._folder.require_usable(self._sample_ids, overwrite=options.overwrite)
        self._complete: set[str] = set()

    @property
    def options(self) -> OptionsT:
        """The options."""
        return self._options

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes 0, 1, …."""
        return tuple(self._class_names)

    @property
    def size(self) -> int | None:
        """The number of entries; None for a shard."""
        return len(self._entries) if self._options.shard == ALL else None

    def plan(self) -> Iterator[ItemT | Outcome]:
        """Yield each sample that is to be made, and why each other one is not."""
        for entry in self._entries:
            if self._options.shard.holds(entry.source):
                yield entry if isinstance(entry, Outcome) else self._settled(entry) or entry

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the output folder and make it ready; remove what killed runs left there."""
        options = self._options
        make_folder(options.output)
        with claimed_folder(options.output, self.command, options.shard):
            alone = options.shard == ALL
            self._folder.begin(self._sample_ids, overwrite=options.overwrite, alone=alone)
            try:
                yield
            finally:
                if alone:
                    self._folder.clear_staging()

    def watch(self, outcome: Outcome) -> Outcome:
        """Remember which samples are there."""
        if outcome.status == "done" or outcome.reason == ALREADY_IMPORTED:
            self._complete.add(outcome.source)
        return outcome

    def finish(self, figures: Figures) -> None:
        """Write ``summary.json`` with the samples that are there, if every sample was looked at.

        Raises:
            MvtkError: it cannot be written.
        """
        if figures.total == self.size:
            there = [sample_id for sample_id in self._sample_ids if sample_id in self._complete]
            groups = {sample_id: self._groups[sample_id] for sample_id in there if sample_id in self._groups}
            self._folder.write_summary(there, self._class_names, groups)

    def stats(self, figures: Figures) -> Mapping[str, Any]:
        """Return the classes, and whether the folder is complete."""
        del figures
        stats: dict[str, Any] = {"classes": list(self._class_names)}
        if not (self._folder.has_summary or self._options.dry_run):
            hint = "run the command again, without --shard and --max-files, to write it"
            stats["remarks"] = [f"{SUMMARY} is not written yet: {hint}"]
        return stats

    def _settled(self, item: ItemT) -> Outcome | None:
        """Return the outcome of a sample that is there; None where there is work to do."""
        record = None if self._options.overwrite else self._folder.record(item.source)
        if record is None or not self._folder.is_complete(record):
            return None
        if record.digest == item.digest:
            return Outcome.skipped(item.source, ALREADY_IMPORTED)
        reason = "was imported with other annotations or options; use --overwrite to make the folder anew"
        return Outcome.failed(item.source, reason, "exists with other content")


def choose_classes(labels: Iterable[str], options: ImportOptions) -> tuple[str, ...]:
    """Return the names of the classes.

    Args:
        labels: all that occur, in the order that they have without ``options.classes``.
        options: the job's.

    Raises:
        OptionError: ``options.classes`` names one twice.
        InputProblemsError: all labels that are none of ``options.classes``, unless they may be left out.
    """
    if options.classes is None:
        return tuple(labels)
    if len(set(options.classes)) < len(options.classes):
        raise OptionError("--classes names a class twice", "each class has one number")
    others = [label for label in labels if label not in options.classes]
    if others and options.other_labels == "error":
        raise InputProblemsError(
            "labels that are none of --classes",
            [repr(label) for label in others],
            "add them to --classes, or leave their objects out with --other-labels skip",
        )
    return options.classes


def digest_of(parts: Iterable[bytes]) -> str:
    """Return a digest that differs where any of the parts does."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def repeated_groups(group_of: Mapping[str, str]) -> dict[str, str]:
    """Return the group of each sample that is not alone in it."""
    members: dict[str, int] = {}
    for group in group_of.values():
        members[group] = members.get(group, 0) + 1
    return {sample_id: group for sample_id, group in group_of.items() if members[group] > 1}


def failed_entry(source: str, error: MvtkError, kind: str) -> Outcome:
    """Return the outcome of a sample that cannot be made, whatever its image is like."""
    return Outcome.failed(source, str(error), kind)
