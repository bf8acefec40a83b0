"""Where the image of a features file is looked for, and what is said when there is none or two."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.file_trees import make_files, make_folders
from toolkit.core import file_index
from toolkit.core.errors import StopRunError
from toolkit.images.search import (
    IMAGE_NOT_FOUND,
    IMAGE_SUFFIXES,
    TWO_IMAGES,
    ImageLookupError,
    ImageSearch,
    image_stem,
    is_image,
)


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


def test_the_folder_comes_first_then_the_root(tmp_path: Path) -> None:
    make_files(tmp_path, "a/x.png", "b/c/x.png")
    assert ImageSearch(tmp_path).find(tmp_path / "a", "x") == tmp_path / "a" / "x.png"
    (tmp_path / "a" / "x.png").unlink()
    assert ImageSearch(tmp_path).find(tmp_path / "a", "x") == tmp_path / "b" / "c" / "x.png"
    with pytest.raises(ImageLookupError, match=IMAGE_NOT_FOUND):
        ImageSearch().find(tmp_path / "a", "x")


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
@pytest.mark.parametrize("case", [str.lower, str.upper, str.title])
def test_every_usual_suffix_in_any_case(tmp_path: Path, suffix: str, case: Callable[[str], str]) -> None:
    make_files(tmp_path, f"here/x{case(suffix)}")
    expected = tmp_path / "here" / f"x{case(suffix)}"
    assert ImageSearch().find(tmp_path / "here", "x") == expected
    assert ImageSearch(tmp_path).find(tmp_path, "x") == expected


@pytest.mark.parametrize("name", ["x.jPg", "x.TIfF"])
def test_mixed_case_too(tmp_path: Path, name: str) -> None:
    make_files(tmp_path, f"a/{name}", "b/x.png")
    assert ImageSearch(tmp_path).find(tmp_path / "a", "x") == tmp_path / "a" / name
    assert ImageSearch().find(tmp_path / "a", "x") == tmp_path / "a" / name


def test_of_several_in_the_folder_the_order_of_the_suffixes_decides(tmp_path: Path) -> None:
    names = ["x.jpg", "x.JPG", "x.png", "x.PNG", "x.jpeg", "x.tif"]
    make_files(tmp_path, *names)
    for name in names:
        assert ImageSearch(tmp_path).find(tmp_path, "x").name == name
        (tmp_path / name).unlink()


def test_two_below_the_root_are_both_named_and_the_rest_counted(tmp_path: Path) -> None:
    make_files(tmp_path, "b/x.png", "a/x.jpg")
    with pytest.raises(ImageLookupError) as caught:
        ImageSearch(tmp_path).find(tmp_path / "npz", "x")
    assert caught.value.kind == TWO_IMAGES
    assert str(caught.value) == (
        f"two images: x has {tmp_path}/a/x.jpg and {tmp_path}/b/x.png; keep the right one only"
    )
    make_files(tmp_path, "c/x.tif", "d/x.bmp")
    with pytest.raises(ImageLookupError, match=r"a/x\.jpg and \S+/b/x\.png and 2 more; keep"):
        ImageSearch(tmp_path).find(tmp_path / "npz", "x")


def test_none_is_named_with_its_place(tmp_path: Path) -> None:
    make_files(tmp_path, "xx.png", "x.y.png", "x.txt", "x", ".x.png", "xpng")
    with pytest.raises(ImageLookupError) as caught:
        ImageSearch(tmp_path).find(tmp_path, "x")
    assert caught.value.kind == IMAGE_NOT_FOUND
    assert str(caught.value) == (
        f"image not found: x has none in {tmp_path}; x.jpg, .png, .jpeg or another usual suffix is needed"
    )
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_stems_with_dots_and_odd_ones(tmp_path: Path) -> None:
    for stem in ("a.b", "a b\n", os.fsdecode(b"\xff"), "été", "x.jpg"):
        make_files(tmp_path, f"deep/{stem}.png")
        for search, folder in ((ImageSearch(tmp_path), tmp_path), (ImageSearch(), tmp_path / "deep")):
            assert search.find(folder, stem) == tmp_path / "deep" / f"{stem}.png"


def test_the_root_is_listed_once_and_not_at_all_where_every_image_is_in_its_folder(
    tmp_path: Path, listings: list[Path]
) -> None:
    make_files(tmp_path, "a/x.png", "b/y.png", "b/z.png")
    search = ImageSearch(tmp_path)
    search.find(tmp_path / "a", "x")
    assert listings == []
    for stem in "yzyz":
        search.find(tmp_path / "a", stem)
    assert listings == [tmp_path]


def test_links_to_one_image_are_one_and_a_dangling_one_is_found(tmp_path: Path) -> None:
    make_files(tmp_path, "all/x.png")
    make_folders(tmp_path, "some")
    (tmp_path / "some" / "x.png").symlink_to("../all/x.png")
    assert ImageSearch(tmp_path).find(tmp_path, "x").samefile(tmp_path / "all" / "x.png")
    (tmp_path / "y.png").symlink_to("nowhere")
    assert ImageSearch(tmp_path).find(tmp_path, "y") == tmp_path / "y.png"


def test_a_root_that_cannot_be_listed_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(StopRunError, match=r"gone: cannot list the folder: No such file or directory; check the path"):
        ImageSearch(tmp_path / "gone").find(tmp_path, "x")


@given(st.text(st.characters(exclude_characters="/\0"), min_size=1), st.sampled_from(IMAGE_SUFFIXES), st.data())
def test_a_stem_comes_back_from_its_names(stem: str, suffix: str, data: st.DataObject) -> None:
    cased = "".join(data.draw(st.sampled_from([letter, letter.upper()])) for letter in suffix)
    assert image_stem(stem + cased) == stem
    assert is_image(stem + cased)


@pytest.mark.parametrize("name", ["x", "x.npz", "png", ".png", "x.png.txt", "x.jp2", ""])
def test_other_names_are_no_images(name: str) -> None:
    assert not is_image(name)


def test_a_suffix_in_mixed_case_is_found_without_a_root(tmp_path: Path) -> None:
    (tmp_path / "a.jPeG").write_bytes(b"")
    (tmp_path / "b.jpg").write_bytes(b"")
    search = ImageSearch()
    assert search.find(tmp_path, "a") == tmp_path / "a.jPeG"
    assert search.find(tmp_path, "b") == tmp_path / "b.jpg"
    with pytest.raises(ImageLookupError):
        search.find(tmp_path / "nowhere", "a")
