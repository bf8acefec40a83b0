"""Previews of SAM training data: what is drawn, and which samples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.sam_datasets import make_dataset
from toolkit.core.errors import MvtkError, OptionError
from toolkit.core.files import TargetExistsError
from toolkit.preview import CLASS_COLOURS
from toolkit.sam.preview import save_sam_preview

TILE_PX = 96


def sheet(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def has_colour(picture_hwc: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((picture_hwc == np.array(colour, np.uint8)).all(axis=-1).any())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "data", {"a": 1, "b": 3, "c": 2, "d": 1, "e": 0})


def test_each_instance_has_a_colour_of_its_own(root: Path, tmp_path: Path) -> None:
    assert save_sam_preview(root, tmp_path / "out.png", ids=["b"], tile_px=TILE_PX) == []
    picture = sheet(tmp_path / "out.png")
    assert [has_colour(picture, colour) for colour in CLASS_COLOURS[:4]] == [True, True, True, False]


def test_samples_are_spread_evenly_over_the_dataset(root: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.png"
    save_sam_preview(root, output, count=2, tile_px=TILE_PX)
    chosen = sheet(output)
    save_sam_preview(root, output, ids=["a", "c"], tile_px=TILE_PX, overwrite=True)
    assert np.array_equal(chosen, sheet(output))
    save_sam_preview(root, output, count=99, tile_px=TILE_PX, overwrite=True)
    assert sheet(output).shape[0] > 2 * chosen.shape[0]  # five samples, two a row


def test_one_side_of_the_split_can_be_drawn(root: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.png"
    (root / "split.json").write_text(json.dumps({"train": ["a", "b", "c"], "val": ["d"]}))
    save_sam_preview(root, output, side="val", tile_px=TILE_PX)
    drawn = sheet(output)
    save_sam_preview(root, output, ids=["d"], tile_px=TILE_PX, overwrite=True)
    assert np.array_equal(drawn, sheet(output))
    with pytest.raises(OptionError, match="train: no sample 'd'"):
        save_sam_preview(root, output, ids=["d"], side="train", overwrite=True)


def test_samples_that_cannot_be_read_are_remarked_on(root: Path, tmp_path: Path) -> None:
    (root / "images/b.png").write_bytes(b"")
    [remark] = save_sam_preview(root, tmp_path / "out.png", ids=["a", "b"], tile_px=TILE_PX)
    assert remark.startswith(f"not drawn: sample b: {root / 'images/b.png'}: the file is empty")
    with pytest.raises(MvtkError, match="none of 1 samples can be drawn: not drawn: sample b"):
        save_sam_preview(root, tmp_path / "other.png", ids=["b"])
    assert not (tmp_path / "other.png").exists()


def test_wrong_choices_are_refused(root: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.png"
    with pytest.raises(OptionError, match="no sample 'x', 'y'"):
        save_sam_preview(root, output, ids=["y", "x", "a"])
    with pytest.raises(OptionError, match="give a number above 0"):
        save_sam_preview(root, output, count=0)
    with pytest.raises(OptionError, match="is an input"):
        save_sam_preview(root, root / "images/a.png", overwrite=True)
    output.write_bytes(b"")
    with pytest.raises(TargetExistsError):
        save_sam_preview(root, output)
    with pytest.raises(MvtkError, match="there are no samples"):
        save_sam_preview(make_dataset(tmp_path / "none", {}), output)
