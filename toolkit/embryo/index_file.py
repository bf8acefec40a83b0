"""The layout of a stored frame index: one NumPy record (an array of shape ``()``), opened by memory map.

``np.load(path, mmap_mode="r", allow_pickle=False)`` gives the record. For n frames in g groups (the frames of one video
in one plane) of v videos, its fields are:

==================  ==============  ================================================================================
``format``          S16             ``b"mvtk.embryo"``
``version``         int32           1
``numbers``         (n,) int32      frame numbers, ascending in each group
``hours``           (n,) float32    NaN for a frame without a time stamp
``phase_indices``   (n,) int8       0 (tPB2) to 15 (tHB), -1 for a frame without a label
``group_starts``    (g + 1,) uint32 the frames of group i are ``group_starts[i]`` to ``group_starts[i + 1]``
``group_planes``    (g,) int8       0 (F-45) to 6 (F+45), ascending
``group_videos``    (g,) int32      index of the video, ascending in each plane
``group_stamps``    (g,) int64      modification time of the group's folder, ns
``part_stamps``     (10, 2) int64   modification time (ns) and size of each entry of the dataset; -1: not there
``table_stamps``    (v, 4) int64    the same of each video's phases and time stamps
``video``           text            the names of the videos, sorted
``stem``            text            what the names of a group's frames have before the number
``suffix``          text            what they have after it
``odd_positions``   (o,) uint32     the frames whose names are otherwise, ascending
``odd``             text            their names
==================  ==============  ================================================================================

A text field is two fields: ``video_bytes`` (k,) uint8, one name after another, and ``video_starts`` (v + 1,) uint32.
All numbers are little-endian. Wider fields come first, so that every field is aligned.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from toolkit.core.errors import MvtkError
from toolkit.core.files import atomic_write, explain_os_error
from toolkit.embryo.layout import EXTRACTED_NAMES
from toolkit.embryo.phases import NO_PHASE, PHASES
from toolkit.embryo.planes import PLANES

FORMAT: Final = b"mvtk.embryo"
VERSION: Final = 1
_TEXT_FIELDS: Final = ("video", "stem", "suffix", "odd")
_FIELDS: Final[Mapping[str, tuple[str, int]]] = {
    "format": ("S16", 0),
    "version": ("<i4", 0),
    "numbers": ("<i4", 1),
    "hours": ("<f4", 1),
    "phase_indices": ("i1", 1),
    "group_starts": ("<u4", 1),
    "group_planes": ("i1", 1),
    "group_videos": ("<i4", 1),
    "group_stamps": ("<i8", 1),
    "part_stamps": ("<i8", 2),
    "table_stamps": ("<i8", 2),
    "odd_positions": ("<u4", 1),
    **{f"{name}_bytes": ("u1", 1) for name in _TEXT_FIELDS},
    **{f"{name}_starts": ("<u4", 1) for name in _TEXT_FIELDS},
}
"""The type and the number of dimensions of each field."""
_SIGNS_OF_OURS: Final = {"format", "version", "group_starts"}
_MAX_HEADER_BYTES: Final = 10_000
_MAX_RECORD_BYTES: Final = 2**31 - 1
"""NumPy keeps the size of a record's fields in a C int."""

Arrays = Mapping[str, NDArray[Any]]


class ForeignFileError(MvtkError):
    """A file where the index should be that is none, and must not be replaced."""


class DamagedIndexError(MvtkError):
    """An index that is damaged, or of another version: it is made again."""


@dataclass(frozen=True, slots=True)
class FileState:
    """What changes when a file is replaced or rewritten."""

    inode: int
    size: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class TextTable:
    """Many short names, one after another: UTF-8, or the bytes of a file name that is not."""

    text: NDArray[np.uint8]
    starts: NDArray[np.uint32]

    @classmethod
    def pack(cls, names: Sequence[str]) -> TextTable:
        """Return the table of ``names``."""
        encoded = [os.fsencode(name) for name in names]
        starts = np.zeros(len(names) + 1, np.uint32)
        np.cumsum([len(name) for name in encoded], out=starts[1:])
        return cls(np.frombuffer(b"".join(encoded), np.uint8), starts)

    @classmethod
    def of(cls, arrays: Arrays, name: str) -> TextTable:
        """Return the text field ``name`` of a record."""
        return cls(arrays[f"{name}_bytes"], arrays[f"{name}_starts"])

    def fields(self, name: str) -> dict[str, NDArray[Any]]:
        """Return the two fields that hold the table in a record."""
        return {f"{name}_bytes": self.text, f"{name}_starts": self.starts}

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> str:
        return os.fsdecode(self.text[self.starts[index] : self.starts[index + 1]].tobytes())


def write_index(target: Path, arrays: Arrays) -> None:
    """Store the fields of an index atomically, in place of an older one.

    Args:
        target: the file.
        arrays: all fields but ``format`` and ``version``.

    Raises:
        MvtkError: the file cannot be written, or the frames are too many for one NumPy record (some 200 million).
    """
    fields: dict[str, NDArray[Any]] = {"format": np.array(FORMAT, "S16"), "version": np.array(VERSION, "<i4"), **arrays}
    ordered = sorted(fields, key=lambda name: (_FIELDS[name][0][0] == "S", -np.dtype(_FIELDS[name][0]).itemsize, name))
    columns = {name: np.ascontiguousarray(fields[name], _FIELDS[name][0]) for name in ordered}
    if sum(column.nbytes for column in columns.values()) > _MAX_RECORD_BYTES:
        raise MvtkError(f"{target}: more frames than one index can hold", "split the dataset into several folders")
    dtype = np.dtype([(name, _FIELDS[name][0], fields[name].shape) for name in ordered])
    header = io.BytesIO()
    described = {"descr": npy_format.dtype_to_descr(dtype), "fortran_order": False, "shape": ()}
    npy_format.write_array_header_1_0(header, described)
    with atomic_write(target, overwrite=True) as stream:
        stream.write(header.getvalue())
        for column in columns.values():
            stream.write(column.tobytes())


def read_index(path: Path) -> tuple[dict[str, NDArray[Any]], FileState]:
    """Return the fields of a stored index, as views of the file, and which state of the file was opened.

    What is checked costs the same for any number of frames, but for one pass over the phases.

    Raises:
        FileNotFoundError: there is no such file.
        ForeignFileError: the file is something else.
        DamagedIndexError: it is damaged, or of another version.
        MvtkError: it cannot be read.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as stream:
            status = os.fstat(stream.fileno())
            dtype = _read_dtype(path, stream, status)
            record = np.memmap(stream, dtype, "r", stream.tell(), ())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise explain_os_error(error, path, "read") from error
    # Plain arrays: indexing a memmap costs several times as much.
    arrays = {name: np.asarray(record[name]) for name in _FIELDS}
    problem = _problem_of(arrays)
    if problem:
        raise DamagedIndexError(f"{path}: {problem}", "remove it: it is made again")
    return arrays, FileState(status.st_ino, status.st_size, status.st_mtime_ns)


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _read_dtype(path: Path, stream: BinaryIO, status: os.stat_result) -> np.dtype[Any]:
    """Return the type of the record that the file's header names; nothing is unpickled."""
    foreign = ForeignFileError(f"{path}: not a frame index of mvtk", "name another file to keep the index in")
    if not stat.S_ISREG(status.st_mode):
        raise foreign
    try:
        if npy_format.read_magic(stream) != (1, 0):
            raise foreign
        shape, _, dtype = npy_format.read_array_header_1_0(stream, _MAX_HEADER_BYTES)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise foreign from error
    if shape != () or dtype.hasobject or not _SIGNS_OF_OURS.issubset(dtype.names or ()):
        raise foreign
    kinds = {name: (dtype[name].base, dtype[name].ndim) for name in dtype.names or ()}
    if kinds != {name: (np.dtype(code), dimensions) for name, (code, dimensions) in _FIELDS.items()}:
        raise DamagedIndexError(f"{path}: an index of another version", "remove it: it is made again")
    if status.st_size != stream.tell() + dtype.itemsize:
        raise DamagedIndexError(f"{path}: cut short", "remove it: it is made again")
    return dtype


def _problem_of(arrays: Arrays) -> str:
    """Return what contradicts itself in the fields of an index; empty where nothing does."""
    frames, groups = len(arrays["numbers"]), len(arrays["group_planes"])
    videos = len(arrays["video_starts"]) - 1
    checks = {
        "version": bytes(arrays["format"][()]) == FORMAT and arrays["version"][()] == VERSION,
        "hours": len(arrays["hours"]) == frames,
        "phase_indices": len(arrays["phase_indices"]) == frames
        and _within(arrays["phase_indices"], NO_PHASE, len(PHASES)),
        "group_starts": _spans(arrays["group_starts"], groups, frames),
        "group_planes": _within(arrays["group_planes"], 0, len(PLANES)),
        "group_videos": len(arrays["group_videos"]) == groups and _within(arrays["group_videos"], 0, videos),
        "group_stamps": len(arrays["group_stamps"]) == groups,
        "part_stamps": arrays["part_stamps"].shape == (len(EXTRACTED_NAMES), 2),
        "table_stamps": arrays["table_stamps"].shape == (videos, 4),
        "odd_positions": _within(arrays["odd_positions"], 0, frames) and _ascends(arrays["odd_positions"]),
    }
    counts = {"video": videos, "stem": groups, "suffix": groups, "odd": len(arrays["odd_positions"])}
    for name, count in counts.items():
        text = arrays[f"{name}_bytes"]
        # A name with a slash would lead out of the dataset's folders.
        checks[name] = _spans(arrays[f"{name}_starts"], count, len(text)) and not (text == ord("/")).any()
    return next((f"`{name}` contradicts the other fields" for name, is_sound in checks.items() if not is_sound), "")


def _spans(starts: NDArray[np.uint32], count: int, end: int) -> bool:
    """Whether offsets cut 0 to ``end`` into ``count`` parts."""
    return len(starts) == count + 1 and starts[0] == 0 and starts[-1] == end and bool((starts[1:] >= starts[:-1]).all())


def _within(values: NDArray[Any], first: int, stop: int) -> bool:
    return not len(values) or (int(values.min()) >= first and int(values.max()) < stop)


def _ascends(values: NDArray[Any]) -> bool:
    return bool((values[1:] > values[:-1]).all())
