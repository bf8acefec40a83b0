"""Verify the edge maps inside features files: compute them again from the annotations and compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from toolkit.annotations.sa1b import load_sa1b
from toolkit.core.batch import Figures, Job, Outcome, Step
from toolkit.core.options import ALL, BatchOptions
from toolkit.edges.marks import EdgeMarks, kernel_size_of, read_edge_marks
from toolkit.edges.method_b import DEFAULT_KERNEL_SIZE, SIDES, scaled_edge_maps
from toolkit.edges.pairing import AnnotatedFile, open_folders, pair_with_json
from toolkit.npz.errors import NpzError
from toolkit.npz.feature_files import list_feature_files, require_feature_files, sample_of
from toolkit.npz.reading import NpzReader, open_npz

REQUIRED_SIDES = (64, 32)
_MAKE_AGAIN = "mvtk edges update --no-skip-if-processed makes the maps again"


class VerifyEdgesOptions(BatchOptions):
    """The options of a verification.

    Attributes:
        npz_dir: folder with the features files, searched to any depth.
        json_dir: folder with the annotations, which are looked for as the update does.
        kernel_size: the kernel size that every file must have been made with; None: the one that its ``edge_version``
            names, 3 where it has none.
        sample: verify so many files, spread over all of them and the same ones each time; 0: all. With ``shard``, its
            part of the sample.
    """

    npz_dir: Path
    json_dir: Path
    kernel_size: int | None = Field(default=None, ge=1)
    sample: int = Field(default=0, ge=0)


class VerifyFile(Step[AnnotatedFile]):
    """Compare the edge maps of one file with those of its annotation."""

    def __init__(self, options: VerifyEdgesOptions) -> None:
        self._kernel_size = options.kernel_size

    def process_one(self, item: AnnotatedFile) -> Outcome:
        """Return done, or failed with everything that is wrong.

        Raises:
            MvtkError: the annotation or the features file cannot be read or is not sound.
        """
        with open_npz(item.npz_path) as reader:
            marks = read_edge_marks(reader)
            problems = _missing_maps(marks)
            kernel_size = kernel_size_of(marks.version) if marks.version else self._kernel_size or DEFAULT_KERNEL_SIZE
            if kernel_size is None:
                problems.append(f"edge_version '{marks.version}' is not one of Method B")
            elif kernel_size != (self._kernel_size or kernel_size):
                problems.append(f"its maps were made with kernel size {kernel_size}, not {self._kernel_size}")
            else:
                problems += _differences(reader, marks, item.json_path, kernel_size)
        if problems:
            return Outcome.failed(item.source, f"{'; '.join(problems)}; {_MAKE_AGAIN}", "problems")
        return Outcome.done(item.source, maps=",".join(map(str, _compared(marks))), marked=int(marks.flag))


class VerifyEdgesJob(Job[AnnotatedFile]):
    """The verification of the features files below a folder, which are listed first: a path a file is held in memory.

    Raises:
        InputProblemsError: every folder that does not exist.
        MvtkError: there are no features files, or a folder cannot be listed.
    """

    command: ClassVar[str] = "edges verify"

    def __init__(self, options: VerifyEdgesOptions) -> None:
        self._options = options
        self._index = open_folders(options.npz_dir, options.json_dir)
        self._sources = list_feature_files(options.npz_dir, shard=ALL if options.sample else options.shard)
        self._marked = 0
        if options.sample or options.shard == ALL:
            require_feature_files(self._sources, options.npz_dir)
        if options.sample:
            sample = sample_of(self._sources, options.sample)
            self._sources = [source for source in sample if options.shard.holds(source)]

    @property
    def options(self) -> VerifyEdgesOptions:
        """The options."""
        return self._options

    @property
    def size(self) -> int:
        """The number of files to verify."""
        return len(self._sources)

    def plan(self) -> Iterator[AnnotatedFile | Outcome]:
        """Yield each file with its annotation, in the order of their names."""
        for source in self._sources:
            yield pair_with_json(self._options.npz_dir, source, self._index)

    def step(self) -> Step[AnnotatedFile]:
        """Return the verification of one file."""
        return VerifyFile(self._options)

    def watch(self, outcome: Outcome) -> Outcome:
        """Count the files that are marked as processed."""
        self._marked += int(outcome.details.get("marked", 0))
        return outcome

    def stats(self, figures: Figures) -> Mapping[str, Any]:
        """Return how many of the sound files are marked as processed."""
        del figures
        return {"marked": self._marked}


def _compared(marks: EdgeMarks) -> tuple[int, ...]:
    return tuple(side for side in SIDES if side in marks.sizes)


def _missing_maps(marks: EdgeMarks) -> list[str]:
    missing = [f"edge_{side}x{side}" for side in REQUIRED_SIDES if side not in marks.sizes]
    return [f"has no {' and no '.join(missing)}"] if missing else []


def _differences(reader: NpzReader, marks: EdgeMarks, json_path: str, kernel_size: int) -> list[str]:
    """Return what distinguishes the maps of the file from those computed from its annotation."""
    problems = []
    expected = scaled_edge_maps(load_sa1b(Path(json_path)).masks, kernel_size, _compared(marks))
    for side, edge_map in expected.items():
        key = f"edge_{side}x{side}"
        try:
            stored = reader.read(key)
        except NpzError as error:
            problems.append(error.problem)
            continue
        if stored.shape != edge_map.shape or stored.dtype != np.uint8:
            problems.append(f"{key} is {stored.dtype} of shape {stored.shape}, not uint8 of {edge_map.shape}")
        elif different := np.count_nonzero(stored != edge_map):
            problems.append(f"{key} differs from the annotation in {different} of {edge_map.size} cells")
    return problems
