"""A metadata file's figures as one picture: where boxes lie, how many an image has, and how large they are."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from toolkit.core.files import require_apart
from toolkit.diagrams import Diagram
from toolkit.metadata.reading import MetadataFile
from toolkit.metadata.statistics import rows_an_image
from toolkit.metadata.verification import samples_of_rows
from toolkit.preview import Tile, contact_sheet, save_png

_PANEL_PX: Final = 460
_HEAT_CELLS: Final = 48
_SIZE_CELLS: Final = 60
_MAX_BARS: Final = 24
_HEAT_CAPTION: Final = "darker: more, by their logarithm"
_TICKS: Final = 4
_MAX_LABELS: Final = 12
_MAX_LONG_LABELS: Final = 5
_HEADROOM: Final = 1.05


def save_statistics_plot(file: MetadataFile, output: Path, *, overwrite: bool = False) -> None:
    """Draw a file's figures as a PNG of three diagrams.

    A heat map of the centres of boxes (or of the labelled keypoints) in their images, as far as the images' sizes are
    known; how many images have how many of them; and boxes by width and height (for keypoints: their visibility).

    Raises:
        MetadataError: the file's offsets lie.
        MvtkError: the PNG cannot be written.
    """
    require_apart(output, [file.path])
    counts = rows_an_image(file)
    if file.kind == "landmarker":
        tiles = [
            Tile(_heat_map(file, "keypoints"), _HEAT_CAPTION),
            Tile(_histogram(counts, "keypoints a sample", "samples")),
            Tile(_visibility(file)),
        ]
    else:
        tiles = [
            Tile(_heat_map(file, "box centres"), _HEAT_CAPTION),
            Tile(_histogram(counts, "boxes an image", "images")),
            Tile(_box_sizes(file), _HEAT_CAPTION),
        ]
    title = f"{file.path.name}: {len(file)} {file.kind} samples, {len(file.rows)} {_rows_name(file)}"
    sheet = contact_sheet(tiles, len(tiles), _PANEL_PX, title)
    save_png(output, sheet, overwrite=overwrite)


def _heat_map(file: MetadataFile, name: str) -> NDArray[np.uint8]:
    """Return where centres lie in their images; the y axis points down, as in an image."""
    diagram = Diagram(f"{name} in the image", "x / image width", "y / image height", (0, 1), (1, 0))
    places_xy = _relative_places(file)
    if len(places_xy):
        counts_hw, _, _ = np.histogram2d(places_xy[:, 1], places_xy[:, 0], _HEAT_CELLS, ((0, 1), (0, 1)))
        diagram.cells(counts_hw)
    else:
        diagram.note("no image sizes are known" if len(file.rows) else "there are none")
    fractions = np.linspace(0, 1, _TICKS + 1)
    labels = [f"{fraction:g}" for fraction in fractions]
    diagram.x_ticks(fractions.tolist(), labels)
    diagram.y_ticks(fractions.tolist(), labels, with_grid=False)
    return diagram.picture_hwc


def _relative_places(file: MetadataFile) -> NDArray[np.float64]:
    """Return (k, 2) x, y from 0 to 1 of the boxes' centres or labelled keypoints whose image's size is known."""
    sizes_wh = file.image_sizes_wh.astype(np.float64)[samples_of_rows(file)]
    rows = file.rows.astype(np.float64)
    wanted = np.isfinite(rows).all(axis=1) & (sizes_wh > 0).all(axis=1)
    if file.kind == "landmarker":
        wanted &= rows[:, 2] > 0
        places_xy = rows[:, :2]
    else:
        places_xy = rows[:, :2] + rows[:, 2:] / 2
    relative_xy: NDArray[np.float64] = places_xy[wanted] / sizes_wh[wanted]
    return relative_xy[((relative_xy >= 0) & (relative_xy <= 1)).all(axis=1)]


def _histogram(counts: NDArray[np.int64], x_label: str, y_label: str) -> NDArray[np.uint8]:
    """Return how often each count occurs; many different ones share bars of equal widths."""
    lowest, highest = (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)
    step = -(-(highest - lowest + 1) // _MAX_BARS)
    edges = np.arange(lowest, highest + step + 1, step)
    heights, _ = np.histogram(counts, edges)
    highest_bar = max(1, int(heights.max()))
    diagram = Diagram(x_label, x_label, y_label, (0, len(heights)), (0, highest_bar * _HEADROOM))
    ticks = _round_ticks(highest_bar)
    diagram.y_ticks(ticks, [_short(tick) for tick in ticks])
    for position, height in enumerate(heights.tolist()):
        diagram.bar(position + 0.08, position + 0.92, height)
    names = [str(low) if step == 1 else f"{low}-{high - 1}" for low, high in itertools.pairwise(edges.tolist())]
    shown = range(0, len(heights), -(-len(heights) // (_MAX_LABELS if step == 1 else _MAX_LONG_LABELS)))
    diagram.x_ticks([position + 0.5 for position in shown], [names[position] for position in shown])
    return diagram.picture_hwc


def _visibility(file: MetadataFile) -> NDArray[np.uint8]:
    names = ("not labelled (0)", "hidden (1)", "visible (2)")
    heights = [int(np.count_nonzero(file.rows[:, 2] == value)) for value in range(len(names))]
    highest = max(1, *heights)
    diagram = Diagram("visibility", "visibility", "keypoints", (0, len(names)), (0, highest * _HEADROOM))
    ticks = _round_ticks(highest)
    diagram.y_ticks(ticks, [_short(tick) for tick in ticks])
    for position, height in enumerate(heights):
        diagram.bar(position + 0.2, position + 0.8, height)
    diagram.x_ticks([position + 0.5 for position in range(len(names))], names)
    return diagram.picture_hwc


def _box_sizes(file: MetadataFile) -> NDArray[np.uint8]:
    """Return boxes by width and height, both on logarithmic axes: sizes range over decades."""
    sizes_wh = file.rows[:, 2:].astype(np.float64)
    sound_wh = sizes_wh[(np.isfinite(sizes_wh) & (sizes_wh > 0)).all(axis=1)]
    logs_wh = np.log10(sound_wh)
    lowest = int(np.floor(logs_wh.min(initial=0)))
    highest = max(lowest + 1, int(np.ceil(logs_wh.max(initial=1))))
    span = (float(lowest), float(highest))
    diagram = Diagram("size of boxes", "width in pixels", "height in pixels", span, span)
    if len(sound_wh):
        counts_hw, _, _ = np.histogram2d(logs_wh[:, 1], logs_wh[:, 0], _SIZE_CELLS, (span, span))
        diagram.cells(counts_hw[::-1])
    else:
        diagram.note("there are none")
    decades = list(range(lowest, highest + 1))
    labels = [_short(10.0**decade) for decade in decades]
    diagram.x_ticks(decades, labels)
    diagram.y_ticks(decades, labels, with_grid=False)
    return diagram.picture_hwc


def _round_ticks(highest: int) -> list[float]:
    """Return values of 1, 2 or 5 times a power of ten from 0 to ``highest``, a handful of them."""
    least = max(highest / _TICKS, 1)
    magnitude = 10.0 ** np.floor(np.log10(least))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= least)
    return [float(tick) for tick in np.arange(0, highest + 1, step)]


def _short(number: float) -> str:
    """Return a number in a few characters: 25k, 1.5M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:g}{letter}"
    return f"{number:g}"


def _rows_name(file: MetadataFile) -> str:
    return "keypoints" if file.kind == "landmarker" else "boxes"
