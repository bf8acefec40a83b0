"""Previews of metadata files: each kind's annotations are drawn where they are, and what cannot be drawn is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.builders import gradient, write_image
from tests.metadata_files import write_samples
from toolkit.core.errors import MvtkError, OptionError
from toolkit.core.files import TargetExistsError
from toolkit.metadata import preview
from toolkit.metadata.preview import draw_keypoints, save_metadata_preview, spread_indices
from toolkit.metadata.record import MetadataInfo
from toolkit.preview import Tile

RED = (255, 0, 0)


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> list[Tile]:
    """The tiles of every sheet that is drawn."""
    drawn: list[Tile] = []
    sheet = preview.contact_sheet

    def recorded(tiles: list[Tile], *layout: Any) -> np.ndarray:
        drawn.extend(tiles)
        return sheet(tiles, *layout)

    monkeypatch.setattr(preview, "contact_sheet", recorded)
    return drawn


def test_a_detectors_boxes(tmp_path: Path, tiles: list[Tile]) -> None:
    write_image(tmp_path / "a.png", gradient(48, 64))
    info = MetadataInfo(".", class_names=("ear", "eye"))
    samples = [("a.png", [[1, 2, 3, 4], [5, 6, 7, 8]]), ("a.png", [])]
    path = write_samples(tmp_path / "x.npy", "detector", samples, info=info, class_ids=[1, -1])
    assert save_metadata_preview(path, tmp_path / "sheet.png", tile_px=100, columns=2)[1] == []
    assert tiles[0].boxes_xyxy is not None
    assert tiles[0].boxes_xyxy.tolist() == [[1, 2, 4, 6], [5, 6, 12, 14]]
    assert tiles[0].labels == ["eye", ""]
    assert [tile.caption for tile in tiles] == ["0: a.png", "1: a.png"]
    np.testing.assert_array_equal(tiles[0].image, gradient(48, 64))
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 2 * (100 + 12) + 12


def test_a_landmarkers_points(tmp_path: Path, tiles: list[Tile]) -> None:
    write_image(tmp_path / "a.png", np.full((40, 80, 3), 255, np.uint8))
    points = [[20, 10, 2], [60, 10, 1], [20, 30, 0], [np.nan, 1, 2], [900, 1, 2]]
    path = write_samples(tmp_path / "x.npy", "landmarker", [("a.png", points)], info=MetadataInfo(".", "", ("f",)))
    save_metadata_preview(path, tmp_path / "sheet.png", tile_px=400)
    picture = tiles[0].image
    assert picture.shape == (200, 400, 3)
    assert (picture[50, 100] == (230, 159, 0)).all()
    assert (picture[50, 300] == 255).all()
    assert (picture[50, 290:300] < 255).any()
    assert (picture[120:] == 255).all()


def test_a_teachers_crops(tmp_path: Path, tiles: list[Tile]) -> None:
    write_image(tmp_path / "a.png", gradient(48, 64))
    info = MetadataInfo(".", class_names=("ear",))
    samples = [("a.png", [10, 5, 20, 30]), ("a.png", [500, 5, 20, 30])]
    path = write_samples(tmp_path / "x.npy", "teacher", samples, info=info)
    assert save_metadata_preview(path, tmp_path / "sheet.png")[1] == []
    np.testing.assert_array_equal(tiles[0].image, gradient(48, 64)[5:35, 10:30])
    assert tiles[0].caption == "0: a.png ear"
    assert tiles[1].image.shape == (240, 320, 3)


def test_images_that_cannot_be_shown_are_said(tmp_path: Path, tiles: list[Tile]) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    write_image(tmp_path / "small.png", gradient(48, 64))
    samples = [("gone.png", []), ("bad.png", []), ("small.png", [])]
    path = write_samples(tmp_path / "x.npy", "detector", samples, sizes_wh=[(1, 1), (1, 1), (640, 480)])
    drawn, (gone, bad, small) = save_metadata_preview(path, tmp_path / "sheet.png")
    assert drawn == 3
    assert gone.startswith(f"sample 0: {tmp_path}/gone.png: no such file")
    assert bad.startswith(f"sample 1: {tmp_path}/bad.png")
    assert small == f"sample 2: {tmp_path}/small.png is 64 x 48, not 640 x 480 as the file says"
    assert [tile.image.shape for tile in tiles] == [(240, 320, 3), (240, 320, 3), (48, 64, 3)]


def test_another_root(tmp_path: Path) -> None:
    write_image(tmp_path / "elsewhere/a.png", gradient())
    path = write_samples(tmp_path / "x.npy", "detector", [("a.png", [])])
    assert save_metadata_preview(path, tmp_path / "sheet.png", root_dir=tmp_path / "elsewhere")[1] == []


def test_files_stay(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", gradient())
    path = write_samples(tmp_path / "x.npy", "detector", [("a.png", [])])
    for used in (path, tmp_path / "a.png"):
        with pytest.raises(OptionError, match="is an input, and inputs are never modified"):
            save_metadata_preview(path, used, overwrite=True)
    (tmp_path / "sheet.png").write_text("mine")
    with pytest.raises(TargetExistsError):
        save_metadata_preview(path, tmp_path / "sheet.png")
    empty = write_samples(tmp_path / "empty.npy", "detector", [])
    with pytest.raises(MvtkError, match=r"empty.npy: it has no samples"):
        save_metadata_preview(empty, tmp_path / "other.png")


@given(st.integers(1, 500), st.integers(1, 30), st.integers(0, 5))
def test_samples_are_spread_over_the_file(count: int, wanted: int, seed: int) -> None:
    indices = spread_indices(count, wanted, seed)
    assert indices == spread_indices(count, wanted, seed)
    assert len(indices) == min(count, wanted)
    for part, index in enumerate(indices):
        assert part * count // len(indices) <= index < (part + 1) * count // len(indices)


def test_keypoints_are_drawn_on_a_copy() -> None:
    white = np.full((50, 50, 3), 255, np.uint8)
    drawn = draw_keypoints(white, np.array([[25.0, 25.0, 2.0]]), RED)
    assert (white == 255).all()
    assert (drawn[25, 25] == RED).all()
