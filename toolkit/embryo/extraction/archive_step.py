"""What a worker does to one of the ten files; it is a module of its own as workers need neither options nor driver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from toolkit.core.batch import BatchStep, Outcome, Step
from toolkit.embryo.extraction.archive_extraction import Extracted, Limits, copy_table, extract_archive
from toolkit.embryo.extraction.archive_files import ArchiveFile, ArchiveRefusedError, SourceBytes
from toolkit.embryo.extraction.progress_file import ProgressWriter
from toolkit.embryo.extraction.staging import Staging
from toolkit.embryo.layout import ARCHIVE_NAMES

PROGRESS_SLOTS: Final = {name: slot for slot, name in enumerate(ARCHIVE_NAMES)}
"""Which part of the progress file is whose."""


class ExtractArchive(BatchStep[ArchiveFile, ArchiveFile]):
    """Extract one archive into the staging. A worker holds one at a time: none may wait behind a large one.

    Args:
        destination: the folder in which the dataset is to appear; its staging is ready.
        limits: what an archive may hold at most.
        md5s: the MD5 sums that the files must have, by name, where they are known.
    """

    batch_size = 1
    threads = 1

    def __init__(self, destination: Path, limits: Limits, md5s: Mapping[str, str]) -> None:
        self._staging = Staging(destination)
        self._limits = limits
        self._md5s = md5s

    @property
    def lookahead(self) -> int:
        """One: the archive that is extracted."""
        return 1

    def prepare(self, item: ArchiveFile) -> ArchiveFile:
        """Return the archive: it is read while it is extracted."""
        return item

    def process_batch(self, batch: Sequence[ArchiveFile]) -> list[Outcome]:
        """Extract the archive, wait until all of it is on the disk, and note that.

        Raises:
            ArchiveRefusedError: it is damaged or not safe, or its checksum is wrong; nothing of it remains.
            StopRunError: it cannot be read, or a file cannot be written.
        """
        [archive] = batch
        folder = self._staging.begin(archive)
        progress = ProgressWriter(self._staging.progress_path, PROGRESS_SLOTS[archive.source])
        try:
            extracted = self._extract(archive, folder, progress)
        except ArchiveRefusedError:
            self._staging.abandon(archive)
            raise
        finally:
            progress.close()
        self._staging.finish(archive, extracted)
        return [Outcome.done(archive.source, files=extracted.files, bytes=extracted.size)]

    def _extract(self, archive: ArchiveFile, folder: Path, progress: ProgressWriter) -> Extracted:
        with_md5 = archive.source in self._md5s
        if archive.is_archive:
            extracted = extract_archive(archive, folder, self._limits, progress=progress.write, with_md5=with_md5)
        else:
            extracted = copy_table(archive, folder, progress=progress.write, with_md5=with_md5)
        require_md5(archive, extracted.md5, self._md5s)
        return extracted


class CheckArchive(Step[ArchiveFile]):
    """Read one of the ten files, and compare its MD5 sum.

    Args:
        md5s: the MD5 sums that the files must have, by name.
    """

    def __init__(self, md5s: Mapping[str, str]) -> None:
        self._md5s = md5s

    def process_one(self, item: ArchiveFile) -> Outcome:
        """Read the file once, from its first to its last byte.

        Raises:
            ArchiveRefusedError: the sum is another one.
            StopRunError: the file cannot be read.
        """
        with SourceBytes(item, with_md5=True) as source:
            for _ in source.pieces():
                pass
        require_md5(item, source.md5, self._md5s)
        return Outcome.done(item.source, bytes=item.size, md5=source.md5)


def require_md5(archive: ArchiveFile, md5: str, expected: Mapping[str, str]) -> None:
    """Check an archive's MD5 sum against the one that is known; where none is, every sum is right.

    Raises:
        ArchiveRefusedError: it is another one.
    """
    if archive.source in expected and md5 != expected[archive.source]:
        raise ArchiveRefusedError(
            f"{archive.path}: its MD5 sum is {md5}, not {expected[archive.source]}",
            "download it again, or check the list of sums",
        )
