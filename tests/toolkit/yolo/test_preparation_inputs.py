"""What is wrong with a source is said before anything is written, all of it together; class names are found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from tests.sam_datasets import make_dataset
from tests.yolo_sources import BOX, NAMES, add, images_in, many, options, prepare
from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.npz.writing import save_npz
from toolkit.yolo.preparation.inputs import examine


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return many(tmp_path / "in", 4)


def problems_of(root: Path, **changes: Any) -> list[str]:
    with pytest.raises(InputProblemsError) as caught:
        prepare(root, **changes)
    assert caught.value.message == str(root)
    assert not (root.parent / "out").exists()
    return list(caught.value.problems)


def test_all_problems_are_said_together(root: Path) -> None:
    (root / "data.yaml").write_text("nc: 3\nnames: [cat, dog]\n")
    add(root, "images/A.jpg", "x 0.5 0.5 0.1 0.1\n")
    add(root, "images/a.png", "0 y 0.5 0.1 0.1\n\n0 7 0.5 0.1 0.1\n")
    add(root, "images/frame_001.png", None)
    add(root, "images/x/images/b.jpg")
    (root / "images/gone.jpg").symlink_to("nowhere.jpg")
    assert problems_of(root, group_by="patient") == [
        "data.yaml: nc: 3, but there are 2 names",
        "--group-by 'patient' matches no image's path, such as images/A.jpg",
        "images/gone.jpg: leads to no file",
        "images/x/images/b.jpg: Ultralytics looks for labels beside the last folder images; rename that one",
        "images/A.jpg and images/a.png: their names differ only by case, or by Unicode form",
        "images/frame_001.jpg and images/frame_001.png would share one label file, frame_001.txt: rename one",
        "labels/A.txt:1: class 'x' is not a whole number from 0 on",
        "labels/a.txt:1: 'y' is not a number",
        "labels/a.txt:3: x_center 7 is outside [0, 1]",
    ]


def test_classes_beyond_the_names_and_rows_of_two_kinds(root: Path) -> None:
    add(root, "images/b.jpg", "1 0.5 0.5 0.1 0.1\n2 0.5 0.5 0.1 0.1\n")
    add(root, "images/c.jpg", "0 0.5 0.5 0.1 0.1\n0 0.1 0.1 0.5 0.1 0.5 0.9\n")
    (root / "labels/d.txt").mkdir()
    (root / "images/d.jpg").write_bytes(b"d")
    (root / "labels/frame_000.txt").write_bytes(b"0 0.5 \xff 0.1 0.1")
    assert problems_of(root) == [
        "labels/b.txt:2: class '2' is beyond the 2 names",
        "labels/c.txt:2: a polygon row, but line 1 is a box row: a file holds one kind",
        "labels/frame_000.txt:1: not UTF-8 text",
    ]


def test_a_thousand_wrong_rows_are_not_a_thousand_lines(root: Path) -> None:
    add(root, "images/b.jpg", "7 0.5 0.5 0.1 0.1\n" * 1000)
    problems = problems_of(root)
    assert len(problems) == 21
    assert problems[-1] == "and 980 more like it"


def test_one_name_in_two_splits_is_a_clash_unless_they_are_kept(tmp_path: Path) -> None:
    root = tmp_path / "in"
    add(root, "train/images/0001.jpg")
    add(root, "valid/images/0001.jpg")
    [problem] = problems_of(root)
    names = "train/images/0001.jpg and valid/images/0001.jpg"
    assert problem == f"{names} would share one label file, 0001.txt: rename one, or use --keep-splits"
    assert prepare(root, keep_splits=True).figures.done == 2


def test_unicode_forms_of_one_name_are_a_clash(root: Path) -> None:
    add(root, "images/caf\u00e9.jpg")
    add(root, "images/cafe\u0301.jpg")
    assert "by Unicode form" in problems_of(root)[0]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        ([], r"no images: looked for images/, train/images/, .*; there is nothing; give the folder that holds"),
        (["pictures/a.jpg"], r"no images: looked for .*; there is pictures/;"),
        (["images/a.txt"], r"no images in images/: looked for \.avif, "),
        (["images/a.jpg"], r"no label files: looked for labels/, boxes/; there is images/;"),
        (["train/images/a.jpg"], r"no label files: looked for train/labels/; there is train/;"),
        (["images/a.jpg", "labels/b.txt"], r"images/a\.jpg would have labels/a\.txt, and there is labels/b\.txt; name"),
        (
            ["images/a.jpg", "labels/a.txt", "boxes/a.txt"],
            r"has both labels/ and boxes/; choose one with --labels-from",
        ),
    ],
)
def test_a_source_that_is_none_says_what_was_looked_for(tmp_path: Path, make: list[str], said: str) -> None:
    root = tmp_path / "in"
    root.mkdir()
    for name in make:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    with pytest.raises(MvtkError, match=said):
        prepare(root)
    assert not (tmp_path / "out").exists()


def test_a_missing_source_is_said(tmp_path: Path) -> None:
    with pytest.raises(MvtkError, match="in: no such folder"):
        prepare(tmp_path / "in")


def test_of_labels_and_boxes_one_is_chosen(root: Path, tmp_path: Path) -> None:
    (root / "boxes").mkdir()
    for number in range(4):
        (root / f"boxes/frame_{number:03}.txt").write_text("1 0.5 0.5 0.1 0.1\n")
    for choice, class_id in (("labels", 0), ("boxes", 1)):
        found = examine(options(root, labels_from=choice))
        assert {each for split in found.labels.splits.values() for each in split.objects} == {class_id}
    with pytest.raises(MvtkError, match=r"no folder boxes/; there is data\.yaml, images/, labels/; check"):
        prepare(many(tmp_path / "other"), labels_from="boxes")
    add(tmp_path / "roboflow", "train/images/a.jpg")
    with pytest.raises(MvtkError, match="no images/ to which boxes/ could belong"):
        prepare(tmp_path / "roboflow", labels_from="boxes")


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ({"data.yaml": "names: {0: a, 2: c}\n"}, {0: "a", 1: "class_1", 2: "c"}),
        ({"dataset.yaml": "nc: 2\n"}, {0: "class_0", 1: "class_1"}),
        ({"classes.txt": "\ufeffcafé\r\nt 9+ \n\n"}, {0: "café", 1: "t 9+"}),
        ({"obj.names": "a\nb\n"}, {0: "a", 1: "b"}),
        ({"labels/classes.txt": "a\nb"}, {0: "a", 1: "b"}),
        ({"data.yaml": NAMES, "classes.txt": "cat\ndog\n"}, {0: "cat", 1: "dog"}),
        ({}, {0: "class_0"}),
    ],
)
def test_class_names_are_found(tmp_path: Path, files: dict[str, str], names: dict[int, str]) -> None:
    root = tmp_path / "in"
    add(root, "images/a.jpg")
    add(root, "images/b.jpg")
    for name, text in files.items():
        (root / name).write_text(text, encoding="utf-8")
    report = prepare(root)
    assert yaml.safe_load((tmp_path / "out/data.yaml").read_text(encoding="utf-8"))["names"] == names
    assert (report.stats["remarks"][2:] == []) == bool(files)


def test_names_are_numbered_up_to_the_highest_class(tmp_path: Path) -> None:
    add(tmp_path / "in", "images/a.jpg", "7 0.5 0.5 0.1 0.1\n")
    add(tmp_path / "in", "images/b.jpg")
    report = prepare(tmp_path / "in")
    assert yaml.safe_load((tmp_path / "out/data.yaml").read_text())["nc"] == 8
    assert "classes are called class_0, class_1 …" in report.stats["remarks"][2]
    add(tmp_path / "in", "images/c.jpg", "1e300 0.5 0.5 0.1 0.1\n")
    assert problems_of_names(tmp_path / "in") == ["labels/c.txt:1: class '1e300' is beyond the 100000 names"]


def problems_of_names(root: Path, **changes: Any) -> list[str]:
    with pytest.raises(InputProblemsError) as caught:
        examine(options(root, **changes))
    return list(caught.value.problems)


def test_given_names_win_and_differing_ones_are_said(root: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("wolf\nfox\n")
    (tmp_path / "names.yaml").write_text("names: [lion]\nchannels: 1\n")
    assert examine(options(root, names_yaml=tmp_path / "names.txt")).class_names == {0: "wolf", 1: "fox"}
    found = examine(options(root, names_yaml=tmp_path / "names.yaml"))
    assert (found.class_names, found.channels) == ({0: "lion"}, 1)
    (root / "classes.txt").write_text("dog\ncat\n")
    remarks = prepare(root).stats["remarks"]
    assert "classes.txt names the classes otherwise than data.yaml, which was taken" in remarks


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"a.yaml": NAMES, "b.yaml": NAMES}, "several data YAMLs: a.yaml, b.yaml; choose one with --names-yaml"),
        ({"data.yaml": "names: [a\n"}, "data.yaml:2: not valid YAML"),
        ({"data.yaml": f"{NAMES}kpt_shape: [17, 3]\n"}, "data.yaml: kpt_shape: labels with keypoints are not taken"),
        ({"classes.txt": "a\n\nb\n"}, "classes.txt: line 2: no name"),
        ({"classes.txt": "\n"}, "classes.txt: no names"),
    ],
)
def test_names_that_are_wrong(tmp_path: Path, files: dict[str, str], problem: str) -> None:
    root = tmp_path / "in"
    add(root, "images/a.jpg")
    for name, text in files.items():
        (root / name).write_text(text)
    [found] = problems_of_names(root)
    assert found.startswith(problem)


def test_a_wrong_summary_of_sam_data_is_a_problem(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "in")
    (root / "summary.json").write_text(json.dumps({"task_ids": ["image_0"], "class_names": 3, "groups": []}))
    assert problems_of_names(root) == [
        "summary.json: class_names: not a list of texts",
        "summary.json: groups: not an object of id: group",
    ]
    (root / "summary.json").unlink()
    assert examine(options(root)).class_names == {0: "class_0", 1: "class_1"}


def write_pair(path: Path, channels: int | None = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (8, 8) if channels is None else (8, 8, channels)
    save_npz(path, {"image": np.zeros(shape, np.uint8), "mask": np.zeros((8, 8), np.uint8)})


@pytest.mark.parametrize(("channels", "expected"), [(3, 4), (None, 2), (1, 2), (4, 5)])
def test_npz_pairs_say_their_channels(tmp_path: Path, channels: int | None, expected: int) -> None:
    root = tmp_path / "in"
    for number in range(4):
        write_pair(root / f"images/train/{number}.npz", channels)
        add(root, f"images/train/{number}.npz", BOX, content=(root / f"images/train/{number}.npz").read_bytes())
    report = prepare(root)
    assert yaml.safe_load((tmp_path / "out/data.yaml").read_text())["channels"] == expected
    assert report.stats["channels"] == expected
    assert sorted(images_in(tmp_path / "out")) == ["0.npz", "1.npz", "2.npz", "3.npz"]


def test_npz_files_that_are_no_pairs_or_not_alike(tmp_path: Path) -> None:
    root = tmp_path / "in"
    add(root, "images/d.png")
    write_pair(root / "images/a.npz")
    write_pair(root / "images/b.npz", None)
    save_npz(root / "images/c.npz", {"x": np.zeros(3)})
    (root / "images/e.npz").write_bytes(b"PK")
    found = problems_of_names(root)
    assert found[0] == "4 NPZ files and 1 other images, such as images/a.npz and images/d.png: a dataset has one kind"
    assert found[1].startswith("images/c.npz: holds no image with its mask; ")
    assert found[2].startswith("images/e.npz: ")
    assert found[3] == "NPZ files with different numbers of channels: images/b.npz has 2, images/a.npz has 4"
    assert len(found) == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"val": 0.5, "test": 0.5}, "--val 0.5 and --test 0.5 leave nothing for training"),
        ({"val": 1}, "less than 1"),
        ({"test": -0.1}, "greater than or equal to 0"),
        ({"val": float("nan")}, "val"),
        ({"group_by": "("}, "not a regular expression"),
        ({"link": "soft"}, "'hard', 'symlink' or 'copy'"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        options(tmp_path, **changes)
