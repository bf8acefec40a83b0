"""The colours of features and the pictures with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.builders import write_bomb
from tests.feature_images import ImageTree, features
from toolkit.core.errors import MvtkError, OptionError
from toolkit.features import FeatureSource
from toolkit.features.preview import features_as_colours, save_features_preview
from toolkit.images import read_size

SOURCE = FeatureSource("sam2.1_hiera_tiny", "random:0", "SAM2Transforms-1024", "bfloat16", "0.1.0")


@pytest.fixture
def tree(tmp_path: Path) -> ImageTree:
    return ImageTree(tmp_path / "tree")


def mixed(seed: int = 0, side: int = 64) -> Any:
    """Features (1, 256, side, side) in which three patterns of unequal strength are mixed."""
    generator = np.random.default_rng(seed)
    patterns = generator.standard_normal((3, side * side)) * np.array([[9.0], [3.0], [1.0]])
    directions = np.linalg.qr(generator.standard_normal((256, 3)))[0]
    return (directions @ patterns).reshape(1, 256, side, side).astype(np.float32), patterns


def test_the_colours_are_the_three_main_components_in_order() -> None:
    array, patterns = mixed()
    colours = features_as_colours(array)
    assert (colours.shape, colours.dtype) == ((64, 64, 3), np.uint8)
    for channel, pattern in enumerate(patterns):
        correlation = np.corrcoef(colours[..., channel].ravel(), pattern)[0, 1]
        assert abs(correlation) > 0.98
        assert (colours[..., channel].min(), colours[..., channel].max()) == (0, 255)


def test_neither_scale_nor_offset_nor_dtype_matters() -> None:
    array, _ = mixed(1, 16)
    colours = features_as_colours(array).astype(int)
    for other in (array * 1000, array + 5, array.astype(np.float16), array.astype(np.float64)):
        assert np.abs(features_as_colours(other).astype(int) - colours).max() <= 2


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.float16, np.float32]),
        st.tuples(st.just(1), st.integers(3, 8), st.integers(1, 9), st.integers(1, 9)),
        elements=st.floats(-1000, 1000, width=16),
        fill=st.just(0),
    )
)
def test_any_finite_features_become_colours(array: Any) -> None:
    """Constant ones too, and those in which one cell only differs."""
    colours = features_as_colours(array)
    assert (colours.shape, colours.dtype) == ((*array.shape[2:], 3), np.uint8)


def test_one_cell_that_differs_gives_no_warning() -> None:
    array = np.zeros((1, 256, 32, 32), np.float32)
    array[0, 3, 5, 5] = 7
    assert features_as_colours(array).shape == (32, 32, 3)


def test_a_row_a_file_beside_its_image(tree: ImageTree, tmp_path: Path) -> None:
    files = [
        tree.add("sa_1", seed=1, P4_S16=mixed()[0], P5_S32=mixed(1, 32)[0], feature_source=SOURCE.to_array()),
        tree.add_npz("extracted/sa_1_sam2_features.npz", features("sa_1")),  # its image is in the folder above
    ]
    output = tmp_path / "sheet.png"
    assert save_features_preview(files[:1], output, tile_px=100) == []
    height, width = read_size(output)
    assert width > 3 * 64
    assert save_features_preview(files, output, tile_px=100, overwrite=True) == []
    assert read_size(output)[0] > height


def test_images_in_another_folder(tree: ImageTree, tmp_path: Path) -> None:
    file = tree.add_npz("a/b/sa_1_features.npz", features("sa_1"))
    ImageTree(tmp_path).add_image("images/deep/sa_1.jpeg")
    output = tmp_path / "sheet.png"
    assert save_features_preview([file], output) == ["sa_1_features.npz: no image found, drawn without"]
    width = read_size(output)[1]
    assert save_features_preview([file], output, images=tmp_path / "images", overwrite=True) == []
    assert read_size(output)[1] > width


def test_an_image_that_cannot_be_read_is_a_remark(tree: ImageTree, tmp_path: Path) -> None:
    file = tree.add_npz("sa_1_features.npz", features("sa_1", image_shape=None))
    write_bomb(tree.root / "sa_1.png")
    (remark,) = save_features_preview([file], tmp_path / "sheet.png")
    assert remark.startswith(f"sa_1_features.npz: drawn without its image: {tree.root}/sa_1.png: too many pixels")


def test_a_file_of_any_name_and_of_a_tiny_image(tree: ImageTree, tmp_path: Path) -> None:
    file = tree.add_npz("any name.npz", features("x", image_shape=np.array([1, 5000, 3])))
    (remark,) = save_features_preview([file], tmp_path / "sheet.png")
    assert remark == "any name.npz: no image found, drawn without"


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"P4_S16": None}, r"sa_1_features\.npz: it has no P4_S16; give features files"),
        ({"P4_S16": None, "P5_S32": None}, "it has no P4_S16 and no P5_S32"),
        ({"P5_S32": np.zeros((1, 256, 64, 64), "f4")}, r"P5_S32 is no map of finite features of shape \(1, 256, 32"),
        ({"P4_S16": np.zeros((1, 256, 64, 64), "u1")}, "P4_S16 is no map of finite features"),
        ({"P4_S16": np.full((1, 256, 64, 64), np.inf, "f4")}, "P4_S16 is no map of finite features"),
    ],
)
def test_what_is_no_features_file_is_named(tree: ImageTree, tmp_path: Path, arrays: Any, text: str) -> None:
    file = tree.add("sa_1", **arrays)
    with pytest.raises(MvtkError, match=text):
        save_features_preview([file], tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_nothing_is_overwritten_unasked_and_no_input_ever(tree: ImageTree, tmp_path: Path) -> None:
    file = tree.add("sa_1")
    output = tmp_path / "sheet.png"
    save_features_preview([file], output)
    with pytest.raises(MvtkError, match=r"sheet\.png exists already; use --overwrite to replace it"):
        save_features_preview([file], output)
    with pytest.raises(OptionError, match="is an input"):
        save_features_preview([file], file, overwrite=True)
    with pytest.raises(MvtkError, match="gone: no such folder; give the folder with the images"):
        save_features_preview([file], output, images=tmp_path / "gone", overwrite=True)
