"""Verify a mask-attention dataset: every file in full, labels against images, and leaks between splits."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from toolkit.annotations.marked_data_yaml import DATA_YAML
from toolkit.annotations.yolo import load_labels
from toolkit.annotations.yolo_data_yaml import DataYaml, find_data_yaml, load_data_yaml
from toolkit.annotations.yolo_layout import LABEL_SUFFIXES, find_split_folders, label_folder_of
from toolkit.core.batch import Figures, Job, Outcome, Step
from toolkit.core.driver import run_to_end
from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.core.listing import list_files
from toolkit.core.options import ALL, BatchOptions
from toolkit.dataset.mask_attention import SPLITS
from toolkit.npz import DEFAULT_MAX_BYTES, NpzError, load_npz_data
from toolkit.npz.mask_attention import pair_problems

LEAK = "leak between splits"
NO_LABEL = "no label"
NO_IMAGE = "no image"
_MAX_LABEL_PROBLEMS = 20
_ROBOFLOW_COPY = re.compile(r"\.rf\.[0-9A-Za-z]+$")
"""What Roboflow adds to the names of the augmented copies of one photograph."""


class VerifyOptions(BatchOptions):
    """The options of a verification.

    Attributes:
        dataset_root: the dataset, as the conversion writes it.
        splits: the splits to verify.
        max_bytes: a file whose arrays take more bytes is a problem.
    """

    dataset_root: Path
    splits: tuple[str, ...] = Field(default=SPLITS, min_length=1)
    max_bytes: int = Field(default=DEFAULT_MAX_BYTES, ge=1)


@dataclass(frozen=True, slots=True)
class Sample:
    """One NPZ file and its label file, both relative to the dataset's root."""

    source: str
    label: str
    split: str
    has_label: bool


class VerifySample(Step[Sample]):
    """Read one sample in full and say everything that is wrong with it."""

    def __init__(self, options: VerifyOptions, class_count: int | None, channels: int | None) -> None:
        self._options = options
        self._class_count = class_count
        self._channels = channels

    def process_one(self, item: Sample) -> Outcome:
        """Return done with the sample's figures, or failed with all its problems."""
        root = self._options.dataset_root
        problems: list[str] = []
        details: dict[str, str | int] = {"split": item.split}
        try:
            image, mask = load_npz_data(root / item.source, max_bytes=self._options.max_bytes)
        except NpzError as error:
            problems.append(error.problem)
        else:
            problems += pair_problems("image", image, "mask", mask)
            if not problems:
                problems += self._channel_problems(image.shape)
                details["content"] = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).hexdigest()
        kind = "problems"
        if item.has_label:
            label_problems, details["boxes"] = self._check_labels(root, item.label)
            problems += label_problems
        else:
            kind = NO_LABEL if not problems else kind
            problems.append(f"its label {item.label} is missing")
        if problems:
            return replace(Outcome.failed(item.source, "; ".join(problems), kind), details=details)
        return Outcome(item.source, "done", details=details)

    def _channel_problems(self, shape: tuple[int, ...]) -> list[str]:
        channels = (shape[2] if len(shape) == 3 else 1) + 1
        if self._channels in (None, channels):
            return []
        return [f"image and mask have {channels} channels, and {DATA_YAML} says channels: {self._channels}"]

    def _check_labels(self, root: Path, label: str) -> tuple[list[str], int]:
        try:
            labels = load_labels(root / label, class_count=self._class_count)
        except MvtkError as error:
            return [str(error)], 0
        problems = [f"{label}:{problem.line}: {problem.text}" for problem in labels.problems]
        more = len(problems) - _MAX_LABEL_PROBLEMS
        shown = problems[:_MAX_LABEL_PROBLEMS] + ([f"{label}: and {more} more problems"] if more > 0 else [])
        return shown, len(labels.boxes) + len(labels.polygons)


class VerifyDatasetJob(Job[Sample]):
    """The verification of a whole dataset; the names of its files and a hash a picture are held in memory.

    Raises:
        MvtkError: the folder is missing, holds no split, or no NPZ file.
    """

    command: ClassVar[str] = "dataset verify"

    def __init__(self, options: VerifyOptions) -> None:
        self._options = options
        self._folders = find_split_folders(options.dataset_root, "images", options.splits)
        self._images = {split: list_files(folder, {".npz"}) for split, folder in self._folders.items()}
        if not any(self._images.values()):
            folders = ", ".join(map(str, self._folders.values()))
            raise MvtkError(f"{options.dataset_root}: there are no NPZ files in {folders}", "convert a dataset first")
        self._yaml_problem: Outcome | None = None
        self._yaml = self._load_yaml()
        self._split_of_content: dict[str, tuple[str, str]] = {}
        self._split_of_photograph: dict[str, tuple[str, str]] = {}
        self._figures: dict[str, dict[str, int]] = {}

    @property
    def options(self) -> VerifyOptions:
        """The options."""
        return self._options

    @property
    def size(self) -> int | None:
        """The number of samples, where one shard does them all; labels without an image come on top."""
        return sum(map(len, self._images.values())) if self._options.shard == ALL else None

    def plan(self) -> Iterator[Sample | Outcome]:
        """Yield each sample, and an outcome for what has no counterpart and for an unusable data YAML."""
        if self._yaml_problem and self._options.shard.holds(self._yaml_problem.source):
            yield self._yaml_problem
        for split, folder in self._folders.items():
            for entry in self._plan_split(split, folder):
                if self._options.shard.holds(entry.source):
                    yield entry

    def step(self) -> Step[Sample]:
        """Return the verification of one sample."""
        yaml = self._yaml
        return VerifySample(self._options, yaml.class_count if yaml else None, yaml.channels if yaml else None)

    def watch(self, outcome: Outcome) -> Outcome:
        """Count the sample, and compare it with the samples of other splits."""
        split = str(outcome.details.get("split", ""))
        if not split:
            return outcome
        figures = self._figures.setdefault(split, {"samples": 0, "boxes": 0, "backgrounds": 0})
        boxes = outcome.details.get("boxes")
        figures["samples"] += 1
        if boxes is not None:
            figures["boxes"] += int(boxes)
            figures["backgrounds"] += boxes == 0
        leaks = self._leaks(split, outcome)
        if not leaks:
            return outcome
        reason = "; ".join([outcome.reason, *leaks] if outcome.reason else leaks)
        return replace(outcome, status="failed", reason=reason, kind=outcome.kind or LEAK)

    def stats(self, figures: Figures) -> Mapping[str, Any]:
        """Return the samples, boxes and background images of each split."""
        del figures
        return {"splits": {split: self._figures[split] for split in self._folders if split in self._figures}}

    def _load_yaml(self) -> DataYaml | None:
        root = self._options.dataset_root
        try:
            path = find_data_yaml(root)
            if path is not None:
                yaml = load_data_yaml(path)
                if problems := self._missing_folders(yaml):
                    self._yaml_problem = Outcome.failed(path.name, "; ".join(problems), DATA_YAML)
                return yaml
        except InputProblemsError as error:
            self._yaml_problem = Outcome.failed(DATA_YAML, "; ".join(error.problems), DATA_YAML)
        except MvtkError as error:
            self._yaml_problem = Outcome.failed(DATA_YAML, str(error), DATA_YAML)
        else:
            self._yaml_problem = Outcome.failed(DATA_YAML, "there is none: class ids cannot be checked", DATA_YAML)
        return None

    def _missing_folders(self, yaml: DataYaml) -> list[str]:
        """Return what is wrong with the folders that a data YAML names."""
        base = self._options.dataset_root / str(yaml.raw.get("path") or "")
        problems = [f"{role}: missing, and Ultralytics needs it" for role in ("train", "val") if role not in yaml.raw]
        for role, folders in yaml.splits.items():
            problems += [f"{role}: {folder} does not exist" for folder in folders if not (base / folder).exists()]
        return problems

    def _plan_split(self, split: str, folder: Path) -> Iterator[Sample | Outcome]:
        """Yield the samples of one split, then its labels without an image."""
        root = self._options.dataset_root
        label_folder = label_folder_of(folder)
        labels = set(list_files(label_folder, LABEL_SUFFIXES)) if label_folder.is_dir() else set()
        image_prefix = folder.relative_to(root).as_posix()
        label_prefix = label_folder.relative_to(root).as_posix()
        for image in self._images[split]:
            label = PurePosixPath(image).with_suffix(".txt").as_posix()
            yield Sample(f"{image_prefix}/{image}", f"{label_prefix}/{label}", split, has_label=label in labels)
            labels.discard(label)
        for label in sorted(labels):
            wanted = f"{image_prefix}/{PurePosixPath(label).with_suffix('.npz').as_posix()}"
            yield Outcome.failed(f"{label_prefix}/{label}", f"its image {wanted} is missing", NO_IMAGE)

    def _leaks(self, split: str, outcome: Outcome) -> list[str]:
        leaks = []
        content = str(outcome.details.get("content", ""))
        if content:
            other_split, other = self._split_of_content.setdefault(content, (split, outcome.source))
            if other_split != split:
                leaks.append(f"the same picture as {other}")
        stem = PurePosixPath(outcome.source).stem
        photograph = _ROBOFLOW_COPY.sub("", stem)
        if photograph != stem:
            other_split, other = self._split_of_photograph.setdefault(photograph, (split, outcome.source))
            if other_split != split and not leaks:
                leaks.append(f"a copy of the same photograph as {other}")
        return leaks


def verify_npz_dataset(dataset_root: str | Path, splits: Sequence[str] = SPLITS, **options: Any) -> bool:
    """Tell whether every file of a mask-attention dataset is valid; see ``mvtk dataset verify`` for what is wrong.

    Args:
        dataset_root: the dataset, as :func:`create_mask_attention_dataset` writes it.
        splits: the splits to verify; those that the dataset does not have are passed over.
        **options: any further field of :class:`VerifyOptions`.

    Raises:
        MvtkError: the folder is missing or holds none of the splits.
    """
    chosen = (splits,) if isinstance(splits, str) else tuple(splits)
    job = VerifyDatasetJob(VerifyOptions(dataset_root=Path(dataset_root), splits=chosen, **options))
    return run_to_end(job).figures.failed == 0
