"""Archives that contradict themselves, and odd ones that do not."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.toolkit.npz.npz_builders import WRITERS, npy_bytes, same_arrays, savez, savez_piped, write, zip_of, zip_piped
from toolkit.npz import NpzError, open_npz, read_npz
from toolkit.npz.source import ByteSource
from toolkit.npz.zip_directory import read_members
from toolkit.npz.zip_members import locate_data
from toolkit.npz.zip_records import (
    CENTRAL_ENTRY,
    DEFLATED,
    END_RECORD,
    LOCAL_HEADER,
    STORED,
    Member,
    central_entry,
    end_records,
    local_header,
    new_member,
)

ARRAYS = {"x": np.arange(3), "y": np.arange(4)}


def central_start(data: bytes) -> int:
    return struct.unpack("<L", data[-6:-2])[0]


def edited(data: bytes, offset: int, layout: str, value: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(layout, changed, offset, value)
    return bytes(changed)


@pytest.mark.parametrize("writer", WRITERS)
def test_every_record_zipfile_sees(tmp_path: Path, writer: str) -> None:
    path = write(tmp_path, WRITERS[writer](ARRAYS))
    with zipfile.ZipFile(path) as oracle, ByteSource(path) as source:
        members = read_members(source)
        for member, info in zip(members, oracle.infolist(), strict=True):
            assert (member.name, member.method, member.crc32) == (info.filename, info.compress_type, info.CRC)
            assert (member.size, member.compressed_size) == (info.file_size, info.compress_size)
            assert member.header_offset == info.header_offset
            raw = source.read(locate_data(source, member), member.compressed_size)
            assert (zlib.decompress(raw, -15) if member.method == DEFLATED else raw) == oracle.read(info)


def test_a_member_can_be_carried_over_raw(tmp_path: Path) -> None:
    """The byte range of a member and a new directory entry make a sound archive, descriptors included."""
    for writer in WRITERS.values():
        data = writer(ARRAYS)
        with ByteSource(write(tmp_path, data)) as source:
            member = read_members(source)[1]
            raw = bytes(source.read(member.header_offset, member.end_offset - member.header_offset))
        directory = central_entry(member.moved_to(0))
        copy = raw + directory + end_records(count=1, directory_offset=len(raw), directory_size=len(directory))
        path = write(tmp_path, copy, "copy.npz")
        assert same_arrays(read_npz(path), {"y": ARRAYS["y"]})
        with zipfile.ZipFile(path) as oracle:
            assert oracle.testzip() is None


def test_contradictions(tmp_path: Path) -> None:
    data = savez(ARRAYS)
    central = central_start(data)
    second = data.index(b"PK\x03\x04", 4)
    end = len(data) - END_RECORD.size
    entry_size = CENTRAL_ENTRY.size + len("x.npy")
    cases = {
        "disks": (edited(data, end + 4, "<H", 1), "is one part of a ZIP file on several disks; join the parts first"),
        "count": (edited(data, end + 8, "<H", 1), "the end record counts its members twice: 1 and 2"),
        "fewer": (
            edited(edited(data, end + 8, "<H", 1), end + 10, "<H", 1),
            "its directory holds more than the 1 members of its end record",
        ),
        "more": (
            edited(edited(data, end + 8, "<H", 3), end + 10, "<H", 3),
            "its end record counts 3 members, its directory has 2",
        ),
        "place": (edited(data, end + 16, "<L", central - 1), "the central directory does not end where the end record"),
        "comment": (edited(data, end + 20, "<H", 1), "does not end like a ZIP file"),
        "appended": (data + b"\n", "does not end like a ZIP file"),
        "prepended": (b"\n" + data, "the central directory does not end where the end record"),
        "entry": (edited(data, central, "<L", 0), "entry 1 of its central directory is damaged"),
        "entry disk": (edited(data, central + 34, "<H", 1), "entry 1 of its central directory is damaged"),
        "long name": (edited(data, central + 28, "<H", 9999), "entry 1 of its central directory is damaged"),
        "first offset": (edited(data, central + 42, "<L", 1), "bytes that belong to no member stand at its beginning"),
        "second offset": (
            edited(data, central + entry_size + 42, "<L", second + 1),
            "member 'x': bytes that belong to no member follow it",
        ),
        "overlap": (edited(data, central + entry_size + 42, "<L", 3), "member 'x': its local header overlaps"),
        "signature": (edited(data, second, "<L", 0), "member 'y': its local header and the central directory differ"),
        "name": (edited(data, LOCAL_HEADER.size, "<B", ord("z")), "member 'x': its local header and the central"),
        "method": (edited(data, 8, "<H", DEFLATED), "member 'x': its local header and the central directory differ"),
        "crc": (edited(data, 14, "<L", 0), "member 'x': its checksum or sizes differ between local header"),
        "local size": (edited(data, 22, "<L", 3), "member 'x': its checksum or sizes differ between local header"),
        "central size": (
            edited(data, central + 24, "<L", 3),
            "member 'x': it is stored, but has two sizes: 152 and 3 bytes",
        ),
        "extra": (edited(data, 28, "<H", 9999), "member 'x': its data overlap with what follows"),
    }
    for name, (damaged, problem) in cases.items():
        with pytest.raises(NpzError) as caught:
            read_npz(write(tmp_path, damaged))
        assert problem in str(caught.value), name


@pytest.mark.parametrize(
    ("flags", "method", "problem"),
    [
        (1, STORED, "member 'x': it is encrypted; write it again with numpy.savez"),
        (1 << 5, STORED, r"it uses ZIP features that NPZ files do not \(flags 0x0020\)"),
        (0, 12, "it is compressed by ZIP method 12, neither stored nor deflated"),
    ],
)
def test_what_npz_files_do_not_use(tmp_path: Path, flags: int, method: int, problem: str) -> None:
    data = savez({"x": np.arange(3)})
    central = central_start(data)
    for offset in (6, central + 8):
        data = edited(edited(data, offset, "<H", flags), offset + 2, "<H", method)
    with pytest.raises(NpzError, match=problem):
        read_npz(write(tmp_path, data))


@pytest.mark.parametrize("names", [("x.npy", "x.npy"), ("x", "x.npy"), ("x.npy", "x"), ("x.npy", "x.npy.npy")])
def test_two_members_of_one_name(tmp_path: Path, names: tuple[str, str]) -> None:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")
        for name in names:
            archive.writestr(name, npy_bytes(np.arange(3)))
    with pytest.raises(NpzError, match=r"member 'x(\.npy)?' is there twice; write it again from one source"):
        open_npz(write(tmp_path, stream.getvalue()))


@pytest.mark.parametrize("name", ["", "a\0b.npy"])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    member = Member(name, STORED, 0, 0, 0, 0, 0, LOCAL_HEADER.size + len(name))
    directory = central_entry(member)
    end = end_records(count=1, directory_offset=member.end_offset, directory_size=len(directory))
    with pytest.raises(NpzError, match="is empty or holds a NUL"):
        open_npz(write(tmp_path, local_header(member) + directory + end))


def test_names_in_two_encodings(tmp_path: Path) -> None:
    path = write(tmp_path, zip_of({"é.npy": npy_bytes(np.arange(3))}))
    assert list(read_npz(path)) == ["é"]
    with pytest.raises(NpzError, match=r"the member name .* is not UTF-8"):
        open_npz(write(tmp_path, path.read_bytes().replace("é".encode(), b"\xff\xff")))
    old = zip_of({"ee.npy": npy_bytes(np.arange(3))}).replace(b"ee.npy", b"\x82e.npy")
    assert list(read_npz(write(tmp_path, old))) == ["ée"]


@pytest.mark.parametrize("writer", [savez_piped, zip_piped])
def test_descriptors(tmp_path: Path, writer: object) -> None:
    """With a signature or without one, 32 or 64 bits wide; but always right."""
    data = WRITERS[writer.__name__]({"x": np.arange(3)})
    start = data.index(b"PK\x07\x08")
    length = data.index(b"PK\x01\x02", start) - start
    assert length == (24 if writer is savez_piped else 16)
    unsigned = data[:start] + data[start + 4 :]
    position = unsigned.index(b"PK\x05\x06")
    offset = struct.unpack_from("<L", unsigned, position + 16)[0]
    unsigned = edited(unsigned, position + 16, "<L", offset - 4)
    assert same_arrays(read_npz(write(tmp_path, unsigned)), {"x": np.arange(3)})
    for offset in range(start, start + length):
        with pytest.raises(NpzError, match="member 'x': its checksum or sizes differ between its records"):
            read_npz(write(tmp_path, edited(data, offset, "<B", data[offset] ^ 4)))
    for field_offset in (14, 18, 22):  # CRC-32, compressed size and size of the local header
        local = edited(data, field_offset, "<L", 77)
        with pytest.raises(NpzError, match="member 'x': its checksum or sizes differ between its records"):
            read_npz(write(tmp_path, local))
    inserted = data[:start] + b"\0" + data[start:]
    position = inserted.rindex(b"PK\x05\x06")
    with pytest.raises(NpzError, match=f"its data descriptor cannot have {length + 1} bytes"):
        read_npz(write(tmp_path, edited(inserted, position + 16, "<L", start + length + 1)))


def test_a_comment_may_look_like_an_end_record(tmp_path: Path) -> None:
    comment = b"PK\x05\x06" + bytes(30)
    data = savez(ARRAYS)
    data = edited(data, len(data) - 2, "<H", len(comment)) + comment
    assert same_arrays(read_npz(write(tmp_path, data)), ARRAYS)


def test_no_members_at_all(tmp_path: Path) -> None:
    assert read_npz(write(tmp_path, savez({}))) == {}
    shifted = b"x" + edited(savez({}), 16, "<L", 1)
    with pytest.raises(NpzError, match="bytes that belong to no member stand at its beginning"):
        read_npz(write(tmp_path, shifted))


def test_an_absurd_directory_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "sparse.npz"
    size = 65 << 20
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(size)
        file.write(end_records(count=1, directory_offset=0, directory_size=size))
    with pytest.raises(NpzError, match="the central directory takes 68157440 bytes, which no NPZ file needs"):
        open_npz(path)


def sparse_zip64(path: Path, array_bytes: int) -> None:
    """Two stored members, the first a hole of ``array_bytes``: sizes and offsets that need ZIP64."""
    first = new_member("a", method=STORED, crc32=1, compressed_size=array_bytes, size=array_bytes, header_offset=0)
    second_data = npy_bytes(np.arange(3))
    second = new_member(
        "b",
        method=STORED,
        crc32=zlib.crc32(second_data),
        compressed_size=len(second_data),
        size=len(second_data),
        header_offset=first.end_offset,
    )
    directory = central_entry(first) + central_entry(second)
    with path.open("wb") as file:
        file.write(local_header(first))
        file.seek(first.end_offset)
        file.write(local_header(second) + second_data + directory)
        file.write(end_records(count=2, directory_offset=second.end_offset, directory_size=len(directory)))


@pytest.mark.parametrize("array_bytes", [0xFFFF_FFFE, 0xFFFF_FFFF, 5 << 30])
def test_zip64(tmp_path: Path, array_bytes: int) -> None:
    path = tmp_path / "sparse.npz"
    sparse_zip64(path, array_bytes)
    with open_npz(path) as reader:
        assert reader.read("b").tolist() == [0, 1, 2]
        assert reader.members["a"].size == array_bytes
        with pytest.raises(NpzError, match=f"member 'a' takes {array_bytes} bytes, more than the limit"):
            reader.read("a")
        assert reader.header("a") is None
    with zipfile.ZipFile(path) as oracle:
        assert [info.file_size for info in oracle.infolist()] == [array_bytes, 152]
        assert oracle.read("b.npy") == npy_bytes(np.arange(3))


@pytest.mark.parametrize("value", [0xFFFF_FFFE, 0xFFFF_FFFF])
def test_zip64_fields_are_there_where_needed(value: int) -> None:
    """All ones in 32 bits means "look in the ZIP64 field", so it cannot be a value."""
    member = Member("x", STORED, 0, 0, compressed_size=value, size=value, header_offset=value, end_offset=2 * value)
    needed = value == 0xFFFF_FFFF
    assert len(central_entry(member)) == CENTRAL_ENTRY.size + 1 + (4 + 3 * 8) * needed
    assert len(local_header(member)) == LOCAL_HEADER.size + 1 + (4 + 2 * 8) * needed
    assert len(end_records(count=1, directory_offset=value, directory_size=1)) == END_RECORD.size + 76 * needed
    assert len(end_records(count=1, directory_offset=0, directory_size=value)) == END_RECORD.size + 76 * needed


def test_zip64_flips(tmp_path: Path) -> None:
    path = tmp_path / "sparse.npz"
    sparse_zip64(path, 5 << 30)
    size = path.stat().st_size
    harmless = 0
    with path.open("r+b", buffering=0) as file:
        end = os.pread(file.fileno(), 98, size - 98)
        for offset, byte in enumerate(end):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), size - 98 + offset)
                try:
                    with open_npz(path) as reader:
                        assert list(reader.members) == ["a", "b"]
                        assert reader.read("b").tolist() == [0, 1, 2]
                    harmless += 1
                except NpzError:
                    pass
            os.pwrite(file.fileno(), bytes([byte]), size - 98 + offset)
    # Two version numbers; and a 16-bit field that is not all ones need not be.
    assert harmless <= 8 * 4


def test_many_members_need_zip64(tmp_path: Path) -> None:
    for count, length in ((65_534, 22), (65_535, 98), (70_000, 98)):
        assert len(end_records(count=count, directory_offset=0, directory_size=0)) == length
    path = write(tmp_path, zip_of({f"{index}": b"" for index in range(65_536)}))
    with open_npz(path) as reader:
        assert len(reader.members) == 65_536
