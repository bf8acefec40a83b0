"""NPZ files for tests: from NumPy and zipfile (the oracles), and by hand where a file must be wrong."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.npz import encode_npz, open_npz, rewrite_npz

Arrays = Mapping[str, NDArray[Any]]


class Unseekable(io.RawIOBase):
    """A stream like a pipe: zipfile then writes data descriptors."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.data += data
        return len(data)


def savez(arrays: Arrays) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def savez_compressed(arrays: Arrays) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def savez_piped(arrays: Arrays) -> bytes:
    """What ``numpy.savez`` writes to a pipe: 64-bit descriptors."""
    stream = Unseekable()
    np.savez(stream, **arrays)
    return bytes(stream.data)


def zip_piped(arrays: Arrays) -> bytes:
    """Members with 32-bit descriptors, deflated, and a comment."""
    stream = Unseekable()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = b"a comment"
        for key, array in arrays.items():
            with archive.open(f"{key}.npy", "w") as member:
                member.write(npy_bytes(array))
    return bytes(stream.data)


def ours_fast(arrays: Arrays) -> bytes:
    return b"".join(encode_npz(arrays, "fast"))


def ours_stored(arrays: Arrays) -> bytes:
    return b"".join(encode_npz(arrays, "none"))


WRITERS: dict[str, Callable[[Arrays], bytes]] = {
    writer.__name__: writer for writer in (savez, savez_compressed, savez_piped, zip_piped, ours_fast, ours_stored)
}


def npy_bytes(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def zip_of(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A ZIP file of raw members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def npy_with_header(header: str, data: bytes = b"", version: int = 1) -> bytes:
    """An NPY array with a header written by hand."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 if version == 1 else 4, "little") + text + data


def write(folder: Path, data: bytes, name: str = "sample.npz") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def same_arrays(left: Arrays, right: Arrays) -> bool:
    """Whether keys, their order, dtypes, shapes and every bit of the values are the same."""
    return list(left) == list(right) and all(
        left[key].dtype == right[key].dtype
        and left[key].dtype.str == right[key].dtype.str
        and left[key].shape == right[key].shape
        and left[key].tobytes() == right[key].tobytes()
        for key in left
    )


def rewrite(path: Path, arrays: Mapping[str, Any], **options: Any) -> int:
    """Rewrite a file that nobody has open yet."""
    with open_npz(path) as reader:
        return rewrite_npz(reader, arrays, **options)


@contextmanager
def untouched(folder: Path) -> Iterator[None]:
    """Check that all files below ``folder`` are the same after the block, and no others."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    yield
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
