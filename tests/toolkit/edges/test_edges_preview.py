"""Previews of edge maps: no edge is lost or invented, cells are cells, and an image is found or said to be missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st
from numpy.typing import NDArray
from PIL import Image

from tests.builders import blob_mask, gradient, write_image, write_oriented
from tests.documented_edges import annotation_json, encoded
from toolkit.core.errors import MvtkError, OptionError
from toolkit.edges import preview
from toolkit.edges.preview import EDGE_COLOUR, draw_edges_over, fit_edges, save_edges_preview
from toolkit.preview import Tile

EDGE_MAPS = np_st.arrays(np.uint8, np_st.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 1))


def annotate(folder: Path, name: str = "sa_1", *, height: int = 90, width: int = 120) -> Path:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(annotation_json([encoded(blob_mask(height, width, high=1))], height, width, name)))
    return path


def save_features(path: Path, **arrays: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        np.savez(stream, **arrays)
    return path


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> list[Tile]:
    """The tiles of every sheet that is drawn."""
    drawn: list[Tile] = []
    sheet = preview.contact_sheet

    def recorded(tiles: list[Tile], **layout: Any) -> NDArray[np.uint8]:
        drawn.extend(tiles)
        return sheet(tiles, **layout)

    monkeypatch.setattr(preview, "contact_sheet", recorded)
    return drawn


@given(edges=EDGE_MAPS, height=st.integers(1, 90), width=st.integers(1, 90))
@settings(deadline=None)
def test_fitted_edges_are_those_below_each_pixel(edges: NDArray[np.uint8], height: int, width: int) -> None:
    fitted = fit_edges(edges, height, width)
    assert fitted.shape == (height, width)
    if height >= edges.shape[0] and width >= edges.shape[1]:
        row = [y * edges.shape[0] // height for y in range(height)]
        column = [x * edges.shape[1] // width for x in range(width)]
        np.testing.assert_array_equal(fitted, edges[np.ix_(row, column)])
    back = fit_edges(fitted, 1, 1)
    assert back[0, 0] == edges.max()
    if height <= edges.shape[0] and width <= edges.shape[1]:
        assert np.count_nonzero(fitted) <= np.count_nonzero(edges)


@given(edges=EDGE_MAPS, side=st.integers(1, 90))
@settings(deadline=None)
def test_every_edge_shows_and_nothing_else(edges: NDArray[np.uint8], side: int) -> None:
    grey = np.full((side, side, 3), 128, np.uint8)
    empty = draw_edges_over(grey, np.zeros_like(edges))
    assert (empty == empty[0, 0]).all()
    assert empty[0, 0, 0] < 128
    changed = (draw_edges_over(grey, edges) != empty).any(axis=2)
    is_edge = fit_edges(edges, side, side) > 0
    assert not changed[~is_edge].any()
    if min(side / edges.shape[0], side / edges.shape[1]) < 3:
        np.testing.assert_array_equal(changed, is_edge)
    else:
        np.testing.assert_array_equal(fit_edges(changed.astype(np.uint8), *edges.shape), edges)


@pytest.mark.parametrize("level", [0, 255])
def test_a_single_edge_pixel_of_a_large_image_stands_out(level: int) -> None:
    edges = np.zeros((3000, 4000), np.uint8)
    edges[1234, 2345] = 1
    drawn = draw_edges_over(np.full((315, 420, 3), level, np.uint8), edges).astype(int)
    ((y, x),) = np.argwhere((drawn != drawn[0, 0]).any(axis=2))
    assert (y, x) == (1234 * 315 // 3000, 2345 * 420 // 4000)
    assert np.abs(drawn[y, x] - drawn[0, 0]).sum() > 60


def test_large_cells_have_a_border_between_them() -> None:
    black = np.zeros((32, 48, 3), np.uint8)
    drawn = draw_edges_over(black, np.ones((4, 4), np.uint8)).any(axis=2)
    assert [x for x in range(48) if not drawn[0, x]] == [11, 23, 35, 47]
    assert [y for y in range(32) if not drawn[y, 0]] == [7, 15, 23, 31]
    assert (draw_edges_over(black, np.ones((16, 16), np.uint8)) > EDGE_COLOUR[1] // 2).any(axis=2).all()


def test_each_file_is_a_row_of_four_scales(tmp_path: Path, tiles: list[Tile]) -> None:
    files = [annotate(tmp_path, "sa_1"), annotate(tmp_path, "sa_2", height=120, width=90)]
    for file, size in zip(files, [(90, 120), (120, 90)], strict=True):
        write_image(file.with_suffix(".jpg"), gradient(*size))
    assert save_edges_preview(files, tmp_path / "sheet.png", tile_px=64) == []
    assert [tile.caption.split(",")[0] for tile in tiles] == [
        "original 120x90", "256x256", "64x64", "32x32", "original 90x120", "256x256", "64x64", "32x32",
    ]  # fmt: skip
    assert [tile.image.shape for tile in tiles[::4]] == [(48, 64, 3), (64, 48, 3)]
    width, height = size_of(tmp_path / "sheet.png")
    assert width == 4 * 64 + 5 * 12
    assert height > 48 + 64


def test_captions_say_the_share_of_edges(tmp_path: Path, tiles: list[Tile]) -> None:
    quarter = np.zeros((64, 64), np.uint8)
    quarter[:16] = 1
    file = save_features(tmp_path / "sa_1_features.npz", edge_64x64=quarter, edge_32x32=np.zeros((32, 32), np.uint8))
    save_edges_preview([file], tmp_path / "sheet.png")
    assert [tile.caption for tile in tiles] == ["64x64, 25.0% edges", "32x32, 0.0% edges"]


def test_stored_maps_are_shown_whatever_they_are(tmp_path: Path, tiles: list[Tile]) -> None:
    maps = {f"edge_{side}x{side}": np.eye(side, dtype=np.uint8) for side in (32, 256, 64)}
    features = save_features(
        tmp_path / "extracted" / "sa_1_features.npz", **maps, image_shape=np.array([90, 120, 3]), edge_flag=np.array(1)
    )
    write_image(tmp_path / "sa_1.PNG", gradient(90, 120))
    edges = save_features(tmp_path / "extracted" / "sa_1_edges.npz", edge_original=blob_mask(90, 120, high=1))
    assert save_edges_preview([features, edges], tmp_path / "sheet.png", tile_px=120) == []
    captions = [tile.caption.split(",")[0] for tile in tiles]
    assert captions == ["image 120x90", "256x256", "64x64", "32x32", "original 120x90"]
    np.testing.assert_array_equal(tiles[0].image, gradient(90, 120))
    np.testing.assert_array_equal(tiles[2].image, draw_edges_over(gradient(90, 120), maps["edge_64x64"]))


def test_without_an_image_stored_maps_are_drawn_at_its_size(tmp_path: Path, tiles: list[Tile]) -> None:
    edges = save_features(tmp_path / "sa_1_edges.npz", edge_original=blob_mask(90, 120, high=1))
    cells = np.zeros((32, 32), np.uint8)
    features = save_features(tmp_path / "sa_2_features.npz", edge_32x32=cells, image_shape=np.array([120, 90, 3]))
    bare = save_features(tmp_path / "sa_3_features.npz", edge_32x32=cells)
    remarks = save_edges_preview([edges, features, bare], tmp_path / "sheet.png", tile_px=64)
    assert remarks == [f"{file.name}: no image found, drawn without" for file in (edges, features, bare)]
    assert [tile.image.shape[:2] for tile in tiles] == [(48, 64), (64, 48), (64, 64)]


def test_the_name_that_the_annotation_has_comes_before_the_stem(tmp_path: Path, tiles: list[Tile]) -> None:
    file = annotate(tmp_path)
    record = json.loads(file.read_text())
    record["image"]["file_name"] = "folder/photo.png"
    file.write_text(json.dumps(record))
    write_image(tmp_path / "sa_1.png", np.zeros((90, 120, 3), np.uint8))
    write_image(tmp_path / "photo.png", np.full((90, 120, 3), 200, np.uint8))
    save_edges_preview([file], tmp_path / "sheet.png", tile_px=120)
    assert tiles[0].image[0, 0].tolist() == [120, 120, 120]


def test_images_are_looked_for_in_the_folder_given_only(tmp_path: Path) -> None:
    file = annotate(tmp_path)
    write_image(tmp_path / "sa_1.jpg", gradient(90, 120))
    write_image(tmp_path / "images" / "sa_2.jpg", gradient(90, 120))
    remarks = save_edges_preview([file], tmp_path / "sheet.png", images=tmp_path / "images", tile_px=64)
    assert remarks == ["sa_1.json: no image found, drawn without"]
    with pytest.raises(MvtkError, match=r"nowhere: no such folder; give the folder with the images"):
        save_edges_preview([file], tmp_path / "sheet.png", images=tmp_path / "nowhere")


def test_an_image_of_another_size_is_resized_and_remarked(tmp_path: Path, tiles: list[Tile]) -> None:
    image = write_image(tmp_path / "sa_1.png", gradient(50, 50))
    remarks = save_edges_preview([annotate(tmp_path)], tmp_path / "sheet.png", tile_px=64)
    assert remarks == [f"sa_1.json: {image} has another size than the annotation's, drawn resized"]
    assert tiles[0].image.shape == (48, 64, 3)


def test_a_damaged_image_and_warnings_are_remarked(tmp_path: Path) -> None:
    (tmp_path / "sa_1.jpg").write_bytes(b"\xff\xd8 cut short")
    turned = write_oriented(tmp_path / "sa_2.jpg", gradient(90, 120), 6)
    files = [annotate(tmp_path, "sa_1"), annotate(tmp_path, "sa_2")]
    remarks = save_edges_preview(files, tmp_path / "sheet.png", tile_px=64)
    assert remarks[0].startswith(f"sa_1.json: drawn without its image: {tmp_path}/sa_1.jpg: ")
    assert remarks[1:] == [f"{turned}: EXIF orientation ignored"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"P4_S16": np.zeros(1)}, r"it has no edge maps; mvtk edges update adds them to features files"),
        ({"edge_64x64": np.zeros((64, 63), np.uint8)}, r"member 'edge_64x64' has shape \(64, 63\), not \(64, 64\)"),
        ({"edge_32x32": np.full((32, 32), 7, np.uint8)}, r"member 'edge_32x32' holds values that are not 0 or 1"),
        ({"edge_original": np.zeros((0, 5), np.uint8)}, r"member 'edge_original' is empty"),
    ],
)
def test_maps_that_cannot_be_drawn_are_errors(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    file = save_features(tmp_path / "sa_1_features.npz", **arrays)
    with pytest.raises(MvtkError, match=rf"sa_1_features\.npz: {message}"):
        save_edges_preview([file], tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_inputs_are_never_overwritten(tmp_path: Path) -> None:
    file = annotate(tmp_path)
    image = write_image(tmp_path / "sa_1.png", gradient(90, 120))
    before = image.read_bytes()
    for target in (file, image):
        with pytest.raises(OptionError, match=r"is an input, and inputs are never modified"):
            save_edges_preview([file], target, overwrite=True)
    assert image.read_bytes() == before


def test_an_output_that_exists_is_replaced_only_when_asked(tmp_path: Path) -> None:
    file, output = annotate(tmp_path), tmp_path / "sheet.png"
    save_edges_preview([file], output, tile_px=64)
    with pytest.raises(MvtkError, match=r"sheet\.png exists already; use --overwrite"):
        save_edges_preview([file], output, tile_px=80)
    save_edges_preview([file], output, tile_px=80, overwrite=True)
    assert size_of(output)[0] == 4 * 80 + 5 * 12
