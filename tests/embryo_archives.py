"""Miniature archives of the embryo record: valid ones, and parts to build hostile ones of, header by header."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from toolkit.embryo.layout import ARCHIVE_NAMES, ARCHIVE_SUFFIX, GRADES_NAME

BLOCK = 512
END = bytes(2 * BLOCK)
MTIME = 1_600_000_000


def octal(value: int, width: int) -> bytes:
    """A number as tar writes it, with a NUL at its end."""
    return b"%0*o\0" % (width - 1, value)


def base_256(value: int, width: int) -> bytes:
    """A number as GNU tar writes those that are too large or negative."""
    data = (value % (1 << (8 * width))).to_bytes(width, "big")
    return bytes([data[0] | 0x80]) + data[1:]


@dataclass
class Entry:
    """One member as its header says it; every field can lie.

    Attributes:
        size: what the header says; None: the length of ``data``.
        changes: bytes that replace those at an offset of the header, before the checksum is taken.
        checksum: the field as it is, if the true one is not wanted.
    """

    name: bytes = b""
    data: bytes = b""
    type: bytes = b"0"
    size: bytes | None = None
    mode: bytes = b"0000644\0"
    mtime: bytes = octal(MTIME, 12)
    link: bytes = b""
    magic: bytes = b"ustar\x0000"
    prefix: bytes = b""
    checksum: bytes | None = None
    signed: bool = False

    def tar(self) -> bytes:
        return self.header() + self.data + bytes(-len(self.data) % BLOCK)

    def header(self) -> bytes:
        size = octal(len(self.data), 12) if self.size is None else self.size
        fields = [
            (self.name, 100), (self.mode, 8), (octal(1000, 8), 8), (octal(1000, 8), 8), (size, 12), (self.mtime, 12),
            (b" " * 8, 8), (self.type, 1), (self.link, 100), (self.magic, 8), (b"", 80), (self.prefix, 155), (b"", 12),
        ]  # fmt: skip
        block = b"".join(value.ljust(width, b"\0") for value, width in fields)
        assert len(block) == BLOCK
        total = sum(byte - 256 if self.signed and byte > 127 else byte for byte in block)
        checksum = b"%06o\0 " % total if self.checksum is None else self.checksum
        return block[:148] + checksum + block[156:]


def folder(name: str) -> bytes:
    return Entry(name.encode(), type=b"5", mode=b"0000755\0").tar()


def file(name: str, data: bytes = b"jpeg") -> bytes:
    return Entry(name.encode(), data).tar()


def gnu_long_name(name: bytes) -> bytes:
    return Entry(b"././@LongLink", name + b"\0", b"L", magic=b"ustar  \0").tar()


def pax(records: Mapping[str, str | bytes], kind: bytes = b"x") -> bytes:
    return Entry(b"PaxHeaders/x", b"".join(pax_record(key, value) for key, value in records.items()), kind).tar()


def pax_record(key: str, value: str | bytes) -> bytes:
    rest = b" " + key.encode() + b"=" + (value.encode() if isinstance(value, str) else value) + b"\n"
    length = len(rest)
    while length != len(str(length)) + len(rest):
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def tar_gz(*members: bytes, end: bytes = END) -> bytes:
    return gzip.compress(b"".join(members) + end, 1, mtime=0)


def valid_members(top: str, videos: int = 2, frames: int = 3, seed: int = 0) -> list[bytes]:
    """A plane's members in small: videos with frames that cannot be compressed."""
    generator = random.Random(f"{top}{seed}")
    members = [folder(f"{top}/")]
    for video in range(videos):
        members.append(folder(f"{top}/AA{video:03}-1/"))
        for frame in range(1, frames + 1):
            name = f"{top}/AA{video:03}-1/D2013.01.28_S0717_I132_WELL7_RUN{frame}.jpeg"
            members.append(file(name, generator.randbytes(200 + 117 * frame)))
    return members


@dataclass
class Record:
    """A folder with ten files, and a place where they may be extracted to.

    Attributes:
        root: the folder of both.
    """

    root: Path

    @property
    def archives(self) -> Path:
        return self.root / "archives"

    @property
    def dest(self) -> Path:
        return self.root / "dest"

    def write(self, videos: int = 2, frames: int = 3, growth: int = 1) -> None:
        """Write ten valid files; each has ``growth`` frames a video more than the one before."""
        self.archives.mkdir(parents=True)
        for number, name in enumerate(ARCHIVE_NAMES):
            top = name.removesuffix(ARCHIVE_SUFFIX)
            members = valid_members(top, videos, frames + growth * number)
            self.replace(name, b"video_name,TE,ICM\nAA000-1,A,NA\n" if name == GRADES_NAME else tar_gz(*members))

    def replace(self, name: str, data: bytes) -> None:
        (self.archives / name).write_bytes(data)

    def checksums(self) -> Path:
        """Write the MD5 sums of the ten files beside their folder."""
        sums = ((hashlib.md5((self.archives / name).read_bytes()).hexdigest(), name) for name in ARCHIVE_NAMES)
        path = self.root / "sums.md5"
        path.write_text("".join(f"{md5}  {name}\n" for md5, name in sums))
        return path


def snapshot(root: Path) -> dict[str, tuple[int, bytes, int]]:
    """Everything below ``root``: of each path its mode, its content or the link's target, and a file's time."""
    found = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        if path.is_symlink():
            content, time_ns = os.fsencode(path.readlink()), 0
        elif stat.S_ISREG(status.st_mode):
            content, time_ns = path.read_bytes(), status.st_mtime_ns
        else:
            content, time_ns = b"", 0
        found[path.relative_to(root).as_posix()] = (status.st_mode, content, time_ns)
    return found


def visible(folder: Path) -> list[str]:
    """The entries of a folder that are not hidden; none where there is no such folder."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) if folder.exists() else []


def large_gzip(content: bytes) -> bytes:
    """A gzip file whose header alone has some KiB: of ten files it is the largest, and extracted first."""
    extra = random.Random(0).randbytes(4000)
    plain = gzip.compress(content, 1, mtime=0)
    return plain[:3] + b"\x04" + plain[4:10] + len(extra).to_bytes(2, "little") + extra + plain[10:]
