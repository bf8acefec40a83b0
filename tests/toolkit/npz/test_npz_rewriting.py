"""Rewriting: what is replaced is new, and all else is what it was to the byte."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tests.toolkit.npz.npz_builders import (
    WRITERS,
    Unseekable,
    npy_bytes,
    rewrite,
    same_arrays,
    savez,
    savez_compressed,
    untouched,
    write,
    zip_of,
)
from toolkit.npz import NpzError, check_npz, open_npz, read_npz, rewrite_npz

ARRAYS = {"a": np.arange(40), "edge": np.zeros((4, 4), "u1"), "b": np.arange(30.0)}
NEW = {"flag": np.array(1, "u1"), "edge": np.ones((8, 8), "u1"), "version": np.array("B_v1")}


def raw_members(path: Path) -> dict[str, bytes]:
    """Every member's bytes, from its local header to the next record, as zipfile locates them."""
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        starts = [info.header_offset for info in archive.infolist()] + [archive.start_dir]
        return {name: data[start:end] for name, (start, end) in zip(archive.namelist(), pairwise(starts), strict=True)}


def directory_facts(path: Path) -> dict[str, tuple[object, ...]]:
    """What the central directory says of every member, but for its place."""
    with zipfile.ZipFile(path) as archive:
        return {
            info.filename: (
                info.date_time,
                info.create_system,
                info.create_version,
                info.extract_version,
                info.flag_bits,
                info.compress_type,
                info.CRC,
                info.compress_size,
                info.file_size,
                info.internal_attr,
                info.external_attr,
                info.extra,
                info.comment,
            )
            for info in archive.infolist()
        }


@pytest.mark.parametrize("writer", WRITERS)
def test_replaced_members_keep_their_place_and_new_ones_come_last(tmp_path: Path, writer: str) -> None:
    path = write(tmp_path, WRITERS[writer](ARRAYS))
    raw = raw_members(path)
    size = rewrite(path, NEW)
    assert size == path.stat().st_size
    expected = {**ARRAYS, "edge": NEW["edge"], "flag": NEW["flag"], "version": NEW["version"]}
    assert same_arrays(read_npz(path), expected)
    with np.load(path) as oracle:
        assert same_arrays({key: oracle[key] for key in oracle.files}, expected)
    found = raw_members(path)
    assert list(found) == ["a.npy", "edge.npy", "b.npy", "flag.npy", "version.npy"]
    assert all(found[name] == raw[name] for name in ("a.npy", "b.npy"))
    assert [path.name for path in tmp_path.iterdir()] == ["sample.npz"]


@pytest.mark.parametrize("compression", ["none", "fast", "zlib"])
def test_the_same_input_gives_the_same_bytes_and_twice_is_once(tmp_path: Path, compression: str) -> None:
    paths = [write(tmp_path, savez_compressed(ARRAYS), name) for name in ("1.npz", "2.npz")]
    for path in paths:
        rewrite(path, NEW, compression=compression)
    once = paths[0].read_bytes()
    assert paths[1].read_bytes() == once
    rewrite(paths[0], NEW, compression=compression)
    assert paths[0].read_bytes() == once


def test_new_members_are_written_as_save_npz_writes(tmp_path: Path) -> None:
    path = write(tmp_path, savez(ARRAYS))
    rewrite(path, {key: np.flip(array) for key, array in ARRAYS.items()})
    assert path.read_bytes() == WRITERS["ours_stored"]({key: np.flip(array) for key, array in ARRAYS.items()})


def test_nothing_to_replace_copies_the_file(tmp_path: Path) -> None:
    for name, writer in WRITERS.items():
        data = writer(ARRAYS)
        path = write(tmp_path, data, name)
        rewrite(path, {})
        assert path.read_bytes() == data, name


def test_a_file_without_members_can_get_some(tmp_path: Path) -> None:
    path = write(tmp_path, savez({}))
    rewrite(path, ARRAYS)
    assert same_arrays(read_npz(path), ARRAYS)


def test_a_member_stored_without_the_suffix_is_replaced_too(tmp_path: Path) -> None:
    path = write(tmp_path, zip_of({"edge": npy_bytes(np.arange(3)), "notes.txt": b"hello"}))
    rewrite(path, {"edge": np.arange(5)})
    assert list(raw_members(path)) == ["edge.npy", "notes.txt"]
    with np.load(path) as oracle:
        assert oracle["edge"].tolist() == [0, 1, 2, 3, 4]


def test_what_the_directory_says_of_a_carried_member_survives(tmp_path: Path) -> None:
    path = tmp_path / "sample.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = b"made by hand"
        archive.writestr("first.npy", npy_bytes(np.arange(3)))
        for index, name in enumerate(("é.npy", "folder/notes.txt")):
            info = zipfile.ZipInfo(name, (2021, 2, 3, 4, 5, 6 + 2 * index))
            info.create_system, info.create_version = index, 63 - index
            info.external_attr, info.internal_attr = 0o100400 << 16 | index, 1
            info.comment, info.extra = b"a member's comment", b"\x55\x54\x05\0\x01abcd"
            archive.writestr(info, npy_bytes(np.arange(4 + index)))
    facts, raw = directory_facts(path), raw_members(path)
    rewrite(path, {"first": np.arange(100), "last": np.arange(2)})
    for name in ("é.npy", "folder/notes.txt"):
        assert directory_facts(path)[name] == facts[name]
        assert raw_members(path)[name] == raw[name]
    with zipfile.ZipFile(path) as archive:
        assert archive.comment == b"made by hand"


def test_a_pickled_member_is_carried_and_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return os.mkdir, (os.fspath(tmp_path / "sprung"),)

    pickled = npy_bytes(np.array([Trap(), None], dtype=object), allow_pickle=True)
    path = write(tmp_path, zip_of({"edge.npy": npy_bytes(np.arange(3)), "masks.npy": pickled}))
    raw = raw_members(path)["masks.npy"]
    rewrite(path, NEW)
    assert raw_members(path)["masks.npy"] == raw
    assert not (tmp_path / "sprung").exists()


def test_a_deflated_member_is_carried_without_being_inflated(tmp_path: Path) -> None:
    """Even one whose data are damaged; ``npz verify`` finds that, before and after."""
    data = bytearray(savez_compressed({"a": np.arange(4000), "edge": np.zeros(3)}))
    data[2000] ^= 1
    path = write(tmp_path, bytes(data))
    raw, problems = raw_members(path), check_npz(path).problems
    assert len(problems) == 1
    rewrite(path, {"edge": np.ones(3)})
    assert raw_members(path)["a.npy"] == raw["a.npy"]
    assert check_npz(path).problems == problems


def test_the_reader_goes_on_reading_the_old_file_and_rewrites_once(tmp_path: Path) -> None:
    path = write(tmp_path, savez(ARRAYS))
    with open_npz(path) as reader:
        rewrite_npz(reader, {"a": np.arange(2)})
        assert same_arrays({"a": reader.read("a")}, {"a": ARRAYS["a"]})
        with untouched(tmp_path), pytest.raises(NpzError, match="was replaced or changed while it was being rewritten"):
            rewrite_npz(reader, {"a": np.arange(4)})


def test_a_symbolic_link_is_followed_and_the_mode_is_kept(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = write(tmp_path / "data", savez(ARRAYS))
    path.chmod(0o640)
    link = tmp_path / "link.npz"
    link.symlink_to("data/sample.npz")
    rewrite(link, NEW)
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert "flag" in read_npz(path)


# Keys as save_npz takes them; members also in folders, without the suffix, and of every kind.
KEYS = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=6).filter(
    lambda key: not key.endswith(".npy")
)
ARRAY = npst.arrays(npst.scalar_dtypes(), npst.array_shapes(min_dims=0, min_side=0))
CONTENT = st.one_of(
    ARRAY.map(npy_bytes),
    st.just(npy_bytes(np.array([{}, None], dtype=object), allow_pickle=True)),
    st.binary(max_size=40),
)
MEMBER = st.fixed_dictionaries(
    {
        "folder": st.sampled_from(["", "", "folder/"]),
        "suffix": st.sampled_from([".npy", ".npy", ""]),
        "content": CONTENT,
        "method": st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
        "date_time": st.tuples(st.integers(1980, 2107), st.integers(1, 12), st.just(3), *[st.integers(0, 20)] * 2),
        "comment": st.binary(max_size=5),
    }
)


@st.composite
def archives(draw: st.DrawFn) -> tuple[bytes, list[str]]:
    """The bytes of an NPZ file, and keys of which some are in it and some are not."""
    keys = draw(st.lists(KEYS, max_size=5, unique=True))
    if draw(st.booleans()):
        writer = WRITERS[draw(st.sampled_from(sorted(WRITERS)))]
        return writer({f"k{index}": draw(ARRAY) for index in range(len(keys))}), ["k0", "k2", *keys]
    stream: Any = Unseekable() if draw(st.booleans()) else io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        # zipfile, which is the oracle below, does not read every comment that it writes.
        archive.comment = draw(st.binary(max_size=30).filter(lambda comment: b"PK" not in comment))
        for key in keys:
            spec: dict[str, Any] = draw(MEMBER)
            info = zipfile.ZipInfo(spec["folder"] + key + spec["suffix"], (*spec["date_time"], 8))
            info.compress_type, info.comment = spec["method"], spec["comment"]
            archive.writestr(info, spec["content"])
    return bytes(stream.data if isinstance(stream, Unseekable) else stream.getvalue()), ["k0", *keys]


@settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(archive=archives(), data=st.data())
def test_any_file_and_any_replacement(tmp_path: Path, archive: tuple[bytes, list[str]], data: st.DataObject) -> None:
    whole, keys = archive
    path = write(tmp_path, whole)
    arrays = {key: data.draw(ARRAY) for key in data.draw(st.lists(st.sampled_from(keys), unique=True, max_size=4))}
    with open_npz(path) as reader:
        members = {key: member.name for key, member in reader.members.items()}
    raw, facts, before = raw_members(path), directory_facts(path), check_npz(path, "any")
    assert rewrite(path, arrays) == path.stat().st_size

    expected_names = {key: f"{key}.npy" if key in arrays else name for key, name in members.items()}
    expected_names |= {key: f"{key}.npy" for key in arrays}
    found_raw, found_facts = raw_members(path), directory_facts(path)
    assert list(found_raw) == list(expected_names.values())
    for key in members.keys() - arrays.keys():
        assert found_raw[members[key]] == raw[members[key]]
        assert found_facts[members[key]] == facts[members[key]]
    with np.load(path) as oracle:
        assert oracle.files == list(expected_names)
        assert same_arrays({key: oracle[key] for key in arrays}, arrays)
    assert set(check_npz(path, "any").problems) <= set(before.problems)
    once = path.read_bytes()
    rewrite(path, arrays)
    assert path.read_bytes() == once
