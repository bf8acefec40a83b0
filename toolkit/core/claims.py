"""Holding the folder that a job writes to, and leaving nothing half-written in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toolkit.core.files import sweep_leftovers
from toolkit.core.locks import hold_folder
from toolkit.core.options import ALL, Shard


@contextmanager
def claimed_folder(folder: Path, command: str, shard: Shard) -> Iterator[None]:
    """Hold ``folder`` for the block, and remove what killed runs, and workers of this one, left in it and below.

    A run of one shard holds the folder together with the runs of other shards.

    Args:
        folder: an existing folder.
        command: who holds it, for the error that another run gets.
        shard: the part of the work that is done.

    Raises:
        FolderInUseError: another run holds the folder or the part; the line names it.
        MvtkError: the lock file cannot be made.
    """
    part = "" if shard == ALL else f"{shard.index}-of-{shard.count}"
    with hold_folder(folder, command, part=part):
        sweep_leftovers(folder)
        try:
            yield
        finally:
            sweep_leftovers(folder)
