"""Replace the features in the files of ``<split>/extracted`` folders, whose images lie in the folder above."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from toolkit.core.batch import Outcome
from toolkit.core.errors import InputProblemsError, collected
from toolkit.core.listing import require_folder
from toolkit.features.encoding import FeatureItem
from toolkit.features.jobs import RepairJob
from toolkit.features.options import FixSplitsOptions
from toolkit.images.search import ImageSearch
from toolkit.npz.feature_files import iter_feature_files


class FixSplitsJob(RepairJob[FixSplitsOptions]):
    """The repair of several folders, which are listed while the work goes on: memory does not grow with them.

    Raises:
        InputProblemsError: every folder that does not exist.
        MvtkError: as in :class:`EncodingJob`.
    """

    command: ClassVar[str] = "features fix-splits"

    def __init__(self, options: FixSplitsOptions) -> None:
        problems: list[str] = []
        for folder in options.extracted_dirs:
            with collected(problems):
                require_folder(folder, "give folders with features files")
        if problems:
            raise InputProblemsError("cannot begin", problems)
        super().__init__(options)

    def plan(self) -> Iterator[FeatureItem | Outcome]:
        """Yield each file with its image, which lies in the folder above the extracted one.

        Raises:
            MvtkError: a folder has no features files, or cannot be listed.
        """
        search = ImageSearch()
        for folder in self._options.extracted_dirs:
            images = folder.resolve().parent
            for source in iter_feature_files(folder, shard=self._options.shard):
                path = folder / source
                yield self._planned(path.as_posix(), path, images, search)

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the folders and remove what killed runs, and workers of this one, left there."""
        with self._claimed(self._options.extracted_dirs):
            yield
