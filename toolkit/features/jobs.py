"""What the jobs that encode images share: devices, the encoder's settings, folders held, figures."""

from __future__ import annotations

import functools
import math
import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

from toolkit.core.batch import Figures, Job, Outcome
from toolkit.core.claims import claimed_folder
from toolkit.core.devices import resolve_devices
from toolkit.core.errors import MvtkError
from toolkit.core.extras import require_installed
from toolkit.features.encoding import (
    FEATURE_SHAPES,
    P4_KEY,
    P5_KEY,
    STALE,
    EncodingSettings,
    FeatureItem,
    RepairStep,
    SkipRule,
)
from toolkit.features.estimate import seconds_an_image
from toolkit.features.feature_source import FeatureSource, read_feature_marks
from toolkit.features.options import EncodingOptions
from toolkit.features.weights import resolve_weights
from toolkit.images.search import ImageLookupError, ImageSearch
from toolkit.npz.feature_files import image_id_of
from toolkit.npz.reading import open_npz

OptionsT = TypeVar("OptionsT", bound=EncodingOptions)

RANDOM_WEIGHTS = "the weights are random: such features are for tests only"

_CPU_BATCH, _GPU_BATCH = 1, 8
_LIMITS = {"encoder": "batch_ms", "reading": "input_wait_ms", "writing": "writer_wait_ms"}
"""What the thread that encodes spends its time on, and the figure that tells how much."""


class EncodingJob(Job[FeatureItem], Generic[OptionsT]):
    """A job that encodes images.

    Raises:
        MissingExtraError: the extra ``features`` is not installed.
        OptionError: the model is unknown, or cannot be inferred.
        MvtkError: the weights or the device are not there.
    """

    def __init__(self, options: OptionsT) -> None:
        self._options = options
        self._devices = resolve_devices(options.device, options.device_policy)
        require_installed("sam2", "features")
        self._weights = resolve_weights(options.weights, options.model)
        self._milliseconds: dict[str, float] = {}

    @property
    def options(self) -> OptionsT:
        """The options."""
        return self._options

    @property
    def devices(self) -> tuple[str, ...]:
        """One worker a device; none for the CPU with ``workers=0``, which works in the calling process."""
        return () if self._devices == ("cpu",) and not self._options.workers else self._devices

    @property
    def feature_source(self) -> FeatureSource:
        """What the files of this run say made them."""
        return FeatureSource.of(self._weights, self._options.dtype, self._options.store)

    @property
    def settings(self) -> EncodingSettings:
        """How images are encoded."""
        options = self._options
        automatic = _CPU_BATCH if self._devices == ("cpu",) else _GPU_BATCH
        return EncodingSettings(
            weights=self._weights,
            dtype=options.dtype,
            store=options.store,
            compiled=options.compile,
            to_8bit=options.to_8bit,
            batch_size=automatic if options.batch_size == "auto" else options.batch_size,
            threads=max(1, options.workers // len(self._devices)),
        )

    def watch(self, outcome: Outcome) -> Outcome:
        """Sum up where the time went."""
        for key, value in outcome.details.items():
            if key.endswith("_ms"):
                self._milliseconds[key] = self._milliseconds.get(key, 0.0) + float(value)
        return outcome

    def stats(self, figures: Figures) -> Mapping[str, Any]:
        """Return what encoded the images, where the time went, and how many files another model's features are left in.

        A dry run estimates the time from a few images that it encodes, and the bytes that will be written.

        Raises:
            MvtkError: the encoder cannot be loaded or used.
        """
        shared = {
            "feature_source": asdict(self.feature_source),
            "devices": list(self._devices),
            "stale": figures.skip_reasons.get(STALE, 0),
        }
        own = self._estimate(figures.done) if self._options.dry_run else self._times()
        random = [RANDOM_WEIGHTS] if self.feature_source.is_random else []
        return {**shared, **own, "remarks": [*random, *own.get("remarks", ())]}

    def _times(self) -> dict[str, Any]:
        """Return the seconds of each part, summed over the workers, and which of them the others waited for."""
        if not self._milliseconds:
            return {}
        seconds = {key.removesuffix("_ms"): round(value / 1e3, 3) for key, value in self._milliseconds.items()}
        spent = {part: self._milliseconds.get(key, 0.0) for part, key in _LIMITS.items()}
        outside = 1 - spent["encoder"] / (sum(spent.values()) or 1)
        return {"seconds": seconds, "limit": max(spent, key=lambda part: spent[part]), "outside_encoder": outside}

    def _estimate(self, count: int) -> dict[str, Any]:
        if not count:
            return {}
        seconds = seconds_an_image(self.settings, self._devices[0])
        hours = seconds * count / len(self._devices) / 3600
        gigabytes = self._bytes_a_file() * count / 1e9
        where = f"{len(self._devices)} x {self._devices[0]}" if len(self._devices) > 1 else self._devices[0]
        time_left = f"{hours:,.1f} hours" if hours >= 1 else f"{hours * 60:.2g} minutes"
        remark = (
            f"estimate: {time_left} on {where} ({seconds:.2g} s an image, if reading and writing keep up),"
            f" {gigabytes:,.2g} GB to write"
        )
        return {"estimate": {"hours": hours, "seconds_an_image": seconds, "gigabytes": gigabytes}, "remarks": [remark]}

    def _bytes_a_file(self) -> int:
        """Return about how many bytes are written for each image."""
        dtype_bytes = 4 if self._options.store == "float32" else 2
        return sum(math.prod(FEATURE_SHAPES[key]) for key in (P4_KEY, P5_KEY)) * dtype_bytes

    @contextmanager
    def _claimed(self, folders: Iterable[Path]) -> Iterator[None]:
        """Hold folders, those that lie in another one together with it."""
        with ExitStack() as stack:
            for folder in _outermost(folders):
                stack.enter_context(claimed_folder(folder, self.command, self._options.shard))
            yield


class RepairJob(EncodingJob[OptionsT]):
    """The repair of features files.

    Attributes:
        by_flag: a file whose flag is set counts as processed.
        set_flag: set the flag.
        add_copy: write the copy of P4 also into files that have none.
    """

    by_flag = True
    set_flag = True
    add_copy = False
    _files = 0
    _bytes = 0

    def step(self) -> RepairStep:
        """Return the repair of one file."""
        return RepairStep(self.settings, self.rule, set_flag=self.set_flag, add_copy=self.add_copy)

    @functools.cached_property
    def rule(self) -> SkipRule:
        """Which files need no work."""
        return SkipRule(self.feature_source, by_flag=self.by_flag, refresh_stale=self._options.refresh_stale)

    @abstractmethod
    def plan(self) -> Iterator[FeatureItem | Outcome]:
        """Yield each file to repair with its image, and why each other one is not repaired."""

    def _planned(self, source: str, npz_path: Path, folder: Path, search: ImageSearch) -> FeatureItem | Outcome:
        """Return a file with its image, which is looked for in ``folder`` first; or why it is not repaired."""
        settled = self._settled(source, npz_path)
        if settled is not None:
            return settled
        try:
            image_path = search.find(folder, image_id_of(npz_path.name))
        except ImageLookupError as error:
            return Outcome.failed(source, str(error), error.kind)
        return FeatureItem(source, os.fspath(npz_path), os.fspath(image_path))

    def _settled(self, source: str, npz_path: Path) -> Outcome | None:
        """Return the outcome of a file that needs no work, or cannot be read; None for one that is to be repaired."""
        try:
            with open_npz(npz_path) as reader:
                reason = self.rule.reason(read_feature_marks(reader))
                size_bytes = reader.size_bytes
        except MvtkError as error:
            return Outcome.failed(source, str(error))
        if reason:
            return Outcome.skipped(source, reason)
        self._files += 1
        self._bytes += size_bytes
        return None

    def _bytes_a_file(self) -> int:
        """Return the mean size of the files that are rewritten."""
        return self._bytes // self._files


def _outermost(folders: Iterable[Path]) -> list[Path]:
    """Return the folders that lie in none of the others, each once."""
    chosen: dict[str, Path] = {}
    for real, folder in sorted((os.path.realpath(folder), folder) for folder in folders):
        if not any(real == other or real.startswith(f"{other.rstrip('/')}/") for other in chosen):
            chosen[real] = folder
    return list(chosen.values())
