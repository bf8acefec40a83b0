"""Opening a metadata file: by memory map, with checks that cost the same for any number of samples."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from toolkit.core.files import explain_os_error
from toolkit.metadata.columns import KINDS, Kind, SampleColumns
from toolkit.metadata.errors import LegacyLayoutError, MetadataError
from toolkit.metadata.record import (
    FORMAT,
    ROW_FIELDS,
    STARTS_FIELDS,
    VERSION,
    MetadataInfo,
    RecordShape,
)
from toolkit.npz.npy_header import NotNpyError, NpyHeaderError, read_header

_NO_METADATA_HINT = "give a file that mvtk dataset process wrote"
_SCALARS = {"format": "S", "version": "i", "kind": "S", "info": "S"}
"""The fields that every version has, with NumPy's letter for their kind."""
_PICKLE_START = b"\x80"


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What changes when a file is replaced or rewritten; the same on every machine that shares it."""

    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileIdentity:
        """Return the identity of the file that ``status`` describes."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


class MetadataFile:
    """An open metadata file. Its arrays are views of the file: pages that are read are shared by all processes.

    Attributes:
        path: the file.
        kind: what its samples are.
        info: what it says of itself beside its arrays.
        identity: which state of the file was opened.
        path_starts: (n + 1,) uint32. path_bytes: (k,) uint8.
        image_sizes_wh: (n, 2) uint16 or uint32.
        rows: (m, 4) or (m, 3) float32: boxes XYWH or keypoints.
        row_starts: (n + 1,) uint32; None for a teacher, whose sample i has row i.
        class_ids: (m,), or (n,) for a landmarker; int16 or int32.
    """

    def __init__(
        self, path: Path, record: NDArray[np.void], kind: Kind, info: MetadataInfo, identity: FileIdentity
    ) -> None:
        self.path = path
        self.kind = kind
        self.info = info
        self.identity = identity
        # Plain arrays: indexing a memmap costs several times as much.
        self.path_starts: NDArray[np.uint32] = np.asarray(record["path_starts"])
        self.path_bytes: NDArray[np.uint8] = np.asarray(record["path_bytes"])
        self.image_sizes_wh: NDArray[Any] = np.asarray(record["image_sizes_wh"])
        self.rows: NDArray[np.float32] = np.asarray(record[ROW_FIELDS[kind]])
        self.class_ids: NDArray[Any] = np.asarray(record["class_ids"])
        starts = STARTS_FIELDS.get(kind)
        self.row_starts: NDArray[np.uint32] | None = np.asarray(record[starts]) if starts else None
        self._require_bounds()

    def __len__(self) -> int:
        return len(self.path_starts) - 1

    @property
    def root(self) -> Path:
        """The folder that the image paths are relative to."""
        return self.path.parent / self.info.root

    def image_path(self, index: int) -> str:
        """Return the image path of sample ``index`` (from 0), relative to the root.

        Raises:
            MetadataError: the sample's offsets lie.
        """
        start, stop = int(self.path_starts[index]), int(self.path_starts[index + 1])
        if not start < stop <= len(self.path_bytes):
            raise self._lying("path_starts", index, start, stop)
        path = self.path_bytes[start:stop].tobytes()
        if b"\0" in path:
            raise MetadataError(self.path, f"sample {index}: a NUL in its image path")
        return os.fsdecode(path)

    def rows_of(self, index: int) -> slice:
        """Return which rows are those of sample ``index`` (from 0).

        Raises:
            MetadataError: the sample's offsets lie.
        """
        if self.row_starts is None:
            return slice(index, index + 1)
        start, stop = int(self.row_starts[index]), int(self.row_starts[index + 1])
        if not start <= stop <= len(self.rows):
            raise self._lying(STARTS_FIELDS[self.kind], index, start, stop)
        return slice(start, stop)

    def columns(self) -> SampleColumns:
        """Return all samples as columns: the offsets become lengths, everything else stays in the file.

        Raises:
            MetadataError: offsets lie.
        """
        for name, starts, _ in self._offsets():
            self._require_ascending(name, starts)
        counts = np.ones(len(self), np.int64) if self.row_starts is None else _lengths(self.row_starts)
        return SampleColumns(
            self.kind,
            self.path_bytes,
            _lengths(self.path_starts),
            self.image_sizes_wh.astype(np.int64),
            counts,
            self.rows,
            self.class_ids.astype(np.int64),
        )

    def _offsets(self) -> Iterator[tuple[str, NDArray[np.uint32], int]]:
        yield "path_starts", self.path_starts, len(self.path_bytes)
        if self.row_starts is not None:
            yield STARTS_FIELDS[self.kind], self.row_starts, len(self.rows)

    def _require_bounds(self) -> None:
        for name, starts, end in self._offsets():
            if starts[0] != 0 or starts[-1] != end:
                problem = f"`{name}` spans {starts[0]} to {starts[-1]}, not 0 to {end}"
                raise MetadataError(self.path, problem)

    def _require_ascending(self, name: str, starts: NDArray[np.uint32]) -> None:
        falling = np.flatnonzero(starts[1:] < starts[:-1])
        if len(falling):
            index = int(falling[0])
            raise self._lying(name, index, int(starts[index]), int(starts[index + 1]))

    def _lying(self, name: str, index: int, start: int, stop: int) -> MetadataError:
        return MetadataError(self.path, f"sample {index}: `{name}` gives {start} to {stop}, which no sample can have")


def open_metadata(path: str | os.PathLike[str]) -> MetadataFile:
    """Open a metadata file; its format, sizes and outermost offsets are checked, its samples are not read.

    Raises:
        LegacyLayoutError: the file has the old pickled layout; the line names the command that converts it.
        MetadataError: it is damaged, or no metadata file.
        MvtkError: it cannot be read.
    """
    path = Path(path)
    try:
        with open(path, "rb", opener=_open_without_waiting) as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise MetadataError(path, "not a regular file", _NO_METADATA_HINT)
            dtype = _read_dtype(path, stream)
            offset = stream.tell()
            if status.st_size != offset + dtype.itemsize:
                problem = f"{status.st_size} bytes, not {offset + dtype.itemsize} as its header says"
                raise MetadataError(path, problem)
            record = np.memmap(stream, dtype, "r", offset, ())
    except OSError as error:
        raise explain_os_error(error, path, "read") from error
    kind, info = _check_record(path, record)
    return MetadataFile(path, record, kind, info, FileIdentity.of(status))


def _lengths(starts: NDArray[np.uint32]) -> NDArray[np.int64]:
    wide = starts.astype(np.int64)
    return wide[1:] - wide[:-1]


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _read_dtype(path: Path, stream: BinaryIO) -> np.dtype[Any]:
    """Return the type of the record that the file's header names; nothing is unpickled."""
    start = stream.read(1)
    stream.seek(0)
    if start == _PICKLE_START:
        raise LegacyLayoutError(path)
    try:
        header = read_header(stream.read)
    except (NotNpyError, NpyHeaderError) as error:
        raise MetadataError(path, f"no metadata file: {error}", _NO_METADATA_HINT) from error
    dtype = header.dtype
    if header.pickled:
        raise LegacyLayoutError(path)
    if header.shape != () or dtype.names is None or "format" not in dtype.names:
        raise MetadataError(path, f"a NumPy array of shape {header.shape}, no metadata file", _NO_METADATA_HINT)
    return dtype


def _check_record(path: Path, record: NDArray[np.void]) -> tuple[Kind, MetadataInfo]:
    """Return the kind and the description of a record whose fields are those that it must have."""
    dtype = record.dtype
    names = dtype.names or ()
    scalars_sound = all(
        name in names and dtype[name].kind == kind and dtype[name].shape == () for name, kind in _SCALARS.items()
    )
    if not scalars_sound or bytes(record["format"][()]) != FORMAT:
        raise MetadataError(path, "a NumPy record, but no metadata file", _NO_METADATA_HINT)
    version = record["version"][()]
    if version != VERSION:
        hint = "update mvtk, or make the file again"
        raise MetadataError(path, f"layout version {version}; this mvtk reads version {VERSION}", hint)
    kind = _kind(path, bytes(record["kind"][()]))
    try:
        info = MetadataInfo.from_json(bytes(record["info"][()]))
    except (ValueError, TypeError, RecursionError) as error:
        raise MetadataError(path, f"`info`: {error}") from error
    _check_fields(path, dtype, kind, len(info.class_names))
    return kind, info


def _kind(path: Path, stored: bytes) -> Kind:
    for kind in KINDS:
        if stored == kind.encode():
            return kind
    raise MetadataError(path, f"unknown kind {stored!r}", "update mvtk, or make the file again")


def _check_fields(path: Path, dtype: np.dtype[Any], kind: Kind, classes: int) -> None:
    """Check that the fields are those of their kind, with types and shapes that agree."""
    row_field = ROW_FIELDS[kind]
    wanted = {name for name, _, _ in RecordShape(kind, 0, 0, 0, 0, 0, 0).fields()}
    names = set(dtype.names or ())
    if names != wanted:
        odd = ", ".join(sorted(names ^ wanted))
        raise MetadataError(path, f"a {kind} file with other fields than it must have: {odd}")
    shapes = {name: dtype[name].shape for name in wanted}
    samples = shapes["path_starts"][0] - 1 if len(shapes["path_starts"]) == 1 else -1
    rows = shapes[row_field][0] if len(shapes[row_field]) == len(("rows", "numbers")) else -1
    path_bytes = shapes["path_bytes"][0] if len(shapes["path_bytes"]) == 1 else -1
    if min(samples, rows, path_bytes) < 0 or (kind == "teacher" and rows != samples):
        raise MetadataError(path, "the shapes of its fields contradict each other")
    side_px = np.iinfo(np.uint16).max + (dtype["image_sizes_wh"].base.itemsize > np.dtype(np.uint16).itemsize)
    expected = RecordShape(kind, samples, rows, path_bytes, dtype["info"].itemsize, side_px, classes)
    for name, base, shape in expected.fields():
        if dtype[name].base != base or dtype[name].shape != shape:
            found = f"{dtype[name].shape} {dtype[name].base}"
            raise MetadataError(path, f"`{name}` is {found}, not {shape} {base}")
