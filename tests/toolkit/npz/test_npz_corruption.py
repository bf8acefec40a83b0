"""No flipped bit, changed byte or cut may change what is read without an error."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.toolkit.npz.npz_builders import WRITERS, Arrays, same_arrays, write
from toolkit.npz import NpzError, check_npz, describe_npz, read_npz

STRUCTURED = np.array([(1, 2.5)], [("a", "<i2"), ("b", ">f4")])
SETS: dict[str, Arrays] = {
    "plain": {"image": np.arange(12, dtype="u1").reshape(2, 2, 3), "mask": np.eye(2, dtype=bool)},
    "odd": {
        "flag": np.array("B_v1"),
        "bboxes": np.zeros((0, 4), "f4"),
        "f": np.asfortranarray(np.full((2, 3), np.nan)),
    },
    "nested": {"structured": STRUCTURED, "é": np.array(7, ">u2")},
}
FILES = {f"{writer}-{name}": (WRITERS[writer], arrays) for writer in WRITERS for name, arrays in SETS.items()}


@pytest.fixture(params=FILES, ids=str)
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, bytes, Arrays]:
    writer, arrays = FILES[request.param]
    data = writer(arrays)
    return write(tmp_path, data), data, arrays


def is_harmless(path: Path, arrays: Arrays) -> bool:
    try:
        return same_arrays(read_npz(path), arrays)
    except NpzError:
        return True


def test_every_single_bit_flip(damaged: tuple[Path, bytes, Arrays]) -> None:
    path, data, arrays = damaged
    refused = 0
    with path.open("r+b", buffering=0) as file:
        for offset, byte in enumerate(data):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), offset)
                try:
                    assert same_arrays(read_npz(path), arrays), f"bit {bit} of byte {offset}"
                except NpzError:
                    refused += 1
            os.pwrite(file.fileno(), bytes([byte]), offset)
    # Time stamps, versions and attributes carry no meaning: about a tenth of so small a file.
    assert refused > 0.7 * 8 * len(data)


def test_every_truncation(damaged: tuple[Path, bytes, Arrays]) -> None:
    path, data, _ = damaged
    for length in range(len(data) - 1, -1, -1):
        os.truncate(path, length)
        with pytest.raises(NpzError):
            read_npz(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(FILES)), seed=st.integers(0, 2**32), count=st.integers(2, 12))
def test_random_bytes_changed(tmp_path: Path, name: str, seed: int, count: int) -> None:
    writer, arrays = FILES[name]
    data = bytearray(writer(arrays))
    chance = random.Random(seed)
    for _ in range(count):
        data[chance.randrange(len(data))] = chance.randrange(256)
    assert is_harmless(write(tmp_path, bytes(data)), arrays)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(FILES)), data=st.data())
def test_bytes_inserted_or_removed(tmp_path: Path, name: str, data: st.DataObject) -> None:
    writer, arrays = FILES[name]
    whole = writer(arrays)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(start + 64, len(whole))))
    inserted = data.draw(st.binary(max_size=64))
    assert is_harmless(write(tmp_path, whole[:start] + inserted + whole[end:]), arrays)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), prefix=st.sampled_from([b"", b"PK\x03\x04"]), suffix=st.booleans())
def test_nothing_but_npz_errors_escapes(tmp_path: Path, data: bytes, prefix: bytes, suffix: bool) -> None:
    end = b"PK\x05\x06" + bytes(4) + b"\x01\x00\x01\x00" + len(data).to_bytes(4, "little") + bytes(6)
    path = write(tmp_path, prefix + data + (end if suffix else b""))
    assert check_npz(path).problems
    for call in (read_npz, describe_npz):
        with pytest.raises(NpzError):
            call(path)


@pytest.mark.parametrize("writer", WRITERS)
def test_flips_in_the_data_are_named(tmp_path: Path, writer: str) -> None:
    arrays = {"noise": np.random.default_rng(0).integers(0, 256, 2000, dtype="u1")}
    data = bytearray(WRITERS[writer](arrays))
    data[1000] ^= 1
    path = write(tmp_path, bytes(data))
    with pytest.raises(NpzError, match=r"member 'noise': its (checksum|compressed data).*; the file is damaged"):
        read_npz(path)
    assert len(check_npz(path).problems) == 1
