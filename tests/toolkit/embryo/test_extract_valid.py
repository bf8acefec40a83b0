"""Archives that are unusual and sound: what comes out is what GNU tar makes of them."""

from __future__ import annotations

import dataclasses
import gzip
import io
import itertools
import shutil
import subprocess
import tarfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.embryo_archives import (
    END,
    MTIME,
    Entry,
    base_256,
    file,
    folder,
    gnu_long_name,
    octal,
    pax,
    snapshot,
    tar_gz,
    valid_members,
)
from toolkit.embryo.extraction.archive_extraction import Extracted, Limits, extract_archive
from toolkit.embryo.extraction.archive_files import ArchiveFile

TOP = "embryo_dataset"
LIMITS = Limits(64 << 20, 100, 1_000_000)
LONG = f"{TOP}/AA001-1/" + "long_" * 40 + ".jpeg"
FRAME = Entry(f"{TOP}/AA001-1/RUN1.jpeg".encode(), b"jpeg")


def extract(folder: Path, data: bytes) -> Extracted:
    """Extract an archive into ``folder``, which is made."""
    folder.mkdir(parents=True)
    path = folder.parent / f"{TOP}.tar.gz"
    path.write_bytes(data)
    status = path.stat()
    archive = ArchiveFile(path.name, str(path), status.st_size, status.st_mtime_ns)
    return extract_archive(archive, folder, LIMITS, progress=lambda *_: None)


def frame(**changes: object) -> bytes:
    return dataclasses.replace(FRAME, **changes).tar()  # type: ignore[arg-type]


def named_gzip(content: bytes) -> bytes:
    """A gzip file whose header has every part that there can be: extra field, name, comment, checksum."""
    header = b"\x1f\x8b\x08\x1e" + bytes(6) + b"\x02\0xyname\0comment\0"
    return header + zlib.crc32(header).to_bytes(4, "little")[:2] + gzip.compress(content)[10:]


ODD = {
    "plain": tar_gz(*valid_members(TOP)),
    "with ./": tar_gz(folder("./"), folder(f"./{TOP}/"), file(f"./{TOP}/AA001-1/RUN1.jpeg")),
    "folders are implied": tar_gz(*[file(f"{TOP}/AA00{video}-1/RUN1.jpeg") for video in range(9)]),
    "a folder after its files": tar_gz(file(f"{TOP}/a/x"), folder(f"{TOP}/a/"), folder(f"{TOP}/")),
    "folders without slash": tar_gz(Entry(TOP.encode(), type=b"5").tar(), file(f"{TOP}/x")),
    "nothing but the folder": tar_gz(folder(f"{TOP}/")),
    "an empty folder": tar_gz(folder(f"{TOP}/empty/"), file(f"{TOP}/x")),
    "an empty file": tar_gz(file(f"{TOP}/x", b"")),
    "a large file": tar_gz(file(f"{TOP}/x", bytes(range(256)) * 20_000), file(f"{TOP}/y")),
    "a name of GNU tar": tar_gz(gnu_long_name(LONG.encode()), file(f"{TOP}/x")),
    "a name of pax": tar_gz(pax({"path": LONG, "mtime": "1600000000.25"}), file(f"{TOP}/x")),
    "a size of pax": tar_gz(pax({"size": "4", "uid": "70000", "SCHILY.xattr.user.x": b"\0\xff"}), frame()),
    "a comment for all": tar_gz(pax({"comment": "0" * 40}, b"g"), frame()),
    "a prefix": tar_gz(frame(name=b"RUN1.jpeg", prefix=f"{TOP}/AA001-1".encode())),
    "a GNU header": tar_gz(frame(magic=b"ustar  \0")),
    "a v7 header": tar_gz(frame(magic=b"", type=b"\0")),
    "a v7 folder": tar_gz(Entry(f"{TOP}/x/".encode(), type=b"\0", magic=b"").tar(), frame()),
    "a size in base 256": tar_gz(frame(size=base_256(4, 12))),
    "a size with spaces": tar_gz(frame(size=b"          4 ")),
    "a full octal field": tar_gz(frame(mtime=b"013733017000")),
    "a time in base 256": tar_gz(frame(mtime=base_256(MTIME, 12))),
    "a time before 1970": tar_gz(frame(mtime=base_256(-86_400, 12))),
    "a signed checksum": tar_gz(frame(name=f"{TOP}/é".encode(), signed=True)),
    "a checksum of seven digits": tar_gz(frame(checksum=b"0" + FRAME.header()[148:154] + b"\0")),
    "a mode with a type": tar_gz(frame(mode=octal(0o100644, 8))),
    "names that are not ASCII": tar_gz(file(f"{TOP}/Größe 1 (µm) 胚.jpeg"), file(f"{TOP}/größe")),
    "names like ours": tar_gz(file(f"{TOP}/.mvtk-lock"), file(f"{TOP}/.hidden"), file(f"{TOP}/...")),
    "long padding": tar_gz(frame(), end=bytes(1_000_000)),
    "two gzip parts": gzip.compress(frame()[:700]) + gzip.compress(frame()[700:] + END),
    "many gzip parts": b"".join(gzip.compress(bytes([byte])) for byte in frame() + END),
    "empty gzip parts": gzip.compress(b"") * 3 + tar_gz(frame()) + gzip.compress(b"") * 3,
    "a gzip header with everything": named_gzip(frame() + END),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
@pytest.mark.skipif(shutil.which("tar") is None, reason="there is no GNU tar to compare with")
def test_what_comes_out_is_what_tar_makes(name: str, tmp_path: Path) -> None:
    extracted = extract(tmp_path / "ours", ODD[name])
    (tmp_path / "theirs").mkdir()
    command = ["tar", "-xzf", f"{TOP}.tar.gz", "--no-same-permissions", "--no-same-owner", "-C", "theirs"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    ours, theirs = (snapshot(tmp_path / side / TOP) for side in ("ours", "theirs"))
    assert {path: found[1:] for path, found in ours.items()} == {path: found[1:] for path, found in theirs.items()}
    assert extracted.files == sum(path.is_file() for path in (tmp_path / "ours").rglob("*"))
    assert extracted.size == sum(path.stat().st_size for path in (tmp_path / "ours").rglob("*") if path.is_file())


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_python_writes(tar_format: int, tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", format=tar_format) as writer:
        for number, name in enumerate((f"{TOP}/é/{'n' * 90}.jpeg", f"{TOP}/{'x' * 99}/{'y' * 99}", f"{TOP}/x")):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = 100 * number, MTIME + 0.5
            writer.addfile(member, io.BytesIO(bytes([number]) * member.size))
    assert extract(tmp_path / "ours", stream.getvalue()) == Extracted(3, 300)
    assert (tmp_path / "ours" / TOP / ("x" * 99) / ("y" * 99)).read_bytes() == b"\1" * 100


def test_files_get_no_rights_but_those_that_the_umask_leaves(tmp_path: Path) -> None:
    extract(tmp_path / "ours", tar_gz(frame(mode=octal(0o777, 8))))
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert (tmp_path / "ours" / TOP / "AA001-1" / "RUN1.jpeg").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("mode", [0o2775, 0o1777, 0o3777])
def test_a_folder_that_a_group_shares_becomes_a_plain_one(mode: int, tmp_path: Path) -> None:
    extract(tmp_path / "ours", tar_gz(Entry(f"{TOP}/x/".encode(), type=b"5", mode=octal(mode, 8)).tar(), frame()))
    plain = tmp_path / "plain"
    plain.mkdir()
    assert (tmp_path / "ours" / TOP / "x").stat().st_mode == plain.stat().st_mode


def test_more_folders_than_are_held_open(tmp_path: Path) -> None:
    names = [f"{TOP}/v{number % 90}/RUN{number}" for number in range(400)]
    extract(tmp_path / "ours", tar_gz(*(file(name, name.encode()) for name in names)))
    assert all((tmp_path / "ours" / name).read_bytes() == name.encode() for name in names)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 3000) | st.sampled_from([511, 512, 513, 1 << 20, (1 << 20) + 1]), max_size=12),
    cuts=st.lists(st.integers(0, 1 << 22), max_size=6),
    seed=st.integers(0, 9),
)
def test_contents_of_any_size_in_gzip_parts_of_any_size(
    sizes: list[int], cuts: list[int], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("sizes")
    contents = {f"{TOP}/{number}": bytes([(seed + number) % 256]) * size for number, size in enumerate(sizes)}
    tar = b"".join(file(name, data) for name, data in {f"{TOP}/first": b"", **contents}.items()) + END
    bounds = [0, *sorted(cut % len(tar) for cut in cuts), len(tar)]
    parts = (gzip.compress(tar[start:stop], 1) for start, stop in itertools.pairwise(bounds))
    assert extract(folder / "ours", b"".join(parts)) == Extracted(len(sizes) + 1, sum(sizes))
    for name, data in contents.items():
        assert (folder / "ours" / name).read_bytes() == data
    shutil.rmtree(folder)
