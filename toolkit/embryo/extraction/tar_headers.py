"""The header blocks of tar archives: v7, POSIX ustar and pax (IEEE Std 1003.1-2001), and GNU tar's additions.

Nothing here repairs: a header that does not say one thing clearly is an error.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple

BLOCK_BYTES: Final = 512
END_BLOCK: Final = bytes(BLOCK_BYTES)

V7_FILE: Final = 0
FILE: Final = ord("0")
FOLDER: Final = ord("5")
GNU_LONG_NAME: Final = ord("L")
PAX_NEXT: Final = ord("x")
PAX_GLOBAL: Final = ord("g")
FORBIDDEN_TYPES: Final = {
    ord("1"): "a hard link",
    ord("2"): "a symbolic link",
    ord("3"): "a character device",
    ord("4"): "a block device",
    ord("6"): "a FIFO",
    ord("7"): "a contiguous file",
    ord("A"): "a list of access rights",
    ord("D"): "a folder dump",
    ord("E"): "a list of extended attributes",
    ord("I"): "an inode without content",
    ord("K"): "the name of a link",
    ord("M"): "the continuation of a file from another volume",
    ord("N"): "a list of old long names",
    ord("S"): "a sparse file",
    ord("V"): "a volume's label",
    ord("X"): "a Solaris extended header",
}
"""What is never extracted, by the header's type flag."""

_OCTAL: Final = re.compile(rb" *([0-7]*)[ \0]*")
_POSIX_MAGIC: Final = b"ustar\0"
_CHECKSUM: Final = slice(148, 156)
_BLANK_CHECKSUM_SUM: Final = 8 * ord(" ")
_BASE_256: Final = 0x80
_NEGATIVE: Final = 0x40
_MAX_TIME_S: Final = 1 << 40
_NS: Final = 10**9


class MemberError(Exception):
    """What is wrong with a member of an archive, without the archive's name.

    Args:
        problem: in words, of "it".
        member: the member's name, where it is not the one that is being read.
    """

    def __init__(self, problem: str, member: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.member = member


class Header(NamedTuple):
    """One header block.

    Attributes:
        name: the member's name as stored, up to its first NUL.
        type_flag: the byte that says what the member is.
        mode: its permission bits and those above.
        size: the length of the data that follow, in bytes.
        mtime_ns: when it was written, in nanoseconds since 1970.
    """

    name: bytes
    type_flag: int
    mode: int
    size: int
    mtime_ns: int


def stored_name(block: bytes) -> bytes:
    """Return the name in a header block, sound or not."""
    name = block[:100].partition(b"\0")[0]
    prefix = block[345:500].partition(b"\0")[0] if block[257:263] == _POSIX_MAGIC else b""
    return prefix + b"/" + name if prefix else name


def parse_header(block: bytes) -> Header:
    """Return what a header block says.

    Raises:
        MemberError: its checksum does not match, or a number in it is none or negative.
    """
    _require_checksum(block)
    return Header(
        stored_name(block),
        block[156],
        _number(block[100:108], "mode"),
        _number(block[124:136], "size"),
        _time_ns(_signed(block[136:148], "time")),
    )


def parse_pax(data: bytes) -> dict[bytes, bytes]:
    """Return the records of a pax extended header; of a repeated key the last counts.

    Raises:
        MemberError: a record is not of the form ``length key=value`` and a line feed.
    """
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(data):
        digits, space, _ = data[position : position + 21].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        record = data[position : position + length]
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if len(record) != length or not (key and equals) or not record.endswith(b"\n"):
            raise MemberError("its pax header is damaged")
        records[key] = value
        position += length
    return records


def pax_size(value: bytes) -> int:
    """Return the size that a pax record gives.

    Raises:
        MemberError: it is not a number, or negative.
    """
    if not value.isdigit() or len(value) > 20:
        raise MemberError("its size in the pax header is not a number, or negative")
    return int(value)


def pax_time_ns(value: bytes) -> int:
    """Return the time that a pax record gives as seconds with decimals, in nanoseconds.

    Raises:
        MemberError: it is not a number, or out of range.
    """
    try:
        seconds = Decimal(value.decode("ascii"))
    except (InvalidOperation, UnicodeDecodeError):
        seconds = Decimal("NaN")
    if not seconds.is_finite() or abs(seconds) > _MAX_TIME_S:
        raise MemberError("its time in the pax header is not a number, or out of range")
    return int(seconds * _NS)


def _require_checksum(block: bytes) -> None:
    field = block[_CHECKSUM]
    expected = _number(field, "checksum")
    found = sum(block) - sum(field) + _BLANK_CHECKSUM_SUM
    if found == expected:
        return
    # Old writers summed up signed bytes.
    above = 256 * sum(byte > 127 for byte in block[: _CHECKSUM.start] + block[_CHECKSUM.stop :])
    if found - above != expected:
        raise MemberError("its header is damaged: the checksum does not match")


def _number(field: bytes, what: str) -> int:
    value = _signed(field, what)
    if value < 0:
        raise MemberError(f"its {what} is negative")
    return value


def _signed(field: bytes, what: str) -> int:
    """Return a number written with octal digits or, as GNU tar writes large and negative ones, in base 256."""
    if field[0] & _BASE_256:
        value = int.from_bytes(bytes([field[0] & ~_BASE_256]) + field[1:], "big")
        return value - (1 << (8 * len(field) - 1)) if field[0] & _NEGATIVE else value
    match = _OCTAL.fullmatch(field)
    if match is None:
        raise MemberError(f"its {what} is not a number")
    return int(match[1] or b"0", 8)


def _time_ns(time_s: int) -> int:
    if abs(time_s) > _MAX_TIME_S:
        raise MemberError("its time is out of range")
    return time_s * _NS
