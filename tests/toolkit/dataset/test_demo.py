"""The demonstration input: real photographs, labels that are right, and a layout that can be converted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toolkit.annotations.yolo import boxes_to_xyxy, load_labels
from toolkit.annotations.yolo_data_yaml import find_data_yaml, load_data_yaml
from toolkit.annotations.yolo_layout import IMAGE_SUFFIXES, find_split_folders, index_labels
from toolkit.core.errors import MissingExtraError, MvtkError
from toolkit.core.listing import list_files
from toolkit.dataset.demo import main, write_demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("skimage")
    output = tmp_path_factory.mktemp("demo")
    assert write_demo(output) == 11
    return output


def images_by_split(demo: Path) -> dict[str, list[str]]:
    folders = find_split_folders(demo / "photographs", "images", ["train", "val", "test"])
    return {split: list_files(folder, IMAGE_SUFFIXES) for split, folder in folders.items()}


def read_pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def labels_by_image(demo: Path) -> dict[str, Path]:
    mapping: dict[str, str] = json.loads((demo / "mapping.json").read_text())
    index = index_labels(demo / "annotations")
    return {image: demo / "annotations" / index[Path(label).stem][0] for label, image in mapping.items()}


def test_each_image_has_one_label_file_and_a_mask_of_its_size(demo: Path) -> None:
    labels = labels_by_image(demo)
    splits = images_by_split(demo)
    assert sorted(labels) == sorted(splits["train"] + splits["val"])
    for split, names in splits.items():
        for name in names:
            image = read_pixels(demo / "photographs" / "images" / split / name)
            mask_hw = read_pixels(demo / "masks" / f"{Path(name).stem}_seg.png")
            assert mask_hw.shape == image.shape[:2]
            assert set(np.unique(mask_hw)) <= {0, 255}
            assert labels[name].parent.name == split


def test_labels_have_no_problems_and_one_image_has_no_objects(demo: Path) -> None:
    data_yaml = find_data_yaml(demo / "annotations")
    assert data_yaml is not None
    names = load_data_yaml(data_yaml).names
    counts = {}
    for image, path in labels_by_image(demo).items():
        parsed = load_labels(path, class_count=len(names))
        assert parsed.problems == ()
        counts[image] = (len(parsed.boxes), {names[box.class_id] for box in parsed.boxes})
    assert counts["coins_1.png"] == (12, {"coin"})
    assert counts["coins_2.png"] == (12, {"coin"})
    assert counts["page.png"] == (7, {"text line"})
    assert [counts[name][0] for name in ("cell.png", "retina.jpg", "motorcycle.png", "grass.jpg")] == [1, 1, 1, 0]
    assert {name for _, found in counts.values() for name in found} == set(names.values())


@pytest.mark.parametrize("name", ["coins_1.png", "cell.png", "page.png", "motorcycle.png"])
def test_boxes_fit_the_mask_they_were_made_from(demo: Path, name: str) -> None:
    mask_hw = read_pixels(demo / "masks" / f"{Path(name).stem}_seg.png") > 0
    height, width = mask_hw.shape
    covered = np.zeros_like(mask_hw)
    boxes = load_labels(labels_by_image(demo)[name]).boxes
    for left, top, right, bottom in np.rint(boxes_to_xyxy(boxes, width, height)).astype(int):
        inside = mask_hw[top:bottom, left:right]
        assert inside[0].any()
        assert inside[-1].any()
        assert inside[:, 0].any()
        assert inside[:, -1].any()
        covered[top:bottom, left:right] = True
    assert covered[mask_hw].all()


def test_pieces_of_one_photograph_are_in_one_split(demo: Path) -> None:
    photographs = {
        split: {Path(name).stem.rstrip("_0123456789") for name in names}
        for split, names in images_by_split(demo).items()
    }
    assert not photographs["train"] & photographs["val"]


def test_grey_and_colour_and_both_formats_are_there(demo: Path) -> None:
    kinds = {(path.suffix, read_pixels(path).ndim) for path in (demo / "photographs").rglob("*.*")}
    assert kinds == {(".png", 2), (".png", 3), (".jpg", 2), (".jpg", 3)}


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(MvtkError, match=r": not empty; give a new or an empty folder"):
        write_demo(tmp_path)
    assert main([str(tmp_path)]) == 3
    assert capsys.readouterr().err == f"error: {tmp_path}: not empty; give a new or an empty folder\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(MvtkError, match=r"mine\.txt: cannot list the folder: Not a directory"):
        write_demo(tmp_path / "mine.txt")


def test_the_extra_is_named_where_scikit_image_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(MissingExtraError, match=r"scikit-image is not installed; .* '\.\[demo\]'"):
        write_demo(tmp_path)


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().err == "usage: python -m toolkit.dataset.demo OUT\n"
