"""A second place for a file: by links or copies, which never touch the first one."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, get_args

import pytest

from toolkit.core.errors import MvtkError, StopRunError
from toolkit.core.files import TargetExistsError, is_temporary, sweep_leftovers, temporary_name
from toolkit.core.placing import LinkMode, adopt_time, has_content_of, is_made_from, place_file

CONTENT, OLD_NS = b"pixels" * 1000, 1_600_000_000_123_456_789
MODES: tuple[LinkMode, ...] = get_args(LinkMode)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "a.png"
    path.parent.mkdir()
    (tmp_path / "out").mkdir()
    path.write_bytes(CONTENT)
    os.utime(path, ns=(OLD_NS, OLD_NS))
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out" / "b.png"


def kind_of(target: Path, source: Path) -> str:
    if target.is_symlink():
        return "symlink"
    return "hard" if target.samefile(source) else "copy"


@pytest.mark.parametrize("mode", MODES)
def test_the_place_is_made_as_it_was_asked_for(source: Path, target: Path, mode: LinkMode) -> None:
    assert place_file(source, target, mode) == mode
    assert kind_of(target, source) == mode
    assert target.read_bytes() == CONTENT
    assert is_made_from(target.stat(), source.stat())
    assert has_content_of(target, source)
    assert [path.name for path in target.parent.iterdir()] == ["b.png"]


def test_a_copy_is_a_file_of_its_own(source: Path, target: Path) -> None:
    source.chmod(0o400)
    place_file(source, target, "copy")
    with target.open("r+b") as stream:
        stream.write(b"other!")
    assert source.read_bytes() == CONTENT
    assert not has_content_of(target, source)
    assert not is_made_from(target.stat(), source.stat())


@pytest.mark.parametrize("mode", MODES)
def test_a_source_that_is_a_link_stands_for_its_file(
    source: Path, target: Path, mode: LinkMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = source.with_name("link.png")
    link.symlink_to("a.png")
    monkeypatch.chdir(source.parent)
    place_file(Path("link.png"), target, mode)
    assert kind_of(target, source) == mode
    assert target.read_bytes() == CONTENT
    if mode == "symlink":
        assert target.readlink() == source.resolve()


@pytest.mark.parametrize("mode", MODES)
def test_what_exists_is_replaced_only_when_asked(source: Path, target: Path, mode: LinkMode) -> None:
    target.write_bytes(b"somebody's")
    with pytest.raises(TargetExistsError):
        place_file(source, target, mode)
    assert target.read_bytes() == b"somebody's"
    place_file(source, target, mode, overwrite=True)
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["b.png"]


@pytest.mark.parametrize("before", MODES)
@pytest.mark.parametrize("after", MODES)
def test_every_kind_replaces_every_kind_and_the_source_stays(
    source: Path, target: Path, before: LinkMode, after: LinkMode
) -> None:
    place_file(source, target, before)
    inode = source.stat().st_ino
    assert place_file(source, target, after, overwrite=True) == after
    assert kind_of(target, source) == after
    assert (source.read_bytes(), source.stat().st_ino, source.is_symlink()) == (CONTENT, inode, False)
    assert source.stat().st_mtime_ns == OLD_NS
    assert [path.name for path in target.parent.iterdir()] == ["b.png"]


def fail_links(monkeypatch: pytest.MonkeyPatch, name: str, code: int) -> None:
    own = getattr(os, name)

    def failing(source: Any, link: Any, **options: Any) -> None:
        if is_temporary(Path(source).name):  # how files are published
            own(source, link, **options)
            return
        raise OSError(code, os.strerror(code), source, None, link)

    monkeypatch.setattr(os, name, failing)


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP])
@pytest.mark.parametrize("overwrite", [False, True])
def test_where_no_hard_link_can_be_made_the_file_is_copied(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, code: int, overwrite: bool
) -> None:
    fail_links(monkeypatch, "link", code)
    assert place_file(source, target, "hard", overwrite=overwrite) == "copy"
    assert kind_of(target, source) == "copy"
    assert is_made_from(target.stat(), source.stat())
    assert [path.name for path in target.parent.iterdir()] == ["b.png"]


@pytest.mark.parametrize(("mode", "name"), [("hard", "link"), ("symlink", "symlink")])
@pytest.mark.parametrize(("code", "error"), [(errno.EACCES, MvtkError), (errno.ENOSPC, StopRunError)])
def test_other_trouble_is_said(
    source: Path,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: LinkMode,
    name: str,
    code: int,
    error: type[MvtkError],
) -> None:
    fail_links(monkeypatch, name, code)
    with pytest.raises(error, match=r"b\.png: cannot link: "):
        place_file(source, target, mode)
    assert list(target.parent.iterdir()) == []


def test_a_source_that_is_missing_is_named(source: Path, target: Path) -> None:
    source.unlink()
    with pytest.raises(MvtkError, match=r"a\.png: cannot read: "):
        place_file(source, target, "copy")
    assert not has_content_of(target, source)


def test_a_copy_of_another_time_can_be_given_its_original_s(source: Path, target: Path) -> None:
    target.write_bytes(CONTENT)
    assert not is_made_from(target.stat(), source.stat())
    adopt_time(target, source)
    assert is_made_from(target.stat(), source.stat())


def test_a_file_with_several_names_keeps_its_time(source: Path, target: Path) -> None:
    target.write_bytes(CONTENT)
    os.link(target, target.with_name("original.png"))
    before = target.stat().st_mtime_ns
    adopt_time(target, source)
    assert target.stat().st_mtime_ns == before


def test_a_link_that_a_killed_run_left_is_swept(source: Path, target: Path) -> None:
    left = target.with_name(temporary_name())
    left_pid = left.name.split("-")
    left = left.with_name("-".join([*left_pid[:2], "999999999", *left_pid[3:]]))
    left.symlink_to(source)
    assert sweep_leftovers(target.parent) == 1
    assert list(target.parent.iterdir()) == []
    assert source.read_bytes() == CONTENT
