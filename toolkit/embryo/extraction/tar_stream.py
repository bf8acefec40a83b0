"""The members of a tar archive, one after the other, from a stream that is read once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from toolkit.core.errors import one_line
from toolkit.embryo.extraction.tar_headers import (
    BLOCK_BYTES,
    END_BLOCK,
    FILE,
    FOLDER,
    FORBIDDEN_TYPES,
    GNU_LONG_NAME,
    PAX_GLOBAL,
    PAX_NEXT,
    V7_FILE,
    Header,
    MemberError,
    parse_header,
    parse_pax,
    pax_size,
    pax_time_ns,
    stored_name,
)

_MAX_LONG_NAME_BYTES: Final = 4 << 10
_MAX_PAX_BYTES: Final = 1 << 20
_MAX_EXTENDED_HEADERS: Final = 8
"""So many may precede one member; real ones have one or two."""
_SPECIAL_BITS: Final = 0o7000
_SET_USER_ID: Final = 0o4000
"""What alone is refused of folders: one that a group shares often has another special bit, which ours do not get."""
_GLOBAL_KEYS: Final = frozenset({b"comment"})
"""What a header for all members may say: nothing that changes what a member is."""
_SPARSE_PREFIX: Final = b"GNU.sparse."


class Member(NamedTuple):
    """A regular file or a folder in an archive; everything else is an error.

    Attributes:
        name: as stored.
        is_folder: whether it is a folder.
        size: its length in bytes; 0 for a folder.
        mtime_ns: when it was written, in nanoseconds since 1970.
    """

    name: bytes
    is_folder: bool
    size: int
    mtime_ns: int


@dataclass(slots=True)
class _Extension:
    """What extended headers say of the member that follows them."""

    long_name: bytes | None = None
    pax: dict[bytes, bytes] = field(default_factory=dict)
    headers: int = 0


class TarStream:
    """A tar archive, read once.

    Args:
        pieces: its bytes.
        most_member_bytes: how large a member may be.
        most_members: how many there may be.
    """

    def __init__(self, pieces: Iterator[bytes], *, most_member_bytes: int, most_members: int) -> None:
        self._pieces = pieces
        self._most_member_bytes = most_member_bytes
        self._most_members = most_members
        self._piece = memoryview(b"")
        self._position = 0
        self._unread = 0
        self._padding = 0
        self._name: bytes | None = None
        self._at_end = False

    @property
    def current(self) -> str:
        """In words, the member at which reading is."""
        if self._at_end:
            return "its end"
        return "its first member" if self._name is None else f"member '{_text(self._name)}'"

    def members(self) -> Iterator[Member]:
        """Yield each member; whoever gets it may :meth:`take` its data before the next. Then check the archive's end.

        Raises:
            MemberError: what is wrong with the member :attr:`current`.
        """
        count = 0
        extension = _Extension()
        while (block := self._block()) != END_BLOCK:
            self._name = stored_name(block)
            header = parse_header(block)
            if header.type_flag in {GNU_LONG_NAME, PAX_NEXT, PAX_GLOBAL}:
                self._extend(extension, header)
                continue
            count += 1
            if count > self._most_members:
                raise MemberError(f"the archive holds more than {self._most_members} members")
            member = self._member(header, extension)
            self._unread, self._padding = member.size, -member.size % BLOCK_BYTES
            yield member
            self._discard(self._unread + self._padding)
            extension = _Extension()
        if extension.headers:
            raise MemberError("an extended header is not followed by a member")
        self._require_end()

    def take(self, most_bytes: int) -> list[memoryview]:
        """Return the next bytes of the member's data, at most so many, in one piece or several; empty at its end.

        Raises:
            MemberError: the archive is cut short.
        """
        length = min(most_bytes, self._unread)
        self._unread -= length
        return self._take(length)

    def _take(self, length: int) -> list[memoryview]:
        start, end = self._position, self._position + length
        if end <= len(self._piece):
            self._position = end
            return [self._piece[start:end]] if length else []
        views = [self._piece[start:]] if start < len(self._piece) else []
        missing = end - len(self._piece)
        while missing:
            if not self._next_piece():
                raise MemberError("the archive is cut short")
            self._position = min(missing, len(self._piece))
            views.append(self._piece[: self._position])
            missing -= self._position
        return views

    def _discard(self, length: int) -> None:
        while length:
            length -= sum(map(len, self._take(min(length, BLOCK_BYTES))))

    def _next_piece(self) -> bool:
        self._piece, self._position = memoryview(next(self._pieces, b"")), 0
        return len(self._piece) > 0

    def _block(self) -> bytes:
        views = self._take(BLOCK_BYTES)
        return bytes(views[0]) if len(views) == 1 else b"".join(views)

    def _extend(self, extension: _Extension, header: Header) -> None:
        extension.headers += 1
        if extension.headers > _MAX_EXTENDED_HEADERS:
            raise MemberError(f"more than {_MAX_EXTENDED_HEADERS} extended headers precede it")
        is_name = header.type_flag == GNU_LONG_NAME
        most = _MAX_LONG_NAME_BYTES if is_name else _MAX_PAX_BYTES
        if header.size > most:
            raise MemberError(f"its extended header is larger than {most} bytes")
        data = b"".join(self._take(header.size))
        self._discard(-header.size % BLOCK_BYTES)
        if header.type_flag == PAX_GLOBAL:
            changing = parse_pax(data).keys() - _GLOBAL_KEYS
            if changing:
                raise MemberError(f"a header for all members sets '{_text(min(changing))}'")
        elif is_name:
            _require_first(extension.long_name is None)
            extension.long_name = data.removesuffix(b"\0")
        else:
            _require_first(not extension.pax)
            extension.pax = parse_pax(data)

    def _member(self, header: Header, extension: _Extension) -> Member:
        pax = extension.pax
        if extension.long_name is not None and b"path" in pax:
            raise MemberError("it has two long names")
        name = extension.long_name if extension.long_name is not None else pax.get(b"path", header.name)
        self._name = name
        is_folder = _require_kind(header, name)
        if any(key.startswith(_SPARSE_PREFIX) for key in pax):
            raise MemberError("it is a sparse file, which is never extracted")
        if header.mode & (_SET_USER_ID if is_folder else _SPECIAL_BITS):
            raise MemberError("its mode has a set-user-id, set-group-id or sticky bit")
        if header.size > self._most_member_bytes:
            raise MemberError(f"it is larger than {self._most_member_bytes} bytes")
        if b"size" in pax and pax_size(pax[b"size"]) != header.size:
            raise MemberError("its two headers give different sizes")
        if is_folder and header.size:
            raise MemberError("it is a folder with a size")
        mtime_ns = pax_time_ns(pax[b"mtime"]) if b"mtime" in pax else header.mtime_ns
        return Member(name, is_folder, header.size, mtime_ns)

    def _require_end(self) -> None:
        """Check that two empty blocks end the archive, and that nothing but zeros follows."""
        self._at_end = True
        if self._block() != END_BLOCK:
            raise MemberError("a single empty block lies between members")
        rest = self._piece[self._position :]
        while True:
            if rest.tobytes().strip(b"\0"):
                raise MemberError("data follow the end of the archive")
            if not self._next_piece():
                return
            rest = self._piece


def _require_kind(header: Header, name: bytes) -> bool:
    """Return whether a member is a folder; check that it is one or a regular file."""
    if header.type_flag in FORBIDDEN_TYPES:
        raise MemberError(f"it is {FORBIDDEN_TYPES[header.type_flag]}, which is never extracted")
    if header.type_flag not in {V7_FILE, FILE, FOLDER}:
        raise MemberError(f"it is of the unknown type {chr(header.type_flag)!r}")
    # v7 archives have no type for folders: a slash at the end of the name says it.
    return header.type_flag == FOLDER or (header.type_flag == V7_FILE and name.endswith(b"/"))


def _require_first(is_first: bool) -> None:
    if not is_first:
        raise MemberError("it has two extended headers of one kind")


def _text(name: bytes) -> str:
    return one_line(name.decode(errors="surrogateescape"))
