"""Verify features files: their arrays and marks, and a sample of them against a fresh encoding."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from toolkit.core.batch import Figures, Job, Outcome, Step
from toolkit.core.listing import require_folder
from toolkit.core.options import ALL, BatchOptions
from toolkit.features.encoding import P4_KEY, P5_KEY, EncodingStep, FeatureItem, PreparedImage
from toolkit.features.feature_source import FLAG_KEY, SOURCE_KEY, FeatureMarks, FeatureSource, read_feature_marks
from toolkit.features.jobs import EncodingJob
from toolkit.features.options import EncodingOptions
from toolkit.images.search import ImageLookupError, ImageSearch
from toolkit.npz.checks import check_npz
from toolkit.npz.feature_files import image_id_of, list_feature_files, require_feature_files, sample_of
from toolkit.npz.reading import NpzReader, open_npz


class VerifyFeaturesOptions(BatchOptions):
    """The options of a verification.

    Attributes:
        root: folder with the features files, searched to any depth.
    """

    root: Path


class RecomputeOptions(EncodingOptions):
    """The options of a verification against fresh features.

    Attributes:
        root: folder with the features files and their images, searched to any depth.
        recompute: compare so many files, spread over all of them and the same ones each time.
        min_cosine: a file whose features have a lower cosine similarity with the fresh ones is a problem.
    """

    root: Path
    recompute: int = Field(ge=1)
    min_cosine: float = Field(default=0.999, ge=-1, le=1)


class VerifyFile(Step[FeatureItem]):
    """Check the arrays and marks of one file."""

    def process_one(self, item: FeatureItem) -> Outcome:
        """Return done, or failed with everything that is wrong."""
        problems, source = check_features(Path(item.npz_path))
        if problems:
            return Outcome.failed(item.source, "; ".join(problems), "problems")
        return Outcome.done(item.source, model=source.model if source else "not said")


class VerifyFeaturesJob(Job[FeatureItem]):
    """The verification of all features files below a folder, which are listed first: a path a file is held in memory.

    Raises:
        MvtkError: the folder does not exist or has no features files.
    """

    command: ClassVar[str] = "features verify"

    def __init__(self, options: VerifyFeaturesOptions) -> None:
        self._options = options
        self._sources = _list(options.root, options)
        self._models: dict[str, int] = {}

    @property
    def options(self) -> VerifyFeaturesOptions:
        """The options."""
        return self._options

    @property
    def size(self) -> int:
        """The number of files of this shard."""
        return len(self._sources)

    def plan(self) -> Iterator[FeatureItem | Outcome]:
        """Yield each file."""
        for source in self._sources:
            yield FeatureItem(source, os.fspath(self._options.root / source), "")

    def step(self) -> VerifyFile:
        """Return the verification of one file."""
        return VerifyFile()

    def watch(self, outcome: Outcome) -> Outcome:
        """Count the models that made the features."""
        model = outcome.details.get("model")
        if model is not None:
            self._models[str(model)] = self._models.get(str(model), 0) + 1
        return outcome

    def stats(self, figures: Figures) -> Mapping[str, Any]:
        """Return how many sound files each model made."""
        del figures
        return {"models": dict(sorted(self._models.items()))}


class RecomputeStep(EncodingStep):
    """Compare the features of a file with fresh ones."""

    def __init__(self, job: RecomputeJob) -> None:
        super().__init__(job.settings)
        self._source = job.feature_source
        self._min_cosine = job.options.min_cosine

    def prepare(self, item: FeatureItem) -> PreparedImage | Outcome:
        """Check the file, and read and preprocess its image.

        Raises:
            MvtkError: one of them cannot be read.
        """
        problems, source = check_features(Path(item.npz_path))
        if source is not None and not replace(source, stored=self._source.stored).same_features(self._source):
            problems.append(f"its features were made by {_maker(source)}, not by {_maker(self._source)}")
        if problems:
            return Outcome.failed(item.source, "; ".join(problems), "problems")
        pixels_hwc, warnings = self.read_image(item.image_path)
        height, width, channels = pixels_hwc.shape
        tensor = self.encoder.prepare(pixels_hwc)
        return PreparedImage(item, tensor, (height, width, channels), None, warnings)

    def publish(self, image: PreparedImage, p4: npt.NDArray[Any], p5: npt.NDArray[Any]) -> Outcome:
        """Return how far the stored features are from the fresh ones."""
        figures: dict[str, float] = {}
        with open_npz(image.item.npz_path) as reader:
            for name, key, fresh in (("p4", P4_KEY, p4), ("p5", P5_KEY, p5)):
                cosine, max_error = _distance(reader, key, fresh)
                figures |= {f"{name}_cosine": cosine, f"{name}_max_error": max_error}
        worst = min(figures["p4_cosine"], figures["p5_cosine"])
        if worst < self._min_cosine:
            shown = ", ".join(f"{name} {value:.6g}" for name, value in figures.items())
            reason = f"differs from a fresh encoding of {image.item.image_path}: {shown}"
            return Outcome.failed(image.item.source, reason, "differs from a fresh encoding")
        return Outcome.done(image.item.source, warnings=image.warnings, **figures)


class RecomputeJob(EncodingJob[RecomputeOptions]):
    """The verification of a sample of features files against fresh features.

    Raises:
        MvtkError: the folder does not exist or has no features files, or as in :class:`EncodingJob`.
    """

    command: ClassVar[str] = "features verify"

    def __init__(self, options: RecomputeOptions) -> None:
        sources = _list(options.root, options)
        super().__init__(options)
        self._sources = sample_of(sources, options.recompute)
        self._worst = {"min_cosine": 1.0, "max_error": 0.0}

    @property
    def size(self) -> int:
        """The number of files to compare."""
        return len(self._sources)

    def plan(self) -> Iterator[FeatureItem | Outcome]:
        """Yield each file of the sample with its image, which lies beside it, else anywhere below the root."""
        root = self.options.root
        search = ImageSearch(root)
        for source in self._sources:
            path = root / source
            try:
                image = search.find(path.parent, image_id_of(path.name))
            except ImageLookupError as error:
                yield Outcome.failed(source, str(error), error.kind)
            else:
                yield FeatureItem(source, os.fspath(path), os.fspath(image))

    def step(self) -> RecomputeStep:
        """Return the comparison of one file."""
        return RecomputeStep(self)

    def _bytes_a_file(self) -> int:
        """Return 0: nothing is written."""
        return 0

    def watch(self, outcome: Outcome) -> Outcome:
        """Note the worst figures."""
        for key, value in outcome.details.items():
            if key.endswith("_cosine"):
                self._worst["min_cosine"] = min(self._worst["min_cosine"], float(value))
            elif key.endswith("_max_error"):
                self._worst["max_error"] = max(self._worst["max_error"], float(value))
        return super().watch(outcome)

    def stats(self, figures: Figures) -> Mapping[str, Any]:
        """Return the worst figures of the sound files, beside those of the encoding."""
        stats = dict(super().stats(figures))
        if figures.done and not self.options.dry_run:
            least, largest = self._worst["min_cosine"], self._worst["max_error"]
            stats["remarks"] += [f"least cosine similarity {least:.6g}, largest difference {largest:.3g}"]
        return {**stats, **self._worst}


def _maker(source: FeatureSource) -> str:
    return f"{source.model} in {source.dtype} with the weights {source.weights_sha256[:12]}"


def check_features(path: Path) -> tuple[list[str], FeatureSource | None]:
    """Read a features file in full; return all its problems, and what it says of where its features come from."""
    problems = list(check_npz(path, "features").problems)
    if problems:
        return problems, None
    with open_npz(path) as reader:
        marks = read_feature_marks(reader)
        return _mark_problems(reader, marks), marks.source


def _mark_problems(reader: NpzReader, marks: FeatureMarks) -> list[str]:
    problems = []
    if not marks.flag and marks.source is None:
        problems.append(f"{FLAG_KEY} is not 1 and there is no {SOURCE_KEY}: its features were not repaired")
    if marks.source is None and SOURCE_KEY in reader.members:
        problems.append(f"{SOURCE_KEY} is not what mvtk writes")
    return problems


def _distance(reader: NpzReader, key: str, fresh: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the cosine similarity and the largest absolute difference of stored and fresh features."""
    stored = reader.read(key).astype(np.float64).ravel()
    other = fresh.astype(np.float64).ravel()
    norms = np.linalg.norm(stored) * np.linalg.norm(other)
    cosine = float(stored @ other / norms) if norms else float(np.array_equal(stored, other))
    return cosine, float(np.abs(stored - other).max())


def _list(root: Path, options: BatchOptions) -> list[str]:
    require_folder(root, "give the folder with the features files")
    sources = list_feature_files(root, shard=options.shard)
    if options.shard == ALL:
        require_feature_files(sources, root)
    return sources
