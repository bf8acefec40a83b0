"""Where an image's annotation JSON is looked for, in which order, and what is said when there is none or two."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.file_trees import make_files, make_folders
from toolkit.core import file_index
from toolkit.core.errors import MvtkError, StopRunError
from toolkit.edges.json_index import JSON_NOT_FOUND, TWO_JSONS, JsonIndex, JsonLookupError

IN_ONE_FOLDER = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were walked."""
    walked: list[Path] = []
    walk_files = file_index.walk_files

    def watched(folder: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, os.DirEntry[str]]]:
        walked.append(folder)
        return walk_files(folder, wanted)

    monkeypatch.setattr(file_index, "walk_files", watched)
    return walked


def test_the_folder_comes_first_then_its_subfolders_then_the_folder_of_the_npz(tmp_path: Path) -> None:
    json_dir, npz = tmp_path / "json", tmp_path / "npz" / "x_features.npz"
    make_files(tmp_path, "json/x.json", "json/a/b/x.json", "npz/x.json")
    for expected in ("json/x.json", "json/a/b/x.json", "npz/x.json"):
        assert JsonIndex(json_dir).find("x", npz) == tmp_path / expected
        (tmp_path / expected).unlink()
    with pytest.raises(JsonLookupError) as caught:
        JsonIndex(json_dir).find("x", npz)
    assert caught.value.kind == JSON_NOT_FOUND
    assert str(caught.value) == (
        f"annotation JSON not found: image x has none in {json_dir}; "
        f"x.json was looked for there, in the subfolders, and in {tmp_path}/npz"
    )


def test_subfolders_are_listed_once_and_only_when_they_are_needed(tmp_path: Path, listings: list[Path]) -> None:
    make_files(tmp_path, "a.json", "sub/b.json", "sub/c.json")
    index, npz = JsonIndex(tmp_path), tmp_path / "x_features.npz"
    index.find("a", npz)
    assert listings == []
    for image_id in "bcab":
        index.find(image_id, npz)
    for _ in range(2):
        with pytest.raises(JsonLookupError):
            index.find("d", npz)
    assert listings == [tmp_path]


def test_what_lies_directly_in_the_folder_is_not_indexed(tmp_path: Path) -> None:
    make_files(tmp_path, "x.json", "sub/x.json")
    index, npz = JsonIndex(tmp_path), tmp_path / "npz" / "x_features.npz"
    with pytest.raises(JsonLookupError, match=JSON_NOT_FOUND):
        index.find("y", npz)
    (tmp_path / "x.json").unlink()
    assert index.find("x", npz) == tmp_path / "sub" / "x.json"


def test_two_in_the_subfolders_are_both_named(tmp_path: Path) -> None:
    make_files(tmp_path, "b/x.json", "a/x.json", "a/y.json")
    index = JsonIndex(tmp_path)
    with pytest.raises(JsonLookupError) as caught:
        index.find("x", tmp_path / "b" / "x_features.npz")
    assert caught.value.kind == TWO_JSONS
    assert str(caught.value) == (
        f"two annotation JSONs: image x has {tmp_path}/a/x.json and {tmp_path}/b/x.json; keep the right one only"
    )
    assert index.find("y", tmp_path / "y_features.npz") == tmp_path / "a" / "y.json"


def test_of_many_two_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    make_files(tmp_path, *(f"{folder}/x.json" for folder in "dbca"))
    with pytest.raises(JsonLookupError, match=r"has \S*/a/x\.json and \S*/b/x\.json and 2 more; keep the right one"):
        JsonIndex(tmp_path).find("x", tmp_path / "x_features.npz")


@pytest.mark.parametrize("json_dir", [".", "data", "data/sub"])
def test_features_files_and_jsons_in_one_folder_are_counted_once(tmp_path: Path, json_dir: str) -> None:
    make_files(tmp_path, "data/sub/x.json", "data/sub/x_features.npz")
    index = JsonIndex(tmp_path / json_dir)
    assert index.find("x", tmp_path / "data/sub/x_features.npz") == tmp_path / "data/sub/x.json"


def test_links_to_one_file_and_loops_of_links_are_one_json(tmp_path: Path) -> None:
    make_files(tmp_path, "all/x.json")
    make_folders(tmp_path, "some", "other")
    (tmp_path / "some" / "x.json").symlink_to("../all/x.json")
    (tmp_path / "other" / "loop").symlink_to("..")
    (tmp_path / "other" / "again").symlink_to("../all")
    assert JsonIndex(tmp_path).find("x", tmp_path / "n.npz").samefile(tmp_path / "all" / "x.json")


def test_the_suffix_may_be_in_any_case_below_and_json_folders_are_no_files(tmp_path: Path) -> None:
    make_files(tmp_path, "X.JSON", "sub/y.Json", "sub/z.json", "other/z.JSON")
    make_folders(tmp_path, "x.json", "sub/y.json", "w.json")
    index, npz = JsonIndex(tmp_path), tmp_path / "n.npz"
    assert index.find("X", npz) == tmp_path / "X.JSON"
    assert index.find("y", npz) == tmp_path / "sub" / "y.Json"
    with pytest.raises(JsonLookupError, match=r"other/z\.JSON and \S*/sub/z\.json;"):
        index.find("z", npz)
    for image_id in ("x", "w"):
        with pytest.raises(JsonLookupError, match=JSON_NOT_FOUND):
            index.find(image_id, npz)


@pytest.mark.parametrize("place", ["json", "json/sub", "npz"])
def test_a_link_that_leads_nowhere_is_found_and_left_to_whoever_opens_it(tmp_path: Path, place: str) -> None:
    make_folders(tmp_path, "json/sub", "npz")
    (tmp_path / place / "x.json").symlink_to("gone")
    found = JsonIndex(tmp_path / "json").find("x", tmp_path / "npz" / "x_features.npz")
    assert found == tmp_path / place / "x.json"


@pytest.mark.parametrize("image_id", ["a.b", "a b", "é\u3042", "line\nbreak", os.fsdecode(b"\xff\x80"), "x.json"])
@pytest.mark.parametrize("place", ["json", "json/sub", "npz"])
def test_odd_ids_are_found_everywhere(tmp_path: Path, image_id: str, place: str) -> None:
    make_folders(tmp_path, "json", "npz")
    make_files(tmp_path / place, f"{image_id}.json")
    found = JsonIndex(tmp_path / "json").find(image_id, tmp_path / "npz" / f"{image_id}_features.npz")
    assert found == tmp_path / place / f"{image_id}.json"


@IN_ONE_FOLDER
@given(st.lists(st.tuples(st.sampled_from(["", "p", "p/q", "r"]), st.sampled_from("abc")), max_size=8, unique=True))
def test_every_lookup_agrees_with_a_search_of_all_files(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, str]]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for folder, stem in files:
        make_files(root / folder, f"{stem}.json")
    index = JsonIndex(root)
    for stem in "abc":
        below = sorted(path for path in root.rglob(f"{stem}.json") if path.parent != root)
        if (root / f"{stem}.json").exists():
            assert index.find(stem, root / "n.npz") == root / f"{stem}.json"
        elif len(below) == 1:
            assert index.find(stem, root / "n.npz") == below[0]
        else:
            with pytest.raises(JsonLookupError, match=TWO_JSONS if below else JSON_NOT_FOUND):
                index.find(stem, root / "n.npz")


def test_a_folder_that_is_missing_or_a_file_is_refused_at_once(tmp_path: Path) -> None:
    make_files(tmp_path, "file")
    with pytest.raises(MvtkError, match=r"gone: no such folder; give the folder with the annotation JSONs"):
        JsonIndex(tmp_path / "gone")
    with pytest.raises(MvtkError, match=r"file: not a folder; give the folder"):
        JsonIndex(tmp_path / "file")


def test_a_subfolder_that_cannot_be_listed_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Iterator[tuple[str, os.DirEntry[str]]]:
        raise MvtkError(f"{tmp_path}/sub: cannot list the folder: Permission denied")

    monkeypatch.setattr(file_index, "walk_files", refuse)
    with pytest.raises(StopRunError, match=r"/sub: cannot list the folder: Permission denied; make it readable"):
        JsonIndex(tmp_path).find("x", tmp_path / "n.npz")


def test_a_folder_that_may_not_be_searched_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    index = JsonIndex(tmp_path)
    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(MvtkError, match=r"x\.json: cannot look for the annotation JSON: Permission denied"):
        index.find("x", tmp_path / "n.npz")


def test_the_error_survives_pickling() -> None:
    error = JsonLookupError(TWO_JSONS, "image x has a and b", "keep one")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.kind, copy.hint) == (str(error), error.kind, error.hint)
