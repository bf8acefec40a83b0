"""Which files are features files, of which image, and in which order they are listed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.file_trees import make_files, make_folders
from tests.toolkit.npz.npz_builders import savez
from toolkit.core.errors import MvtkError
from toolkit.core.options import Shard
from toolkit.npz import NpzError, open_npz
from toolkit.npz.feature_files import SortBy, image_id_of, iter_feature_files, list_feature_files, stored_image_size

IN_ONE_FOLDER = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
S = 10**9


def make_dated(root: Path, mtimes_ns: dict[str, int]) -> None:
    for path, mtime_ns in mtimes_ns.items():
        make_files(root, path)
        os.utime(root / path, ns=(0, mtime_ns))


@pytest.mark.parametrize(
    ("name", "image_id"),
    [
        ("sa_1_features.npz", "sa_1"),
        ("sa_1_sam2_features.npz", "sa_1"),
        ("sa_1_sam2_sam2_features.npz", "sa_1_sam2"),
        ("sa_1_features_features.npz", "sa_1_features"),
        ("a.b c\n_features.npz", "a.b c\n"),
        ("_features.npz", ""),
        ("_sam2_features.npz", ""),
        ("sa_1.npz", ""),
        ("sa_1_FEATURES.npz", ""),
        ("sa_1_features.npz.tmp", ""),
        ("features.npz", ""),
    ],
)
def test_the_image_id_of_a_name(name: str, image_id: str) -> None:
    assert image_id_of(name) == image_id


@given(st.text(min_size=1), st.sampled_from(["_features.npz", "_sam2_features.npz"]))
def test_every_id_comes_back_from_its_names(image_id: str, suffix: str) -> None:
    expected = image_id.removesuffix("_sam2") if suffix == "_features.npz" else image_id
    assert image_id_of(image_id + suffix) == expected


def test_both_patterns_are_found_at_any_depth_and_nothing_else(tmp_path: Path) -> None:
    make_files(
        tmp_path, "b/c/x_features.npz", "b/x_sam2_features.npz", "b/x_features.npz", "a_features.npz", "b/x.npz",
        "b/_features.npz", "b/_sam2_features.npz", ".d_features.npz", ".e/x_features.npz", "x_features.json",
    )  # fmt: skip
    make_folders(tmp_path, "folder_features.npz")
    expected = ["a_features.npz", "b/c/x_features.npz", "b/x_features.npz", "b/x_sam2_features.npz"]
    assert list_feature_files(tmp_path) == expected
    assert list_feature_files(tmp_path, reverse=True) == expected[::-1]


def test_by_time_the_oldest_comes_first_and_ties_go_by_name(tmp_path: Path) -> None:
    make_dated(
        tmp_path,
        {
            "z_features.npz": -5 * S,
            "y_features.npz": 99 * S,
            "sub/b_features.npz": 1_700_000_000 * S,
            "a_features.npz": 1_700_000_000 * S,
            "c_features.npz": 1_700_000_000 * S,
            "b_features.npz": 1_700_000_000 * S + 1,
        },
    )
    expected = [f"{path}_features.npz" for path in ("z", "y", "a", "c", "sub/b", "b")]
    assert list_feature_files(tmp_path, sort_by="mtime") == expected
    assert list_feature_files(tmp_path, sort_by="mtime", reverse=True) == expected[::-1]


@pytest.mark.parametrize("sort_by", ["name", "mtime"])
def test_only_what_is_strictly_newer_to_the_nanosecond(tmp_path: Path, sort_by: SortBy) -> None:
    moment_ns = 1_700_000_000_100_000_000  # no float is 1700000000.1: the nearest one is 95 ns less
    make_dated(
        tmp_path,
        {
            "a_features.npz": moment_ns - 1,
            "b_features.npz": moment_ns,
            "c_features.npz": moment_ns + 1,
            "d_features.npz": moment_ns + S,
        },
    )

    def newer_than(epoch_s: float) -> str:
        return "".join(
            image_id_of(name) for name in list_feature_files(tmp_path, sort_by=sort_by, only_mtime_after=epoch_s)
        )

    assert newer_than(1_700_000_000.1) == "cd"
    assert newer_than(1_700_000_000) == "abcd"
    assert newer_than(1_700_000_001) == "d"
    assert newer_than(1e17) == ""
    assert newer_than(-1e17) == "abcd"


@IN_ONE_FOLDER
@given(st.lists(st.integers(-(2**33) * S, 2**33 * S), min_size=1, max_size=6), st.booleans())
def test_the_order_by_time_is_that_of_pairs(
    tmp_path_factory: pytest.TempPathFactory, mtimes_ns: list[int], reverse: bool
) -> None:
    root = tmp_path_factory.mktemp("dated")
    make_dated(root, {f"{index % 3}/{index}_features.npz": mtime_ns for index, mtime_ns in enumerate(mtimes_ns)})
    paths = [path.relative_to(root).as_posix() for path in root.rglob("*.npz")]
    # What the file system made of the times: not all hold every one.
    expected = sorted(paths, key=lambda path: ((root / path).stat().st_mtime_ns, path), reverse=reverse)
    assert list_feature_files(root, sort_by="mtime", reverse=reverse) == expected


@pytest.mark.parametrize("sort_by", ["name", "mtime"])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_shards_together_are_all_files_once_each_in_order(tmp_path: Path, sort_by: SortBy, count: int) -> None:
    make_dated(tmp_path, {f"{index % 4}/{index}_features.npz": -index * S for index in range(40)})
    everything = list_feature_files(tmp_path, sort_by=sort_by)
    shards = [list_feature_files(tmp_path, sort_by=sort_by, shard=Shard(index, count)) for index in range(count)]
    assert sorted(path for shard in shards for path in shard) == sorted(everything)
    assert len(everything) == 40
    for shard in shards:
        assert shard == [path for path in everything if path in shard]


def test_a_link_has_the_time_of_its_file_and_its_own_where_it_leads_nowhere(tmp_path: Path) -> None:
    make_dated(tmp_path, {"old_file": 5 * S, "m_features.npz": 50 * S})
    (tmp_path / "z_features.npz").symlink_to("old_file")
    for name in ("dangling_features.npz", "loop_features.npz"):
        (tmp_path / name).symlink_to("loop_features.npz" if name.startswith("loop") else "gone")
        os.utime(tmp_path / name, ns=(0, 20 * S), follow_symlinks=False)
    expected = ["z_features.npz", "dangling_features.npz", "loop_features.npz", "m_features.npz"]
    assert list_feature_files(tmp_path, sort_by="mtime") == expected
    assert list_feature_files(tmp_path, only_mtime_after=10) == sorted(expected[1:])


def test_a_file_that_goes_while_its_folder_is_listed_is_not_listed(tmp_path: Path) -> None:
    make_files(tmp_path, "a_features.npz", "b_features.npz")

    class RemovingShard(Shard):
        def holds(self, source: str) -> bool:
            if source == "a_features.npz":
                (tmp_path / source).unlink()
            return True

    assert list_feature_files(tmp_path, sort_by="mtime", shard=RemovingShard(0, 1)) == ["b_features.npz"]


def test_names_that_are_not_utf_8_are_sorted_and_sharded(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff_features.npz")
    make_dated(tmp_path, {name: S, "b\n_features.npz": 2 * S})
    assert list_feature_files(tmp_path, sort_by="mtime", shard=Shard(0, 1)) == [name, "b\n_features.npz"]
    assert sum(list_feature_files(tmp_path, shard=Shard(index, 3)).count(name) for index in range(3)) == 1


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MvtkError, match=r"gone: cannot list the folder: No such file or directory"):
        list_feature_files(tmp_path / "gone", sort_by="mtime")


def test_a_time_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(entry: os.DirEntry[str]) -> os.stat_result:
        raise OSError(5, "Input/output error")

    make_files(tmp_path, "a_features.npz")
    monkeypatch.setattr("toolkit.npz.feature_files._status", fail)
    with pytest.raises(MvtkError, match=r"a_features\.npz: cannot read the time of the file: Input/output error"):
        list_feature_files(tmp_path, sort_by="mtime")


def test_the_files_come_folder_by_folder_each_by_name(tmp_path: Path) -> None:
    make_files(
        tmp_path, "b/c/x_features.npz", "b/x_sam2_features.npz", "b/x_features.npz", "z_features.npz", "b/x.npz",
        "a/y_features.npz", "b/_features.npz", ".e/x_features.npz",
    )  # fmt: skip
    expected = ["z_features.npz", "a/y_features.npz", "b/x_features.npz", "b/x_sam2_features.npz", "b/c/x_features.npz"]
    assert list(iter_feature_files(tmp_path)) == expected
    assert sorted(expected) == list_feature_files(tmp_path)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_shards_of_the_stream_are_all_files_once_each(tmp_path: Path, count: int) -> None:
    make_files(tmp_path, *(f"{index % 4}/{index}_features.npz" for index in range(40)))
    shards = [list(iter_feature_files(tmp_path, shard=Shard(index, count))) for index in range(count)]
    assert sorted(path for shard in shards for path in shard) == list_feature_files(tmp_path)
    assert shards == [sorted(list_feature_files(tmp_path, shard=Shard(index, count))) for index in range(count)]


def test_without_features_files_the_stream_ends_with_an_error_and_an_empty_shard_does_not(tmp_path: Path) -> None:
    make_files(tmp_path, "x.npz")
    with pytest.raises(MvtkError, match=r"there are no \*_features\.npz files in .*; give the folder that holds them"):
        next(iter_feature_files(tmp_path))
    make_files(tmp_path, "x_features.npz")
    shards = [list(iter_feature_files(tmp_path, shard=Shard(index, 5))) for index in range(5)]
    assert sorted(map(len, shards)) == [0, 0, 0, 0, 1]


def size_in(tmp_path: Path, arrays: dict[str, Any]) -> tuple[int, int] | None:
    path = tmp_path / "x_features.npz"
    path.write_bytes(savez(arrays))
    with open_npz(path) as reader:
        return stored_image_size(reader)


@pytest.mark.parametrize(
    ("image_shape", "size_hw"),
    [
        (np.array([480, 640, 3]), (480, 640)),
        (np.array([480, 640]), (480, 640)),
        (np.array([480, 640, 3], ">u2"), (480, 640)),
        (np.array([480]), None),
        (np.array([[480, 640, 3]]), None),
        (np.array([480.0, 640.0, 3.0]), None),
        (np.array(["480", "640"]), None),
        (np.array([480, 640, 3], dtype=object), None),
        (np.array(0), None),
    ],
)
def test_the_size_of_the_image_where_the_file_says_it(tmp_path: Path, image_shape: Any, size_hw: Any) -> None:
    assert size_in(tmp_path, {"image_shape": image_shape}) == size_hw


def test_a_file_that_does_not_say_the_size_and_one_whose_size_is_damaged(tmp_path: Path) -> None:
    assert size_in(tmp_path, {"x": np.zeros(3)}) is None
    path = tmp_path / "x_features.npz"
    content = bytearray(savez({"image_shape": np.array([480, 640, 3])}))
    content[content.index((480).to_bytes(8, "little"))] ^= 1
    path.write_bytes(content)
    with open_npz(path) as reader, pytest.raises(NpzError, match="member 'image_shape': its checksum"):
        stored_image_size(reader)
