"""A data YAML that is brought up to date until a person edits it."""

from __future__ import annotations

from pathlib import Path

from toolkit.annotations.marked_data_yaml import KEPT, is_unedited, publish_marked

BODY, NEWER = "names:\n  0: café\n", "names:\n  0: tea\n"


def test_an_unedited_file_follows_and_an_edited_one_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    assert publish_marked(path, BODY, overwrite=False) == ""
    assert path.read_text(encoding="utf-8").partition("\n")[2] == BODY
    assert is_unedited(path)
    assert publish_marked(path, NEWER, overwrite=False) == ""
    assert path.read_text().endswith(NEWER)
    path.write_text(path.read_text() + "# mine\n")
    assert not is_unedited(path)
    edited = path.read_text()
    assert publish_marked(path, BODY, overwrite=False) == KEPT
    assert path.read_text() == edited
    assert publish_marked(path, BODY, overwrite=True) == ""
    assert is_unedited(path)


def test_a_file_of_others_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_bytes(b"names: [a\xff]\n")
    assert not is_unedited(path)
    assert publish_marked(path, BODY, overwrite=False) == KEPT
    assert path.read_bytes() == b"names: [a\xff]\n"


def test_what_is_right_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    publish_marked(path, BODY, overwrite=False)
    inode = path.stat().st_ino
    publish_marked(path, BODY, overwrite=True)
    assert path.stat().st_ino == inode
