"""Writing a metadata file from the columns of its samples, field by field, without a copy of them in memory."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from toolkit.core.files import atomic_write
from toolkit.metadata.columns import Kind, SampleColumns
from toolkit.metadata.errors import MetadataError
from toolkit.metadata.record import (
    FORMAT,
    MAX_RECORD_BYTES,
    ROW_FIELDS,
    STARTS_FIELDS,
    VERSION,
    MetadataInfo,
    RecordShape,
)

_TOO_LARGE_HINT = (
    "process parts of the raw data into several output folders (--shard), and train on them with CombinedLazyDataset"
)

Pieces = Iterator[NDArray[Any]]


def write_metadata(
    target: Path, kind: Kind, info: MetadataInfo, chunks: Sequence[SampleColumns], *, overwrite: bool = False
) -> None:
    """Write the samples of ``chunks`` one after another as one metadata file, atomically.

    Raises:
        MetadataError: they are too many for one NumPy record.
        TargetExistsError: ``target`` exists and ``overwrite`` is false.
        MvtkError: it cannot be written.
    """
    with atomic_write(target, overwrite=overwrite) as stream:
        write_record(stream, target, kind, info, chunks)


def write_record(
    stream: BinaryIO, target: Path, kind: Kind, info: MetadataInfo, chunks: Sequence[SampleColumns]
) -> None:
    """Write the file's header and record to an open stream; ``target`` names it in the error.

    Raises:
        MetadataError: the samples are too many for one NumPy record.
    """
    info_json = info.to_json()
    shape = RecordShape(
        kind,
        samples=sum(map(len, chunks)),
        rows=sum(len(chunk.rows) for chunk in chunks),
        path_bytes=sum(len(chunk.path_bytes) for chunk in chunks),
        info_bytes=len(info_json),
        longest_side_px=max((int(chunk.image_sizes_wh.max()) for chunk in chunks if len(chunk)), default=0),
        classes=len(info.class_names),
    )
    if shape.record_bytes > MAX_RECORD_BYTES:
        problem = (
            f"{shape.samples} samples take {shape.record_bytes} bytes, more than the {MAX_RECORD_BYTES} of a record"
        )
        raise MetadataError(target, problem, _TOO_LARGE_HINT)
    stream.write(_header(shape))
    scalars = {"format": FORMAT, "version": VERSION, "kind": kind.encode(), "info": info_json}
    for name, dtype, field_shape in shape.fields():
        if name in scalars:
            stream.write(np.array(scalars[name], dtype).tobytes())
        else:
            written = 0
            for piece in _PIECES[name](chunks):
                data = np.ascontiguousarray(piece, dtype)
                stream.write(data.data.cast("B") if data.size else b"")
                written += data.nbytes
            if written != dtype.itemsize * int(np.prod(field_shape)):
                raise AssertionError(f"{name}: the chunks' columns contradict each other")


def _header(shape: RecordShape) -> bytes:
    """Return what stands before the record; as ``np.save`` writes it."""
    stream = io.BytesIO()
    header = {"descr": npy_format.dtype_to_descr(shape.dtype()), "fortran_order": False, "shape": ()}
    npy_format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def _starts(lengths_of: Callable[[SampleColumns], NDArray[np.int64]]) -> Callable[[Sequence[SampleColumns]], Pieces]:
    """Return what makes offsets of the lengths: 0, then the running sum."""

    def pieces(chunks: Sequence[SampleColumns]) -> Pieces:
        total = 0
        yield np.zeros(1, np.int64)
        for chunk in chunks:
            ends = np.cumsum(lengths_of(chunk)) + total
            total = int(ends[-1]) if len(ends) else total
            yield ends

    return pieces


def _column(of: Callable[[SampleColumns], NDArray[Any]]) -> Callable[[Sequence[SampleColumns]], Pieces]:
    return lambda chunks: (of(chunk) for chunk in chunks)


_PIECES: Final[Mapping[str, Callable[[Sequence[SampleColumns]], Pieces]]] = {
    "path_starts": _starts(lambda chunk: chunk.path_lengths),
    "path_bytes": _column(lambda chunk: chunk.path_bytes),
    "image_sizes_wh": _column(lambda chunk: chunk.image_sizes_wh),
    "class_ids": _column(lambda chunk: chunk.class_ids),
    **{name: _starts(lambda chunk: chunk.row_counts) for name in STARTS_FIELDS.values()},
    **{name: _column(lambda chunk: chunk.rows) for name in ROW_FIELDS.values()},
}
"""How the arrays of a record come from the columns of its chunks."""
