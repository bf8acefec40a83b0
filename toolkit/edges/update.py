"""Bring the edge maps inside features files up to date, from the annotation of each image (Method B).

Each file gets ``edge_64x64``, ``edge_32x32`` and, where it has one, ``edge_256x256``; ``edge_flag`` and
``edge_version`` say that and how. Every other member is carried over byte for byte. Run again, it goes on where it
stopped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from toolkit.core.batch import Figures, Job, Outcome, Step
from toolkit.core.claims import claimed_folder
from toolkit.core.errors import MvtkError
from toolkit.core.options import ALL, BatchOptions
from toolkit.edges.file_update import ALREADY_PROCESSED, UpdateFile
from toolkit.edges.marks import edge_version, read_edge_marks
from toolkit.edges.method_b import DEFAULT_KERNEL_SIZE
from toolkit.edges.pairing import AnnotatedFile, open_folders, pair_with_json
from toolkit.npz.feature_files import SortBy, list_feature_files, require_feature_files
from toolkit.npz.reading import open_npz


class UpdateEdgesOptions(BatchOptions):
    """The options of an update.

    Attributes:
        npz_dir: folder with the features files, searched to any depth.
        json_dir: folder with the annotations: directly in it, else in its subfolders, else beside the features file.
        kernel_size: side of the square kernel in pixels; a file made with another one counts as not processed.
        sort_by: the order of the work: "mtime", oldest first, or "name".
        reverse: turn that order round.
        only_mtime_after: take only files modified later, in seconds since 1970-01-01 UTC.
        skip_if_processed: leave files alone whose marks say that their edge maps are those asked for.
        set_edge_flag: mark files as processed; without, a mark that is there is kept true, and none is added.
        add_256: write ``edge_256x256`` also into files that have none.
    """

    npz_dir: Path
    json_dir: Path
    kernel_size: int = Field(default=DEFAULT_KERNEL_SIZE, ge=1)
    sort_by: SortBy = "mtime"
    reverse: bool = False
    only_mtime_after: float | None = None
    skip_if_processed: bool = True
    set_edge_flag: bool = True
    add_256: bool = False

    @field_validator("only_mtime_after")
    @classmethod
    def _check_finite(cls, seconds: float | None) -> float | None:
        if seconds is not None and not math.isfinite(seconds):
            raise ValueError("not a number of seconds since 1970-01-01 UTC")
        return seconds


class UpdateEdgesJob(Job[AnnotatedFile]):
    """The update of all features files below a folder, which are listed first: a path a file is held in memory.

    Raises:
        InputProblemsError: every folder that does not exist.
        MvtkError: there are no features files, or a folder cannot be listed.
    """

    command: ClassVar[str] = "edges update"

    def __init__(self, options: UpdateEdgesOptions) -> None:
        self._options = options
        self._index = open_folders(options.npz_dir, options.json_dir)
        self._sources = list_feature_files(
            options.npz_dir,
            sort_by=options.sort_by,
            reverse=options.reverse,
            only_mtime_after=options.only_mtime_after,
            shard=options.shard,
        )
        if options.shard == ALL and options.only_mtime_after is None:
            require_feature_files(self._sources, options.npz_dir)

    @property
    def options(self) -> UpdateEdgesOptions:
        """The options."""
        return self._options

    @property
    def size(self) -> int:
        """The number of files of this shard."""
        return len(self._sources)

    def plan(self) -> Iterator[AnnotatedFile | Outcome]:
        """Yield each file to update with its annotation, and why each other one is not updated."""
        for source in self._sources:
            yield self._settled(source) or pair_with_json(self._options.npz_dir, source, self._index)

    def step(self) -> Step[AnnotatedFile]:
        """Return the update of one file."""
        options = self._options
        return UpdateFile(options.kernel_size, options.skip_if_processed, options.set_edge_flag, options.add_256)

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the folder with the features files and remove what killed runs, and workers of this one, left there."""
        options = self._options
        with claimed_folder(options.npz_dir, self.command, options.shard):
            yield

    def stats(self, figures: Figures) -> Mapping[str, Any]:
        """Return the version that the files are marked with."""
        del figures
        return {"edge_version": edge_version(self._options.kernel_size)}

    def _settled(self, source: str) -> Outcome | None:
        """Return the outcome of a file that is processed, or cannot be read; None for one that is to be updated."""
        options = self._options
        if not options.skip_if_processed:
            return None
        try:
            with open_npz(options.npz_dir / source) as reader:
                up_to_date = read_edge_marks(reader).up_to_date(options.kernel_size, add_256=options.add_256)
        except MvtkError as error:
            return Outcome.failed(source, str(error))
        return Outcome.skipped(source, ALREADY_PROCESSED) if up_to_date else None
