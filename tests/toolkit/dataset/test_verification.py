from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.builders import blob_mask, gradient
from tests.datasets import Inputs, many
from toolkit.core.driver import run_to_end
from toolkit.core.errors import MvtkError
from toolkit.core.report import Report
from toolkit.dataset import verify_npz_dataset
from toolkit.dataset.mask_attention import MaskAttentionJob
from toolkit.dataset.verification import VerifyDatasetJob, VerifyOptions
from toolkit.npz import save_npz


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A converted dataset without a problem: three samples in train, one in val."""
    inputs = Inputs(tmp_path)
    many(inputs, 4)
    run_to_end(MaskAttentionJob(inputs.options()))
    return inputs.output


def verify(root: Path, **options: Any) -> Report:
    return run_to_end(VerifyDatasetJob(VerifyOptions(dataset_root=root, workers=0, **options)))


def reasons(root: Path, **options: Any) -> dict[str, str]:
    return {failed["source"]: failed["reason"] for failed in verify(root, **options).failed}


def test_a_converted_dataset_has_no_problem(dataset: Path) -> None:
    report = verify(dataset)
    assert report.failed == []
    assert report.stats["splits"] == {
        "train": {"samples": 3, "boxes": 3, "backgrounds": 0},
        "val": {"samples": 1, "boxes": 1, "backgrounds": 0},
    }
    assert verify_npz_dataset(dataset, workers=0)


def test_all_problems_come_at_once(dataset: Path) -> None:
    train = dataset / "images/train"
    (train / "frame_0000.npz").write_bytes((train / "frame_0000.npz").read_bytes()[:-1])
    (dataset / "labels/train/frame_0000.txt").write_text("0 0.5 0.5 0.1 0.1\n7 0.5 0.5 0.1 0.1\n0 1.5 0.5 0.1\n")
    (dataset / "labels/train/frame_0001.txt").unlink()
    (dataset / "labels/val/stray.txt").write_text("")
    save_npz(train / "frame_0002.npz", {"image": gradient(), "mask": blob_mask(3, 3)}, overwrite=True)
    found = reasons(dataset)
    assert set(found) == {
        "images/train/frame_0000.npz", "images/train/frame_0001.npz", "images/train/frame_0002.npz",
        "labels/val/stray.txt",
    }  # fmt: skip
    first = found["images/train/frame_0000.npz"]
    assert "labels/train/frame_0000.txt:2: class '7' is beyond the 2 names" in first
    assert "labels/train/frame_0000.txt:3:" in first
    assert len(first.split("; ")) == 3
    assert found["images/train/frame_0001.npz"] == "its label labels/train/frame_0001.txt is missing"
    assert "differ in height x width" in found["images/train/frame_0002.npz"]
    assert found["labels/val/stray.txt"] == "its image images/val/stray.npz is missing"
    assert not verify_npz_dataset(dataset, workers=0)


def test_the_same_picture_in_two_splits_is_a_leak(dataset: Path) -> None:
    source, copy = dataset / "images/train/frame_0001.npz", dataset / "images/val/other.npz"
    with np.load(source) as npz:
        save_npz(copy, dict(npz), compression="none")
    (dataset / "labels/val/other.txt").write_text("")
    assert reasons(dataset) == {"images/val/other.npz": "the same picture as images/train/frame_0001.npz"}


def test_the_same_picture_twice_in_one_split_is_no_leak(dataset: Path) -> None:
    (dataset / "images/train/copy.npz").write_bytes((dataset / "images/train/frame_0001.npz").read_bytes())
    (dataset / "labels/train/copy.txt").write_text("")
    assert reasons(dataset) == {}


def test_roboflow_copies_of_one_photograph_in_two_splits_are_a_leak(dataset: Path) -> None:
    for split, name, shift in (("train", "p_jpg.rf.0a1b", 5), ("val", "p_jpg.rf.ffff", 9), ("val", "q_jpg.rf.0a1b", 3)):
        image = np.roll(gradient(), shift, axis=0)
        save_npz(dataset / f"images/{split}/{name}.npz", {"image": image, "mask": blob_mask()})
        (dataset / f"labels/{split}/{name}.txt").write_text("")
    expected = "a copy of the same photograph as images/train/p_jpg.rf.0a1b.npz"
    assert reasons(dataset) == {"images/val/p_jpg.rf.ffff.npz": expected}


def test_channels_that_contradict_the_data_yaml(dataset: Path) -> None:
    grey = {"image": gradient()[..., 0], "mask": blob_mask()}
    save_npz(dataset / "images/val/frame_0003.npz", grey, overwrite=True)
    assert reasons(dataset) == {
        "images/val/frame_0003.npz": "image and mask have 2 channels, and data.yaml says channels: 4"
    }


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "there is none"), ("names: [a\n", "not valid YAML"), ("names: 3\nchannels: x\n", "channels")],
)
def test_an_unusable_data_yaml_is_a_problem(dataset: Path, content: str | None, expected: str) -> None:
    if content is None:
        (dataset / "data.yaml").unlink()
    else:
        (dataset / "data.yaml").write_text(content)
    assert expected in reasons(dataset)["data.yaml"]


def test_a_file_that_would_need_unpickling_is_a_problem(dataset: Path) -> None:
    path = dataset / "images/train/frame_0000.npz"
    with path.open("wb") as stream:
        np.savez(stream, image=np.array([{"a": 1}], dtype=object), mask=blob_mask())
    assert "is pickled and is not read" in reasons(dataset)["images/train/frame_0000.npz"]


def test_a_size_limit(dataset: Path) -> None:
    assert all("limit" in reason for reason in reasons(dataset, max_bytes=100).values())
    assert len(reasons(dataset, max_bytes=100)) == 4


def test_only_the_splits_asked_for(dataset: Path) -> None:
    (dataset / "images/train/frame_0000.npz").write_bytes(b"")
    assert reasons(dataset, splits=("val",)) == {}


def test_shards_together_verify_everything_once(dataset: Path) -> None:
    assert sum(verify(dataset, shard=f"{index}/3").figures.total for index in range(3)) == verify(dataset).figures.total


def test_workers_find_what_one_process_finds(dataset: Path) -> None:
    (dataset / "images/train/frame_0000.npz").write_bytes(b"")
    alone = verify(dataset)
    parallel = run_to_end(VerifyDatasetJob(VerifyOptions(dataset_root=dataset, workers=2)))
    assert json.dumps(parallel.failed) == json.dumps(alone.failed)
    assert parallel.stats == alone.stats


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_no_dataset_says_what_was_expected(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MvtkError) as caught:
        verify(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_an_array_of_dates_is_a_problem_and_no_bug(dataset: Path) -> None:
    image = np.zeros((24, 32), "datetime64[D]")
    save_npz(dataset / "images/val/frame_0003.npz", {"image": image, "mask": blob_mask()}, overwrite=True)
    assert "has dtype datetime64[D]" in reasons(dataset)["images/val/frame_0003.npz"]
