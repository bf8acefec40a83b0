"""Imports from COCO: masks of every form of segmentation, classes, and files that are not as they should be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tests.builders import gradient, write_image
from tests.datasets import tree_hash
from toolkit.core.driver import run_to_end
from toolkit.core.errors import InputProblemsError, MvtkError, OptionError
from toolkit.core.report import Report
from toolkit.sam.coco_import import ImportCocoJob, ImportCocoOptions
from toolkit.sam.layout import read_layout
from toolkit.sam.samples import SamSample, SamSamples

HEIGHT, WIDTH = 30, 40
SQUARE = [[10, 6, 30, 6, 30, 18, 10, 18]]
CATEGORIES = [{"id": 3, "name": "cell"}, {"id": 7, "name": "debris"}]


def shape(image_id: Any, segmentation: Any, category_id: int | None = 3, **changes: Any) -> dict[str, Any]:
    given = {"image_id": image_id, "category_id": category_id, "segmentation": segmentation}
    return {"bbox": [1, 2, 10, 5], "iscrowd": 0, **given, **changes}


def image(number: int, name: str, **changes: Any) -> dict[str, Any]:
    return {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT, **changes}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "sub/c.png"):
        write_image(tmp_path / "images" / name, gradient(HEIGHT, WIDTH))
    return tmp_path


def write(root: Path, images: Sequence[Any], annotations: Sequence[Any], **changes: Any) -> Path:
    numbered = [{"id": number, **each} for number, each in enumerate(annotations, start=1)]
    content = {"images": images, "annotations": numbered, "categories": CATEGORIES, **changes}
    (root / "coco.json").write_text(json.dumps(content))
    return root / "coco.json"


def make(file: Path, **changes: Any) -> Report:
    given = {"annotations": file, "output": file.parent / "out", "images": file.parent / "images", "workers": 0}
    return run_to_end(ImportCocoJob(ImportCocoOptions(**{**given, **changes})))


def samples(folder: Path) -> Sequence[SamSample]:
    return SamSamples(read_layout(folder))


def test_every_form_of_segmentation(root: Path) -> None:
    mask_hw = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask_hw[3:9, 20:] = 1
    compressed = coco_mask.encode(np.asfortranarray(mask_hw))
    counts = [20 * HEIGHT + 3, *[6, HEIGHT - 6] * 19, 6, HEIGHT - 9]
    file = write(
        root,
        [image(1, "a.png")],
        [
            shape(1, SQUARE),
            shape(1, {"size": [HEIGHT, WIDTH], "counts": compressed["counts"].decode()}, 7),
            shape(1, {"size": [HEIGHT, WIDTH], "counts": counts}),
            shape(1, [[0, 0, 4, 0, 4, 4, 0, 4], [20, 20, 24, 20, 24, 24, 20, 24]]),
        ],
    )
    report = make(file)
    assert report.figures.done == 1
    [sample] = samples(root / "out")
    assert sample.class_ids.tolist() == [0, 1, 0, 0]
    assert sample.boxes_xyxy[0].tolist() == [10, 6, 30, 18]
    assert np.array_equal(sample.masks_nhw[1], mask_hw)
    assert np.array_equal(sample.masks_nhw[2], mask_hw)
    assert (sample.masks_nhw[3].sum(), sample.boxes_xyxy[3].tolist()) == (32, [0, 0, 24, 24])
    assert read_layout(root / "out").class_names == ("cell", "debris")


def test_objects_that_are_left_out_are_counted(root: Path) -> None:
    crowd = {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]}
    file = write(
        root,
        [image(1, "a.png"), image(2, "b.png"), image(4, "sub/c.png")],
        [
            shape(1, SQUARE),
            shape(1, []),
            shape(1, crowd, iscrowd=1),
            shape(1, [[50, 50, 60, 50, 60, 60]]),
            shape(2, None),
            shape(99, SQUARE),
        ],
    )
    report = make(file)
    assert (report.figures.done, report.figures.skip_reasons) == (1, {"no objects": 1, "not annotated": 1})
    assert report.figures.warnings == {
        "objects with a box only are left out": 1,
        "crowd regions are left out": 1,
        "an object without pixels is left out": 1,
    }
    filled = make(file, crowds=True, fill_boxes=True, output=root / "filled")
    assert filled.figures.warnings["boxes are filled: their masks are no outlines of objects"] == 2
    first, second = samples(root / "filled")
    assert first.masks_nhw.sum(axis=(1, 2)).tolist() == [240, 50, HEIGHT * WIDTH]
    assert second.boxes_xyxy[0] == pytest.approx([1, 2, 11, 7], abs=1e-4)


def test_classes(root: Path) -> None:
    file = write(root, [image(1, "a.png")], [shape(1, SQUARE), shape(1, [[0, 0, 9, 0, 9, 9, 0, 9]], None)])
    assert make(file).stats["classes"] == ["cell", "debris", "object"]
    assert samples(root / "out")[0].class_ids.tolist() == [0, 2]
    with pytest.raises(InputProblemsError) as caught:
        make(file, classes=("cell",), output=root / "fewer")
    assert caught.value.problems == ("'object'",)
    make(file, classes=("debris", "cell"), other_labels="skip", output=root / "fewer")
    assert samples(root / "fewer")[0].class_ids.tolist() == [1]


def test_names_of_samples_and_groups(root: Path) -> None:
    for name in ("day.rf.0a1.png", "day.rf.0b2.png", "sub/a.png"):
        write_image(root / "images" / name, gradient(HEIGHT, WIDTH))
    names = ["a.png", "sub/a.png", "day.rf.0a1.png", "day.rf.0b2.png"]
    file = write(root, [image(n, name) for n, name in enumerate(names)], [shape(n, SQUARE) for n in range(4)])
    report = make(file)
    assert [failure["reason"] for failure in report.failed] == ["there is another sample 'a'; use --ids number"]
    assert read_layout(root / "out").ids == ("a", "day.rf.0a1", "day.rf.0b2")
    assert read_layout(root / "out").groups == {"day.rf.0a1": "day", "day.rf.0b2": "day"}
    assert make(file, ids="number", output=root / "numbers").figures.done == 4
    assert read_layout(root / "numbers").ids == ("0", "1", "2", "3")


def test_an_image_that_is_listed_twice_is_one(root: Path) -> None:
    file = write(root, [image(1, "a.png"), image(2, "a.png")], [shape(1, SQUARE), shape(2, [[0, 0, 9, 0, 9, 9, 0, 9]])])
    assert make(file).figures.total == 1
    assert len(samples(root / "out")[0].masks_nhw) == 2


def test_every_image_that_fails_says_why_and_the_others_are_done(root: Path) -> None:
    short = {"size": [HEIGHT, WIDTH], "counts": [5, 5]}
    file = write(
        root,
        [
            image(1, "a.png"),
            image(2, "gone.png"),
            image(3, "b.png", width=99),
            image(4, "../../etc/passwd"),
            image(5, "sub/c.png"),
        ],
        [*(shape(number, SQUARE) for number in range(1, 5)), shape(5, short)],
    )
    report = make(file)
    assert report.figures.done == 1
    found = {failure["source"]: failure["reason"] for failure in report.failed}
    expected = {
        "gone": "image not found: 'gone.png' is not below",
        "b": "the image has 30x40 pixels (height x width), and the annotations are for 30x99",
        "image 4": "would lead out of the folder of the images",
        "c": "annotation 5: the counts sum to 10, the image has 1200 pixels",
    }
    assert found.keys() == expected.keys()
    for source, reason in expected.items():
        assert reason in found[source]


def test_files_that_are_no_coco_files(root: Path) -> None:
    file = write(root, [image(1, "a.png"), {"id": 2}], [{"id": 1}])
    with pytest.raises(InputProblemsError) as caught:
        make(file)
    assert caught.value.problems == (
        "images[1] (id 2): has no `file_name`",
        "annotations[0] (id 1): has no `image_id`",
    )
    file.write_text('{"images": [], "annotations": []}')
    with pytest.raises(MvtkError, match="it has no images"):
        make(file)
    write(root, [image(1, "a.png")], [shape(1, SQUARE, area=float("nan"))])
    with pytest.raises(MvtkError, match="write it again with whole numbers"):
        make(file)
    with pytest.raises(OptionError, match="there is no folder with images"):
        make(file, images=None)


def test_what_is_done_is_not_done_again(root: Path) -> None:
    file = write(root, [image(1, "a.png")], [shape(1, SQUARE)])
    make(file)
    before = tree_hash(root / "out")
    assert make(file).figures.skip_reasons == {"imported already": 1}
    assert tree_hash(root / "out") == before
    assert make(file, crowds=True).figures.failure_kinds == {"exists with other content": 1}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # NumPy 2 about pycocotools
def test_real_annotations(shared_data: Path, tmp_path: Path) -> None:
    file = shared_data / "coco128_subset/annotations/instances_train2017.json"
    report = make(file, images=shared_data / "coco128_subset/images", output=tmp_path / "out")
    assert report.figures.warnings == {"crowd regions are left out": 1}
    content = json.loads(file.read_bytes())
    names = {category["id"]: category["name"] for category in content["categories"]}
    layout = read_layout(tmp_path / "out")
    assert layout.class_names == tuple(names.values())
    expected = {f"{each['image_id']:012}": [] for each in content["annotations"]}
    for each in content["annotations"]:
        if not each["iscrowd"]:
            expected[f"{each['image_id']:012}"].append(each)
    for sample in SamSamples(layout):
        height, width = sample.image_hwc.shape[:2]
        for mask_hw, class_id, each in zip(sample.masks_nhw, sample.class_ids, expected[sample.id], strict=True):
            rle = coco_mask.merge(coco_mask.frPyObjects(each["segmentation"], height, width))
            assert np.array_equal(mask_hw, coco_mask.decode(rle))
            assert layout.class_names[class_id] == names[each["category_id"]]
