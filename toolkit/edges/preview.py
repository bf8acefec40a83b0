"""Preview pictures of edge maps: an image with the edges of each scale laid over it, one row a file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.annotations.sa1b import load_sa1b
from toolkit.core.errors import MvtkError
from toolkit.core.files import require_apart
from toolkit.core.listing import require_folder
from toolkit.edges.extraction import EDGES_SUFFIX, named_maps
from toolkit.edges.marks import read_edge_marks
from toolkit.edges.method_b import DEFAULT_KERNEL_SIZE, EdgeMap, edge_maps
from toolkit.images import ImageError, load_image
from toolkit.images.search import ImageLookupError, ImageSearch
from toolkit.npz.feature_files import image_id_of, stored_image_size
from toolkit.npz.features import feature_problems
from toolkit.npz.reading import open_npz
from toolkit.preview import Colour, Tile, contact_sheet, save_png, stacked

EDGE_COLOUR: Colour = (255, 222, 0)
"""Yellow: lighter than any colour of the dimmed image."""

_IMAGE_BRIGHTNESS: Final = 0.6
_NO_IMAGE_GREY: Final = 80
_LEAST_OPACITY: Final = 0.45
_CELL_OPACITY: Final = 0.85
_BORDERED_CELL_OPACITY: Final = 0.6
_MIN_BORDERED_PX: Final = 3.0
"""Cells at least so wide and high have a border, and show more of the image."""


@dataclass(frozen=True, slots=True)
class _EdgeFile:
    """What is drawn of one file.

    Attributes:
        title: says which file it is and how its maps were made.
        maps: (H, W) and (N, N) uint8, 0 or 1, by the names that features files have for them.
        size_hw: of the image, in pixels; None where the file does not say.
        image_name: of the image's file; empty where only its stem is known.
        image_stem: of the image's file.
        original: what the map at the image's size is called.
        folders: where to look for it.
    """

    title: str
    maps: Mapping[str, EdgeMap]
    size_hw: tuple[int, int] | None
    image_name: str
    image_stem: str
    folders: tuple[Path, ...]
    original: str = "original"


def save_edges_preview(
    files: Sequence[Path],
    output: Path,
    *,
    images: Path | None = None,
    kernel_size: int = DEFAULT_KERNEL_SIZE,
    tile_px: int = 420,
    overwrite: bool = False,
) -> list[str]:
    """Draw the edge maps of each file over its image: at the image's size, and at every smaller scale.

    Of an annotation the maps are computed; of an NPZ file those stored are shown, whatever they are. The image is
    looked for by the name that an annotation has for it, else by its stem with any usual suffix.

    Args:
        files: annotation JSON files, and NPZ files with edge maps (``*.npz``), at least one.
        output: the PNG to write.
        images: the folder with the images; None: an annotation's image lies beside it, an NPZ file's beside it or in
            the folder above.
        kernel_size: of the maps that are computed, in pixels.
        tile_px: longer side of each picture, in pixels.
        overwrite: replace ``output``.

    Returns:
        Remarks, one line each: images that were not found, not readable, or of another size than the annotation's.

    Raises:
        MvtkError: a file cannot be read or has no edge maps, or the PNG cannot be written.
    """
    if images is not None:
        require_folder(images, "give the folder with the images")
    remarks: list[str] = []
    rows, used = [], list(files)
    for file in files:
        edge_file = _read_edge_file(file, kernel_size)
        image_path = _find_image(edge_file, (images,) if images else edge_file.folders)
        image_hwc = _load(image_path, file, remarks)
        if image_path is not None:
            used.append(image_path)
        if image_hwc is not None and edge_file.size_hw not in (None, image_hwc.shape[:2]):
            remarks.append(f"{file.name}: {image_path} has another size than the annotation's, drawn resized")
        tiles = list(_tiles(edge_file, image_hwc, tile_px))
        rows.append(contact_sheet(tiles, columns=len(tiles), tile_px=tile_px, title=edge_file.title))
    require_apart(output, used)
    save_png(output, stacked(rows), overwrite=overwrite)
    return remarks


def draw_edges_over(image_hwc: NDArray[np.uint8], edges: EdgeMap) -> NDArray[np.uint8]:
    """Lay an edge map over an image, which is dimmed.

    A finer map is shrunk so that no edge is lost: a pixel that only few edge pixels fall on is drawn more faintly. Of a
    coarser one each cell is drawn as a rectangle, with a border where there is room for one.

    Args:
        image_hwc: (h, w, 3) uint8 RGB, at the size at which it will be looked at.
        edges: (H, W) uint8, 0 or 1: of any size, covers the same area.

    Returns:
        A new (h, w, 3) uint8 RGB array.
    """
    height, width = image_hwc.shape[:2]
    is_edge = fit_edges(edges, height, width) > 0
    if height < edges.shape[0] and width < edges.shape[1]:
        coverage = cv2.resize(edges.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        opacity = is_edge * np.clip(_LEAST_OPACITY + coverage, 0, 1)
    else:
        has_borders = min(height / edges.shape[0], width / edges.shape[1]) >= _MIN_BORDERED_PX
        opacity = is_edge * np.float32(_BORDERED_CELL_OPACITY if has_borders else _CELL_OPACITY)
        if has_borders:
            opacity[_last_of_cell(height, edges.shape[0])] = 0
            opacity[:, _last_of_cell(width, edges.shape[1])] = 0
    paint = np.array(EDGE_COLOUR, np.float32)
    dimmed = image_hwc * np.float32(_IMAGE_BRIGHTNESS)
    blended: NDArray[np.uint8] = np.rint(dimmed + (paint - dimmed) * opacity[..., None]).astype(np.uint8)
    return blended


def fit_edges(edges: EdgeMap, height: int, width: int) -> EdgeMap:
    """Return an edge map at another size: its cells repeated where it grows, united by OR where it shrinks.

    Args:
        edges: (H, W) uint8.
        height: of the result, in pixels.
        width: of the result, in pixels.

    Returns:
        (height, width) uint8.
    """
    # reduceat takes the one element where the next start is the same.
    rows = np.maximum.reduceat(edges, np.arange(height) * edges.shape[0] // height, axis=0)
    fitted: EdgeMap = np.maximum.reduceat(rows, np.arange(width) * edges.shape[1] // width, axis=1)
    return fitted


def _last_of_cell(pixels: int, cells: int) -> NDArray[np.bool_]:
    """Return which of ``pixels`` are the last one of their cell."""
    return np.diff(np.arange(pixels + 1) * cells // pixels) > 0


def _tiles(edge_file: _EdgeFile, image_hwc: NDArray[np.uint8] | None, tile_px: int) -> Iterator[Tile]:
    """Yield the pictures of one file, at the size that they have on the sheet."""
    size_hw = edge_file.size_hw or (image_hwc.shape[:2] if image_hwc is not None else (tile_px, tile_px))
    height, width = (max(1, round(side * tile_px / max(size_hw))) for side in size_hw)
    if image_hwc is None:
        canvas_hwc = np.full((height, width, 3), _NO_IMAGE_GREY, np.uint8)
    else:
        grows = max(image_hwc.shape[:2]) < tile_px
        flag = cv2.INTER_NEAREST_EXACT if grows else cv2.INTER_AREA
        canvas_hwc = cv2.resize(image_hwc, (width, height), interpolation=flag).astype(np.uint8, copy=False)
        if "edge_original" not in edge_file.maps:
            yield Tile(canvas_hwc, f"image {image_hwc.shape[1]}x{image_hwc.shape[0]}")
    for name, edges in edge_file.maps.items():
        scale = f"{edge_file.original} " if name == "edge_original" else ""
        caption = f"{scale}{edges.shape[1]}x{edges.shape[0]}, {edges.mean():.1%} edges"
        yield Tile(draw_edges_over(canvas_hwc, edges), caption)


def _read_edge_file(file: Path, kernel_size: int) -> _EdgeFile:
    suffix = file.suffix.lower()
    if suffix not in {".json", ".npz"}:
        raise MvtkError(f"{file}: neither an annotation nor a features file", "give .json and .npz files")
    return _read_npz(file) if suffix == ".npz" else _read_annotation(file, kernel_size)


def _read_annotation(file: Path, kernel_size: int) -> _EdgeFile:
    annotation = load_sa1b(file)
    count = len(annotation.masks)
    return _EdgeFile(
        f"{file.name}: {count} mask{'' if count == 1 else 's'}, kernel size {kernel_size}",
        named_maps(edge_maps(annotation.masks, kernel_size)),
        (annotation.height, annotation.width),
        PurePosixPath(annotation.file_name).name,
        file.stem,
        (file.parent,),
    )


def _read_npz(file: Path) -> _EdgeFile:
    with open_npz(file) as reader:
        marks = read_edge_marks(reader)
        names = ["edge_original", *(f"edge_{side}x{side}" for side in sorted(marks.sizes, reverse=True))]
        maps = {name: reader.read(name) for name in names if name in reader.members}
        size_hw = stored_image_size(reader)
    if not maps:
        raise MvtkError(f"{file}: it has no edge maps", "mvtk edges update adds them to features files")
    problems = [f"member '{name}' is empty" for name, array in maps.items() if not array.size]
    problems += feature_problems(maps)
    if problems:
        raise MvtkError(f"{file}: {'; '.join(problems)}", "make the file's edge maps again")
    return _EdgeFile(
        f"{file.name}: stored maps, {f'edge_version {marks.version}' if marks.version else 'no edge_version'}",
        maps,
        _size_hw(maps.get("edge_original"), size_hw),
        "",
        image_id_of(file.name) or file.name.removesuffix(EDGES_SUFFIX),
        (file.parent, file.absolute().parents[1]),
        # An update leaves it as it was: it is not of the edge_version that the title names.
        "edge_original as extracted," if image_id_of(file.name) else "original",
    )


def _size_hw(edge_original: EdgeMap | None, stored_hw: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return an image's size as its features file has it; None where it does not say."""
    if edge_original is not None:
        return edge_original.shape[0], edge_original.shape[1]
    return stored_hw if stored_hw and min(stored_hw) > 0 else None


def _find_image(edge_file: _EdgeFile, folders: Sequence[Path]) -> Path | None:
    """Return the image in the first folder that has it.

    Raises:
        MvtkError: a folder cannot be listed.
    """
    search = ImageSearch()
    for folder in folders:
        named = folder / edge_file.image_name
        if edge_file.image_name and os.path.lexists(named):
            return named
        with suppress(ImageLookupError):
            return search.find(folder, edge_file.image_stem)
    return None


def _load(image_path: Path | None, file: Path, remarks: list[str]) -> NDArray[np.uint8] | None:
    """Return an image as HxWx3 uint8 RGB, None where none can be shown; what is to be said goes to ``remarks``."""
    if image_path is None:
        remarks.append(f"{file.name}: no image found, drawn without")
        return None
    try:
        decoded = load_image(image_path, to_8bit=True)
    except ImageError as error:
        remarks.append(f"{file.name}: drawn without its image: {error}")
        return None
    remarks.extend(f"{image_path}: {warning}" for warning in decoded.warnings)
    return decoded.pixels
