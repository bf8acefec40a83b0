"""NPZ files as model input: scale, layout and letterbox, by hand-computed values."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.builders import blob_mask, gradient
from toolkit.core.errors import MissingExtraError, MvtkError
from toolkit.images import letterbox
from toolkit.npz.pair_arrays import PreprocessError
from toolkit.npz.preprocess import preprocess_npz_array, preprocess_npz_for_yolo

RGB = gradient(24, 32)
MASK = blob_mask(24, 32)


def write(path: Path, image: NDArray[Any], mask: NDArray[Any]) -> Path:
    np.savez(path, image=image, mask=mask)
    return path


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    return tmp_path / "a.npz"


def test_uint8_image_and_mask_at_their_own_size(npz: Path) -> None:
    planes = preprocess_npz_array(write(npz, RGB, MASK), imgsz=None)
    assert planes.shape == (1, 4, 24, 32)
    assert planes.dtype == np.float32
    assert planes.flags.c_contiguous
    np.testing.assert_array_equal(planes[0, :3], RGB.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(planes[0, 3], MASK > 0)


def test_letterbox_pads_the_image_grey_and_the_mask_with_nothing(npz: Path) -> None:
    planes = preprocess_npz_array(write(npz, RGB, MASK), imgsz=64)[0]
    assert planes.shape == (4, 64, 64)
    for padding in (slice(0, 8), slice(56, 64)):
        np.testing.assert_array_equal(planes[:3, padding], np.float32(114) / np.float32(255))
        assert not planes[3, padding].any()
    expected = letterbox(RGB, 64, interpolation="bilinear", fill=114)
    np.testing.assert_array_equal(np.rint(planes[:3] * 255), expected.transpose(2, 0, 1))
    np.testing.assert_array_equal(planes[3, 8:56], (MASK > 0).repeat(2, axis=0).repeat(2, axis=1))


def test_the_default_side_is_640(npz: Path) -> None:
    assert preprocess_npz_array(write(npz, RGB, MASK)).shape == (1, 4, 640, 640)


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_16_bit_images_keep_their_depth(npz: Path, dtype: str) -> None:
    image = (RGB.astype(np.uint16) * 257 + 3 * (RGB < 200)).astype(dtype)
    planes = preprocess_npz_array(write(npz, image, MASK), imgsz=None)
    np.testing.assert_allclose(planes[0, :3], image.transpose(2, 0, 1) / 65535, atol=1e-7)
    padded = preprocess_npz_array(npz, imgsz=64)
    assert padded[0, 0, 0, 0] == np.float32(114 * 257) / np.float32(65535)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_images_in_range_stay_as_they_are(npz: Path, dtype: type) -> None:
    image = (RGB / 255).astype(dtype)
    planes = preprocess_npz_array(write(npz, image, MASK), imgsz=None)
    np.testing.assert_array_equal(planes[0, :3], image.transpose(2, 0, 1).astype(np.float32))
    assert preprocess_npz_array(npz, imgsz=64)[0, 0, 0, 0] == np.float32(114 / 255)


def test_bool_counts_as_0_and_1(npz: Path) -> None:
    planes = preprocess_npz_array(write(npz, RGB > 100, MASK > 0), imgsz=None)
    np.testing.assert_array_equal(planes[0, :3], (RGB > 100).transpose(2, 0, 1))
    np.testing.assert_array_equal(planes[0, 3], MASK > 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, np.float32])
def test_masks_of_0_and_1_are_used_as_they_are(npz: Path, dtype: type) -> None:
    planes = preprocess_npz_array(write(npz, RGB, (MASK > 0).astype(dtype)), imgsz=None)
    np.testing.assert_array_equal(planes[0, 3], MASK > 0)


def test_masks_above_1_are_scaled_by_dtype(npz: Path) -> None:
    graded = RGB[..., 0]
    planes = preprocess_npz_array(write(npz, RGB, graded), imgsz=None)
    np.testing.assert_array_equal(planes[0, 3], graded.astype(np.float32) / np.float32(255))
    planes = preprocess_npz_array(write(npz, RGB, graded.astype(np.uint16) * 257), imgsz=None)
    np.testing.assert_array_equal(planes[0, 3], graded.astype(np.float32) / np.float32(255))


def test_layouts(npz: Path) -> None:
    expected = preprocess_npz_array(write(npz, RGB, MASK), imgsz=None)
    chw = preprocess_npz_array(write(npz, RGB.transpose(2, 0, 1), MASK[..., None]), imgsz=None)
    np.testing.assert_array_equal(chw, expected)
    grey = preprocess_npz_array(write(npz, RGB[..., 0], MASK), imgsz=None)
    np.testing.assert_array_equal(grey, expected[:, [0, 3]])
    five = preprocess_npz_array(write(npz, RGB[..., [0, 1, 2, 0, 1]], MASK), imgsz=None)
    np.testing.assert_array_equal(five, expected[:, [0, 1, 2, 0, 1, 3]])


def test_an_image_that_fits_both_ways_is_channels_last(npz: Path) -> None:
    cube = np.random.default_rng(0).integers(0, 256, (5, 5, 5), dtype=np.uint8)
    planes = preprocess_npz_array(write(npz, cube, np.zeros((5, 5), np.uint8)), imgsz=None)
    np.testing.assert_array_equal(np.rint(planes[0, :5] * 255), cube.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("image", "mask", "expected"),
    [
        (
            RGB,
            MASK[:-1],
            "image of shape (24, 32, 3) and mask of 23 x 32 pixels do not fit together; expected an image",
        ),
        (RGB[None], MASK, "image of shape (1, 24, 32, 3) and mask of 24 x 32 pixels do not fit together"),
        (RGB, RGB, "mask of shape (24, 32, 3); expected HxW or HxWx1, not empty"),
        (RGB[:0], MASK[:0], "mask of shape (0, 32, 1); expected HxW or HxWx1, not empty"),
        (RGB.astype(np.int32), MASK, "image of dtype int32, whose range is not known; store it as uint8"),
        (RGB.astype(np.float32), MASK, "image holds floats from 0 to 255; scale them to 0 to 1"),
        (np.full_like(RGB, np.nan, np.float32), MASK, "image holds floats from nan to nan"),
        (RGB, MASK.astype(np.float64), "mask holds floats from 0 to 255; scale them to 0 to 1, or store them as uint8"),
        (RGB, MASK / np.float32(-255), "mask holds floats from -1 to"),
        (RGB, MASK.astype(np.int64), "mask of dtype int64, whose range is not known"),
        (RGB, -(MASK > 0).astype(np.int8), "mask of dtype int8, whose range is not known"),
    ],
)
def test_arrays_without_a_meaning(npz: Path, image: NDArray[Any], mask: NDArray[Any], expected: str) -> None:
    with pytest.raises(PreprocessError) as caught:
        preprocess_npz_array(write(npz, image, mask))
    assert str(caught.value).startswith(f"{npz}: {expected}")


def test_a_file_without_a_mask(npz: Path) -> None:
    np.savez(npz, image=RGB)
    with pytest.raises(MvtkError, match="holds no image with its mask"):
        preprocess_npz_array(npz)


def test_torch_gets_the_same_values(npz: Path) -> None:
    torch = pytest.importorskip("torch")
    tensor = preprocess_npz_for_yolo(write(npz, RGB, MASK), imgsz=64)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    np.testing.assert_array_equal(tensor.numpy(), preprocess_npz_array(npz, imgsz=64))


def test_without_torch_the_line_says_how_to_install_it(npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"torch is not installed; .* pip install '\.\[torch\]'"):
        preprocess_npz_for_yolo(write(npz, RGB, MASK))
    assert preprocess_npz_array(npz).shape == (1, 4, 640, 640)


def test_real_angiographies(shared_data: Path, tmp_path: Path) -> None:
    from toolkit.images import load_image, load_mask

    folder = shared_data / "coronary" / "arcade_stenosis_nnunet"
    image_hwc = load_image(folder / "imagesTr" / "sten_0000_0000.png").pixels
    mask_hw = load_mask(folder / "labelsTr" / "sten_0000.png").pixels
    planes = preprocess_npz_array(write(tmp_path / "a.npz", image_hwc, mask_hw))
    assert planes.shape == (1, 4, 640, 640)
    assert planes.min() >= 0
    assert planes.max() == 1
    assert abs(planes[0, 3].mean() - (mask_hw > 0).mean()) < 1e-3
