"""Which files are found below a folder: suffixes, links, loops, hidden names, and folders that cannot be listed."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.file_trees import make_files, make_folders
from toolkit.core import listing
from toolkit.core.errors import MvtkError
from toolkit.core.listing import is_folder, list_files, require_folder, visible_entries, walk_files, walk_sorted

PNG = {".png"}
NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda name: not name.startswith(".")
)


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder ``locked`` with ``a/x.png`` in it that may be neither listed nor searched."""
    folder = tmp_path / "root" / "locked"
    make_files(folder, "a/x.png")
    folder.chmod(0)
    if os.access(folder, os.R_OK):
        folder.chmod(0o755)
        pytest.skip("this user may read every folder")
    yield folder
    folder.chmod(0o755)


def test_files_are_listed_recursively_sorted_and_by_suffix(tmp_path: Path) -> None:
    make_files(
        tmp_path, "b.PNG", "a.jpg", "sub/deep/c.Tiff", "sub.jpg", ".d.png", ".cache/e.png", "f.txt", "png", "g.npy"
    )
    make_folders(tmp_path, "folder.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert list_files(tmp_path, {".jpg", ".png", ".tiff"}) == ["a.jpg", "b.PNG", "sub.jpg", "sub/deep/c.Tiff"]


def test_linked_files_and_folders_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    make_files(tmp_path, "root/z/x.png", "elsewhere/in/y.png")
    (root / "a").symlink_to("z")
    (root / "b").symlink_to(elsewhere)
    (root / "loop").symlink_to(".")
    (elsewhere / "back").symlink_to(root)
    (root / "w.png").symlink_to(elsewhere / "in" / "y.png")
    (root / "broken.png").symlink_to("nowhere.png")
    assert list_files(root, PNG) == ["b/in/y.png", "broken.png", "w.png", "z/x.png"]


def test_a_folder_with_several_links_goes_by_the_first_of_their_names(tmp_path: Path) -> None:
    root = tmp_path / "root"
    make_files(tmp_path, "elsewhere/x.png", "root/y.png")
    for name in "cabd":
        (root / name).symlink_to(tmp_path / "elsewhere")
    assert list_files(root, PNG) == ["a/x.png", "y.png"]


def test_a_link_to_itself_is_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    make_files(tmp_path, "x.png")
    (tmp_path / "self.png").symlink_to("self.png")
    (tmp_path / "self").symlink_to("self")
    assert list_files(tmp_path, PNG) == ["self.png", "x.png"]


def test_names_that_are_not_utf_8_and_odd_ones_come_back_as_they_are(tmp_path: Path) -> None:
    odd = [os.fsdecode(b"\xff\xfe.png"), "a b.png", "line\nbreak.png", "été.png"]
    make_files(tmp_path / os.fsdecode(b"sub\x80"), *odd)
    found = list_files(tmp_path, PNG)
    assert found == sorted(os.fsdecode(b"sub\x80/") + name for name in odd)
    assert all((tmp_path / path).is_file() for path in found)


@settings(max_examples=50, deadline=None)
@given(st.sets(st.lists(NAMES, min_size=1, max_size=4).map(tuple), max_size=12))
def test_the_walk_finds_what_pathlib_finds(paths: set[tuple[str, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for *parents, name in paths:
            place = root.joinpath(*parents)
            if not any(parent.is_file() for parent in (place, *place.parents)) and not (place / name).is_dir():
                make_files(place, name)
        found = [prefix + entry.name for prefix, entry in walk_files(root, lambda _: True)]
        assert sorted(found) == sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_a_sorted_walk_goes_folder_by_folder_each_by_name(tmp_path: Path) -> None:
    make_files(
        tmp_path, "b.png", "a.png", "z/b.png", "z/a.png", "z/y/c.png", "m/a.png", "m/x.txt", "empty/x.txt", ".h/a.png"
    )
    (tmp_path / "link").symlink_to("m")
    (tmp_path / "c.png").symlink_to("nowhere")
    found = list(walk_sorted(tmp_path, lambda name: name.endswith(".png")))
    assert found == ["a.png", "b.png", "c.png", "m/a.png", "z/a.png", "z/b.png", "z/y/c.png"]


@settings(max_examples=50, deadline=None)
@given(st.sets(st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(tuple), max_size=20))
def test_a_sorted_walk_yields_what_a_walk_finds_with_each_folders_files_together(paths: set[tuple[str, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_files(root, *("/".join(parents) + f"/{name}.x" for *parents, name in paths if parents))
        found = list(walk_sorted(root, lambda _: True))
        assert sorted(found) == sorted(prefix + entry.name for prefix, entry in walk_files(root, lambda _: True))
        folders = [path.rpartition("/")[0] for path in found]
        assert len(set(folders)) == sum(a != b for a, b in zip([None, *folders], folders, strict=False))
        for _, together in itertools.groupby(found, key=lambda path: path.rpartition("/")[0]):
            names = list(together)
            assert names == sorted(names)


def test_a_sorted_walk_lists_one_folder_ahead_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what it holds does not grow with the tree."""
    make_files(tmp_path, *(f"{number}/{name}.png" for number in range(6) for name in "ab"))
    listed: list[Path] = []

    def watched(folder: Path | str) -> Iterator[os.DirEntry[str]]:
        listed.append(Path(folder))
        return visible_entries(folder)

    monkeypatch.setattr(listing, "visible_entries", watched)
    for count, _ in enumerate(walk_sorted(tmp_path, lambda _: True)):
        assert len(listed) <= 1 + count // 2 + 2  # the root, the folders so far, and one ahead


def test_a_sorted_walk_of_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MvtkError, match=r"gone: cannot list the folder: No such file or directory"):
        next(walk_sorted(tmp_path / "gone", lambda _: True))


def test_a_folder_that_is_not_there_cannot_be_listed(tmp_path: Path) -> None:
    with pytest.raises(MvtkError, match=r"gone: cannot list the folder: No such file or directory"):
        list_files(tmp_path / "gone", PNG)
    make_files(tmp_path, "file")
    with pytest.raises(MvtkError, match=r"file: cannot list the folder: Not a directory"):
        list(visible_entries(tmp_path / "file"))


def test_a_folder_that_may_not_be_listed_is_named(locked: Path) -> None:
    with pytest.raises(MvtkError, match=r"root/locked: cannot list the folder: Permission denied"):
        list_files(locked.parent, PNG)
    with pytest.raises(MvtkError, match=r"locked/a: cannot look at the folder: Permission denied"):
        is_folder(locked / "a")


def test_a_link_into_a_folder_that_may_not_be_searched_is_named(locked: Path, tmp_path: Path) -> None:
    make_folders(tmp_path, "other")
    (tmp_path / "other" / "link").symlink_to(locked / "a")
    with pytest.raises(MvtkError, match=r"other/link: cannot follow the link: Permission denied"):
        list_files(tmp_path / "other", PNG)


def test_a_required_folder_that_is_missing_or_a_file(tmp_path: Path) -> None:
    make_files(tmp_path, "file")
    require_folder(tmp_path, "never said")
    with pytest.raises(MvtkError, match=r"gone: no such folder; give another$"):
        require_folder(tmp_path / "gone", "give another")
    with pytest.raises(MvtkError, match=r"file: not a folder; give another$"):
        require_folder(tmp_path / "file", "give another")


def test_a_walk_that_is_not_read_to_its_end_closes_its_folder(tmp_path: Path) -> None:
    make_files(tmp_path, "a.png", "b.png")
    before = len(list(Path("/proc/self/fd").iterdir()))
    walk = walk_files(tmp_path, lambda _: True)
    next(walk)
    del walk
    assert len(list(Path("/proc/self/fd").iterdir())) == before
