from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.toolkit.npz.npz_builders import npy_bytes, same_arrays, savez, savez_compressed, write
from toolkit.npz import NpzError, member_stream, read_npz
from toolkit.npz.zip_records import DEFLATED, central_entry, end_records, local_header, new_member


def test_large_members_are_inflated_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_stream, "_MAX_WHOLE_BYTES", 1000)
    monkeypatch.setattr(member_stream, "_CHUNK_BYTES", 64)
    noise = np.random.default_rng(0).integers(0, 256, 5000, dtype="u1")
    arrays = {"noise": noise, "zeros": np.zeros((3, 7000), order="F"), "ramp": np.arange(4000) // 7}
    assert same_arrays(read_npz(write(tmp_path, savez_compressed(arrays))), arrays)
    data = bytearray(savez_compressed(arrays))
    for offset in range(50, len(data), 97):
        data[offset] ^= 0x10
        with pytest.raises(NpzError):
            read_npz(write(tmp_path, bytes(data)))
        data[offset] ^= 0x10


@pytest.mark.parametrize("small_bytes", [0, 1127, 1128])
def test_stored_members_are_read_whole_or_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_bytes: int
) -> None:
    """A limit below, and at, the size of the member."""
    monkeypatch.setattr(member_stream, "_SMALL_BYTES", small_bytes)
    arrays = {"x": np.random.default_rng(0).integers(0, 256, 1000, dtype="u1"), "f": np.ones((3, 5), order="F")}
    data = bytearray(savez(arrays))
    assert same_arrays(read_npz(write(tmp_path, bytes(data))), arrays)
    for offset in range(data.index(arrays["x"].tobytes()), data.index(b"PK\x03\x04", 4), 37):
        data[offset] ^= 0x10
        with pytest.raises(NpzError, match=r"member 'x': its checksum \(CRC-32\) does not match its data"):
            read_npz(write(tmp_path, bytes(data)))
        data[offset] ^= 0x10


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("stated_items", "held_items", "pad", "problem"),
    [
        (300, 300, b"x", "its compressed data do not end where its records say"),
        (300, 301, b"", "its compressed data hold more than its size"),
        (300, 299, b"", "its compressed data end too early"),
    ],
)
def test_deflated_data_end_with_the_member(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole: bool,
    stated_items: int,
    held_items: int,
    pad: bytes,
    problem: str,
) -> None:
    if not whole:
        monkeypatch.setattr(member_stream, "_MAX_WHOLE_BYTES", 0)
    stated = npy_bytes(np.arange(stated_items))
    held = stated[: -8 * stated_items] + np.arange(held_items).tobytes()
    path = write(tmp_path, deflated_member(held, pad=pad, size=len(stated), crc32=zlib.crc32(held[: len(stated)])))
    with pytest.raises(NpzError, match=f"member 'x': {problem}; the file is damaged"):
        read_npz(path)


@pytest.mark.parametrize("pad", [b"", b"x"])
def test_data_that_hold_their_own_footer(tmp_path: Path, pad: bytes) -> None:
    """A gzip footer inside the compressed data must not pass for the one that ends them."""
    array = npy_bytes(np.arange(300))
    footer = struct.pack("<LL", zlib.crc32(array), len(array))
    path = write(tmp_path, deflated_member(array, pad=footer + pad))
    with pytest.raises(NpzError, match="its compressed data do not end where its records say"):
        read_npz(path)


def deflated_member(data: bytes, *, pad: bytes = b"", size: int | None = None, crc32: int | None = None) -> bytes:
    """An NPZ of one deflated member, with bytes after the compressed data, or a size or CRC-32 that is not theirs."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    compressed = compressor.compress(data) + compressor.flush() + pad
    member = new_member(
        "x",
        method=DEFLATED,
        crc32=zlib.crc32(data) if crc32 is None else crc32,
        compressed_size=len(compressed),
        size=len(data) if size is None else size,
        header_offset=0,
    )
    entry = central_entry(member)
    tail = end_records(count=1, directory_offset=member.end_offset, directory_size=len(entry))
    return local_header(member) + compressed + entry + tail


def test_a_bomb_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path, deflated_member(npy_bytes(np.arange(3)), size=1 << 30))
    with pytest.raises(NpzError, match=r"member 'x': \d+ deflated bytes cannot hold 1073741824"):
        read_npz(path)
