"""Splits: the file, the table that describes it, and all that can be wrong with a file."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.datasets import tree_hash
from tests.embryo_trees import MiniatureEmbryos
from toolkit.core.errors import InputProblemsError, MvtkError, OptionError
from toolkit.core.files import TargetExistsError
from toolkit.embryo.planes import FocalPlane
from toolkit.embryo.split import format_split, load_split, save_split

NAMES = [f"AA{number}-1" for number in range(10)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten videos of twelve frames in two planes: all have t2, every other one tB, and the last one no phases."""
    embryos = MiniatureEmbryos(tmp_path / "data", (FocalPlane.F_00, FocalPlane.F_PLUS_15))
    for number, name in enumerate(NAMES):
        embryos.add_video(name, phases={"t2": (2, 8), "tB": (9, 12)} if number % 2 else {"t2": (2, 8), "tHB": (90, 99)})
    (embryos.root / "embryo_dataset_annotations" / f"{NAMES[-1]}_phases.csv").unlink()
    return embryos.root


def test_the_file_and_the_table(root: Path, tmp_path: Path) -> None:
    report = save_split(root, tmp_path / "split.json")
    split = json.loads((tmp_path / "split.json").read_text())
    assert list(split) == ["train", "eval", "test"]
    assert sorted(itertools.chain(*split.values())) == NAMES
    assert load_split(tmp_path / "split.json", NAMES) == split
    facts = report.to_dict()
    assert facts["sets"] == ("train", "eval", "test")
    assert facts["unlabelled_videos"] == 1
    assert facts["total"] == {
        "phase": "",
        "videos": (6, 2, 2),
        "target": (6.0, 2.0, 2.0),
        "frames": (144, 48, 48),
    }
    t2, tb = facts["phases"]  # tHB has rows, but no frame
    assert (t2["phase"], t2["target"], sum(t2["videos"]), sum(t2["frames"])) == ("t2", (5.4, 1.8, 1.8), 9, 9 * 14)
    assert (tb["phase"], tb["target"], sum(tb["videos"]), sum(tb["frames"])) == ("tB", (2.4, 0.8, 0.8), 4, 4 * 8)
    assert tb["frames"] == tuple(8 * videos for videos in tb["videos"])
    assert all(abs(reached - target) < 1 for reached, target in zip(tb["videos"], tb["target"], strict=True))
    json.dumps(facts)


def test_two_sets_and_another_seed(root: Path, tmp_path: Path) -> None:
    save_split(root, tmp_path / "a.json", weights=(8, 2))
    save_split(root, tmp_path / "b.json", weights=(8, 2), seed=1)
    first, second = (load_split(tmp_path / name) for name in ("a.json", "b.json"))
    assert list(first) == ["train", "test"]
    assert [len(names) for names in first.values()] == [8, 2]
    assert first != second


def test_nothing_is_overwritten_unasked_and_the_dataset_is_left_alone(root: Path, tmp_path: Path) -> None:
    output = tmp_path / "split.json"
    save_split(root, output, index_path=tmp_path / "index.npy")
    before, content = tree_hash(root), output.read_bytes()
    with pytest.raises(TargetExistsError, match=r"split\.json exists already; use --overwrite"):
        save_split(root, output, seed=1, index_path=tmp_path / "index.npy")
    assert output.read_bytes() == content
    save_split(root, output, seed=1, overwrite=True, index_path=tmp_path / "index.npy")
    assert output.read_bytes() != content
    assert tree_hash(root) == before


def test_weights_are_looked_at_before_the_dataset(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"^weights 1; give two"):
        save_split(tmp_path / "nowhere", tmp_path / "split.json", weights=(1,))


def test_all_problems_of_a_file_come_at_once(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["A", "B", "A"], "eval": ["B", "C"], "val": [], "tset": ["D"], "seed": 1}))
    with pytest.raises(InputProblemsError) as caught:
        load_split(path, ["A", "B"])
    assert caught.value.message == str(path)
    assert caught.value.problems == (
        "unknown key 'val'",
        "unknown key 'tset'",
        "unknown key 'seed'",
        "no key 'test'",
        "video 'A' is in train and train",
        "video 'B' is in train and eval",
        "video 'C' is not in the dataset",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "split.json: not a JSON object; make it with mvtk embryo split"),
        ('{"train": [],}', "split.json: cut short or no JSON: line 1 column "),
        ('{"train": "A", "test": [1]}', "train: not a list of video names; test: not a list of video names"),
    ],
)
def test_files_that_are_no_split(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(MvtkError) as caught:
        load_split(tmp_path / "split.json")
    assert message in str(caught.value)


@given(st.lists(st.text(min_size=1), unique=True), st.integers(0, 9))
def test_what_is_written_is_read_back(names: list[str], cut: int) -> None:
    import tempfile

    split = {"train": sorted(names[:cut]), "test": sorted(names[cut:])}
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_text(format_split(split))
        assert load_split(Path(file.name)) == split


def test_what_should_be_known_of_a_split(root: Path, tmp_path: Path) -> None:
    report = save_split(root, tmp_path / "split.json")
    assert report.remarks == (f"1 video without a phases table, and so without labels: {NAMES[-1]}",)


def test_fewer_videos_than_sets(tmp_path: Path) -> None:
    MiniatureEmbryos(tmp_path / "data", (FocalPlane.F_00,)).add_video("A-1")
    report = save_split(tmp_path / "data", tmp_path / "split.json")
    assert report.remarks == ("1 video for 3 sets: there is none in eval and test",)


def test_huge_weights(root: Path, tmp_path: Path) -> None:
    report = save_split(root, tmp_path / "split.json", weights=(1e308, 1e308))
    assert report.total.target == (5.0, 5.0)


def test_a_split_is_of_the_frames_that_are_there_now(root: Path, tmp_path: Path) -> None:
    time.sleep(0.12)  # an index of a folder that has just changed is not relied on
    before = save_split(root, tmp_path / "split.json").total.frames
    next((root / "embryo_dataset" / NAMES[0]).iterdir()).unlink()
    after = save_split(root, tmp_path / "split.json", overwrite=True).total.frames
    assert sum(after) == sum(before) - 1
