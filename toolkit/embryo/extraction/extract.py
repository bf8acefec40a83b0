"""Extract the ten files of the embryo record into one folder: all of it or nothing.

The ten files are checked first, and nothing is written before all checks hold. One worker process an archive extracts
into ``.mvtk-partial`` in the destination; when all ten are there, their entries appear in the destination, one by one,
and ``.mvtk-complete.json`` last. See :mod:`toolkit.embryo.extraction.staging` for what a killed run leaves and how it
goes on, and :mod:`toolkit.embryo.extraction.archive_extraction` for what is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

from pydantic import Field

from toolkit.core.batch import Figures, Gauge, Job, Outcome, Step
from toolkit.core.cpus import available_cpus
from toolkit.core.driver import run_to_end
from toolkit.core.errors import MvtkError, OptionError
from toolkit.core.files import make_folder
from toolkit.core.locks import hold_folder
from toolkit.core.options import ALL, BatchOptions
from toolkit.core.report import Report
from toolkit.embryo.extraction.archive_extraction import Extracted, Limits
from toolkit.embryo.extraction.archive_files import ArchiveFile, find_archives, least_extracted_bytes
from toolkit.embryo.extraction.archive_step import PROGRESS_SLOTS, CheckArchive, ExtractArchive, require_md5
from toolkit.embryo.extraction.checksums import read_checksums
from toolkit.embryo.extraction.progress_file import read_progress
from toolkit.embryo.extraction.staging import Staging, State
from toolkit.embryo.layout import ARCHIVE_NAMES

ALREADY_EXTRACTED: Final = "extracted already"
_MIB: Final = 1 << 20


class ExtractOptions(BatchOptions):
    """The options of the extraction; it is all or nothing, so that neither ``shard`` nor ``max_files`` can be used.

    Attributes:
        archives: the folder that holds exactly the ten files of the record; it is never modified.
        dest: where the dataset is to appear: a folder that is empty, does not exist, or was begun by this command.
        verify_checksums: a list of MD5 sums, as ``md5sum`` writes it, that the ten files must have. Where the dataset
            is complete, they are held against the sums of its extraction; where that computed none, the files are read.
        restart: discard what an unfinished extraction left, instead of continuing it.
        max_member_mib: how large a file in an archive may be; real ones have some KiB.
        max_growth: how many times its own size an archive may hold; real ones hold 1.1 to 10 times.
        max_members: how many files and folders an archive may hold; the real ones have about 350,000.
    """

    archives: Path
    dest: Path
    verify_checksums: Path | None = None
    restart: bool = False
    max_member_mib: int = Field(default=64, ge=1)
    max_growth: int = Field(default=100, ge=1)
    max_members: int = Field(default=1_000_000, ge=1)


class ExtractJob(Job[ArchiveFile]):
    """The extraction of the ten files. Everything that can be checked beforehand is, and nothing is written.

    Raises:
        OptionError: a part of the work was asked for.
        InputProblemsError: the folder does not hold exactly the ten files, or the list of sums lacks some.
        ArchiveRefusedError: an archive is too short to be one.
        MvtkError: the destination is neither empty nor ours, the folders overlap, or there is too little space.
    """

    command: ClassVar[str] = "embryo extract"

    def __init__(self, options: ExtractOptions) -> None:
        if options.shard != ALL or options.max_files:
            raise OptionError("an extraction is all or nothing", "leave --shard and --max-files away")
        self._options = options
        _require_apart(options.archives, options.dest)
        self._staging = Staging(options.dest)
        self._archives = find_archives(options.archives)
        self._md5s = read_checksums(options.verify_checksums, ARCHIVE_NAMES) if options.verify_checksums else {}
        self._extracted: dict[str, Extracted] = {}
        self._complete = False
        self._short_of_space = False
        self._finished: dict[str, Extracted] = {}
        self._unchecked: set[str] = set()
        self._checked = 0
        self._examine()

    @property
    def options(self) -> ExtractOptions:
        """The options."""
        return self._options

    @property
    def size(self) -> int:
        """Ten."""
        return len(self._archives)

    @property
    def devices(self) -> tuple[str, ...]:
        """One entry a worker: no more than there are archives."""
        return ("cpu",) * min(self._options.workers, len(self._archives))

    def plan(self) -> Iterator[ArchiveFile | Outcome]:
        """Yield the archives, largest first: it is the one that others would wait for."""
        for archive in self._archives:
            is_there = archive.source not in self._unchecked if self._complete else archive.source in self._finished
            yield Outcome.skipped(archive.source, ALREADY_EXTRACTED) if is_there else archive

    def step(self) -> Step[ArchiveFile]:
        """Return the extraction of one archive; where the dataset is complete, the check of its sum."""
        options = self._options
        if self._complete:
            return CheckArchive(self._md5s)
        limits = Limits(options.max_member_mib * _MIB, options.max_growth, options.max_members)
        return ExtractArchive(options.dest, limits, self._md5s)

    def gauge(self) -> Gauge | None:
        """Return how many compressed bytes were read, of all, and how many files made."""
        total_bytes = sum(archive.size for archive in self._archives)
        if self._complete:
            unread_bytes = sum(archive.size for archive in self._archives if archive.source in self._unchecked)
            files = sum(extracted.files for extracted in self._finished.values())
            return Gauge(total_bytes - unread_bytes, total_bytes, files)
        progress = read_progress(self._staging.progress_path)
        done_bytes = sum(done for done, _ in progress)
        return Gauge(done_bytes, total_bytes, sum(files for _, files in progress)) if progress else None

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the destination, look at it once more, and make the staging ready."""
        if self._complete and not self._staging.leaves_something:
            yield
            return
        make_folder(self._options.dest)
        with hold_folder(self._options.dest, self.command):
            self._examine()
            if self._complete:
                self._staging.remove()
            else:
                self._prepare()
            yield

    def watch(self, outcome: Outcome) -> Outcome:
        """Note what came out of an archive, or that its sum is right."""
        if outcome.source in self._unchecked:
            self._unchecked.discard(outcome.source)
            self._checked += 1
        elif outcome.status == "done":
            self._extracted[outcome.source] = Extracted(int(outcome.details["files"]), int(outcome.details["bytes"]))
        return outcome

    def finish(self, figures: Figures) -> None:
        """Publish the dataset if all of it is there.

        Raises:
            MvtkError: it cannot be published.
        """
        del figures
        if not self._complete:
            finished = self._staging.finished(self._archives, self._md5s)
            if len(finished) == len(self._archives):
                self._staging.publish(self._archives, finished)
                self._finished = finished
                self._complete = True

    def stats(self, figures: Figures) -> Mapping[str, Any]:
        """Return what came out of each archive in this run, and in all."""
        del figures
        done = self._extracted
        remarks = []
        if self._checked:
            remarks = [f"{self._options.dest} was complete: the archives' MD5 sums were checked, nothing was extracted"]
        if not self._complete and not self._options.dry_run:
            remarks = [
                f"nothing appears in {self._options.dest} before all archives are extracted: run the command again"
            ]
        return {
            "files": sum(extracted.files for extracted in done.values()),
            "bytes": sum(extracted.size for extracted in done.values()),
            "archives": {name: {"files": one.files, "bytes": one.size} for name, one in sorted(done.items())},
            **({"remarks": remarks} if remarks else {}),
        }

    def _examine(self) -> None:
        """Look at the destination; nothing is written."""
        state = self._staging.state(restart=self._options.restart)
        self._complete = state is State.COMPLETE
        if self._complete:
            self._require_same_archives()
            return
        if self._options.restart:
            self._finished = {}
        else:
            self._finished = self._staging.finished(self._archives, self._md5s)
            if state is State.PUBLISHING and len(self._finished) < len(self._archives):
                raise MvtkError(
                    f"{self._options.dest}: is half published, and it or the archives or their sums have changed",
                    "use --restart to extract everything again",
                )
        self._require_space()

    def _require_same_archives(self) -> None:
        published = self._staging.published()
        unknown = (-1, "")
        other = [archive for archive in self._archives if published.get(archive.source, unknown)[0] != archive.size]
        if other:
            names = ", ".join(archive.source for archive in other)
            message = f"{self._options.dest}: is complete, but was extracted from another {names}"
            raise MvtkError(message, "give another folder")
        for archive in self._archives:
            recorded = published[archive.source][1]
            if recorded:
                require_md5(archive, recorded, self._md5s)
        self._unchecked = {name for name in self._md5s if not published[name][1]}

    def _require_space(self) -> None:
        needed = sum(least_extracted_bytes(archive) for archive in self._unfinished)
        free = _free_bytes(self._options.dest)
        self._short_of_space = needed > free
        if self._short_of_space:
            free += self._staging.held_bytes(self._unfinished)
        if needed > free:
            raise MvtkError(
                f"{self._options.dest}: at least {needed:,} bytes are needed, and {free:,} are free",
                "free some space, or extract to another disk",
            )

    @property
    def _unfinished(self) -> list[ArchiveFile]:
        return [archive for archive in self._archives if archive.source not in self._finished]

    def _prepare(self) -> None:
        if self._options.restart:
            self._staging.restart()
        else:
            self._staging.prepare()
        if self._short_of_space:
            for archive in self._unfinished:
                self._staging.abandon(archive)
            self._staging.prepare()
        done = {
            archive.source: (archive.size, self._finished[archive.source].files)
            for archive in self._archives
            if archive.source in self._finished
        }
        self._staging.begin_progress(PROGRESS_SLOTS, done)


def extract_dataset(
    source_directory: Path | str, destination_directory: Path | str, n_proc: int | None = None
) -> Report:
    """Extract the ten files of the embryo record in ``source_directory`` into ``destination_directory``.

    Args:
        source_directory: the folder that holds exactly the ten files; it is never modified.
        destination_directory: a folder that is empty, does not exist, or was begun by this function.
        n_proc: how many processes to use; default: one for each CPU that may be used.

    Returns:
        what was done: the counts of archives, and the files and bytes that came out of them.

    Raises:
        MvtkError: something is wrong with the ten files, the destination, or an archive; nothing appears then.
    """
    workers = available_cpus() if n_proc is None else n_proc
    options = ExtractOptions(archives=Path(source_directory), dest=Path(destination_directory), workers=workers)
    return run_to_end(ExtractJob(options))


def _require_apart(archives: Path, dest: Path) -> None:
    source, target = Path(os.path.realpath(archives)), Path(os.path.realpath(dest))
    if source == target:
        problem = "is the folder of the archives"
    elif target.is_relative_to(source):
        problem = f"lies in the folder of the archives, {archives}, which is never written to"
    elif source.is_relative_to(target):
        problem = f"holds the folder of the archives, {archives}"
    else:
        return
    raise MvtkError(f"{dest}: {problem}", "extract into a folder elsewhere")


def _free_bytes(folder: Path) -> int:
    """Return how much this user may write where ``folder`` is, or will be."""
    existing = Path(os.path.realpath(folder))
    while not existing.is_dir() and existing.parent != existing:
        existing = existing.parent
    status = os.statvfs(existing)
    return status.f_bavail * status.f_frsize
