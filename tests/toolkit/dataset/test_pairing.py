from __future__ import annotations

from pathlib import Path

import pytest

from tests.datasets import Inputs
from toolkit.core.batch import Outcome
from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.dataset.pairing import Pair, PairIndex, load_mapping


def entries(inputs: Inputs, mapping: object | None = None, **changes: object) -> list[Pair | Outcome]:
    options: dict[str, object] = {"splits": ("train", "val"), "mask_suffix": "_seg", "mask_extension": ".png"}
    path = None if mapping is None else inputs.write_mapping(mapping)
    return list(PairIndex(inputs.images, inputs.labels, inputs.masks, path, **{**options, **changes}))


def only_failure(found: list[Pair | Outcome]) -> Outcome:
    (failure,) = [entry for entry in found if isinstance(entry, Outcome)]
    return failure


def test_without_mapping_each_image_is_its_own_label_image(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("b.png", "val")
    inputs.add("sub/a.png", "train")
    assert entries(inputs) == [
        Pair("images/train/sub/a.png", "sub/a_seg.png", "labels/train/sub/a.txt", "train/sub/a"),
        Pair("images/val/b.png", "b_seg.png", "labels/val/b.txt", "val/b"),
    ]


def test_mapping_decides_label_and_dataset_image_decides_the_rest(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("patient.png", "train", label_name="task-7", label_split="test")
    assert entries(inputs, {"task-7.jpg": "patient.png"}) == [
        Pair("images/train/patient.png", "patient_seg.png", "labels/test/task-7.txt", "train/patient")
    ]


def test_roboflow_layout_and_valid_for_val(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("a.png")
    (inputs.images / "valid").mkdir()
    (inputs.images / "images/train").rename(inputs.images / "valid/images")
    (inputs.images / "images").rmdir()
    (inputs.labels / "labels/train").rename(inputs.labels / "valid")
    (inputs.labels / "labels").rmdir()
    (inputs.labels / "valid").rename(inputs.labels / "labels")
    (inputs.labels / "valid").mkdir()
    (inputs.labels / "labels").rename(inputs.labels / "valid/labels")
    assert entries(inputs) == [Pair("valid/images/a.png", "a_seg.png", "valid/labels/a.txt", "val/a")]


def test_masks_may_lie_in_split_folders(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("a.png")
    (inputs.masks / "train").mkdir()
    (inputs.masks / "a_seg.png").rename(inputs.masks / "train/a_seg.png")
    assert entries(inputs)[0] == Pair("images/train/a.png", "train/a_seg.png", "labels/train/a.txt", "train/a")


def test_suffix_and_extension_of_masks(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("a.jpg")
    (inputs.masks / "a_seg.png").rename(inputs.masks / "a.BMP")
    (entry,) = entries(inputs, mask_suffix="", mask_extension=".BMP")
    assert isinstance(entry, Pair)
    assert entry.mask == "a.BMP"


def test_what_is_not_found_fails_under_its_first_reason_and_names_all(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("a.png", label=None)
    (inputs.labels / "labels/train").mkdir(parents=True)
    (inputs.masks / "a_seg.png").unlink()
    failure = only_failure(entries(inputs))
    assert failure.kind == "mask not found"
    assert failure.reason == "mask not found: a_seg.png; label not found: a.txt is in no split"
    failure = only_failure(entries(inputs, {"a.png": "nowhere.png"}))
    assert (failure.source, failure.kind) == ("nowhere.png", "image not found")


def test_image_in_two_splits_fails_naming_both(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("a.png", "train")
    inputs.add("a.png", "val", label=None)
    inputs.add("b.png", "val")
    found = entries(inputs)
    assert len(found) == 2
    failure = only_failure(found)
    assert failure.reason == "the image is in two splits: images/train/a.png and images/val/a.png"


def test_label_in_two_splits_fails_naming_both(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("a.png", "train")
    inputs.add("b.png", "val", label_name="a")
    failures = [entry for entry in entries(inputs) if isinstance(entry, Outcome)]
    assert failures[0].reason == "two labels have the stem a: labels/train/a.txt and labels/val/a.txt"


def test_two_entries_for_one_output_fail_both(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("a.png")
    inputs.add("a.jpg")
    inputs.add("c.png", label_name="other")
    found = entries(inputs)
    reasons = {entry.reason for entry in found if isinstance(entry, Outcome) and entry.kind == "conflict"}
    assert reasons == {"two entries want the output train/a: a.jpg and a.png"}
    found = entries(inputs, {"x.png": "c.png", "y.png": "c.png"})
    assert [entry.reason for entry in found if isinstance(entry, Outcome)] == [
        "two entries want the output train/c: x.png -> c.png and y.png -> c.png"
    ] * 2


def test_two_masks_that_fit_fail(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("a.png")
    (inputs.masks / "train").mkdir()
    (inputs.masks / "train/a_seg.png").write_bytes(b"")
    assert only_failure(entries(inputs)).reason == "two masks fit: a_seg.png and train/a_seg.png"


def test_all_problems_of_the_inputs_come_at_once(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.json"
    mapping.write_text('{"a.png": 3,\n "b.png": "../b.png", "/abs.png": "c.png", "d.png": ""}')
    with pytest.raises(InputProblemsError) as caught:
        PairIndex(
            tmp_path / "images", tmp_path / "labels", tmp_path / "masks", mapping,
            splits=("train",), mask_suffix="_seg", mask_extension=".png",
        )  # fmt: skip
    text = str(caught.value)
    for part in (
        "the dataset image of 'a.png' is not a string but 3",
        "'../b.png' leaves the dataset",
        "'/abs.png' leaves the dataset",
        "'' is not a file name",
        f"{tmp_path / 'images'}: no such folder",
        f"{tmp_path / 'labels'}: no such folder",
        f"{tmp_path / 'masks'}: no such folder",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[1]", "expected an object of label image to dataset image, found a list"),
        ('{"a.png": "a.png",\n "a.png"}', ":2: not valid JSON"),
        ('{"a.png": "a.png", "a.png": "b.png"}', "the label image 'a.png' is given twice"),
        ('{"a.png": "sub/../../b.png"}', "'sub/../../b.png' leaves the dataset"),
        ('{"a.png": "b\\u0000.png"}', "is not a file name"),
        ('{"a.png": "\\ud800.png"}', "is not a file name"),
        ("\udcff", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_bad_mappings(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "mapping.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(MvtkError) as caught:
        load_mapping(path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_long_list_of_mapping_problems_is_cut(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    path = inputs.write_mapping({f"{index}.png": index for index in range(50)})
    with pytest.raises(InputProblemsError) as caught:
        load_mapping(path)
    assert len(caught.value.problems) == 21
    assert caught.value.problems[-1] == "and 30 more"
