"""Nested F0 folders: compared first, removed only where nothing is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.embryo_trees import MiniatureEmbryos, frame_name
from toolkit.core.errors import MvtkError
from toolkit.embryo.duplicate_planes import ASIDE_NAME, clean_f0
from toolkit.embryo.planes import FocalPlane

F0 = FocalPlane.F_00


@pytest.fixture
def embryos(tmp_path: Path) -> MiniatureEmbryos:
    embryos = MiniatureEmbryos(tmp_path)
    embryos.add_video("A-1")
    embryos.add_video("B-1")
    return embryos


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_duplicates_are_found_and_nothing_is_changed_unasked(embryos: MiniatureEmbryos) -> None:
    nested = [embryos.nest_copy(F0, "A-1"), embryos.nest_copy(FocalPlane.F_PLUS_15, "B-1")]
    before = files(embryos.root)
    found = list(clean_f0(embryos.root, apply=False))
    assert [copy.path for copy in found] == nested
    assert all((copy.equal, copy.is_duplicate, copy.removed) == (12, True, False) for copy in found)
    assert files(embryos.root) == before


def test_duplicates_are_removed_with_nothing_else(embryos: MiniatureEmbryos) -> None:
    before = files(embryos.root)
    nested = embryos.nest_copy(F0, "A-1")
    [copy] = clean_f0(embryos.root, apply=True)
    assert (copy.path, copy.equal, copy.removed) == (nested, 12, True)
    assert files(embryos.root) == before
    assert not nested.exists()
    assert list(clean_f0(embryos.root, apply=True)) == []


def test_a_folder_that_holds_more_is_left(embryos: MiniatureEmbryos) -> None:
    nested = embryos.nest_copy(F0, "A-1")
    (nested / frame_name(3)).write_bytes(b"other bytes")
    (nested / frame_name(99)).write_bytes(b"more")
    (nested / "deeper").mkdir()
    before = files(embryos.root)
    [copy] = clean_f0(embryos.root, apply=True)
    assert (copy.equal, copy.differing, copy.removed) == (11, (frame_name(3),), False)
    assert copy.extra == (frame_name(99), "deeper")
    assert files(embryos.root) == before


def test_bytes_count_and_not_sizes(embryos: MiniatureEmbryos) -> None:
    nested = embryos.nest_copy(F0, "A-1")
    content = bytearray((nested / frame_name(3)).read_bytes())
    content[30] ^= 1
    (nested / frame_name(3)).write_bytes(content)
    [copy] = clean_f0(embryos.root, apply=True)
    assert copy.differing == (frame_name(3),)
    assert nested.is_dir()


def test_the_only_copy_behind_a_link_is_kept(embryos: MiniatureEmbryos) -> None:
    nested = embryos.nest_copy(F0, "A-1")
    upper = nested.parent / frame_name(3)
    upper.unlink()
    upper.symlink_to(f"F0/{frame_name(3)}")
    [copy] = clean_f0(embryos.root, apply=True)
    assert copy.extra == (frame_name(3),)
    assert upper.read_bytes()


def test_a_linked_folder_is_somebody_elses(embryos: MiniatureEmbryos) -> None:
    elsewhere = embryos.root / "elsewhere"
    shutil.copytree(embryos.folder(F0, "A-1"), elsewhere)
    (embryos.folder(F0, "A-1") / "F0").symlink_to(elsewhere)
    assert list(clean_f0(embryos.root, apply=True)) == []
    assert len(list(elsewhere.iterdir())) == 12


@pytest.mark.parametrize("left", [0, 1, 12])
@pytest.mark.parametrize("with_new_copy", [False, True])
def test_a_killed_run_is_finished_by_the_next(embryos: MiniatureEmbryos, left: int, with_new_copy: bool) -> None:
    before = files(embryos.root)
    aside = embryos.nest_copy(F0, "A-1").rename(embryos.folder(F0, "A-1") / ASIDE_NAME)
    for path in sorted(aside.iterdir())[left:]:
        path.unlink()
    if with_new_copy:
        embryos.nest_copy(F0, "A-1")
    copies = list(clean_f0(embryos.root, apply=True))
    assert [copy.equal for copy in copies] == [left, *([12] if with_new_copy else [])]
    assert all(copy.removed for copy in copies)
    assert files(embryos.root) == before
    assert not aside.exists()


def test_an_error_while_removing_leaves_what_the_next_run_removes(
    embryos: MiniatureEmbryos, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(embryos.root)
    embryos.nest_copy(F0, "A-1")
    with monkeypatch.context() as patched:

        def failing(path: Path) -> None:
            raise PermissionError(13, "Permission denied")

        patched.setattr(shutil, "rmtree", failing)
        with pytest.raises(MvtkError, match="F0: cannot remove the folder: Permission denied; check the permissions"):
            list(clean_f0(embryos.root, apply=True))
    assert not (embryos.folder(F0, "A-1") / "F0").exists()
    [copy] = clean_f0(embryos.root, apply=True)
    assert copy.removed
    assert files(embryos.root) == before


def test_what_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(MvtkError, match="no focal plane in it"):
        clean_f0(tmp_path, apply=True)
