"""The documented Python interface of the processing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.raw_annotations import RawTree, mixed_tree, numbered_boxes
from toolkit.core.errors import InputProblemsError
from toolkit.dataset import DataProcessor, LazyNPYDataset


@pytest.fixture
def tree(tmp_path: Path) -> RawTree:
    return mixed_tree(tmp_path, images=6)


def test_process_all_makes_what_is_documented(tree: RawTree) -> None:
    processor = DataProcessor(raw_data_dir=str(tree.raw), output_dir=str(tree.output), batch_size=500, num_workers=2)
    stats = processor.process_all(train_split=0.8, include_teacher=True)
    assert set(stats["files"]) == {path.name for path in tree.output.iterdir()}
    assert len(stats["files"]) == 6
    assert LazyNPYDataset(tree.output / "train_landmarker.npy").kind == "landmarker"


def test_each_kind_by_itself(tree: RawTree) -> None:
    processor = DataProcessor(tree.raw, tree.output, num_workers=0)
    calls = {
        "detector": processor.process_detector_data,
        "landmarker": processor.process_landmarker_data,
        "teacher": processor.process_teacher_data,
    }
    for kind, call in calls.items():
        assert list(call()["files"]) == [f"train_{kind}.npy", f"val_{kind}.npy"]
    before = tree.files()
    assert {entry["state"] for entry in processor.process_all()["files"].values()} == {"unchanged"}
    assert tree.files() == before


def test_without_the_teacher(tree: RawTree) -> None:
    DataProcessor(tree.raw, tree.output, num_workers=0).process_all(include_teacher=False)
    assert sorted(tree.files()) == [
        *("train_detector.npy", "train_landmarker.npy", "val_detector.npy", "val_landmarker.npy"),
    ]


def test_further_options_and_another_seed(tmp_path: Path) -> None:
    tree = RawTree(tmp_path)
    tree.add_csv("detector/x", numbered_boxes(30))
    DataProcessor(tree.raw, tree.output, num_workers=0).process_all()
    before = tree.files()
    DataProcessor(tree.raw, tree.output, num_workers=0, seed=43, overwrite=True, boxes="drop").process_all(0.5)
    assert tree.files() != before


def test_all_datasets_that_fail_are_named_when_the_others_are_written(tree: RawTree) -> None:
    for name in ("a", "b"):
        tree.write(f"detector/{name}/_annotations.csv", "x,y\n1,2\n")
    with pytest.raises(InputProblemsError) as caught:
        DataProcessor(tree.raw, tree.output, num_workers=0).process_all()
    assert caught.value.message == f"{tree.raw}: datasets that could not be processed"
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["detector/a", "detector/b"]
    assert len(tree.files()) == 6


def test_an_option_out_of_bounds_is_a_value_error(tree: RawTree) -> None:
    with pytest.raises(ValueError, match="batch_size"):
        DataProcessor(tree.raw, tree.output, batch_size=0)
    with pytest.raises(ValueError, match="train_split"):
        DataProcessor(tree.raw, tree.output, num_workers=0).process_all(train_split=2)
