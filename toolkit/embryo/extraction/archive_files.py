"""The ten files of the published record in a folder: that all are there, how large they are and will be."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from toolkit.core.errors import InputProblemsError, MvtkError, StopRunError
from toolkit.core.files import explain_os_error
from toolkit.core.listing import require_folder
from toolkit.embryo.layout import ARCHIVE_NAMES, ARCHIVE_SUFFIX

_ISIZE_MODULUS: Final = 1 << 32
_ISIZE: Final = struct.Struct("<L")
_LEAST_GZIP_BYTES: Final = 18
"""A header of 10 bytes and a trailer of 8."""
_READ_BYTES: Final = 256 << 10


class ArchiveRefusedError(StopRunError):
    """An archive that is damaged or not safe to extract: nothing of it, and so nothing at all, can appear."""


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One of the ten files, as it was when the job began.

    Attributes:
        source: its name.
        path: where it is.
        size: its length in bytes.
        mtime_ns: when it was written, in nanoseconds since 1970.
    """

    source: str
    path: str
    size: int
    mtime_ns: int

    @property
    def is_archive(self) -> bool:
        """Whether it is a compressed archive; the table of grades is not."""
        return self.source.endswith(ARCHIVE_SUFFIX)

    @property
    def entry(self) -> str:
        """The name of what it becomes: a folder, or for the table itself a file."""
        return self.source.removesuffix(ARCHIVE_SUFFIX)


class SourceBytes:
    """The bytes of one of the ten files, read once from its first to its last; close it by leaving its block.

    Args:
        archive: the file.
        with_md5: whether to compute the MD5 sum on the way.

    Raises:
        StopRunError: the file cannot be opened.
        ArchiveRefusedError: it is not the file that was found when the job began.

    Attributes:
        done: how many bytes were read so far.
    """

    def __init__(self, archive: ArchiveFile, *, with_md5: bool = False) -> None:
        self._archive = archive
        self._md5 = hashlib.md5(usedforsecurity=False) if with_md5 else None
        self.done = 0
        with _reading(archive.path):
            # O_NONBLOCK: opening a FIFO that took the file's place would wait for ever.
            self._descriptor = os.open(archive.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._require_unchanged()
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    @property
    def md5(self) -> str:
        """The MD5 sum of what was read, in hexadecimal digits; empty where it was not asked for."""
        return self._md5.hexdigest() if self._md5 else ""

    def pieces(self) -> Iterator[bytes]:
        """Yield the file piece by piece, then check that nobody changed it meanwhile.

        Raises:
            StopRunError: it cannot be read.
            ArchiveRefusedError: it was changed.
        """
        while piece := self._read():
            self.done += len(piece)
            if self._md5:
                self._md5.update(piece)
            yield piece
        self._require_unchanged()

    def _read(self) -> bytes:
        with _reading(self._archive.path):
            return os.read(self._descriptor, _READ_BYTES)

    def _require_unchanged(self) -> None:
        status = os.fstat(self._descriptor)
        found = self._archive.size, self._archive.mtime_ns
        if not stat.S_ISREG(status.st_mode) or (status.st_size, status.st_mtime_ns) != found:
            raise ArchiveRefusedError(
                f"{self._archive.path}: was changed while the archives were extracted", "run the command again"
            )


def find_archives(folder: Path) -> tuple[ArchiveFile, ...]:
    """Return the ten files of the record in ``folder``, largest first.

    A hidden file, too, is one too many. A link that leads to a regular file is fine.

    Raises:
        InputProblemsError: every file that is missing, every entry too many, every one that is not a regular file.
        MvtkError: there is no such folder, or it cannot be listed.
    """
    require_folder(folder, "give the folder that holds the ten downloaded files")
    try:
        names = set(os.listdir(folder))  # noqa: PTH208 - names, as bytes allow them
    except OSError as error:
        raise explain_os_error(error, folder, "list the folder") from error
    problems = [f"{name} is missing" for name in ARCHIVE_NAMES if name not in names]
    problems += [f"{name} does not belong there" for name in sorted(names.difference(ARCHIVE_NAMES))]
    archives = []
    for name in ARCHIVE_NAMES:
        if name in names:
            archive = _regular_file(folder / name)
            archives += [archive] if archive else []
            problems += [] if archive else [f"{name} is not a regular file"]
    if problems:
        raise InputProblemsError(
            f"{folder} does not hold exactly the ten files of the dataset",
            problems,
            "download what is missing and move away what does not belong there",
        )
    return tuple(sorted(archives, key=lambda archive: (-archive.size, archive.source)))


def least_extracted_bytes(archive: ArchiveFile) -> int:
    """Return a lower bound for the space that the content of ``archive`` takes.

    The end of a gzip file gives the length of what it holds modulo 4 GiB (RFC 1952). This is the smallest length that
    agrees with it and is not below the compressed size less 0.1 %, by which deflate may lengthen what cannot be
    compressed. Of a file in several gzip parts only the last is known: the result may then be up to 4 GiB too much.

    Raises:
        ArchiveRefusedError: the file is too short to be a gzip file.
        MvtkError: it cannot be read.
    """
    if not archive.is_archive:
        return archive.size
    if archive.size < _LEAST_GZIP_BYTES:
        raise ArchiveRefusedError(f"{archive.path}: is too short to be a gzip file", "download it again")
    with _reading(archive.path), open(archive.path, "rb") as stream:  # noqa: PTH123 - a string, as the item holds it
        stream.seek(-_ISIZE.size, os.SEEK_END)
        [remainder] = _ISIZE.unpack(stream.read(_ISIZE.size))
    least = archive.size - archive.size // 1000 - 1024
    return int(remainder + max(0, -(-(least - remainder) // _ISIZE_MODULUS)) * _ISIZE_MODULUS)


def _regular_file(path: Path) -> ArchiveFile | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise explain_os_error(error, path, "look at the file") from error
    if not stat.S_ISREG(status.st_mode):
        return None
    return ArchiveFile(path.name, str(path), status.st_size, status.st_mtime_ns)


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Make of the system's error one that stops the run: without one of its ten files it has no purpose."""
    try:
        yield
    except OSError as error:
        explained: MvtkError = explain_os_error(error, path, "read")
        raise StopRunError(explained.message, explained.hint) from error
