"""Files found by what their names begin with: in several folders, over links, listed once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.file_trees import make_files, make_folders
from toolkit.core import file_index
from toolkit.core.errors import StopRunError
from toolkit.core.file_index import FileIndex


def stem(prefix: str, name: str) -> str:
    return name.partition(".")[0]


def by_stem(*folders: Path) -> FileIndex:
    return FileIndex(folders, stem)


def test_all_files_of_a_key_in_all_folders_sorted(tmp_path: Path) -> None:
    make_files(tmp_path, "b/x.png", "b/deep/er/x.jpg", "a/x.png", "a/x.jpg", "a/y.png", "a/.x.png", "c/x.png")
    index = by_stem(tmp_path / "b", tmp_path / "a")
    assert index.find("x") == [tmp_path / path for path in ("a/x.jpg", "a/x.png", "b/x.png", "b/deep/er/x.jpg")]
    assert index.find("y") == [tmp_path / "a" / "y.png"]
    assert index.find("z") == index.find("") == []


def test_the_key_may_depend_on_the_folder_and_the_empty_one_is_not_wanted(tmp_path: Path) -> None:
    make_files(tmp_path, "x.a", "sub/x.a", "sub/deep/x.a")
    seen: list[tuple[str, str]] = []

    def only_direct(prefix: str, name: str) -> str:
        seen.append((prefix, name))
        return "" if prefix else "x"

    assert FileIndex([tmp_path], only_direct).find("x") == [tmp_path / "x.a"]
    assert sorted(seen) == [("", "x.a"), ("sub/", "x.a"), ("sub/deep/", "x.a")]


def test_the_folders_are_listed_at_the_first_question_and_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[Path] = []
    walk_files = file_index.walk_files

    def watched(folder: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, os.DirEntry[str]]]:
        walked.append(folder)
        return walk_files(folder, wanted)

    monkeypatch.setattr(file_index, "walk_files", watched)
    make_files(tmp_path, "a/x.png", "b/y.png")
    folders = [tmp_path / "a", tmp_path / "b"]
    index = by_stem(*folders)
    assert walked == []
    for key in ("y", "x", "nothing", "y"):
        index.find(key)
    assert walked == folders
    make_files(tmp_path, "a/new.png")
    assert index.find("new") == []


def test_several_paths_of_one_file_are_one_and_so_are_folders_named_twice(tmp_path: Path) -> None:
    make_files(tmp_path, "all/x.png", "all/sub/y.png")
    make_folders(tmp_path, "some")
    (tmp_path / "some" / "x.png").symlink_to("../all/x.png")
    (tmp_path / "some" / "loop").symlink_to("..")
    assert by_stem(tmp_path).find("x") == [tmp_path / "all" / "x.png"]
    assert by_stem(tmp_path / "all", tmp_path / "all" / "sub", tmp_path / "all").find("y") == [
        tmp_path / "all" / "sub" / "y.png"
    ]


def test_links_that_lead_nowhere_and_odd_names_are_found(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff \n")
    make_files(tmp_path, f"{name}.png")
    (tmp_path / "x.png").symlink_to("nowhere")
    assert by_stem(tmp_path).find(name) == [tmp_path / f"{name}.png"]
    assert by_stem(tmp_path).find("x") == [tmp_path / "x.png"]


def test_relative_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_files(tmp_path, "a/b/x.png")
    monkeypatch.chdir(tmp_path)
    assert by_stem(Path("a")).find("x") == [Path("a/b/x.png")]
    assert by_stem(Path()).find("x") == [Path("a/b/x.png")]


def test_a_folder_that_cannot_be_listed_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(StopRunError, match=r"gone: cannot list the folder: No such file or directory; check the path"):
        by_stem(tmp_path / "gone").find("x")


NAMES = st.tuples(st.sampled_from("abcd"), st.sampled_from([".png", ".jpg", ".x.y"])).map("".join)


@settings(max_examples=50, deadline=None)
@given(st.sets(st.lists(st.sampled_from(["f", "g"]), max_size=3).map(tuple), max_size=5), st.lists(NAMES, max_size=8))
def test_it_finds_what_pathlib_finds(folders: set[tuple[str, ...]], names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number, name in enumerate(names):
            make_files(root.joinpath(*sorted(folders)[number % len(folders)] if folders else ()), name)
        index = by_stem(root)
        for key in "abcde":
            assert index.find(key) == sorted(index.find(key), key=lambda path: (f"{path.parent}/", path.name))
            assert set(index.find(key)) == {path for path in root.rglob(f"{key}.*") if path.is_file()}
