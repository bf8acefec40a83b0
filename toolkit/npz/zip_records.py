"""The records of a ZIP file: their layout, a member of an archive, and the bytes of a new one.

Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3 to 4.5. Only what NPZ files use: one disk, no encryption, stored or
deflated members. ZIP64 fields are written where a value needs them and nowhere else.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

LOCAL_HEADER: Final = struct.Struct("<4s5H3L2H")
CENTRAL_ENTRY: Final = struct.Struct("<4s6H3L5H2L")
END_RECORD: Final = struct.Struct("<4s4H2LH")
ZIP64_END_RECORD: Final = struct.Struct("<4sQ2H2L4Q")
ZIP64_LOCATOR: Final = struct.Struct("<4sLQL")

LOCAL_SIGNATURE: Final = b"PK\x03\x04"
CENTRAL_SIGNATURE: Final = b"PK\x01\x02"
END_SIGNATURE: Final = b"PK\x05\x06"
ZIP64_END_SIGNATURE: Final = b"PK\x06\x06"
ZIP64_LOCATOR_SIGNATURE: Final = b"PK\x06\x07"
DESCRIPTOR_SIGNATURE: Final = b"PK\x07\x08"

ZIP64_EXTRA_ID: Final = 0x0001
MAX_U16: Final = 0xFFFF
MAX_U32: Final = 0xFFFF_FFFF

STORED: Final = 0
DEFLATED: Final = 8

FLAG_ENCRYPTED: Final = 1 << 0
FLAG_DESCRIPTOR: Final = 1 << 3
FLAG_UTF8: Final = 1 << 11

_VERSION_DEFLATE: Final = 20
_VERSION_ZIP64: Final = 45
_MADE_ON_UNIX: Final = 3 << 8
_UNIX_REGULAR_0644: Final = 0o100644 << 16
# DOS date of 1980-01-01, the first one ZIP can hold: the same arrays give the same bytes on any day.
_DOS_EPOCH_DATE: Final = (1 << 5) | 1


class _CentralFields(NamedTuple):
    """The fixed part of a central directory entry; the defaults are what a new member's says."""

    signature: bytes = CENTRAL_SIGNATURE
    version_made_by: int = _MADE_ON_UNIX | _VERSION_DEFLATE
    version_needed: int = _VERSION_DEFLATE
    flags: int = 0
    method: int = STORED
    time: int = 0
    date: int = _DOS_EPOCH_DATE
    crc32: int = 0
    compressed_size: int = 0
    size: int = 0
    name_size: int = 0
    extra_size: int = 0
    comment_size: int = 0
    disk: int = 0
    internal_attributes: int = 0
    external_attributes: int = _UNIX_REGULAR_0644
    header_offset: int = 0


_NEW_ENTRY: Final = CENTRAL_ENTRY.pack(*_CentralFields())


class Member(NamedTuple):
    """One member of an archive, where it lies in the file, and what its records say of it.

    Bytes ``header_offset`` to ``end_offset`` are the whole member (local header, data, data descriptor): they may be
    copied into another archive as they are, with the :func:`central_entry` of the member :meth:`moved_to` its place.

    Attributes:
        name: the member's name in the archive, ``key`` plus ``.npy`` in an array written by NumPy.
        method: ``STORED`` or ``DEFLATED``.
        flags: the general purpose bit flags.
        crc32: CRC-32 of the decoded data.
        compressed_size: length of the data in the file, in bytes.
        size: length of the decoded data, in bytes.
        header_offset: where the local header begins.
        end_offset: where the next record begins.
        entry: its entry of the central directory as it was read; that of a new member says nothing but the defaults.
    """

    name: str
    method: int
    flags: int
    crc32: int
    compressed_size: int
    size: int
    header_offset: int
    end_offset: int
    entry: bytes = _NEW_ENTRY

    @property
    def key(self) -> str:
        """The name by which NumPy knows the array: the member's name without ``.npy``."""
        return self.name.removesuffix(".npy")

    @property
    def raw_name(self) -> bytes:
        """The name as it stands in the records."""
        # ASCII is the same in both, and UTF-8 is encoded ten times as fast.
        return self.name.encode("utf-8" if self.flags & FLAG_UTF8 or self.name.isascii() else "cp437")

    def moved_to(self, header_offset: int) -> Member:
        """Return the same member, beginning at ``header_offset`` of another archive."""
        end_offset = header_offset + self.end_offset - self.header_offset
        return self._replace(header_offset=header_offset, end_offset=end_offset)


def new_member(key: str, *, method: int, crc32: int, compressed_size: int, size: int, header_offset: int) -> Member:
    """Return the member for an array ``key`` whose :func:`local_header` is written at ``header_offset``."""
    name = f"{key}.npy"
    header_size = LOCAL_HEADER.size + len(name.encode()) + len(_local_zip64_extra(size, compressed_size))
    return Member(
        name=name,
        method=method,
        flags=0 if name.isascii() else FLAG_UTF8,
        crc32=crc32,
        compressed_size=compressed_size,
        size=size,
        header_offset=header_offset,
        end_offset=header_offset + header_size + compressed_size,
    )


def local_header(member: Member) -> bytes:
    """Return the local header (name and extra field included) that precedes the data of a :func:`new_member`."""
    extra = _local_zip64_extra(member.size, member.compressed_size)
    fixed = LOCAL_HEADER.pack(
        LOCAL_SIGNATURE,
        _VERSION_ZIP64 if extra else _VERSION_DEFLATE,
        member.flags,
        member.method,
        0,
        _DOS_EPOCH_DATE,
        member.crc32,
        MAX_U32 if extra else member.compressed_size,
        MAX_U32 if extra else member.size,
        len(member.raw_name),
        len(extra),
    )
    return fixed + member.raw_name + extra


def central_entry(member: Member) -> bytes:
    """Return the central directory's entry for ``member``, be it new or carried over from another archive.

    A carried member keeps its time stamp, attributes, comment, versions (raised where ZIP64 becomes necessary) and
    extra fields. Only the ZIP64 field is made anew; others that leave no room for it are dropped.
    """
    stated = _CentralFields._make(CENTRAL_ENTRY.unpack_from(member.entry))
    extra_start = CENTRAL_ENTRY.size + stated.name_size
    comment_start = extra_start + stated.extra_size
    comment = member.entry[comment_start:]
    sizes_and_offset = (member.size, member.compressed_size, member.header_offset)
    extra = _extra_field([value for value in sizes_and_offset if value >= MAX_U32])
    if extra:
        stated = stated._replace(
            # The lower byte is a version too, the upper one names the system.
            version_made_by=stated.version_made_by & 0xFF00 | max(stated.version_made_by & 0xFF, _VERSION_ZIP64),
            version_needed=max(stated.version_needed, _VERSION_ZIP64),
        )
    other_fields = _without_zip64(member.entry[extra_start:comment_start])
    if len(extra) + len(other_fields) <= MAX_U16:
        extra += other_fields
    fields = stated._replace(
        flags=member.flags,
        method=member.method,
        crc32=member.crc32,
        compressed_size=min(member.compressed_size, MAX_U32),
        size=min(member.size, MAX_U32),
        name_size=len(member.raw_name),
        extra_size=len(extra),
        comment_size=len(comment),
        header_offset=min(member.header_offset, MAX_U32),
    )
    return CENTRAL_ENTRY.pack(*fields) + member.raw_name + extra + comment


def closing_records(members: Sequence[Member], comment: bytes = b"") -> bytes:
    """Return all that follows the last of ``members``, which lie in an archive without gaps, in this order.

    Args:
        members: all members of the archive.
        comment: the archive's comment.
    """
    directory = b"".join(map(central_entry, members))
    offset = members[-1].end_offset if members else 0
    return directory + end_records(
        count=len(members), directory_offset=offset, directory_size=len(directory), comment=comment
    )


def end_records(*, count: int, directory_offset: int, directory_size: int, comment: bytes = b"") -> bytes:
    """Return what follows the central directory: the end record, after its ZIP64 form where a value needs it."""
    fixed = END_RECORD.pack(
        END_SIGNATURE,
        0,
        0,
        min(count, MAX_U16),
        min(count, MAX_U16),
        min(directory_size, MAX_U32),
        min(directory_offset, MAX_U32),
        len(comment),
    )
    end = fixed + comment
    if count < MAX_U16 and directory_size < MAX_U32 and directory_offset < MAX_U32:
        return end
    zip64_end = ZIP64_END_RECORD.pack(
        ZIP64_END_SIGNATURE,
        ZIP64_END_RECORD.size - 12,
        _MADE_ON_UNIX | _VERSION_ZIP64,
        _VERSION_ZIP64,
        0,
        0,
        count,
        count,
        directory_size,
        directory_offset,
    )
    locator = ZIP64_LOCATOR.pack(ZIP64_LOCATOR_SIGNATURE, 0, directory_offset + directory_size, 1)
    return zip64_end + locator + end


def widened(extra: bytes, values: Sequence[int]) -> list[int]:
    """Return a record's 32-bit ``values``, each one of all ones replaced from the ZIP64 field in its ``extra`` bytes.

    A value for which the field holds nothing stays as it is (APPNOTE 4.5.3).
    """
    wide = iter(_zip64_values(extra))
    return [next(wide, value) if value == MAX_U32 else value for value in values]


def _zip64_values(extra: bytes) -> Sequence[int]:
    start, end = _zip64_field(extra)
    return struct.unpack_from(f"<{(end - start - 4) // 8}Q", extra, start + 4) if end else ()


def _without_zip64(extra: bytes) -> bytes:
    start, end = _zip64_field(extra)
    return extra[:start] + extra[end:]


def _zip64_field(extra: bytes) -> tuple[int, int]:
    """Return where the ZIP64 field begins and ends in a record's ``extra`` bytes: (0, 0) where there is none."""
    position = 0
    while position + 4 <= len(extra):
        field_id, field_size = struct.unpack_from("<2H", extra, position)
        field_end = position + 4 + field_size
        if field_id == ZIP64_EXTRA_ID and field_end <= len(extra):
            return position, field_end
        position = field_end
    return 0, 0


def _local_zip64_extra(size: int, compressed_size: int) -> bytes:
    # A local header holds both sizes in the field or neither (APPNOTE 4.5.3).
    needed = size >= MAX_U32 or compressed_size >= MAX_U32
    return _extra_field([size, compressed_size]) if needed else b""


def _extra_field(values: list[int]) -> bytes:
    return struct.pack(f"<HH{len(values)}Q", ZIP64_EXTRA_ID, 8 * len(values), *values) if values else b""
