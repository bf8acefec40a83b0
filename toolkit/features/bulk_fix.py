"""Replace the features in every features file below a folder, and mark each file with ``feature_flag`` 1."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import ClassVar

from toolkit.core.batch import Outcome
from toolkit.core.listing import require_folder
from toolkit.features.encoding import FeatureItem
from toolkit.features.jobs import RepairJob
from toolkit.features.options import BulkFixOptions
from toolkit.images.search import ImageSearch
from toolkit.npz.feature_files import image_id_of, iter_feature_files

OTHER_FILE = "the image has a file without _sam2, which counts"


class BulkFixJob(RepairJob[BulkFixOptions]):
    """The repair of a tree, which is listed while the work goes on: memory does not grow with it.

    Only where an image is not beside its features file, all images below the root are listed once and held in memory.

    Raises:
        MvtkError: the folder does not exist, or as in :class:`EncodingJob`.
    """

    command: ClassVar[str] = "features bulk-fix"

    def __init__(self, options: BulkFixOptions) -> None:
        require_folder(options.root, "give the folder with the features files")
        super().__init__(options)

    def plan(self) -> Iterator[FeatureItem | Outcome]:
        """Yield one features file an image: of ``X_features.npz`` and ``X_sam2_features.npz`` the first.

        Its image lies beside it, else anywhere below the root.

        Raises:
            MvtkError: there are no features files, or a folder cannot be listed.
        """
        root = self._options.root
        search = ImageSearch(root)
        for source in iter_feature_files(root, shard=self._options.shard):
            path = PurePosixPath(source)
            shorter = path.with_name(f"{image_id_of(path.name)}_features.npz")
            if shorter != path and _is_listed(root / shorter):
                yield Outcome.skipped(source, OTHER_FILE)
            else:
                yield self._planned(source, root / source, (root / source).parent, search)

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the folder and remove what killed runs, and workers of this one, left there."""
        with self._claimed([self._options.root]):
            yield


def _is_listed(path: Path) -> bool:
    """Tell whether the listing has a file: it takes regular files, and links wherever they lead."""
    return os.path.isfile(path) or os.path.islink(path)  # noqa: PTH113, PTH114 - never a PermissionError
