"""Preview pictures of features: their three main components as colours, beside the image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from toolkit.core.errors import MvtkError
from toolkit.core.files import require_apart
from toolkit.core.listing import require_folder
from toolkit.features.encoding import FEATURE_SHAPES, P4_KEY, P5_KEY
from toolkit.features.feature_source import read_feature_marks
from toolkit.images import ImageError, load_image
from toolkit.images.search import ImageLookupError, ImageSearch
from toolkit.npz.feature_files import image_id_of, stored_image_size
from toolkit.npz.reading import open_npz
from toolkit.preview import Tile, contact_sheet, save_png, stacked

# The strongest activations of a map belong to a few cells: without them the others have more of the colours' range.
_DARKEST_PERCENT, _BRIGHTEST_PERCENT = 1.0, 99.0
_LEVELS: Final = ((P4_KEY, "P4, stride 16"), (P5_KEY, "P5, stride 32"))


def save_features_preview(
    files: Sequence[Path], output: Path, *, images: Path | None = None, tile_px: int = 420, overwrite: bool = False
) -> list[str]:
    """Draw the features of each file beside its image, one row a file.

    Args:
        files: features files, at least one.
        output: the PNG to write.
        images: folder with the images, searched to any depth; None: beside the file, or in the folder above.
        tile_px: longer side of each picture, in pixels.
        overwrite: replace ``output``.

    Returns:
        Remarks, one line each: images that were not found or cannot be read.

    Raises:
        MvtkError: a file cannot be read or has no features, or the PNG cannot be written.
    """
    require_apart(output, files)
    if images is not None:
        require_folder(images, "give the folder with the images")
    search = ImageSearch(images)
    remarks: list[str] = []
    rows = []
    for file in files:
        tiles, title = _tiles(file, search, remarks)
        rows.append(contact_sheet(tiles, columns=len(tiles), tile_px=tile_px, title=title))
    save_png(output, stacked(rows), overwrite=overwrite)
    return remarks


def features_as_colours(features: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return the three main components of features as red, green and blue.

    Args:
        features: (1, C, h, w) of any float dtype, finite.

    Returns:
        (h, w, 3) uint8: of each component, from the strongest to the third, the range that holds nearly all cells.
    """
    _, channels, height, width = features.shape
    cells = features.astype(np.float64).reshape(channels, height * width).T
    centred = cells - cells.mean(axis=0)
    # The components are the eigenvectors of the covariance: 256 x 256, whatever the number of cells.
    _, vectors = np.linalg.eigh(centred.T @ centred)
    main = vectors[:, ::-1][:, :3]
    # An eigenvector's sign is left to chance: the larger part of each one is to be positive.
    main = main * np.where(main.sum(axis=0) < 0, -1, 1)
    projected = centred @ main
    low, high = np.percentile(projected, (_DARKEST_PERCENT, _BRIGHTEST_PERCENT), axis=0)
    # Clipped before it is divided: where nearly all cells are equal, the range is next to nothing.
    scaled = (np.clip(projected, low, high) - low) / np.maximum(high - low, np.finfo(np.float64).tiny)
    colours: npt.NDArray[np.uint8] = np.rint(scaled * 255).astype(np.uint8)
    return colours.reshape(height, width, 3)


def _tiles(file: Path, search: ImageSearch, remarks: list[str]) -> tuple[list[Tile], str]:
    with open_npz(file) as reader:
        missing = [key for key, _ in _LEVELS if key not in reader.members]
        if missing:
            raise MvtkError(f"{file}: it has no {' and no '.join(missing)}", "give features files")
        source = read_feature_marks(reader).source
        size_hw = stored_image_size(reader)
        levels = {key: reader.read(key) for key, _ in _LEVELS}
    for key, array in levels.items():
        if array.shape != FEATURE_SHAPES[key] or array.dtype.kind != "f" or not np.isfinite(array).all():
            raise MvtkError(
                f"{file}: {key} is no map of finite features of shape {FEATURE_SHAPES[key]}", "encode again"
            )
    image_hwc = _load_image(file, search, remarks)
    if image_hwc is not None:
        size_hw = image_hwc.shape[0], image_hwc.shape[1]
    made_by = f"{source.model}, {source.dtype}" if source else "no feature_source"
    if source is not None and source.is_random:
        made_by += ", random weights"
    tiles = [Tile(image_hwc, f"image {image_hwc.shape[1]}x{image_hwc.shape[0]}")] if image_hwc is not None else []
    tiles += [
        Tile(_stretched(features_as_colours(levels[key]), size_hw), f"{caption}, {levels[key].dtype}")
        for key, caption in _LEVELS
    ]
    return tiles, f"{file.name}: {made_by}"


def _stretched(colours_hwc: npt.NDArray[np.uint8], size_hw: tuple[int, int] | None) -> npt.NDArray[np.uint8]:
    """Return a square map in the proportions of its image, which was squashed to a square before it was encoded."""
    if size_hw is None or min(size_hw) < 1:
        return colours_hwc
    height, width = size_hw
    scale = 1024 / max(height, width)
    size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(colours_hwc, size_wh, interpolation=cv2.INTER_NEAREST_EXACT).astype(np.uint8, copy=False)


def _load_image(file: Path, search: ImageSearch, remarks: list[str]) -> npt.NDArray[np.uint8] | None:
    """Return a file's image as (H, W, 3) uint8 RGB; None where none can be shown, which goes to ``remarks``."""
    stem = image_id_of(file.name) or file.stem
    for folder in _folders(file):
        try:
            return load_image(search.find(folder, stem), to_8bit=True).pixels
        except ImageLookupError:
            continue
        except ImageError as error:
            remarks.append(f"{file.name}: drawn without its image: {error}")
            return None
    remarks.append(f"{file.name}: no image found, drawn without")
    return None


def _folders(file: Path) -> Iterator[Path]:
    yield file.parent
    yield file.absolute().parent.parent
