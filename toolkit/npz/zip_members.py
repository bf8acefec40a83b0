"""The records around one member's data: local header and data descriptor, held against the central directory.

Whatever is said twice must be said alike, and the member must fill its place between its neighbours to the byte.
"""

from __future__ import annotations

import struct
from typing import Final

from toolkit.npz.errors import DAMAGED_HINT, NpzError
from toolkit.npz.source import ByteSource
from toolkit.npz.zip_records import (
    DEFLATED,
    DESCRIPTOR_SIGNATURE,
    FLAG_DESCRIPTOR,
    FLAG_ENCRYPTED,
    FLAG_UTF8,
    LOCAL_HEADER,
    LOCAL_SIGNATURE,
    MAX_U32,
    STORED,
    Member,
    widened,
)

# Bits 1 and 2 are hints about the deflate level; every other bit changes what the bytes mean.
_KNOWN_FLAGS: Final = FLAG_DESCRIPTOR | FLAG_UTF8 | 0b110
WRONG_CHECKSUM: Final = "its checksum (CRC-32) does not match its data"
# A deflate block holds at most 258 bytes in two bits.
_MAX_DEFLATE_RATIO: Final = 1032
# CRC-32, compressed size, size; 32 or 64 bits wide, after a signature or not (APPNOTE 4.3.9), told apart by length.
_DESCRIPTOR_LAYOUTS: Final = {layout.size: layout for layout in map(struct.Struct, ("<3L", "<4s3L", "<L2Q", "<4sL2Q"))}


def locate_data(source: ByteSource, member: Member) -> int:
    """Return the offset of the member's data, after checking the records around them.

    Raises:
        NpzError: the member's records contradict the central directory or each other, its place is larger or smaller
            than the member, or it uses what NPZ files do not (encryption, methods other than stored and deflated).
    """
    if problem := _unsupported(member):
        raise member_error(source, member, problem, "write it again with numpy.savez")
    if problem := _impossible_size(member):
        raise member_error(source, member, problem)
    name_end = member.header_offset + LOCAL_HEADER.size + len(member.raw_name)
    if name_end > member.end_offset:
        raise member_error(source, member, "its local header overlaps with what follows")
    header = bytes(source.read(member.header_offset, name_end - member.header_offset))
    signature, _, flags, method, _, _, *stated, name_size, extra_size = LOCAL_HEADER.unpack_from(header)
    name = header[LOCAL_HEADER.size :]
    expected = (LOCAL_SIGNATURE, member.flags, member.method, len(member.raw_name), member.raw_name)
    if (signature, flags, method, name_size, name) != expected:
        raise member_error(source, member, "its local header and the central directory differ")
    data_offset: int = name_end + extra_size
    data_end = data_offset + member.compressed_size
    if data_end > member.end_offset:
        raise member_error(source, member, "its data overlap with what follows")
    crc32, compressed_size, size = stated
    if MAX_U32 in (compressed_size, size):
        size, compressed_size = widened(bytes(source.read(name_end, extra_size)), (size, compressed_size))
    _check_sums(source, member, (crc32, compressed_size, size), data_end)
    return data_offset


def member_error(source: ByteSource, member: Member, problem: str, hint: str = DAMAGED_HINT) -> NpzError:
    """Return the error that says what is wrong with ``member``."""
    return NpzError(source.path, f"member '{member.key}': {problem}", hint)


def _unsupported(member: Member) -> str:
    if member.flags & FLAG_ENCRYPTED:
        return "it is encrypted"
    if member.flags & ~_KNOWN_FLAGS:
        return f"it uses ZIP features that NPZ files do not (flags {member.flags:#06x})"
    if member.method not in (STORED, DEFLATED):
        return f"it is compressed by ZIP method {member.method}, neither stored nor deflated"
    return ""


def _impossible_size(member: Member) -> str:
    if member.method == STORED and member.size != member.compressed_size:
        return f"it is stored, but has two sizes: {member.compressed_size} and {member.size} bytes"
    if member.size > member.compressed_size * _MAX_DEFLATE_RATIO:
        return f"{member.compressed_size} deflated bytes cannot hold {member.size}"
    return ""


def _check_sums(source: ByteSource, member: Member, local: tuple[int, int, int], data_end: int) -> None:
    """Check that local header, descriptor and directory agree on CRC-32, compressed size and size."""
    known = (member.crc32, member.compressed_size, member.size)
    descriptor_size = member.end_offset - data_end
    if not member.flags & FLAG_DESCRIPTOR:
        if descriptor_size:
            raise member_error(source, member, "bytes that belong to no member follow it")
        if local != known:
            raise member_error(
                source, member, "its checksum or sizes differ between local header and central directory"
            )
        return
    layout = _DESCRIPTOR_LAYOUTS.get(descriptor_size)
    if layout is None:
        raise member_error(source, member, f"its data descriptor cannot have {descriptor_size} bytes")
    *signature, crc32, compressed_size, size = layout.unpack(source.read(data_end, descriptor_size))
    # Zeros stand for what was not known yet when the header was written to a stream (APPNOTE 4.4.4).
    vague = any(stated not in (0, right) for stated, right in zip(local, known, strict=True))
    if vague or (crc32, compressed_size, size) != known or signature not in ([], [DESCRIPTOR_SIGNATURE]):
        raise member_error(source, member, "its checksum or sizes differ between its records")
