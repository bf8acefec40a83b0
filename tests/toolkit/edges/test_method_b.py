"""Method B against the documented algorithm: equal to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st
from numpy.typing import NDArray
from pycocotools import mask as mask_utils

from tests.documented_edges import annotation_json, decoded, documented_edges, documented_extract, encoded
from toolkit.annotations.sa1b import load_sa1b
from toolkit.core.errors import MvtkError, OptionError
from toolkit.edges import extract_edges_method_b
from toolkit.edges.method_b import SIDES, scaled_edge_maps


def write(path: Path, segmentations: list[Any], height: int, width: int) -> Path:
    path.write_text(json.dumps(annotation_json(segmentations, height, width)))
    return path


def assert_equal(maps: dict[Any, NDArray[np.uint8]], expected: dict[Any, NDArray[np.uint8]]) -> None:
    assert list(maps) == ["original", 256, 64, 32]
    for key, edge_map in maps.items():
        assert edge_map.dtype == np.uint8
        assert edge_map.flags.c_contiguous
        np.testing.assert_array_equal(edge_map, expected[key], err_msg=str(key))


def assert_documented(folder: Path, masks_hw: list[NDArray[np.uint8]], kernel_size: int) -> None:
    height, width = masks_hw[0].shape
    path = write(folder / "sa_1.json", [encoded(mask_hw) for mask_hw in masks_hw], height, width)
    maps = extract_edges_method_b(path, kernel_size)
    assert_equal(maps, documented_edges(masks_hw, height, width, kernel_size))
    scaled = scaled_edge_maps(load_sa1b(path).masks, kernel_size, (32, 256))
    assert list(scaled) == [32, 256]
    assert all((scaled[side] == maps[side]).all() for side in scaled)


@st.composite
def images_of_masks(draw: st.DrawFn) -> list[NDArray[np.uint8]]:
    """Masks of noise, of blocks, empty and full, in one image of any small size."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    noise = np_st.arrays(np.uint8, (height, width), elements=st.integers(0, 1))

    @st.composite
    def blocks(draw: st.DrawFn) -> NDArray[np.uint8]:
        mask_hw = np.full((height, width), draw(st.integers(0, 1)), np.uint8)
        for _ in range(draw(st.integers(0, 3))):
            top, left = draw(st.integers(0, height)), draw(st.integers(0, width))
            mask_hw[top : top + draw(st.integers(0, height)), left : left + draw(st.integers(0, width))] ^= 1
        return mask_hw

    return draw(st.lists(noise | blocks(), min_size=1, max_size=4))


@given(masks_hw=images_of_masks(), kernel_size=st.integers(1, 12))
@settings(max_examples=300, deadline=None)
def test_any_masks_and_kernel(
    tmp_path_factory: pytest.TempPathFactory, masks_hw: list[NDArray[np.uint8]], kernel_size: int
) -> None:
    assert_documented(tmp_path_factory.getbasetemp(), masks_hw, kernel_size)


def blobs(height: int, width: int, count: int, seed: int) -> list[NDArray[np.uint8]]:
    generator = np.random.default_rng(seed)
    masks = []
    for _ in range(count):
        noise = cv2.GaussianBlur(generator.standard_normal((height, width), dtype=np.float32), (0, 0), 5)
        masks.append((noise > noise.std() * generator.uniform(0.3, 2)).astype(np.uint8))
    return masks


@pytest.mark.parametrize(
    ("height", "width"),
    [
        (256, 256),
        (255, 700),
        (700, 255),
        (512, 1024),
        (300, 257),
        (480, 640),
        (31, 900),
        (64, 64),
        (1, 500),
        (977, 613),
    ],
)
@pytest.mark.parametrize("kernel_size", [1, 2, 3, 5, 8])
def test_sizes_around_those_of_the_scales(tmp_path: Path, height: int, width: int, kernel_size: int) -> None:
    assert_documented(tmp_path, blobs(height, width, 3, seed=height + kernel_size), kernel_size)


@pytest.mark.parametrize("kernel_size", [41, 64, 65, 66, 101])
def test_a_kernel_larger_than_the_image(tmp_path: Path, kernel_size: int) -> None:
    masks = [np.zeros((40, 30), np.uint8) for _ in range(3)]
    masks[0][5, 6] = 1
    masks[1][-1, -1] = 1
    masks[2][:, 10:12] = 1
    for mask_hw in masks:
        assert_documented(tmp_path, [mask_hw], kernel_size)


@pytest.mark.parametrize("kernel_size", [63, 64, 65, 66, 67, 90])
def test_large_kernels(tmp_path: Path, kernel_size: int) -> None:
    specks = [
        (mask_hw * (np.random.default_rng(5).random((310, 260)) < 0.001)).astype(np.uint8)
        for mask_hw in blobs(310, 260, 2, 1)
    ]
    assert_documented(tmp_path, specks, kernel_size)


def test_a_gigantic_kernel_costs_no_more_than_a_large_one(tmp_path: Path) -> None:
    mask_hw = np.zeros((60, 80), np.uint8)
    mask_hw[0, 0] = 1
    path = write(tmp_path / "sa_1.json", [encoded(mask_hw)], 60, 80)
    assert all(edge_map.all() for edge_map in extract_edges_method_b(path, 10**12).values())


def test_masks_at_the_border_empty_and_full(tmp_path: Path) -> None:
    height, width = 90, 120
    border = np.zeros((height, width), np.uint8)
    border[0, :] = border[:, 0] = border[-1, 50:] = border[20:40, -1] = 1
    corner = np.zeros((height, width), np.uint8)
    corner[0, 0] = 1
    empty, full = np.zeros((height, width), np.uint8), np.ones((height, width), np.uint8)
    stripes = np.zeros((height, width), np.uint8)
    stripes[:, ::2] = 1
    for masks in (
        [border],
        [corner],
        [empty],
        [full],
        [stripes],
        [full, corner, empty, full, border],
        [empty, stripes],
    ):
        for kernel_size in (1, 2, 3, 4, 7):
            assert_documented(tmp_path, masks, kernel_size)


def test_an_image_without_annotations_has_no_edges(tmp_path: Path) -> None:
    maps = extract_edges_method_b(write(tmp_path / "sa_1.json", [], 60, 80))
    assert maps["original"].shape == (60, 80)
    assert [maps[side].shape for side in SIDES] == [(256, 256), (64, 64), (32, 32)]
    assert not any(edge_map.any() for edge_map in maps.values())


def test_uncompressed_counts_and_polygons_count_as_their_masks(tmp_path: Path) -> None:
    height, width = 300, 400
    mask_hw = blobs(height, width, 1, seed=3)[0]
    flat = mask_hw.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate(([0], changes, [flat.size]))).tolist()
    crowd = {"size": [height, width], "counts": [0, *counts] if flat[0] else counts}
    polygon = [[10.5, 20.0, 200.2, 30.0, 150.0, 250.7, 60.0, 180.0], [300, 10, 390, 10, 390, 90]]
    runs = mask_utils.merge(mask_utils.frPyObjects(polygon, height, width))
    other = blobs(height, width, 1, seed=4)[0]
    path = write(tmp_path / "sa_1.json", [crowd, polygon, encoded(other)], height, width)
    expected = documented_edges([mask_hw, decoded(runs), other], height, width, 3)
    assert_equal(extract_edges_method_b(path), expected)


def test_a_wrong_kernel_size_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "sa_1.json", [], 60, 80)
    for kernel_size in (0, -3, 3.0, "3"):
        with pytest.raises(OptionError, match=f"kernel size {kernel_size!r}"):
            extract_edges_method_b(path, kernel_size)  # type: ignore[arg-type]


def test_a_bad_file_is_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "sa_1.json", [{"size": [60, 81], "counts": [60 * 81]}], 60, 80)
    with pytest.raises(MvtkError, match=r"sa_1\.json"):
        extract_edges_method_b(path)


def test_real_records_equal_the_documented_algorithm(shared_data: Path) -> None:
    paths = sorted((shared_data / "sa1b").rglob("*.json"))
    assert paths
    for path in paths:
        for kernel_size in (3, 5):
            assert_equal(extract_edges_method_b(path, kernel_size), documented_extract(path, kernel_size))
