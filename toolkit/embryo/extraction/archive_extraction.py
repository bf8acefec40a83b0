"""One archive of the dataset, from its compressed bytes to a tree of files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from toolkit.embryo.extraction.archive_files import ArchiveFile, ArchiveRefusedError, SourceBytes
from toolkit.embryo.extraction.gzip_stream import GzipError, decompressed
from toolkit.embryo.extraction.member_names import NameRules
from toolkit.embryo.extraction.read_ahead import ReadAhead
from toolkit.embryo.extraction.tar_headers import MemberError
from toolkit.embryo.extraction.tar_stream import TarStream
from toolkit.embryo.extraction.tree_writer import TreeWriter, require_distinct_names

_PIECES_AHEAD: Final = 12
_LARGE_BYTES: Final = 1 << 20
"""Files above this size are written in pieces, as they come."""
_REFUSED_HINT: Final = "download the archive again; nothing of it was kept"

Progress = Callable[[int, int], None]
"""Gets the compressed bytes read and the files made so far; it is called often and must be quick."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may hold at most; no real one comes near.

    Attributes:
        member_bytes: the size of one file.
        growth: how many times its compressed size an archive may hold, beyond a first 64 MiB.
        members: how many files and folders.
    """

    member_bytes: int
    growth: int
    members: int

    def total_bytes(self, archive: ArchiveFile) -> int:
        """Return how much ``archive`` may hold in all."""
        return (64 << 20) + self.growth * archive.size


@dataclass(frozen=True, slots=True)
class Extracted:
    """What came out of an archive.

    Attributes:
        files: how many files.
        size: their bytes in all.
        md5: the MD5 sum of the archive, where it was asked for; else empty.
    """

    files: int
    size: int
    md5: str = ""


def extract_archive(
    archive: ArchiveFile, folder: Path, limits: Limits, *, progress: Progress, with_md5: bool = False
) -> Extracted:
    """Extract one archive into an empty folder, where its own top folder appears; see the member rules for what may.

    A thread reads and decompresses ahead, this one reads the headers, and others write the files. In memory are some
    pieces of the archive, whatever its size. When it returns, the archive was read to its end, its checksums agree, and
    every file is made, though not necessarily on the disk.

    Args:
        archive: a gzip-compressed tar archive.
        folder: an existing, empty folder.
        limits: what it may hold at most.
        progress: told how far it is.
        with_md5: whether to compute the archive's MD5 sum on the way.

    Raises:
        ArchiveRefusedError: the archive is damaged or not safe; the line names it and the member.
        StopRunError: it cannot be read, or a file cannot be written.
    """
    with SourceBytes(archive, with_md5=with_md5) as source:
        with ReadAhead(decompressed(source.pieces(), limits.total_bytes(archive)), _PIECES_AHEAD) as pieces:
            stream = TarStream(pieces, most_member_bytes=limits.member_bytes, most_members=limits.members)
            try:
                writer = _extract_members(stream, NameRules(archive.entry), folder, lambda: source.done, progress)
                _require_tree(folder, archive.entry)
            except MemberError as error:
                member = f"member '{error.member}'" if error.member else stream.current
                raise ArchiveRefusedError(f"{archive.path}: {member}: {error.problem}", _REFUSED_HINT) from error
            except GzipError as error:
                problem = f"{archive.path}: {error} (while reading {stream.current})"
                raise ArchiveRefusedError(problem, _REFUSED_HINT) from error
        return Extracted(writer.files, writer.size, source.md5)


def copy_table(archive: ArchiveFile, folder: Path, *, progress: Progress, with_md5: bool = False) -> Extracted:
    """Copy the one of the ten files that is no archive into ``folder``, in which it must not be; see above."""
    with SourceBytes(archive, with_md5=with_md5) as source, TreeWriter(os.fspath(folder)) as writer:
        views = ([memoryview(piece)] for piece in source.pieces())
        writer.add_large_file(archive.entry, views, archive.mtime_ns)
        progress(source.done, writer.files)
    return Extracted(writer.files, writer.size, source.md5)


def _extract_members(
    stream: TarStream, rules: NameRules, folder: Path, done_bytes: Callable[[], int], progress: Progress
) -> TreeWriter:
    reported = 0
    with TreeWriter(os.fspath(folder)) as writer:
        for member in stream.members():
            path = rules.relative_path(member.name, is_folder=member.is_folder)
            if member.is_folder:
                if path:
                    writer.add_folder(path)
            elif member.size <= _LARGE_BYTES:
                writer.add_file(path, stream.take(member.size), member.mtime_ns)
            else:
                writer.add_large_file(path, _pieces(stream), member.mtime_ns)
            done = done_bytes()
            if done != reported:
                progress(done, writer.files)
                reported = done
    progress(done_bytes(), writer.files)
    return writer


def _require_tree(folder: Path, top: str) -> None:
    if not (folder / top).is_dir():
        raise MemberError("the archive has no members")
    require_distinct_names(os.fspath(folder))


def _pieces(stream: TarStream) -> Iterator[list[memoryview]]:
    while views := stream.take(_LARGE_BYTES):
        yield views
