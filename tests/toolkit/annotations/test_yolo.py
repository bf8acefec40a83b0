"""YOLO label files and data YAMLs: what is accepted, and the exact text of what is not."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from toolkit.annotations.yolo import (
    LabelProblem,
    YoloBox,
    YoloPolygon,
    boxes_to_xyxy,
    format_labels,
    load_labels,
    parse_labels,
)
from toolkit.annotations.yolo_data_yaml import find_data_yaml, format_data_yaml, load_data_yaml
from toolkit.core.errors import InputProblemsError, MvtkError

millionths = st.integers(0, 1_000_000)


@st.composite
def exported_boxes(draw: st.DrawFn) -> YoloBox:
    """A box inside the image whose values have six decimals, as exports write them."""
    width, height = draw(st.integers(1, 1_000_000)), draw(st.integers(1, 1_000_000))
    x_center = draw(st.integers(math.ceil(width / 2), 1_000_000 - math.ceil(width / 2) + 1))
    y_center = draw(st.integers(math.ceil(height / 2), 1_000_000 - math.ceil(height / 2) + 1))
    class_id = draw(st.integers(0, 79))
    return YoloBox(class_id, x_center / 1e6, y_center / 1e6, width / 1e6, height / 1e6)


@given(st.lists(exported_boxes(), max_size=8, unique=True))
def test_parsing_what_was_formatted_gives_the_same_boxes(boxes: list[YoloBox]) -> None:
    parsed = parse_labels(format_labels(boxes), class_count=80)
    assert parsed.problems == ()
    assert parsed.boxes == boxes


@given(st.binary(max_size=200))
def test_any_bytes_give_problems_and_never_an_exception(content: bytes) -> None:
    parsed = parse_labels(content, class_count=3)
    assert all(problem.line >= 1 for problem in parsed.problems)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "0 0.5 0.5 0.2",
            "4 fields: a box has 5 (class x_center y_center width height), a polygon 1 + 2 a point, 3 or more",
        ),
        ("0 0.5 0.5 0.2 0.2 0.9", "6 fields: a sixth field is a prediction's confidence, a label has 5"),
        (
            "0 .1 .1 .2 .2 .3 .3 .4",
            "8 fields: a box has 5 (class x_center y_center width height), a polygon 1 + 2 a point, 3 or more",
        ),
        ("0 0.5 x 0.2 0.2", "'x' is not a number"),
        ("0 0.5 1_0 0.2 0.2", "'1_0' is not a number"),
        ("0 0.5 ٣ 0.2 0.2", "'٣' is not a number"),
        ("0 0.5 nan 0.2 0.2", "'nan' is not a finite number"),
        ("0 0.5 -inf 0.2 0.2", "'-inf' is not a finite number"),
        ("1.5 0.5 0.5 0.2 0.2", "class '1.5' is not a whole number from 0 on"),
        ("-1 0.5 0.5 0.2 0.2", "class '-1' is not a whole number from 0 on"),
        ("nan 0.5 0.5 0.2 0.2", "class 'nan' is not a whole number from 0 on"),
        ("coin 0.5 0.5 0.2 0.2", "class 'coin' is not a whole number from 0 on"),
        ("2 0.5 0.5 0.2 0.2", "class '2' is beyond the 2 names"),
        ("0 320 0.5 0.2 0.2", "x_center 320 is outside [0, 1]"),
        ("0 0.5 -0.2 0.2 0.2", "y_center -0.2 is outside [0, 1]"),
        ("0 0.5 0.5 0 0.2", "width 0 is not above 0"),
        ("0 0.5 0.5 0.2 -0.005", "height -0.005 is not above 0"),
        ("0 0.5 0.5 0.2 -0.2", "height -0.2 is outside [0, 1]"),
        ("0 0.1 0.5 0.4 0.2", "the box spans -0.1000 to 0.3000 of the image's width, outside [0, 1]"),
        ("0 0.5 0.9 0.2 0.4", "the box spans 0.7000 to 1.1000 of the image's height, outside [0, 1]"),
        ("0 0 0 0.5 2 1 1.5", "coordinate 2 (and 1 more) is outside [0, 1]"),
        ("0 0.1 0.1 0.5 0.1 0.9 0.1", "the polygon has no area"),
        ("0 " + "7" * 60 + "x 0.5 0.5 0.5", "'77777777777777777777777…' is not a number"),
    ],
)
def test_a_wrong_line_is_reported_with_its_number_and_left_out(line: str, problem: str) -> None:
    parsed = parse_labels(f"1 0.5 0.5 0.25 0.25\n\n{line}\n", class_count=2)
    own = [(found.line, found.text) for found in parsed.problems if "a file holds one kind" not in found.text]
    assert own == [(3, problem)]
    assert parsed.boxes == [YoloBox(1, 0.5, 0.5, 0.25, 0.25)]
    assert parsed.polygons == []


def test_all_problems_of_a_file_are_reported_together() -> None:
    parsed = parse_labels("7 2 y 0.1 0.1\n0 0.5 0.5 0.1\n0 3 4 0 0.1\n", class_count=1)
    assert parsed.problems == (
        LabelProblem(1, "class '7' is beyond the 1 name"),
        LabelProblem(1, "'y' is not a number"),
        LabelProblem(2, parsed.problems[2].text),
        LabelProblem(3, "x_center 3 is outside [0, 1]"),
        LabelProblem(3, "y_center 4 is outside [0, 1]"),
        LabelProblem(3, "width 0 is not above 0"),
    )


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf0 0.5 0.5 0.25 0.25",
        b"0 0.5 0.5 0.25 0.25  \r\n\r\n",
        b"\n\t0\t0.5\t5e-1 0.25 .25\r",
        b"0.0 0.5 0.5 0.25 0.25\n",
    ],
)
def test_what_exports_write_differently_is_read_the_same(content: bytes) -> None:
    parsed = parse_labels(content, class_count=1)
    assert parsed.problems == ()
    assert parsed.boxes == [YoloBox(0, 0.5, 0.5, 0.25, 0.25)]


@pytest.mark.parametrize("content", [b"", b"\n \r\n", b"\xef\xbb\xbf"])
def test_a_file_without_rows_is_a_background_image(content: bytes) -> None:
    parsed = parse_labels(content)
    assert (parsed.boxes, parsed.polygons, parsed.problems) == ([], [], ())


def test_bytes_that_are_not_utf8_are_a_problem_of_their_line() -> None:
    parsed = parse_labels(b"0 0.5 0.5 0.1 0.1\n0 0.5 \xff 0.1 0.1\n")
    assert parsed.problems == (LabelProblem(2, "not UTF-8 text"),)
    assert len(parsed.boxes) == 1


def test_a_pixel_beyond_the_border_of_a_small_image_is_normal() -> None:
    assert parse_labels("0 0.5 0.5 1.01 1.015\n").problems == (LabelProblem(1, "height 1.015 is outside [0, 1]"),)
    assert parse_labels("0 0.5 0.5 1.01 1.01\n").problems == ()


def test_repeated_rows_are_found_as_ultralytics_finds_them() -> None:
    parsed = parse_labels("0 0.5 0.5 0.1 0.1\n1 0.5 0.5 0.1 0.1\n0 0.50 0.500000001 .1 .1\n")
    assert parsed.problems == (LabelProblem(3, "repeats line 1", "dropped"),)
    assert [box.class_id for box in parsed.boxes] == [0, 1]


def test_boxes_and_polygons_in_one_file_are_a_problem_reported_once() -> None:
    box, polygon = "0 0.5 0.5 0.1 0.1\n", "0 0.1 0.1 0.5 0.1 0.5 0.9\n"
    assert parse_labels(polygon + box * 2).problems == (
        LabelProblem(2, "a box row, but line 1 is a polygon row: a file holds one kind"),
        LabelProblem(3, "repeats line 2", "dropped"),
    )


def test_a_polygon_has_its_corners_and_a_bounding_box() -> None:
    [polygon] = parse_labels("3 0.25 0.5 0.75 0.5 0.5 1.0\n").polygons
    assert polygon == YoloPolygon(3, ((0.25, 0.5), (0.75, 0.5), (0.5, 1.0)))
    assert polygon.bounding_box() == YoloBox(3, 0.5, 0.75, 0.5, 0.5)


def test_boxes_become_pixel_corners() -> None:
    boxes = [YoloBox(0, 0.5, 0.5, 1.0, 1.0), YoloBox(1, 0.25, 0.75, 0.5, 0.1)]
    corners_xyxy = boxes_to_xyxy(boxes, width_px=640, height_px=200)
    assert corners_xyxy.dtype == np.float32
    np.testing.assert_allclose(corners_xyxy, [[0, 0, 640, 200], [0, 140, 320, 160]], rtol=1e-6)
    assert boxes_to_xyxy([], 640, 200).shape == (0, 4)


def test_a_missing_label_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(MvtkError, match=r"gone\.txt: cannot read: No such file or directory"):
        load_labels(tmp_path / "gone.txt")


@pytest.mark.parametrize(
    ("folder", "count"),
    [
        ("coronary/arcade_stenosis_nnunet/labels_yolo_derived", 3),
        ("coco128_subset/labels", 7),
        ("coco128_subset/labels_seg", 8),
        ("roboflow_yolo/wildlife/test/labels", 7),
        ("label_studio/test_import_yolo_data_unif_dims/labels", 5),
    ],
)
def test_real_exports_have_no_problems(shared_data: Path, folder: str, count: int) -> None:
    paths = sorted((shared_data / folder).rglob("*.txt"))
    assert len(paths) == count
    assert {path.name: load_labels(path).problems for path in paths} == {path.name: () for path in paths}


class_names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.dictionaries(st.integers(0, 30), class_names, min_size=1, max_size=8),
    st.lists(st.sampled_from(["train", "val", "test", "extra"]), unique=True),
    st.integers(1, 5),
    st.text(max_size=40),
)
@example(names={0: "\x85"}, splits=["train"], channels=4, comment="")
def test_a_formatted_data_yaml_reads_back(
    names: dict[int, str], splits: list[str], channels: int, comment: str
) -> None:
    content = yaml.safe_load(format_data_yaml(names, splits, channels=channels, comment=comment))
    assert content["names"] == {index: names.get(index, f"class_{index}") for index in range(max(names) + 1)}
    assert content["nc"] == max(names) + 1
    assert content["channels"] == channels
    assert {key: content[key] for key in splits} == {split: f"images/{split}" for split in splits}
    assert {"train", "val"} <= content.keys()
    assert "path" not in content


def test_names_that_yaml_would_read_as_something_else_are_quoted() -> None:
    names = dict(enumerate(["yes", "1", "t9+", "a: b", "null", "éclair", "# no", "", "2020-01-01", "{x}", "'"]))
    text = format_data_yaml(names, ["train", "val"], comment="Class names\nof the labels")
    assert yaml.safe_load(text)["names"] == names
    assert text.splitlines()[:4] == ["# Class names", "# of the labels", "train: images/train", "val: images/val"]


def test_a_data_yaml_is_read(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text("train: [a, b]\nvalidation: ../valid/images\ntest:\nnc: '2'\nnames: [coin, 7]\nchannels: 4\n")
    data = load_data_yaml(path)
    assert data.names == {0: "coin", 1: "7"}
    assert data.splits == {"train": ["a", "b"], "val": ["../valid/images"]}
    assert (data.channels, data.class_count) == (4, 2)


def test_names_may_have_gaps_and_may_be_counted_only(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text("names: {13: stop sign, '1': person}\n")
    assert load_data_yaml(path).names == {1: "person", 13: "stop sign"}
    assert load_data_yaml(path).class_count == 14
    path.write_text("nc: 2\n")
    assert load_data_yaml(path).names == {0: "class_0", 1: "class_1"}


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("[]", ["not a mapping of keys to values"]),
        ("", ["not a mapping of keys to values"]),
        ("train: images\n", ["names: missing, and so is nc"]),
        ("names: coin\n", ["names: not a list, nor a mapping from class ids"]),
        ("names: []\n", ["names: empty"]),
        ("names: [a, [b], ]\n", ["names: class 1 has no name"]),
        ("names: {0: a, 1: }\n", ["names: class 1 has no name"]),
        ("names: {0: a, '0': b}\n", ["names: class 0 is given twice"]),
        ("names: {-1: a, x: b, 1.5: c, yes: d}\n", [
            "names: '-1' is not a class id, a whole number from 0 on",
            "names: 'x' is not a class id, a whole number from 0 on",
            "names: '1.5' is not a class id, a whole number from 0 on",
            "names: 'True' is not a class id, a whole number from 0 on",
        ]),
        ("nc: 3\nnames: [a, b]\n", ["nc: 3, but there are 2 names"]),
        ("nc: 10000000000\n", ["nc: '10000000000' is not a whole number from 1 to 100000"]),
        ("nc: 1.5\ntrain: 3\nval: [a, 1]\nchannels: 0\n", [
            "nc: '1.5' is not a whole number from 1 to 100000",
            "train: not a path or a list of paths",
            "val: not a path or a list of paths",
            "channels: '0' is not a whole number from 1 on",
        ]),
    ],
)  # fmt: skip
def test_all_problems_of_a_data_yaml_are_reported_together(tmp_path: Path, text: str, problems: list[str]) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(text)
    with pytest.raises(InputProblemsError) as caught:
        load_data_yaml(path)
    assert caught.value.message == str(path)
    assert list(caught.value.problems) == problems


def test_a_key_given_twice_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text("nc: 2\nnames:\n  0: coin\n  0: cell\n")
    with pytest.raises(MvtkError, match=r"data\.yaml:4: not valid YAML: the key 0 is given twice"):
        load_data_yaml(path)


def test_the_data_yaml_is_found_by_name_or_by_its_names_key(tmp_path: Path) -> None:
    assert find_data_yaml(tmp_path) is None
    (tmp_path / "notes.yaml").write_text("about: names\n")
    assert find_data_yaml(tmp_path) is None
    (tmp_path / "wildlife.yaml").write_text("nc: 1\nnames: [bear]\n")
    assert find_data_yaml(tmp_path) == tmp_path / "wildlife.yaml"
    (tmp_path / "dataset.yaml").write_text("names: [bear]\n")
    assert find_data_yaml(tmp_path) == tmp_path / "dataset.yaml"
    (tmp_path / "data.yaml").write_text("names: [bear]\n")
    with pytest.raises(MvtkError, match=r"several data YAMLs: data\.yaml, dataset\.yaml; keep the one that is meant"):
        find_data_yaml(tmp_path)


def test_real_data_yamls_are_read(shared_data: Path) -> None:
    assert load_data_yaml(shared_data / "coco128_subset/data_detect.yaml").class_count == 80
    assert load_data_yaml(shared_data / "coco128_subset/data_seg.yaml").names[13] == "stop sign"
    wildlife = find_data_yaml(shared_data / "roboflow_yolo/wildlife")
    assert wildlife is not None
    assert load_data_yaml(wildlife).names == {0: "bear", 1: "deer", 2: "person"}


def run_ultralytics(script: str, arguments: list[str], folder: Path) -> str:
    """Run a script that imports Ultralytics, whose import writes settings and changes global state."""
    pytest.importorskip("ultralytics")
    (folder / "Ultralytics").mkdir()
    for name in ("Arial.ttf", "Arial.Unicode.ttf"):  # found here, they are not downloaded
        (folder / "Ultralytics" / name).touch()
        (folder / name).touch()
    environment = {**os.environ, "YOLO_CONFIG_DIR": str(folder), "YOLO_OFFLINE": "1", "MPLCONFIGDIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("splits", [["train", "val", "test"], ["train"], ["test"]])
def test_ultralytics_reads_the_formatted_data_yaml(tmp_path: Path, splits: list[str]) -> None:
    root, config = tmp_path / "dataset", tmp_path / "config"
    config.mkdir()
    for split in splits:
        (root / "images" / split).mkdir(parents=True)
    names = {0: "yes", 1: "a: b", 3: "t9+ é"}
    (root / "data.yaml").write_text(format_data_yaml(names, splits, channels=4, comment="x"), encoding="utf-8")
    script = """
import json, sys
from ultralytics.data.utils import check_det_dataset
data = check_det_dataset(sys.argv[1], autodownload=False)
print(json.dumps({key: data.get(key) for key in ("names", "nc", "channels", "train", "val", "test")}))
"""
    read = json.loads(run_ultralytics(script, [str(root / "data.yaml")], config))
    assert read["names"] == {"0": "yes", "1": "a: b", "2": "class_2", "3": "t9+ é"}
    assert (read["nc"], read["channels"]) == (4, 4)
    for split in ("train", "val", "test"):
        assert read[split] == (str(root / "images" / split) if split in splits else None)


LABELS_FOR_ULTRALYTICS = [
    "",
    "0 0.5 0.5 0.2 0.2\n",
    "0 0.5 0.5 0.2\n",
    "0 0.5 0.5 0.2 0.2 0.9\n",
    "x 0.5 0.5 0.2 0.2\n",
    "0 nan 0.5 0.2 0.2\n",
    "1.5 0.5 0.5 0.2 0.2\n",
    "-1 0.5 0.5 0.2 0.2\n",
    "2 0.5 0.5 0.2 0.2\n",
    "0 1.005 0.5 0.01 0.2\n",
    "0 1.02 0.5 0.01 0.2\n",
    "0 -0.005 0.5 0.02 0.2\n",
    "0 -0.02 0.5 0.02 0.2\n",
    "0 0.5 0.5 -0.005 0.2\n",
    "0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n",
    "0 0.5 0.5 0.2 0.2\n0 0.50000000001 0.5 0.2 0.2\n",
    "0 0.1 0.1 0.5 0.1 0.5 0.9\n",
    "0 0.1 0.1 0.5 0.1 0.5 0.9\n0 0.5 0.5 0.2 0.2\n",
    "0 0.1 0.1 0.5 0.1 0.5 0.9\n0 0.1 0.1 0.5 0.1 0.1 0.9\n",
    "0 0.1 0.1 0.5 0.1 0.5\n",
    "\ufeff0.0 0.5 0.5 0.2 0.2\r\n\r\n",
    "0 0.5 0.5 1.01 1.01\n",
    "0 0.5 0.5 1.02 1\n",
    "0 0.9 0.5 0.4 0.2\n",
    "0 0.5 0.5 0 0.2\n",
]


@pytest.mark.slow
def test_what_ultralytics_refuses_or_changes_is_a_problem_here_and_little_else(
    tmp_path: Path, shared_data: Path
) -> None:
    image = next((shared_data / "coco128_subset/images/train2017").iterdir())
    for number, text in enumerate(LABELS_FOR_ULTRALYTICS):
        (tmp_path / f"{number}.txt").write_bytes(text.encode())
    script = """
import json, sys
from ultralytics.data.utils import verify_image_label
found = [verify_image_label((sys.argv[1], f"{sys.argv[2]}/{n}.txt", "", False, 2, 0, 0, False))
         for n in range(int(sys.argv[3]))]
print(json.dumps(["refused" if result[0] is None else "dropped" if result[-1] else "kept" for result in found]))
"""
    config = tmp_path / "config"
    config.mkdir()
    effects = json.loads(run_ultralytics(script, [str(image), str(tmp_path), str(len(LABELS_FOR_ULTRALYTICS))], config))
    problems = [parse_labels(text.encode(), class_count=2).problems for text in LABELS_FOR_ULTRALYTICS]
    order = ("kept", "dropped", "refused")
    own = [max((problem.effect for problem in found), key=order.index, default="kept") for found in problems]
    assert dict(zip(LABELS_FOR_ULTRALYTICS, own, strict=True)) == dict(
        zip(LABELS_FOR_ULTRALYTICS, effects, strict=True)
    )
    odd = {
        text
        for text, found, effect in zip(LABELS_FOR_ULTRALYTICS, problems, effects, strict=True)
        if found and effect == "kept"
    }
    assert odd == {
        "0 -0.005 0.5 0.02 0.2\n",  # its left edge is outside by 1.5 %
        "0 0.9 0.5 0.4 0.2\n",
        "0 0.5 0.5 0 0.2\n",
    }


def test_a_split_with_a_year_stands_for_its_role() -> None:
    content = yaml.safe_load(format_data_yaml({0: "a"}, ["train2017", "val2017"]))
    assert (content["train"], content["val"]) == ("images/train2017", "images/val2017")
    content = yaml.safe_load(format_data_yaml({0: "a"}, ["train1", "train2"]))
    assert content["train"] is None
