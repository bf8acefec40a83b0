"""Roots of metadata files: the folder that image paths are relative to, as a file stores it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def common_root(folders: Iterable[str]) -> str:
    """Return the deepest folder that holds all of ``folders``, which are resolved (``os.path.realpath``)."""
    return os.path.commonpath(list(folders))


def stored_root(root: str, metadata_path: Path) -> str:
    """Return how a metadata file names the resolved folder ``root``: relative to the file's own folder.

    That folder is resolved too: the system follows a link before it goes up by ``..``.
    """
    return os.path.relpath(root, os.path.realpath(metadata_path.parent))
