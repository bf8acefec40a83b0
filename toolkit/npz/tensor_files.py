"""Preprocess NPZ files into ``.npy`` arrays or ``.pt`` tensors, one file each."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from toolkit.core.batch import Job, Outcome, Step
from toolkit.core.errors import OptionError
from toolkit.core.extras import require_extra
from toolkit.core.files import TargetExistsError, make_folder, require_apart, write_bytes
from toolkit.core.options import BatchOptions
from toolkit.npz.preprocess import preprocess_npz_array

TensorFormat = Literal["npy", "pt"]
MAX_IMGSZ = 16384
ALREADY_DONE = "exists already"


class PreprocessOptions(BatchOptions):
    """The options of a preprocessing.

    Attributes:
        files: mask-attention NPZ files.
        output: the file to write for one input, if it ends in ``.npy`` or ``.pt``; else a folder, made if missing, for
            ``<stem>.npy`` or ``<stem>.pt``.
        imgsz: side of the letterbox square in pixels; 0 keeps the image's size.
        file_format: "npy" is read by ``np.load``, "pt" by ``torch.load(…, weights_only=True)``; None goes by the
            suffix of ``output``, and is "npy" for a folder.
        overwrite: replace files that exist.
    """

    files: tuple[Path, ...] = Field(min_length=1)
    output: Path
    imgsz: int = Field(default=640, ge=0, le=MAX_IMGSZ)
    file_format: TensorFormat | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class TensorFile:
    """One input and what it becomes."""

    source: str
    target: str


class PreprocessFile(Step[TensorFile]):
    """Make the model input of one file."""

    def __init__(self, options: PreprocessOptions) -> None:
        self._imgsz = options.imgsz or None
        self._overwrite = options.overwrite

    def process_one(self, item: TensorFile) -> Outcome:
        """Write the tensor of one file.

        Raises:
            MvtkError: the file cannot be read or preprocessed, or its tensor cannot be written.
        """
        target = Path(item.target)
        tensor = preprocess_npz_array(item.source, self._imgsz)
        try:
            write_bytes(target, _encoded(tensor, target.suffix), overwrite=self._overwrite)
        except TargetExistsError:
            return Outcome.skipped(item.source, ALREADY_DONE)
        return Outcome.done(item.source, target=item.target, shape="x".join(map(str, tensor.shape)))


class PreprocessJob(Job[TensorFile]):
    """The preprocessing of several files; what exists already is skipped unless it is to be overwritten.

    Raises:
        OptionError: two inputs have one name, a file is named for several inputs, or the output is an input.
        MissingExtraError: "pt" without torch.
    """

    command: ClassVar[str] = "npz preprocess"

    def __init__(self, options: PreprocessOptions) -> None:
        self._options = options
        self._targets = _targets(options)
        if any(target.suffix == ".pt" for target in self._targets):
            require_extra("torch", "torch")
        for target in self._targets:
            require_apart(target, options.files)

    @property
    def options(self) -> PreprocessOptions:
        """The options."""
        return self._options

    @property
    def size(self) -> int:
        """The number of files."""
        return len(self._targets)

    def plan(self) -> Iterator[TensorFile | Outcome]:
        """Yield each file whose tensor does not exist, and an outcome for the others."""
        if not self._options.dry_run:
            make_folder(self._targets[0].parent)
        for file, target in zip(self._options.files, self._targets, strict=True):
            source = os.fspath(file)
            if os.path.lexists(target) and not self._options.overwrite:
                yield Outcome.skipped(source, ALREADY_DONE)
            else:
                yield TensorFile(source, os.fspath(target))

    def step(self) -> Step[TensorFile]:
        """Return the preprocessing of one file."""
        return PreprocessFile(self._options)


def _targets(options: PreprocessOptions) -> list[Path]:
    files, output, file_format = options.files, options.output, options.file_format
    suffix = output.suffix.removeprefix(".")
    if suffix in {"npy", "pt"} and not output.is_dir():
        if len(files) > 1:
            raise OptionError(f"--output {output} is one file, and there are {len(files)} inputs", "name a folder")
        if file_format not in {None, suffix}:
            raise OptionError(f"--output {output} and --format {file_format} disagree", "leave one of them out")
        return [output]
    targets = [output / f"{file.stem}.{file_format or 'npy'}" for file in files]
    if len(set(targets)) < len(targets):
        raise OptionError("several inputs have one name, and their outputs would be one file", "use several folders")
    return targets


def _encoded(tensor: NDArray[np.float32], suffix: str) -> bytes:
    buffer = io.BytesIO()
    if suffix == ".pt":
        torch: Any = require_extra("torch", "torch")
        torch.save(torch.from_numpy(tensor), buffer)
    else:
        np.save(buffer, tensor, allow_pickle=False)
    return buffer.getvalue()
