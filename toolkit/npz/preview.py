"""Preview pictures of mask-attention NPZ files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from toolkit.core.files import require_apart
from toolkit.npz.reading import load_npz_data
from toolkit.preview import Tile, contact_sheet, image_mask_overlay, require_drawable, save_png


def save_npz_preview(
    files: Sequence[Path], output: Path, *, columns: int | None = None, overwrite: bool = False
) -> None:
    """Draw image, mask and overlay of one file, or a contact sheet of several with their overlays.

    Args:
        files: mask-attention NPZ files, at least one.
        output: the PNG to write.
        columns: pictures in a row of the sheet; None makes it about square.
        overwrite: replace ``output``.

    Raises:
        MvtkError: a file cannot be read or drawn, or the PNG cannot be written.
    """
    require_apart(output, files)
    if len(files) == 1:
        image, mask = _load_pair(files[0])
        picture = image_mask_overlay(image, mask, files[0].name)
    else:
        tiles = []
        for file in files:
            image, mask = _load_pair(file)
            tiles.append(Tile(image, f"{file.stem} {image.shape[1]}x{image.shape[0]}", mask=mask))
        picture = contact_sheet(tiles, columns=columns)
    save_png(output, picture, overwrite=overwrite)


def _load_pair(file: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    image, mask = load_npz_data(file)
    require_drawable(file, image, mask)
    return image, mask
