"""Rewriting large files: constant memory, and ZIP64 records where they are needed and nowhere else."""

from __future__ import annotations

import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.toolkit.npz.npz_builders import (
    WRITERS,
    npy_bytes,
    rewrite,
    same_arrays,
    write,
    zip_of,
)
from toolkit.npz import open_npz, read_npz, rewrite_npz, zip_records
from toolkit.npz.zip_records import (
    DEFLATED,
    MAX_U32,
    STORED,
    Member,
    central_entry,
    closing_records,
    local_header,
    new_member,
)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "sample.npz"
    np.savez(path, a=np.zeros(4 << 20, "u1"), b=np.zeros(12 << 20, "u1"), edge=np.zeros(3))
    with open_npz(path) as reader:
        tracemalloc.start()
        rewrite_npz(reader, {"edge": np.ones(3)})
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak_bytes < 2 << 20


@pytest.mark.slow
def test_more_members_than_the_end_record_counts(tmp_path: Path) -> None:
    path = write(tmp_path, zip_of({f"{index}": b"" for index in range(65_535)}))
    rewrite(path, {"edge": np.arange(3)})
    with zipfile.ZipFile(path) as oracle:
        assert len(oracle.infolist()) == 65_536
        assert oracle.read("edge.npy") == npy_bytes(np.arange(3))
    with open_npz(path) as reader:
        assert len(reader.members) == 65_536


def entry_parts(entry: bytes) -> tuple[tuple[Any, ...], bytes]:
    """The fixed fields and the extra bytes of a directory entry."""
    fields = zip_records.CENTRAL_ENTRY.unpack_from(entry)
    return fields, entry[zip_records.CENTRAL_ENTRY.size + fields[10] :][: fields[11]]


def carried_member(path: Path, extra: bytes) -> Member:
    info = zipfile.ZipInfo("x.npy", (2021, 2, 3, 4, 5, 6))
    info.extra, info.comment, info.create_version = extra, b"a comment", 30
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, npy_bytes(np.arange(3)))
    with open_npz(path) as reader:
        return reader.members["x"]


@pytest.mark.parametrize("offset", [0, MAX_U32 - 1, MAX_U32, 5 << 40])
def test_a_moved_entry_has_the_zip64_field_that_it_needs(tmp_path: Path, offset: int) -> None:
    needed = offset >= MAX_U32
    extra = b"\x55\x54\x05\0\x01abcd"
    member = carried_member(tmp_path / "x.npz", extra)
    entry = central_entry(member.moved_to(offset))
    fields, found_extra = entry_parts(entry)
    assert zip_records.widened(found_extra, fields[-1:]) == [offset]
    assert found_extra[12 * needed :] == extra
    assert entry.endswith(b"x.npy" + found_extra + b"a comment")
    assert fields[1:3] == ((3 << 8 | 45, 45) if needed else (3 << 8 | 30, 20))
    back = central_entry(member._replace(entry=entry))
    assert entry_parts(back)[1] == extra
    assert (back == member.entry) is not needed


def test_a_moved_entry_without_room_for_zip64_drops_other_fields(tmp_path: Path) -> None:
    member = carried_member(tmp_path / "x.npz", b"\x55\x54" + (65_520).to_bytes(2, "little") + bytes(65_520))
    assert central_entry(member) == member.entry
    fields, extra = entry_parts(central_entry(member.moved_to(5 << 30)))
    assert (len(extra), zip_records.widened(extra, fields[-1:])) == (12, [5 << 30])


def write_sparse(path: Path, hole_bytes: int, *, first: bytes = b"", deflated_hole: bool = False) -> None:
    """Write members ``first``, ``hole`` (zeros that take no room on the disk) and ``last``."""
    payloads = {"first": first or npy_bytes(np.arange(3)), "hole": b"", "last": npy_bytes(np.arange(5))}
    members: list[Member] = []
    with path.open("wb") as file:
        for key, payload in payloads.items():
            size = hole_bytes if key == "hole" else len(payload)
            method = DEFLATED if key == "hole" and deflated_hole else STORED
            crc32, offset = zlib.crc32(payload), members[-1].end_offset if members else 0
            member = new_member(key, method=method, crc32=crc32, compressed_size=size, size=size, header_offset=offset)
            file.write(local_header(member) + payload)
            file.seek(member.end_offset)
            members.append(member)
        file.write(closing_records(members))


def test_a_file_that_needs_zip64_no_more(tmp_path: Path) -> None:
    path = tmp_path / "sample.npz"
    write_sparse(path, 5 << 30)
    size = rewrite(path, {"hole": np.arange(4)})
    expected = {"first": np.arange(3), "hole": np.arange(4), "last": np.arange(5)}
    assert same_arrays(read_npz(path), expected)
    with zipfile.ZipFile(path) as oracle:
        assert oracle.testzip() is None
    assert size == len(WRITERS["ours_stored"](expected))


@pytest.mark.slow
def test_a_file_that_grows_beyond_what_32_bits_count(tmp_path: Path) -> None:
    """Writes 4 GiB: the last member's offset then needs ZIP64, and its size does not."""
    path = tmp_path / "sample.npz"
    write_sparse(path, MAX_U32 - 500, deflated_hole=True)
    with open_npz(path) as reader:
        assert reader.members["last"].header_offset < MAX_U32
    tracemalloc.start()
    rewrite(path, {"first": np.arange(300)})
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2 << 20
    with open_npz(path) as reader:
        assert reader.members["last"].header_offset > MAX_U32
        assert reader.members["hole"].size == MAX_U32 - 500
        assert reader.read("last").tolist() == [0, 1, 2, 3, 4]
    with zipfile.ZipFile(path) as oracle:
        assert oracle.read("last.npy") == npy_bytes(np.arange(5))
    path.unlink()
