"""Makers of folders full of empty files, for tests of what is found in them."""

from __future__ import annotations

from pathlib import Path


def make_files(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def make_folders(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).mkdir(parents=True)
