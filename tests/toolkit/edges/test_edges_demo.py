"""The demonstration input of the edges commands: annotations that are right, and features files to bring up to date."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_utils

from tests.datasets import tree_hash
from toolkit.annotations.sa1b import load_sa1b
from toolkit.core.errors import MissingExtraError, MvtkError
from toolkit.dataset.demo import scenes
from toolkit.edges.demo import PHOTOGRAPHS, main, write_demo
from toolkit.npz import check_npz, read_npz

NAMES = ["sa_1", "sa_2", "sa_3", "sa_4"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("skimage")
    output = tmp_path_factory.mktemp("edges-demo") / "new"
    assert write_demo(output) == len(NAMES)
    return output


def record(demo: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((demo / f"{name}.json").read_text())
    return content


def test_each_photograph_has_an_annotation_and_a_features_file(demo: Path) -> None:
    assert sorted(path.name for path in demo.iterdir()) == sorted(
        ["extracted", "samples.txt", *(f"{name}.{suffix}" for name in NAMES for suffix in ("jpg", "json"))]
    )
    assert sorted(path.name for path in (demo / "extracted").iterdir()) == [f"{name}_features.npz" for name in NAMES]
    assert sum(path.stat().st_size for path in demo.rglob("*")) < 22e6


def test_masks_together_are_those_of_the_scenes(demo: Path) -> None:
    masks_hw = {scene.stem: scene.mask_hw for _, scene in scenes()}
    counts = []
    for name, stem in zip(NAMES, PHOTOGRAPHS, strict=True):
        annotation = load_sa1b(demo / f"{name}.json")
        counts.append(len(annotation.masks))
        total_hw = sum(annotation.masks.mask_hw(index).astype(int) for index in range(len(annotation.masks)))
        np.testing.assert_array_equal(total_hw, masks_hw[stem])
        with Image.open(demo / f"{name}.jpg") as image:
            assert (image.mode, image.size) == ("RGB", (annotation.width, annotation.height))
    assert counts == [12, 35, 1, 198]


def test_records_have_the_keys_and_the_boxes_of_sa1b(demo: Path, shared_data: Path) -> None:
    real = json.loads((shared_data / "sa1b/tfds_excerpt/sa_000020/sa_226381.json").read_text())
    made = record(demo, "sa_2")
    assert made.keys() == real.keys()
    assert made["image"].keys() == real["image"].keys()
    assert list(made["annotations"][0]) == list(real["annotations"][0])


@pytest.mark.parametrize("name", NAMES)
def test_facts_of_each_mask_are_those_of_its_pixels(demo: Path, name: str) -> None:
    masks = load_sa1b(demo / f"{name}.json").masks
    annotations = record(demo, name)["annotations"]
    assert len({annotation["id"] for annotation in annotations}) == len(masks)
    for index, annotation in enumerate(annotations):
        rle = annotation["segmentation"]
        assert annotation["area"] == mask_utils.area(rle)
        assert annotation["bbox"] == (mask_utils.toBbox(rle) - [0, 0, 1, 1]).tolist()
        ((x, y),) = annotation["point_coords"]
        assert masks.mask_hw(index)[int(y), int(x)]
        assert annotation["crop_box"] == [0, 0, *reversed(rle["size"])]


def test_features_files_are_sound_and_their_edge_maps_out_of_date(demo: Path) -> None:
    with_256 = []
    for name in NAMES:
        path = demo / "extracted" / f"{name}_features.npz"
        check = check_npz(path, "features")
        assert check.problems == ()
        arrays = read_npz(path)
        image = record(demo, name)["image"]
        assert arrays["image_id"].item() == name
        assert arrays["image_shape"].tolist() == [image["height"], image["width"], 3]
        assert not arrays.keys() & {"edge_flag", "edge_version"}
        edges = {key: array for key, array in arrays.items() if key.startswith("edge_")}
        assert {"edge_64x64", "edge_32x32"} <= edges.keys()
        assert not any(array.any() for array in edges.values())
        with_256.append("edge_256x256" in edges)
    assert with_256 == [True, False, True, False]


def test_it_is_the_same_every_time(demo: Path, tmp_path: Path) -> None:
    write_demo(tmp_path)
    assert tree_hash(tmp_path) == tree_hash(demo)


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(MvtkError, match=r": not empty; give a new or an empty folder"):
        write_demo(tmp_path)
    assert main([str(tmp_path)]) == 3
    assert capsys.readouterr().err == f"error: {tmp_path}: not empty; give a new or an empty folder\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_nothing_is_written_where_scikit_image_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(MissingExtraError, match=r"scikit-image is not installed; .* '\.\[demo\]'"):
        write_demo(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_usage_and_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().err == "usage: python -m toolkit.edges.demo OUT\n"
    pytest.importorskip("skimage")
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"4 photographs with annotations and features files: {tmp_path}\n"
