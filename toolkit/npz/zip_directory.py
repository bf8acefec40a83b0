"""Strict reading of a ZIP file's end records and central directory: where every member lies.

The end records must stand exactly where they belong, and the members' places must leave no byte before the directory
to nobody. Time stamps, versions, attributes and unknown extra fields carry no meaning here and are not looked at; each
member keeps its entry, so that a rewritten file says them again.
A member's own records are held against the directory by :func:`toolkit.npz.zip_members.locate_data`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from toolkit.npz.errors import NpzError
from toolkit.npz.source import ByteSource
from toolkit.npz.zip_records import (
    CENTRAL_ENTRY,
    CENTRAL_SIGNATURE,
    END_RECORD,
    END_SIGNATURE,
    FLAG_UTF8,
    MAX_U16,
    MAX_U32,
    ZIP64_END_RECORD,
    ZIP64_END_SIGNATURE,
    ZIP64_LOCATOR,
    ZIP64_LOCATOR_SIGNATURE,
    Member,
    widened,
)

# Room for half a million members: more is no NPZ file, and would cost memory before anything is checked.
_MAX_DIRECTORY_BYTES: Final = 64 << 20


class _Directory(NamedTuple):
    """Where the central directory lies and how many members it lists."""

    offset: int
    size: int
    member_count: int


def read_members(source: ByteSource) -> tuple[Member, ...]:
    """Return all members of the archive, in the order of the directory, which must be that of the file.

    Raises:
        NpzError: the file is no ZIP file, its end records and directory contradict each other, it lies on several
            disks, or two members have one name.
    """
    directory = _find_directory(source)
    data = bytes(source.read(directory.offset, directory.size))
    entries = list(_central_entries(source, data, directory.member_count))
    starts = [header_offset for *_, header_offset, _ in entries] + [directory.offset]
    if starts[0] != 0:
        raise NpzError(source.path, "bytes that belong to no member stand at its beginning")
    members = tuple(
        Member(*fields[:-1], end_offset, fields[-1]) for fields, end_offset in zip(entries, starts[1:], strict=True)
    )
    _check_names(source, members)
    return members


def read_comment(source: ByteSource) -> bytes:
    """Return the archive's comment, which follows the end record; nearly always empty. Errors as in read_members."""
    end_offset, _ = _find_end_record(source)
    start = end_offset + END_RECORD.size
    return bytes(source.read(start, source.size - start))


def _find_directory(source: ByteSource) -> _Directory:
    end_offset, fields = _find_end_record(source)
    _, disk, directory_disk, disk_count, count, size, offset, _ = fields
    stands_at = end_offset
    if count == MAX_U16 or MAX_U32 in (size, offset):
        zip64 = _zip64_end_record(source, end_offset)
        if zip64 is not None:
            stands_at, wide = zip64
            narrow = (disk, directory_disk, disk_count, count, size, offset)
            for value, wide_value, limit in zip(narrow, wide, (MAX_U16,) * 4 + (MAX_U32,) * 2, strict=True):
                if value not in (wide_value, limit):
                    raise NpzError(source.path, "the end record and its ZIP64 form differ")
            disk, directory_disk, disk_count, count, size, offset = wide
    if disk or directory_disk:
        raise NpzError(source.path, "is one part of a ZIP file on several disks", "join the parts first")
    if disk_count != count:
        raise NpzError(source.path, f"the end record counts its members twice: {disk_count} and {count}")
    if offset + size != stands_at:
        raise NpzError(source.path, "the central directory does not end where the end record begins")
    if size > _MAX_DIRECTORY_BYTES:
        raise NpzError(source.path, f"the central directory takes {size} bytes, which no NPZ file needs")
    return _Directory(offset, size, count)


def _find_end_record(source: ByteSource) -> tuple[int, tuple[bytes, int, int, int, int, int, int, int]]:
    """Return the end record's offset and fields; its comment must reach the file's end exactly."""
    tail_size = min(source.size, END_RECORD.size + MAX_U16)
    for window in (min(END_RECORD.size, tail_size), tail_size):
        tail = source.read(source.size - window, window)
        found = tail.rfind(END_SIGNATURE)
        while found >= 0:
            if found + END_RECORD.size <= window:
                fields = END_RECORD.unpack_from(tail, found)
                if found + END_RECORD.size + fields[-1] == window:
                    return source.size - window + found, fields
            found = tail.rfind(END_SIGNATURE, 0, found)
    raise NpzError(source.path, "does not end like a ZIP file: it is no NPZ file, or it is cut short")


def _zip64_end_record(source: ByteSource, end_offset: int) -> tuple[int, tuple[int, ...]] | None:
    """Return the ZIP64 end record's offset and its six fields, or None where the file has no locator for one."""
    locator_offset = end_offset - ZIP64_LOCATOR.size
    if locator_offset < 0:
        return None
    signature, disk, offset, disks = ZIP64_LOCATOR.unpack(source.read(locator_offset, ZIP64_LOCATOR.size))
    if signature != ZIP64_LOCATOR_SIGNATURE:
        return None
    if disk or disks != 1 or offset != locator_offset - ZIP64_END_RECORD.size:
        raise NpzError(source.path, "the ZIP64 locator does not point at a ZIP64 end record right before it")
    record = ZIP64_END_RECORD.unpack(source.read(offset, ZIP64_END_RECORD.size))
    signature, record_size, _, _, *values = record
    if signature != ZIP64_END_SIGNATURE or record_size != ZIP64_END_RECORD.size - 12:
        raise NpzError(source.path, "the ZIP64 end record is damaged")
    return offset, tuple(values)


def _central_entries(
    source: ByteSource, data: bytes, member_count: int
) -> Iterator[tuple[str, int, int, int, int, int, int, bytes]]:
    """Yield the fields of :class:`Member` for each entry, all but ``end_offset``."""
    position = 0
    for index in range(member_count):
        if position + CENTRAL_ENTRY.size > len(data):
            raise NpzError(source.path, f"its end record counts {member_count} members, its directory has {index}")
        start = position
        fields = CENTRAL_ENTRY.unpack_from(data, start)
        signature, _, _, flags, method, _, _, crc32, compressed_size, size, *lengths, disk, _, _, offset = fields
        name_size, extra_size, comment_size = lengths
        name_end = start + CENTRAL_ENTRY.size + name_size
        position = name_end + extra_size + comment_size
        if signature != CENTRAL_SIGNATURE or position > len(data) or disk:
            raise NpzError(source.path, f"entry {index + 1} of its central directory is damaged")
        if MAX_U32 in (size, compressed_size, offset):
            extra = data[name_end : name_end + extra_size]
            size, compressed_size, offset = widened(extra, (size, compressed_size, offset))
        name = _decoded_name(source, data[name_end - name_size : name_end], flags)
        yield name, method, flags, crc32, compressed_size, size, offset, data[start:position]
    if position != len(data):
        raise NpzError(source.path, f"its directory holds more than the {member_count} members of its end record")


def _decoded_name(source: ByteSource, raw_name: bytes, flags: int) -> str:
    try:
        # ASCII is the same in both, and UTF-8 decodes ten times as fast.
        name = raw_name.decode("utf-8" if flags & FLAG_UTF8 or raw_name.isascii() else "cp437")
    except UnicodeDecodeError as error:
        raise NpzError(source.path, f"the member name {raw_name!r} is not UTF-8") from error
    if not name or "\0" in name:
        raise NpzError(source.path, f"the member name {name!r} is empty or holds a NUL")
    return name


def _check_names(source: ByteSource, members: Sequence[Member]) -> None:
    """Refuse two members that NumPy would give one key: ``x`` twice, or ``x`` beside ``x.npy``."""
    # Sound files are told by counting, which takes half the time of looking for who owns each name.
    names = [member.name for member in members]
    keys = [member.key for member in members]
    if len({*names, *keys}) == len(names) + sum(key != name for key, name in zip(keys, names, strict=True)):
        return
    owners: dict[str, int] = {}
    for index, member in enumerate(members):
        for name in (member.name, member.key):
            if owners.setdefault(name, index) != index:
                hint = "write it again from one source: a file opened for appending keeps the old member too"
                raise NpzError(source.path, f"member '{member.key}' is there twice", hint)
