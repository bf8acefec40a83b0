"""Errors of NPZ files: always the path, the member, what is wrong, and what to do next."""

from __future__ import annotations

from pathlib import Path

from toolkit.core.errors import MvtkError

DAMAGED_HINT = "the file is damaged: restore it or make it again"


class NpzError(MvtkError):
    """An NPZ file that cannot be read, or not without a doubt.

    Args:
        path: the file.
        problem: what is wrong with it, without the path.
        hint: what to do next.
    """

    def __init__(self, path: Path, problem: str, hint: str = DAMAGED_HINT) -> None:
        super().__init__(f"{path}: {problem}", hint)
        self.path = path
        self.problem = problem

    def __reduce__(self) -> tuple[type[NpzError], tuple[Path, str, str]]:
        return type(self), (self.path, self.problem, self.hint)


class PickledMemberError(NpzError):
    """A member holds pickled Python objects, which are never unpickled."""
