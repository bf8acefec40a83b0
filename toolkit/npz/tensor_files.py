"""Preprocessed NPZ files as ``.npy`` arrays or ``.pt`` tensors."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from toolkit.core.errors import OptionError
from toolkit.core.extras import require_extra
from toolkit.core.files import make_folder, write_bytes
from toolkit.npz.preprocess import preprocess_npz_array

TensorFormat = Literal["npy", "pt"]


def save_preprocessed(
    files: Sequence[Path],
    output: Path,
    *,
    imgsz: int | None = 640,
    file_format: TensorFormat | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write each file's model input, (1, C+1, imgsz, imgsz) float32 in [0, 1]; return the files written.

    Args:
        files: mask-attention NPZ files.
        output: the file to write for one input, if it ends in ``.npy`` or ``.pt``; else a folder, made if missing, for
            ``<stem>.npy`` or ``<stem>.pt``.
        imgsz: side of the letterbox square in pixels; None keeps the image's size.
        file_format: "npy" is read by ``np.load``, "pt" by ``torch.load(…, weights_only=True)``; None goes by the
            suffix of ``output``, and is "npy" for a folder.
        overwrite: replace files that exist.

    Raises:
        OptionError: two inputs have one name, or a file is named for several inputs.
        MissingExtraError: "pt" without torch.
        MvtkError: an input cannot be read or preprocessed, or an output cannot be written.
    """
    suffix = output.suffix.removeprefix(".")
    names_file = suffix in {"npy", "pt"} and not output.is_dir()
    if names_file and len(files) > 1:
        raise OptionError(f"--output {output} is one file, and there are {len(files)} inputs", "name a folder")
    if names_file and file_format not in {None, suffix}:
        raise OptionError(f"--output {output} and --format {file_format} disagree", "leave one of them out")
    chosen: str = file_format or (suffix if names_file else "npy")
    if chosen == "pt":
        require_extra("torch", "torch")
    targets = [output] if names_file else [output / f"{file.stem}.{chosen}" for file in files]
    if len(set(targets)) < len(targets):
        raise OptionError("several inputs have one name, and their outputs would be one file", "use several folders")
    make_folder(output.parent if names_file else output)
    for file, target in zip(files, targets, strict=True):
        write_bytes(target, _encoded(preprocess_npz_array(file, imgsz), chosen), overwrite=overwrite)
    return targets


def _encoded(tensor: np.ndarray[tuple[int, ...], np.dtype[np.float32]], file_format: str) -> bytes:
    buffer = io.BytesIO()
    if file_format == "pt":
        import torch

        torch.save(torch.from_numpy(tensor), buffer)
    else:
        np.save(buffer, tensor, allow_pickle=False)
    return buffer.getvalue()
