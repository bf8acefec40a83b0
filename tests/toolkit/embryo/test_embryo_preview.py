"""Strips of videos: the frames that stand for the phases, in their places, and a remark for each that cannot."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.datasets import tree_hash
from tests.embryo_trees import MiniatureEmbryos, brightness_of, frame_bytes, frame_name, published_oddities
from toolkit.core.errors import InputProblemsError, MvtkError, OptionError
from toolkit.core.files import TargetExistsError
from toolkit.embryo.planes import PLANES, FocalPlane
from toolkit.embryo.preview import save_video_strip

TILE_PX = 60


def picture(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.array(image)


def tile_value(strip: NDArray[np.uint8], row: int, column: int) -> int:
    """The grey value in the middle of a tile; -1 where there are several, as in a tile with a word."""
    top = 12 + 34 + 3 * 17 + 4 + row * (TILE_PX + 4)
    left = 12 + 52 + column * (TILE_PX + 4)
    values = np.unique(strip[top : top + TILE_PX, left : left + TILE_PX].reshape(-1, 3), axis=0)
    return int(values[0, 0]) if len(values) == 1 else -1


def test_a_frame_of_each_phase_in_every_plane(tmp_path: Path) -> None:
    embryos = published_oddities(tmp_path / "data")
    before = tree_hash(embryos.root)
    output = tmp_path / "strip.png"
    assert save_video_strip(embryos.root, "AA83-7", output, tile_px=TILE_PX) == []
    strip = picture(output)
    for row, plane in enumerate(reversed(PLANES)):
        values = [tile_value(strip, row, column) for column in range(3)]
        expected = [brightness_of(plane, number) for number in (4, 6, 12)]  # 3, 7 and 8 are missing
        assert np.abs(np.subtract(values, expected)).max() <= 1
    assert strip.shape[1] == 12 + 52 + 560 + 12
    assert tree_hash(embryos.root) == before


def test_planes_that_were_asked_for(tmp_path: Path) -> None:
    embryos = published_oddities(tmp_path / "data")
    planes = [FocalPlane.F_MINUS_15, FocalPlane.F_PLUS_45]
    save_video_strip(embryos.root, "DML271-2", tmp_path / "strip.png", planes=planes, tile_px=TILE_PX)
    strip = picture(tmp_path / "strip.png")
    assert abs(tile_value(strip, 0, 0) - brightness_of(FocalPlane.F_PLUS_45, 3)) <= 1
    assert abs(tile_value(strip, 1, 0) - brightness_of(FocalPlane.F_MINUS_15, 3)) <= 1


def test_what_cannot_be_drawn_is_remarked(tmp_path: Path) -> None:
    embryos = MiniatureEmbryos(tmp_path / "data", (FocalPlane.F_00, FocalPlane.F_PLUS_15))
    embryos.add_video("A", frames=[2, 11], phases={"tPB2": (2, 4), "t2": (5, 9), "tM": (11, 14)})
    (embryos.folder(FocalPlane.F_PLUS_15, "A") / frame_name(2)).unlink()
    damaged = embryos.folder(FocalPlane.F_00, "A") / frame_name(11)
    damaged.write_bytes(frame_bytes(3)[:-2])
    remarks = save_video_strip(embryos.root, "A", tmp_path / "strip.png", tile_px=TILE_PX)
    assert remarks == [
        "phase t2: no frame from 5 to 9",
        "F+15: no frame 2",
        f"{damaged}: the file is truncated (no JPEG end marker)",
    ]
    strip = picture(tmp_path / "strip.png")
    assert [tile_value(strip, *place) for place in ((0, 0), (1, 1))] == [-1, -1]


def test_a_frame_that_all_planes_have_is_preferred(tmp_path: Path) -> None:
    embryos = MiniatureEmbryos(tmp_path / "data", (FocalPlane.F_00, FocalPlane.F_PLUS_15))
    embryos.add_video("A", frames=range(1, 8), phases={"t2": (1, 7)})
    (embryos.folder(FocalPlane.F_PLUS_15, "A") / frame_name(4)).unlink()
    assert save_video_strip(embryos.root, "A", tmp_path / "strip.png", tile_px=TILE_PX) == []
    value = tile_value(picture(tmp_path / "strip.png"), 1, 0)
    assert abs(value - brightness_of(FocalPlane.F_00, 5)) <= 1


def test_the_real_phases(tmp_path: Path, shared_data: Path) -> None:
    embryos = MiniatureEmbryos(tmp_path / "data", (FocalPlane.F_00,))
    embryos.add_video("AA83-7", frames=range(1, 286))
    name = "embryo_dataset_annotations/AA83-7_phases.csv"
    shutil.copy(shared_data / "embryo" / name, embryos.root / name)
    assert save_video_strip(embryos.root, "AA83-7", tmp_path / "strip.png", tile_px=TILE_PX) == []
    strip = picture(tmp_path / "strip.png")
    values = [tile_value(strip, 0, column) for column in range(10)]
    expected = [brightness_of(FocalPlane.F_00, number) for number in (14, 56, 93, 134, 174, 184, 216, 249, 266, 281)]
    assert np.abs(np.subtract(values, expected)).max() <= 1


@pytest.mark.parametrize("name", ["_phases.csv", "_timeElapsed.csv"])
def test_a_video_without_a_table(tmp_path: Path, name: str) -> None:
    embryos = published_oddities(tmp_path / "data")
    for path in embryos.root.rglob(f"DML271-2{name}"):
        path.unlink()
    if name == "_timeElapsed.csv":
        assert save_video_strip(embryos.root, "DML271-2", tmp_path / "strip.png", tile_px=TILE_PX) == []
    else:
        with pytest.raises(MvtkError, match=r"DML271-2_phases\.csv: no such file; a strip needs the phases"):
            save_video_strip(embryos.root, "DML271-2", tmp_path / "strip.png")


def test_choices_that_cannot_be_met(tmp_path: Path) -> None:
    embryos = MiniatureEmbryos(tmp_path / "data", (FocalPlane.F_00,))
    embryos.add_video("AA83-7")
    embryos.add_video("LATE-1", phases={"t2": (50, 60)})
    output = tmp_path / "strip.png"
    with pytest.raises(OptionError, match=r"there is no video 'AA83'; did you mean AA83-7\?"):
        save_video_strip(embryos.root, "AA83", output)
    with pytest.raises(OptionError, match=r"data: focal plane F-15 is not there"):
        save_video_strip(embryos.root, "AA83-7", output, planes=[FocalPlane.F_MINUS_15])
    with pytest.raises(OptionError, match=r"tile 47; give at least 48 pixels"):
        save_video_strip(embryos.root, "AA83-7", output, tile_px=47)
    with pytest.raises(MvtkError, match=r"video LATE-1 has no frame in any of its phases; mvtk embryo inspect"):
        save_video_strip(embryos.root, "LATE-1", output)
    embryos.write_phases("AA83-7", {"t77": (1, 2)})
    with pytest.raises(InputProblemsError, match=r"AA83-7_phases\.csv: line 1: there is no phase 't77'"):
        save_video_strip(embryos.root, "AA83-7", output)
    assert not output.exists()


def test_an_output_that_exists_is_replaced_only_when_asked(tmp_path: Path) -> None:
    embryos = published_oddities(tmp_path / "data")
    output = tmp_path / "strip.png"
    output.write_bytes(b"mine")
    with pytest.raises(TargetExistsError, match=r"strip\.png exists already; use --overwrite"):
        save_video_strip(embryos.root, "AA83-7", output, tile_px=TILE_PX)
    assert output.read_bytes() == b"mine"
    save_video_strip(embryos.root, "AA83-7", output, tile_px=TILE_PX, overwrite=True)
    assert picture(output).ndim == 3
