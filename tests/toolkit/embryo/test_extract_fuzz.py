"""Whatever bytes an archive has, it is extracted inside its folder or refused; nothing else happens."""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import threading
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.embryo_archives import BLOCK, END, file, folder, gnu_long_name, pax, snapshot
from toolkit.embryo.extraction.archive_extraction import Limits, extract_archive
from toolkit.embryo.extraction.archive_files import ArchiveFile, ArchiveRefusedError

TOP = "embryo_dataset"
TAR = b"".join(
    [
        folder(f"{TOP}/"),
        file(f"{TOP}/v/RUN1.jpeg", b"one"),
        gnu_long_name(f"{TOP}/v/RUN2.jpeg".encode()),
        file(f"{TOP}/x", b"two"),
        pax({"path": f"{TOP}/v/RUN3.jpeg", "size": "5", "mtime": "12.5"}),
        file(f"{TOP}/y", b"three"),
        END,
    ]
)
HEADERS = [0, 512, 1536, 2560, 3584, 4608]


def mended(tar: bytearray, header: int) -> None:
    """Let a header's checksum agree again."""
    tar[header + 148 : header + 156] = b" " * 8
    tar[header + 148 : header + 156] = b"%06o\0 " % sum(tar[header : header + BLOCK])


def extract_or_refuse(root: Path, data: bytes) -> bool:
    """Return whether the archive was extracted; check that everything lies in the folder, and every thread ended."""
    path, folder = root / f"{TOP}.tar.gz", root / "folder"
    path.write_bytes(data)
    folder.mkdir()
    archive = ArchiveFile(path.name, str(path), len(data), path.stat().st_mtime_ns)
    refusal = None
    try:
        extract_archive(archive, folder, Limits(1 << 20, 100, 1000), progress=lambda *_: None)
    except ArchiveRefusedError as error:
        refusal = str(error)
    assert refusal is None or refusal.startswith(f"{path}: ")
    for name, (mode, _, _) in snapshot(root).items():
        assert name in {".", path.name, "folder"} or name.startswith(f"folder/{TOP}")
        assert stat.S_ISREG(mode) or stat.S_ISDIR(mode)
    assert threading.active_count() == 1
    shutil.rmtree(folder)
    return refusal is None


def test_as_it_is(tmp_path: Path) -> None:
    assert extract_or_refuse(tmp_path, gzip.compress(TAR))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.sampled_from(HEADERS),
    changes=st.lists(st.tuples(st.integers(0, BLOCK - 1), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_headers_that_say_anything(tmp_path: Path, header: int, changes: list[tuple[int, int]]) -> None:
    tar = bytearray(TAR)
    for offset, value in changes:
        tar[header + offset] = value
    mended(tar, header)
    extract_or_refuse(tmp_path, gzip.compress(tar, 1))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, len(TAR) - 1), text=st.binary(min_size=1, max_size=30))
def test_text_anywhere(tmp_path: Path, position: int, text: bytes) -> None:
    tar = bytearray(TAR)
    tar[position : position + len(text)] = text
    extract_or_refuse(tmp_path, gzip.compress(tar, 1))


def test_every_truncation(tmp_path: Path) -> None:
    data = gzip.compress(TAR, 9)
    for length in range(len(data)):
        assert not extract_or_refuse(tmp_path, data[:length]), length


def test_shorter_tars(tmp_path: Path) -> None:
    for length in range(0, len(TAR), 97):
        assert not extract_or_refuse(tmp_path, gzip.compress(TAR[:length], 1)), length


def test_noise(tmp_path: Path) -> None:
    for size in (0, 1, 2, 511, 512, 5000):
        assert not extract_or_refuse(tmp_path, gzip.compress(os.urandom(size)))
        assert not extract_or_refuse(tmp_path, os.urandom(size))
