"""Verify NPZ files, one by one or whole trees of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from toolkit.core.batch import Figures, Job, Outcome, Step
from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.core.listing import list_files
from toolkit.core.options import ALL, BatchOptions
from toolkit.npz.checks import NpzKind, check_npz
from toolkit.npz.reading import DEFAULT_MAX_BYTES


class VerifyNpzOptions(BatchOptions):
    """The options of a verification.

    Attributes:
        paths: NPZ files, and folders that are searched to any depth.
        kind: what the files should be; "auto" goes by each file's keys.
        max_bytes: a file whose arrays take more bytes is a problem.
    """

    paths: tuple[Path, ...] = Field(min_length=1)
    kind: NpzKind = "auto"
    max_bytes: int = Field(default=DEFAULT_MAX_BYTES, ge=1)


@dataclass(frozen=True, slots=True)
class NpzFile:
    """One file: its path as it is reported, and as it is opened."""

    source: str
    path: str


class VerifyNpzFile(Step[NpzFile]):
    """Read one file in full and say everything that is wrong with it."""

    def __init__(self, options: VerifyNpzOptions) -> None:
        self._options = options

    def process_one(self, item: NpzFile) -> Outcome:
        """Return done with the file's figures, or failed with all its problems."""
        check = check_npz(Path(item.path), self._options.kind, max_bytes=self._options.max_bytes)
        if check.problems:
            return Outcome.failed(item.source, "; ".join(check.problems), f"{check.kind} problems")
        return Outcome.done(item.source, kind=check.kind, members=check.members, bytes=check.size_bytes)


class VerifyNpzJob(Job[NpzFile]):
    """The verification of files and folders, which are listed first: a path a file is held in memory.

    Raises:
        InputProblemsError: every path that does not exist.
    """

    command: ClassVar[str] = "npz verify"

    def __init__(self, options: VerifyNpzOptions) -> None:
        self._options = options
        self._kinds: dict[str, int] = {}
        missing = [f"{path}: no such file or folder" for path in options.paths if not os.path.lexists(path)]
        if missing:
            raise InputProblemsError("cannot verify", missing)
        self._files = list(self._list())
        if not self._files and options.shard == ALL:
            folders = ", ".join(map(str, options.paths))
            raise MvtkError(f"there are no NPZ files in {folders}", "name folders or files that have some")

    @property
    def options(self) -> VerifyNpzOptions:
        """The options."""
        return self._options

    @property
    def size(self) -> int:
        """The number of files of this shard."""
        return len(self._files)

    def plan(self) -> Iterator[NpzFile | Outcome]:
        """Yield the given files, and in each folder all ``*.npz`` files in sorted order; each file once."""
        yield from self._files

    def _list(self) -> Iterator[NpzFile]:
        seen: set[str] = set()
        for path in self._options.paths:
            folder = path if path.is_dir() else path.parent
            for name in list_files(path, {".npz"}) if path.is_dir() else [path.name]:
                file = os.fspath(folder / name)
                if file not in seen and self._options.shard.holds(name):
                    seen.add(file)
                    yield NpzFile((folder / name).as_posix(), file)

    def step(self) -> Step[NpzFile]:
        """Return the verification of one file."""
        return VerifyNpzFile(self._options)

    def watch(self, outcome: Outcome) -> Outcome:
        """Count the kinds."""
        kind = outcome.details.get("kind")
        if kind is not None:
            self._kinds[str(kind)] = self._kinds.get(str(kind), 0) + 1
        return outcome

    def stats(self, figures: Figures) -> Mapping[str, Any]:
        """Return how many valid files of each kind there are."""
        del figures
        return {"kinds": dict(sorted(self._kinds.items()))}
