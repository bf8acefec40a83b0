"""The samples of one raw dataset on their way to the metadata files: written in the background, read by memory map.

A part file holds chunks of columns, one array after another, and at its end a JSON object that says where each chunk
is. It lives from the reading of a dataset to the writing of the metadata files, on one machine.
"""

from __future__ import annotations

import json
import queue
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from toolkit.core.files import explain_os_error
from toolkit.metadata.columns import ROW_WIDTHS, Kind, SampleColumns
from toolkit.splitting import Split

_MAX_WAITING = 2
"""Chunks that may wait for the disk: their number bounds the memory."""
_FOOTER_LENGTH: Final = struct.Struct("<Q")


class _Chunk(NamedTuple):
    """Where a chunk is, and how many samples, rows, path bytes and class ids it has."""

    split: Split
    kind: Kind
    offset: int
    samples: int
    rows: int
    path_bytes: int
    class_ids: int


class PartWriter:
    """Writes the chunks of one part in a thread of its own, while its caller makes the next.

    Use it as a context manager: when the block ends, all is written, or an error raised.

    Raises:
        MvtkError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._chunks: list[_Chunk] = []
        self._offset = 0
        self._waiting: queue.Queue[list[bytes | memoryview] | None] = queue.Queue(_MAX_WAITING)
        self._error: OSError | None = None
        self._notes: Mapping[str, Any] = {}
        self._thread = threading.Thread(target=self._write_all, name="part writer", daemon=True)
        try:
            self._stream: BinaryIO = path.open("wb")
        except OSError as error:
            raise explain_os_error(error, path, "write") from error
        self._thread.start()

    def append(self, split: Split, columns: SampleColumns) -> None:
        """Hand over samples to be written; it waits only when the disk is far behind."""
        self._raise_error()
        arrays = [
            columns.path_lengths.astype("<i8"),
            columns.image_sizes_wh.astype("<i8"),
            columns.row_counts.astype("<i8"),
            columns.class_ids.astype("<i8"),
            columns.rows.astype("<f4"),
            columns.path_bytes,
        ]
        counts = len(columns), len(columns.rows), len(columns.path_bytes), len(columns.class_ids)
        self._chunks.append(_Chunk(split, columns.kind, self._offset, *counts))
        data: list[bytes | memoryview] = [array.tobytes() for array in arrays]
        padding = -sum(map(len, data)) % 8
        data.append(bytes(padding))
        self._offset += sum(map(len, data))
        self._waiting.put(data)

    def note(self, **notes: Any) -> None:
        """Set what else the part says of itself, JSON types."""
        self._notes = notes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._waiting.put(None)
        self._thread.join()
        try:
            if kind is None:
                self._raise_error()
                self._write_footer()
        finally:
            # What cannot be written even now has been said already, or belongs to a part that nobody wants any more.
            with suppress(OSError):
                self._stream.close()

    def _write_footer(self) -> None:
        footer = json.dumps({"chunks": self._chunks, "notes": self._notes}).encode("ascii")
        try:
            self._stream.write(footer + _FOOTER_LENGTH.pack(len(footer)))
            self._stream.flush()
        except OSError as error:
            raise explain_os_error(error, self._path, "write") from error

    def _write_all(self) -> None:
        while (data := self._waiting.get()) is not None:
            if self._error is None:
                try:
                    self._stream.writelines(data)
                except OSError as error:
                    self._error = error

    def _raise_error(self) -> None:
        if self._error is not None:
            raise explain_os_error(self._error, self._path, "write") from self._error


@dataclass(frozen=True, slots=True)
class Part:
    """A part that was written.

    Attributes:
        notes: what it says of itself.
    """

    notes: Mapping[str, Any]
    _data: NDArray[np.uint8]
    _chunks: tuple[_Chunk, ...]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a part that a :class:`PartWriter` completed.

        Raises:
            MvtkError: it cannot be read.
        """
        try:
            data = np.memmap(path, np.uint8, "r")
        except OSError as error:
            raise explain_os_error(error, path, "read") from error
        (length,) = _FOOTER_LENGTH.unpack(data[-_FOOTER_LENGTH.size :].tobytes())
        content = json.loads(data[-_FOOTER_LENGTH.size - length : -_FOOTER_LENGTH.size].tobytes())
        return cls(content["notes"], np.asarray(data), tuple(_Chunk(*chunk) for chunk in content["chunks"]))

    def chunks(self, split: Split, kind: Kind) -> Iterator[SampleColumns]:
        """Yield the samples of one split and kind in the order of their writing, as views of the file."""
        for chunk in self._chunks:
            if (chunk.split, chunk.kind) == (split, kind):
                yield self._columns(chunk)

    def splits(self, kind: Kind) -> set[Split]:
        """Return the splits that have samples of a kind here."""
        return {chunk.split for chunk in self._chunks if chunk.kind == kind and chunk.samples}

    def _columns(self, chunk: _Chunk) -> SampleColumns:
        offset = chunk.offset

        def take(code: str, *shape: int) -> NDArray[Any]:
            nonlocal offset
            dtype = np.dtype(code)
            start, offset = offset, offset + dtype.itemsize * int(np.prod(shape))
            return self._data[start:offset].view(dtype).reshape(shape)

        return SampleColumns(
            kind=chunk.kind,
            path_lengths=take("<i8", chunk.samples),
            image_sizes_wh=take("<i8", chunk.samples, 2),
            row_counts=take("<i8", chunk.samples),
            class_ids=take("<i8", chunk.class_ids),
            rows=take("<f4", chunk.rows, ROW_WIDTHS[chunk.kind]),
            path_bytes=take("u1", chunk.path_bytes),
        )
