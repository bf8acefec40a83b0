"""The picture of the figures: its size, and that boxes show where they are; never the exact shape of a letter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.metadata_files import write_samples
from toolkit.core.errors import OptionError
from toolkit.core.files import TargetExistsError
from toolkit.metadata import statistics_plot
from toolkit.metadata.reading import open_metadata
from toolkit.metadata.statistics_plot import save_statistics_plot
from toolkit.preview import Tile

SIZE_WH = (1428, 535)


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> list[Tile]:
    """The diagrams of every picture that is drawn."""
    drawn: list[Tile] = []
    sheet = statistics_plot.contact_sheet

    def recorded(tiles: list[Tile], *layout: object) -> np.ndarray:
        drawn.extend(tiles)
        return sheet(tiles, *layout)

    monkeypatch.setattr(statistics_plot, "contact_sheet", recorded)
    return drawn


def coloured(tile: Tile) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns, as fractions of the plane between the axes, of what is neither white, grey nor black."""
    plane_hwc = tile.image[40:-52, 64:-24].astype(int)
    where = np.ptp(plane_hwc, axis=2) > 40
    rows, columns = np.nonzero(where)
    return rows / plane_hwc.shape[0], columns / plane_hwc.shape[1]


@pytest.mark.parametrize("kind", ["detector", "landmarker", "teacher"])
@pytest.mark.parametrize("count", [0, 1, 300])
def test_every_kind_is_drawn(tmp_path: Path, kind: str, count: int) -> None:
    row = [10, 10, 1] if kind == "landmarker" else [10, 10, 20, 30]
    samples = [(f"{index}", row if kind == "teacher" else [row] * (index % 90)) for index in range(count)]
    path = write_samples(tmp_path / "x.npy", kind, samples, sizes_wh=[(100, 100)] * count)
    save_statistics_plot(open_metadata(path), tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.size == SIZE_WH


def test_centres_lie_where_they_are_in_the_image(tmp_path: Path, tiles: list[Tile]) -> None:
    # Wide enough boxes for one cell to be off-white: three in the upper right corner of an image of 200 x 100.
    samples = [("a", [[190, 0, 10, 10]] * 3)]
    path = write_samples(tmp_path / "x.npy", "detector", samples, sizes_wh=[(200, 100)])
    save_statistics_plot(open_metadata(path), tmp_path / "x.png")
    heat, counts, sizes = tiles
    plane_hwc = heat.image[40:-52, 64:-24].astype(int)
    dark_rows, dark_columns = np.nonzero(plane_hwc[4:-4, 4:-4].sum(axis=2) < 300)
    assert 0.95 < dark_columns.mean() / plane_hwc.shape[1] < 1
    assert dark_rows.mean() / plane_hwc.shape[0] < 0.1
    rows, columns = coloured(counts)
    assert rows.min() < 0.1
    assert 0.05 < columns.min() < columns.max() < 0.95
    assert sizes.caption == heat.caption == "darker: more, by their logarithm"


def test_boxes_of_images_of_unknown_size_have_no_place(tmp_path: Path, tiles: list[Tile]) -> None:
    path = write_samples(tmp_path / "x.npy", "detector", [("a", [[1, 1, 2, 2]] * 9)])
    save_statistics_plot(open_metadata(path), tmp_path / "x.png")
    assert not len(coloured(tiles[0])[0])


def test_sizes_beyond_all_images_are_drawn(tmp_path: Path) -> None:
    boxes = [[0, 0, 1e30, 1e-30], [0, 0, np.inf, 1], [0, 0, -1, 5], [np.nan, 0, 1, 1]]
    path = write_samples(tmp_path / "x.npy", "detector", [("a", boxes)], sizes_wh=[(10, 10)])
    save_statistics_plot(open_metadata(path), tmp_path / "x.png")
    assert (tmp_path / "x.png").exists()


def test_files_stay(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "x.npy", "detector", [("a", [])])
    with pytest.raises(OptionError, match="is an input, and inputs are never modified"):
        save_statistics_plot(open_metadata(path), path, overwrite=True)
    save_statistics_plot(open_metadata(path), tmp_path / "x.png")
    with pytest.raises(TargetExistsError):
        save_statistics_plot(open_metadata(path), tmp_path / "x.png")
    with pytest.raises(OptionError, match="is not named like a PNG file"):
        save_statistics_plot(open_metadata(path), tmp_path / "x.jpg")
