"""Archives of which nothing may be extracted: each a gzip file, and what its refusal says."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
from collections.abc import Iterator

from tests.embryo_archives import (
    END,
    Entry,
    base_256,
    file,
    folder,
    gnu_long_name,
    large_gzip,
    octal,
    pax,
    pax_record,
)

TOP = "embryo_dataset_F15"
VIDEO = f"{TOP}/AA001-1"
FRAME = f"{VIDEO}/RUN1.jpeg"
BEFORE = folder(f"{TOP}/") + folder(f"{VIDEO}/") + file(f"{VIDEO}/RUN0.jpeg")
AFTER = file(f"{VIDEO}/RUN9.jpeg")


@dataclasses.dataclass(frozen=True)
class Hostile:
    """One case.

    Attributes:
        name: of the case.
        data: the archive.
        member: what the refusal calls the member.
        problem: what it says of it.
    """

    name: str
    data: bytes
    member: str
    problem: str


def of(name: str, member: str, problem: str, *blocks: bytes, end: bytes = END) -> Hostile:
    """A case: the blocks lie between members of which nothing is wrong."""
    return Hostile(name, large_gzip(b"".join([BEFORE, *blocks, AFTER]) + end), member, problem)


def frame(**changes: object) -> Entry:
    return dataclasses.replace(Entry(FRAME.encode(), b"jpeg"), **changes)  # type: ignore[arg-type]


def links_and_devices() -> Iterator[Hostile]:
    kinds = {
        b"1": "a hard link", b"2": "a symbolic link", b"3": "a character device", b"4": "a block device",
        b"6": "a FIFO", b"7": "a contiguous file", b"S": "a sparse file", b"M": "the continuation of a file",
        b"V": "a volume's label", b"D": "a folder dump", b"K": "the name of a link", b"N": "a list of old long names",
        b"A": "a list of access rights", b"X": "a Solaris extended header", b"E": "a list of extended attributes",
        b"I": "an inode without content",
    }  # fmt: skip
    for flag, problem in kinds.items():
        yield of(problem, FRAME, f"it is {problem}", Entry(FRAME.encode(), type=flag, link=b"/etc/passwd").tar())
    for flag in (b"8", b"9", b"Z", b"a", b"\x01", b"\xff", b" "):
        yield of(f"type {flag!r}", FRAME, "it is of the unknown type", Entry(FRAME.encode(), type=flag).tar())
    for target in ("..", "/tmp", "../../..", "AA001-1", "."):
        link = Entry(f"{TOP}/link".encode(), type=b"2", link=target.encode()).tar()
        yield of(f"through a link to {target}", f"{TOP}/link", "symbolic link", link, file(f"{TOP}/link/x"))
    for target in (FRAME, "/etc/passwd", "../../outside/kept.txt", f"{VIDEO}/RUN0.jpeg"):
        link = Entry(FRAME.encode(), b"overwritten", b"1", link=target.encode()).tar()
        yield of(f"a hard link with data to {target}", FRAME, "hard link", link)
    link = Entry(f"{TOP}/x".encode(), type=b"2", link=b"y").tar()
    yield of("a link with a pax path", FRAME, "symbolic link", pax({"path": FRAME}), link)
    yield of("a link with a long name", FRAME, "symbolic link", gnu_long_name(FRAME.encode()), link)
    yield of("a link with a pax target", f"{TOP}/x", "symbolic link", pax({"linkpath": "/etc/passwd"}), link)
    for key in ("GNU.sparse.major", "GNU.sparse.map", "GNU.sparse.realsize"):
        yield of(f"{key}", FRAME, "a sparse file", pax({key: "1"}), file(FRAME))


def names() -> Iterator[Hostile]:
    absolute, dots, empty, outside = (
        "is absolute",
        "has the part '..'",
        "has an empty part",
        "outside the archive's own",
    )
    cases = [
        ("/etc/passwd", absolute), (f"/{FRAME}", absolute), ("//x/y", absolute), ("/", absolute),
        ("..", dots), ("../x", dots), (f"{TOP}/../x", dots), (f"{TOP}/../../x", dots), (f"{VIDEO}/..", dots),
        (f"{VIDEO}/../../../x", dots), (f"./../{FRAME}", dots), (f"{TOP}/AA001-1/../AA002-1/x", dots),
        ("", "its name is empty"), (f"{TOP}//x", empty), (f"{VIDEO}//", empty), (f"{FRAME}/", empty),
        (f"./{TOP}//x", empty), (".//etc/passwd", absolute),
        (".", "has the part '.'"), (f"{TOP}/./x", "has the part '.'"), (f"././{FRAME}", "has the part '.'"),
        ("x", outside), ("embryo_dataset/x/y", outside), ("embryo_dataset_F15x/x", outside), ("home/x", outside),
        (f"{TOP.lower()}/x", outside), (f" {TOP}/x", outside), (f"~/{FRAME}", outside), ("C:/x", outside),
        (TOP, "a file in the place of the archive's own folder"), (f"./{TOP}", "a file in the place of"),
        (f"{TOP}\\x", "a backslash"), (f"{VIDEO}\\..\\..\\x", "a backslash"), (f"{TOP}/..\\x", "a backslash"),
        (f"{TOP}/a\nb", "a control character"), (f"{TOP}/a\rb", "a control character"),
        (f"{TOP}/\x1b[2Jx", "a control character"), (f"{TOP}/a\tb", "a control character"),
        (f"{TOP}/a\x7fb", "a control character"), (f"{TOP}/a\x85b", "a control character"),
        (f"{TOP}/a\u202egpj.exe", "cannot be printed"), (f"{TOP}/a\u2028b", "cannot be printed"),
        (f"{TOP}/a\u200bb", "cannot be printed"), (f"{TOP}/\ufeffa", "cannot be printed"),
    ]  # fmt: skip
    for name, problem in cases:
        yield of(f"name {name!r}", "member '", problem, Entry(name.encode(), b"x").tar())
    for name in (b"\xff\xfe", f"{TOP}/a\xe9.jpeg".encode("latin-1"), f"{TOP}/".encode() + b"\xed\xa0\x80", b"\xc0\xaf"):
        yield of(f"name {name!r}", "member '", "is not UTF-8", Entry(name, b"x").tar())
    for name, problem in [
        ("../" * 12 + "x" * 80, dots), ("/" + "x" * 120, absolute), (f"{TOP}/" + "x" * 256, "a part longer than 255"),
        (f"{TOP}/" + "é" * 128, "a part longer than 255"), (f"{TOP}/" + "x/" * 16 + "y", "more than 16 folders deep"),
        (f"{TOP}/" + ("x" * 250 + "/") * 4 + "y" * 40, "longer than 1024 bytes"),
        (f"{VIDEO}/a\0b", "control character"),
    ]:  # fmt: skip
        yield of(f"long name {name[:12]!r}", "member '", problem, gnu_long_name(name.encode()), file(FRAME))
        yield of(f"pax path {name[:12]!r}", "member '", problem, pax({"path": name}), file(FRAME))
    yield of("an empty pax path", "member ''", "its name is empty", pax({"path": ""}), file(FRAME))
    yield of("a prefix with ..", f"{TOP}/../x", dots, Entry(b"x", prefix=f"{TOP}/..".encode()).tar())
    yield of("an absolute prefix", "/etc/x", absolute, Entry(b"x", prefix=b"/etc").tar())
    yield of("a folder outside", "outside", outside, folder("outside/"))
    yield of("a folder above", "..", dots, folder("../"))
    yield of("a folder at the root", "/", absolute, folder("/"))


def collisions() -> Iterator[Hostile]:
    twice = "it is in the archive twice"
    yield of("a file twice", FRAME, twice, file(FRAME), file(FRAME))
    yield of("a file twice, far apart", FRAME, twice, file(FRAME), *many_files(100), file(FRAME))
    yield of("a file twice, once with ./", FRAME, twice, file(FRAME), file(f"./{FRAME}"))
    yield of("a file twice, once by pax", FRAME, twice, file(FRAME), pax({"path": FRAME}), file(f"{TOP}/x"))
    yield of("a folder twice", VIDEO, twice, folder(f"{VIDEO}/"))
    yield of("a file and a folder", FRAME, twice, file(FRAME), folder(f"{FRAME}/"))
    yield of("a folder and a file", VIDEO, twice, file(VIDEO))
    yield of("a file above a file", FRAME, twice, file(FRAME), file(f"{FRAME}/x"))
    yield of("a large file twice", FRAME, twice, *[file(FRAME, bytes(2 << 20))] * 2)
    case = "by case or Unicode form only"
    yield of("case of a file", "RUN1.jpeg' by case", case, file(FRAME), file(f"{VIDEO}/run1.JPEG"))
    yield of("case of a folder", "embryo_dataset_F15/AA001-1' by case", case, folder(f"{TOP}/aa001-1/"))
    yield of("case of a folder that is implied", "AA001-1' by case", case, file(f"{TOP}/aA001-1/x"))
    yield of("case of file and folder", "AA001-1' by case", case, file(f"{TOP}/aa001-1"))
    yield of("case beyond ASCII", "É' by case", case, file(f"{TOP}/é"), file(f"{TOP}/É"))
    yield of("sharp s", "by case", case, file(f"{TOP}/straße"), file(f"{TOP}/STRASSE"))
    yield of("composition of letters", "by case", case, file(f"{TOP}/é"), file(f"{TOP}/e\u0301"))


def many_files(count: int) -> list[bytes]:
    return [file(f"{VIDEO}/many{number}.jpeg", bytes(1000)) for number in range(count)]


def modes() -> Iterator[Hostile]:
    special = "a set-user-id, set-group-id or sticky bit"
    for mode in (0o4755, 0o2755, 0o1755, 0o7777, 0o104644):
        yield of(f"mode {mode:o}", FRAME, special, frame(mode=octal(mode, 8)).tar())
    yield of("mode in base 256", FRAME, special, frame(mode=base_256(0o4755, 8)).tar())
    set_user_id = Entry(f"{TOP}/x/".encode(), type=b"5", mode=octal(0o4755, 8)).tar()
    yield of("a set-user-id folder", f"{TOP}/x", special, set_user_id)
    yield of("a negative mode", FRAME, "its mode is negative", frame(mode=base_256(-1, 8)).tar())
    yield of("a mode that is no number", FRAME, "its mode is not a number", frame(mode=b"rwxr-xr\0").tar())


def sizes() -> Iterator[Hostile]:
    larger = "it is larger than 67108864 bytes"
    for size, problem in [
        (base_256(-1, 12), "its size is negative"), (base_256(-(1 << 62), 12), "its size is negative"),
        (b"-0000000004\0", "its size is not a number"), (b"0x000000004\0", "its size is not a number"),
        (b"00000000009\0", "its size is not a number"), (b"4 4\0", "its size is not a number"),
        (b"\xffxyz", "its size is negative"), (octal((64 << 20) + 1, 12), larger), (b"7" * 12, larger),
        (base_256(1 << 40, 12), larger), (base_256((1 << 88) - 1, 12), larger), (base_256(1 << 63, 12), larger),
    ]:  # fmt: skip
        yield of(f"size {size!r}", FRAME, problem, frame(size=size).tar())
    yield of("a size past the end", FRAME, "the archive is cut short", frame(size=octal(1 << 20, 12)).tar())
    differ = "its two headers give different sizes"
    for pax_text in ("3", "5", "0", "1048576", "99999999999"):
        yield of(f"pax size {pax_text}", FRAME, differ, pax({"size": pax_text}), file(FRAME))
    for pax_text in ("-4", "4.0", "+4", "", "4 ", "9" * 30, "٤"):
        problem = "its size in the pax header is not a number, or negative"
        yield of(f"pax size {pax_text!r}", FRAME, problem, pax({"size": pax_text}), file(FRAME))
    sized = Entry(f"{TOP}/x/".encode(), b"data", b"5").tar()
    yield of("a folder with a size", f"{TOP}/x", "a folder with a size", sized)
    yield of("a size that hides a header", FRAME, differ, pax({"size": "1024"}), file(FRAME), file("../x"))


def headers() -> Iterator[Hostile]:
    wrong = "its header is damaged: the checksum does not match"
    yield of("a wrong checksum", FRAME, wrong, frame(checksum=b"000000\0 ").tar())
    yield of("a checksum one off", "fmbryo_dataset_F15", wrong, off_by_one(frame()))
    yield of("no checksum", FRAME, "its checksum is not a number", frame(checksum=b"checksum").tar())
    yield of("text for a header", "member 'text", "its checksum is not a number", b"text " * 102 + b"!!")
    yield of("times out of range", FRAME, "its time is out of range", frame(mtime=base_256(1 << 90, 12)).tar())
    yield of("a time that is none", FRAME, "its time is not a number", frame(mtime=b"yesterday").tar())
    for time in ("x", "NaN", "inf", "1e99", "-1e99", ""):
        problem = "its time in the pax header is not a number, or out of range"
        yield of(f"pax time {time!r}", FRAME, problem, pax({"mtime": time}), file(FRAME))
    damaged = "its pax header is damaged"
    for record in (
        b"x", b"5 a=b", b"99999 path=x\n", b"0 path=x\n", b"-9 path=x\n", b"9 path=x ", b"9 pathxx\n", b"5 =x\n",
        b"path=x\n", b" path=x\n", b"1" * 30 + b" path=x\n", pax_record("path", "x") + b"\0" * 10,
    ):  # fmt: skip
        header = Entry(b"PaxHeaders/x", record, b"x").tar()
        yield of(f"pax record {record!r:.20}", "PaxHeaders/x", damaged, header, file(FRAME))
    long_name = gnu_long_name(FRAME.encode())
    yield of("two long names", "LongLink", "two extended headers of one kind", long_name, long_name, file(FRAME))
    twice = pax({"path": FRAME})
    yield of("two pax headers", "PaxHeaders/x", "two extended headers of one kind", twice, twice, file(FRAME))
    yield of("two kinds of long names", FRAME, "it has two long names", long_name, twice, file(FRAME))
    yield of("endless headers", "PaxHeaders/x", "more than 8 extended headers", *[pax({"comment": "x"}, b"g")] * 100)
    huge = Entry(b"././@LongLink", b"a" * 5000, b"L").tar()
    yield of("a huge long name", "LongLink", "its extended header is larger than 4096 bytes", huge, file(FRAME))
    huge = Entry(b"PaxHeaders/x", bytes((1 << 20) + 1), b"x").tar()
    yield of("a huge pax header", "PaxHeaders/x", "larger than 1048576 bytes", huge, file(FRAME))
    lying = Entry(b"PaxHeaders/x", b"", b"x", size=base_256(1 << 60, 12)).tar()
    yield of("a pax header that claims to be huge", "PaxHeaders/x", "larger than 1048576 bytes", lying)
    for key in ("path", "size", "linkpath", "mtime", "GNU.sparse.major"):
        header = pax({key: "1"}, b"g")
        yield of(f"{key} for all", "PaxHeaders/x", f"a header for all members sets '{key}'", header, file(FRAME))
    yield Hostile(
        "a header without a member", large_gzip(BEFORE + long_name + END), "LongLink", "not followed by a member"
    )


def off_by_one(entry: Entry) -> bytes:
    header = bytearray(entry.tar())
    header[0] += 1
    return bytes(header)


def ends() -> Iterator[Hostile]:
    cut = "the archive is cut short"
    whole = BEFORE + AFTER
    yield Hostile("no end marks", large_gzip(whole), "RUN9.jpeg", cut)
    yield Hostile("half an end mark", large_gzip(whole + bytes(512)), "its end", cut)
    yield Hostile("cut in a header", large_gzip(whole[:-700]), "RUN0.jpeg", cut)
    yield Hostile("cut in the data", large_gzip(whole[:-510]), "RUN9.jpeg", cut)
    yield Hostile("an empty stream", large_gzip(b""), "its first member", cut)
    yield Hostile("no members", large_gzip(bytes(10240)), "its end", "has no members")
    yield Hostile("data after the end", large_gzip(whole + END + b"x" * 512), "its end", "data follow the end")
    yield Hostile("one byte after the end", large_gzip(whole + bytes(300_000) + b"x"), "its end", "data follow the end")
    yield Hostile("an archive after the end", large_gzip(whole + END + whole + END), "its end", "data follow the end")
    single = whole + bytes(512) + file(f"{TOP}/x") + END
    yield Hostile("an empty block between", large_gzip(single), "its end", "a single empty block lies between members")


def gzip_files() -> Iterator[Hostile]:
    whole = large_gzip(BEFORE + b"".join(many_files(40)) + AFTER + END)
    reading = "while reading"
    damaged, short = "its compressed data are damaged", "its compressed data end too early"
    for length in (4015, 4019, 4020, len(whole) // 2 + 2100, len(whole) - 8, len(whole) - 1):
        yield Hostile(f"cut to {length}", whole[:length], reading, short)
    for offset in (-1, -4, -5, -8):
        yield Hostile(f"trailer changed at {offset}", flipped(whole, len(whole) + offset), reading, damaged)
    yield Hostile("data changed", flipped(whole, len(whole) - 300), reading, damaged)
    yield Hostile("another method", flipped(whole, 2), reading, damaged)
    yield Hostile("not gzip", b"PK\x03\x04" + whole, reading, "it is not a gzip file")
    yield Hostile("a plain tar", BEFORE + AFTER + bytes(10_000), reading, "it is not a gzip file")
    yield Hostile("empty bytes", bytes(10_000), reading, "it is not a gzip file")
    yield Hostile("text after it", whole + b"text", reading, "is not gzip data")
    yield Hostile("zeros after it", whole + bytes(512), reading, "is not gzip data")
    yield Hostile("half a second part", whole + whole[:2000], reading, short)
    yield Hostile("one byte of a second part", whole + b"\x1f", reading, short)
    second = whole + large_gzip(BEFORE + END)
    yield Hostile("a second archive as a second part", second, "its end", "data follow the end")


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def bombs() -> Iterator[Hostile]:
    zeros = gzip.compress(bytes(16 << 20), 9)
    end = large_gzip(BEFORE + END)
    yield Hostile("zeros without end", end + zeros * 5, "while reading its end", "which its size does not warrant")
    head = large_gzip(BEFORE + frame(size=octal(60 << 20, 12)).header())
    following = gzip.compress(frame(name=f"{VIDEO}/RUN2.jpeg".encode(), size=octal(60 << 20, 12)).header())
    data = head + zeros * 3 + gzip.compress(bytes(12 << 20), 9) + following + zeros * 3
    yield Hostile("large files of zeros", data, "while reading member '", "which its size does not warrant")


HOSTILE = list(
    itertools.chain(
        links_and_devices(), names(), collisions(), modes(), sizes(), headers(), ends(), gzip_files(), bombs()
    )
)
