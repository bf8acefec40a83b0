"""Verify SAM training data: every sample in full, what belongs to none, and leaks between training and validation."""

from __future__ import annotations

import heapq
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final

from pydantic import Field

from toolkit.core.batch import Figure, Figures, Job, Outcome, Step
from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.core.options import BatchOptions
from toolkit.sam.inspection import examine_sample, listed_ious
from toolkit.sam.layout import IMAGES, NO_BOXES, NOT_LISTED, LayoutScan, SampleFiles, scan_layout
from toolkit.sam.samples import SampleProblem
from toolkit.sam.split_file import SPLIT_NAME, Split, load_split

DEFAULT_MIN_IOU: Final = 0.5
LEAK: Final = "leak between training and validation"
SAME_IMAGE: Final = "same picture as another sample"
_SEVERAL: Final = "several problems"
_WORST_SHOWN: Final = 10
_GOOD_IOU: Final = 0.9
"""Samples whose boxes fit better are not worth a remark."""


class VerifySamOptions(BatchOptions):
    """The options of a verification.

    Attributes:
        root: the dataset.
        min_iou: a box that overlaps the bounding box of its mask less (intersection over union) is a problem.
        split: the split to check for leaks; None: ``split.json`` in the dataset, if there is one.
    """

    root: Path
    min_iou: float = Field(default=DEFAULT_MIN_IOU, ge=0, le=1)
    split: Path | None = None


@dataclass(frozen=True, slots=True)
class SampleItem:
    """One sample, and what the look at the folders has found wrong with it."""

    source: str
    files: SampleFiles
    known: tuple[SampleProblem, ...]


class VerifySample(Step[SampleItem]):
    """Read one sample in full and say everything that is wrong with it."""

    def __init__(self, class_count: int | None, min_iou: float) -> None:
        self._class_count = class_count
        self._min_iou = min_iou

    def process_one(self, item: SampleItem) -> Outcome:
        """Return done with the sample's figures, or failed with all its problems."""
        report = examine_sample(item.files, self._class_count, self._min_iou)
        problems = [*item.known, *report.problems]
        classes = Counter(report.class_ids)
        details: dict[str, Figure] = {
            "sample": item.files.id,
            "instances": report.mask_count,
            "classes": ",".join(f"{class_id}:{classes[class_id]}" for class_id in sorted(classes)),
            "box_ious": listed_ious(report.ious),
            "content": report.content,
        }
        if report.ious:
            details["lowest_iou"] = round(min(report.ious), 4)
        warnings = tuple(report.warnings)
        if not problems:
            return Outcome(item.source, "done", details=details, warnings=warnings)
        kinds = {problem.kind for problem in problems}
        reason = "; ".join(problem.text for problem in problems)
        failed = Outcome.failed(item.source, reason, kinds.pop() if len(kinds) == 1 else _SEVERAL)
        return replace(failed, details=details, warnings=warnings)


class VerifySamJob(Job[SampleItem]):
    """The verification of a dataset: an item a sample, and one for each file that belongs to none.

    Raises:
        MvtkError: the folder is no dataset, ``summary.json`` is unusable, or there are no samples.
    """

    command: ClassVar[str] = "sam verify"

    def __init__(self, options: VerifySamOptions) -> None:
        self._options = options
        self._scan = scan_layout(options.root)
        layout = self._scan.layout
        if not layout.samples and not self._scan.problems:
            raise MvtkError(
                f"{options.root}: summary.json lists no samples", "import some, such as with sam import-coco"
            )
        self._split_source, self._side_of, self._split_problems = _examine_split(options, self._scan)
        self._entries = [entry for entry in self._list() if options.shard.holds(entry.source)]
        self._first_with_content: dict[str, tuple[str, str]] = {}
        self._instances: list[int] = []
        self._classes: Counter[int] = Counter()
        self._lowest: list[tuple[float, str]] = []

    @property
    def options(self) -> VerifySamOptions:
        """The options."""
        return self._options

    @property
    def size(self) -> int:
        """The number of samples, files that belong to none, and the split."""
        return len(self._entries)

    def plan(self) -> Iterator[SampleItem | Outcome]:
        """Yield what is known of the split and of files that belong to no sample, then each sample."""
        yield from self._entries

    def step(self) -> VerifySample:
        """Return the verification of one sample."""
        return VerifySample(self._scan.layout.class_count, self._options.min_iou)

    def watch(self, outcome: Outcome) -> Outcome:
        """Count the sample's instances, and compare its picture with those seen before."""
        sample_id = outcome.details.get("sample")
        if sample_id is None:
            return outcome
        self._instances.append(int(outcome.details["instances"]))
        for entry in filter(None, str(outcome.details["classes"]).split(",")):
            class_id, count = map(int, entry.split(":"))
            self._classes[class_id] += count
        if "lowest_iou" in outcome.details:
            self._lowest.append((float(outcome.details["lowest_iou"]), str(sample_id)))
        return self._compare_pictures(outcome, str(sample_id))

    def stats(self, figures: Figures) -> Mapping[str, Any]:
        """Return the instances, the classes, and the samples whose boxes fit their masks least."""
        del figures
        names = self._scan.layout.class_names
        counts = self._instances
        worst = heapq.nsmallest(_WORST_SHOWN, self._lowest)
        sides = Counter(self._side_of.values())
        return {
            "samples": len(counts),
            "instances": sum(counts),
            "instances_an_image": {
                "least": min(counts, default=0),
                "median": statistics.median(counts) if counts else 0,
                "most": max(counts, default=0),
            },
            "classes": {
                names[class_id] if class_id < len(names) else str(class_id): self._classes[class_id]
                for class_id in sorted(self._classes)
            },
            "lowest_box_ious": [{"sample": sample_id, "iou": iou} for iou, sample_id in worst],
            "split": dict(sorted(sides.items())),
            "remarks": list(self._remarks(worst)),
        }

    def _remarks(self, worst: Sequence[tuple[float, str]]) -> Iterator[str]:
        odd = ", ".join(f"{sample_id} {iou:.2f}" for iou, sample_id in worst if iou < _GOOD_IOU)
        if odd:
            yield f"lowest IoU of a box and its mask: {odd}"
        if not self._split_source:
            yield "there is no split.json, so leaks cannot be looked for: make one with mvtk sam split"
        elif self._side_of and (left := len(self._scan.layout.samples) - len(self._side_of)):
            yield f"{self._split_source} leaves {left} samples out"

    def _list(self) -> Iterator[SampleItem | Outcome]:
        if self._split_source:
            problems = "; ".join(self._split_problems)
            yield Outcome.failed(self._split_source, problems, LEAK) if problems else Outcome.done(self._split_source)
        for leftover in self._scan.leftovers:
            if leftover.kind == NOT_LISTED:
                yield Outcome.skipped(leftover.source, NOT_LISTED)
            else:
                yield Outcome.failed(leftover.source, leftover.text, leftover.kind)
        layout = self._scan.layout
        known: dict[str, list[SampleProblem]] = {sample_id: [] for sample_id in layout.ids}
        for problem in self._scan.problems:
            if problem.sample_id not in known:
                yield Outcome.failed(problem.source, problem.text, problem.kind)
            elif problem.kind != NO_BOXES:  # whoever opens them will say it
                text = f"{problem.source}: {problem.text}"
                known[problem.sample_id].append(SampleProblem(problem.kind, text))
        for files in layout.samples:
            yield SampleItem(f"{IMAGES}/{files.image_name}", files, tuple(known[files.id]))

    def _compare_pictures(self, outcome: Outcome, sample_id: str) -> Outcome:
        content = str(outcome.details["content"])
        if not content:
            return outcome
        side = self._side_of.get(sample_id, "")
        other, other_side = self._first_with_content.setdefault(content, (outcome.source, side))
        if other == outcome.source:
            return outcome
        if side == other_side or not (side and other_side):
            return replace(outcome, warnings=(*outcome.warnings, SAME_IMAGE))
        leak = f"the same picture as {other}, and one is for training, the other for validation"
        reason = f"{outcome.reason}; {leak}" if outcome.reason else leak
        return replace(outcome, status="failed", reason=reason, kind=outcome.kind or LEAK)


def _examine_split(options: VerifySamOptions, scan: LayoutScan) -> tuple[str, dict[str, str], list[str]]:
    """Return the split's name as it is reported ("" where there is none), each sample's side, and its problems."""
    path = options.split or options.root / SPLIT_NAME
    if options.split is None and not path.exists():
        return "", {}, []
    source = path.name if options.split is None else str(path)
    try:
        split = load_split(path, set(scan.layout.ids))
    except InputProblemsError as error:
        return source, {}, list(error.problems)
    except MvtkError as error:
        return source, {}, [str(error)]
    sides = dict.fromkeys(split.train, "train") | dict.fromkeys(split.val, "val")
    return source, sides, _group_leaks(split, scan.layout.groups)


def _group_leaks(split: Split, groups: Mapping[str, str]) -> list[str]:
    train = {groups[sample_id] for sample_id in split.train if sample_id in groups}
    both = sorted(train & {groups[sample_id] for sample_id in split.val if sample_id in groups})
    return [f"group {group!r} is in train and val" for group in both]
