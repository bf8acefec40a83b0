"""Errors of metadata files: always the path, what is wrong, and what to do next."""

from __future__ import annotations

from pathlib import Path

from toolkit.core.errors import MvtkError
from toolkit.images.files import ImageError

DAMAGED_HINT = "the file is damaged: make it again with mvtk dataset process"


class MetadataError(MvtkError):
    """A metadata file that cannot be read, or not without a doubt.

    Args:
        path: the file.
        problem: what is wrong with it, without the path.
        hint: what to do next.
    """

    def __init__(self, path: Path, problem: str, hint: str = DAMAGED_HINT) -> None:
        super().__init__(f"{path}: {problem}", hint)
        self.path = path
        self.problem = problem

    def __reduce__(self) -> tuple[type[MetadataError], tuple[Path, str, str]]:
        return type(self), (self.path, self.problem, self.hint)


class SampleImageError(ImageError):
    """A sample's image that cannot be read.

    PyTorch raises a worker's exception again from one text, which this one cannot be made of: there it becomes a
    RuntimeError, which keeps the lines of the worker's traceback.

    Args:
        message: what is wrong with which image.
        hint: what to do next.
        position: the sample.
    """

    def __init__(self, message: str, hint: str, position: int) -> None:
        super().__init__(message, hint)
        self.args = (message, hint, position)
        self.position = position


class LegacyLayoutError(MetadataError):
    """A file of the old layout, which holds pickled Python objects; they are never unpickled here."""

    def __init__(self, path: Path) -> None:
        problem = "written with the old pickled layout, which is not read"
        super().__init__(path, problem, f"convert it with: mvtk dataset migrate {path} NEW.npy")

    def __reduce__(self) -> tuple[type[LegacyLayoutError], tuple[Path]]:  # type: ignore[override]
        return type(self), (self.path,)
