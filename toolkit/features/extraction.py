"""Make features files from images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from toolkit.core.batch import Outcome
from toolkit.core.errors import MvtkError
from toolkit.core.files import make_folder
from toolkit.core.listing import require_folder, walk_files, walk_sorted
from toolkit.features.encoding import ExtractionStep, FeatureItem, SkipRule
from toolkit.features.feature_source import read_feature_marks
from toolkit.features.jobs import EncodingJob
from toolkit.features.options import ExtractFeaturesOptions
from toolkit.images.search import image_stem, is_image
from toolkit.npz.reading import open_npz

TWO_IMAGES = "two images for one features file"

_SUFFIX = "_features.npz"


class ExtractFeaturesJob(EncodingJob[ExtractFeaturesOptions]):
    """The extraction from all images below a folder, which is listed while the work goes on.

    Raises:
        MvtkError: the folder does not exist or has no images, or as in :class:`EncodingJob`.
    """

    command: ClassVar[str] = "features extract"

    def __init__(self, options: ExtractFeaturesOptions) -> None:
        require_folder(options.images, "give the folder with the images")
        super().__init__(options)
        if next(walk_files(options.images, is_image), None) is None:
            raise MvtkError(f"there are no images in {options.images}", "give the folder that holds them, at any depth")

    def plan(self) -> Iterator[FeatureItem | Outcome]:
        """Yield each image whose features file is to be made, and why each other one's is not.

        Raises:
            MvtkError: a folder cannot be listed.
        """
        options = self._options
        rule = SkipRule(self.feature_source, by_flag=True, refresh_stale=options.refresh_stale)
        folder, owners = None, dict[str, str]()  # of the folder's images, by the name of their features file
        for name in walk_sorted(options.images, is_image):
            if folder != (folder := name.rpartition("/")[0]):
                owners.clear()
            npz_path = options.output / (_stem_of(name) + _SUFFIX)
            owner = owners.setdefault(npz_path.name, name)
            if not options.shard.holds(name):
                continue
            if owner != name:
                yield Outcome.failed(name, f"{TWO_IMAGES}: {owner} becomes {npz_path}; rename one of them", TWO_IMAGES)
                continue
            settled = None if options.overwrite else _settled(name, npz_path, rule)
            yield settled or FeatureItem(name, os.fspath(npz_path), os.fspath(options.images / name))

    def step(self) -> ExtractionStep:
        """Return the extraction from one image."""
        replaces = self._options.overwrite or self._options.refresh_stale
        return ExtractionStep(self.settings, self.feature_source, overwrite=replaces)

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the output folder and remove what killed runs, and workers of this one, left there."""
        make_folder(self._options.output)
        with self._claimed([self._options.output]):
            yield


def _settled(name: str, npz_path: Path, rule: SkipRule) -> Outcome | None:
    """Return the outcome of an image whose features file exists; None for one whose file is to be made."""
    if not os.path.lexists(npz_path):
        return None
    try:
        with open_npz(npz_path) as reader:
            marks = read_feature_marks(reader)
    except MvtkError as error:
        return Outcome.failed(name, f"{error.message}; use --overwrite to make it again")
    if not marks.flag:
        return Outcome.failed(name, f"{npz_path} exists without feature_flag; use --overwrite to replace it")
    reason = rule.reason(marks)
    return Outcome.skipped(name, reason) if reason else None


def _stem_of(name: str) -> str:
    folder, slash, file_name = name.rpartition("/")
    return folder + slash + image_stem(file_name)
