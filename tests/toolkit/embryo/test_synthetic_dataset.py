"""Synthetic runs as a dataset: every image once, in order, with what its run says."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from toolkit.core.errors import InputProblemsError, OptionError
from toolkit.embryo.phases import Phase
from toolkit.embryo.planes import FocalPlane
from toolkit.embryo.synthetic import new_run
from toolkit.embryo.synthetic_dataset import SyntheticDataset


def brightened(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image + np.uint8(1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    value = 0
    for name, phase, plane, count in (
        ("a", Phase.T7, FocalPlane.F_00, 11),
        ("b", Phase.T8, FocalPlane.F_MINUS_15, 2),
        ("c", Phase.T7, FocalPlane.F_MINUS_15, 1),
    ):
        folder = new_run(tmp_path, name, phase, plane).parent
        for number in range(count):
            Image.fromarray(np.full((4, 6), value, np.uint8)).save(folder / f"img{number}.png")
            value += 1
    return tmp_path


def test_one_choice_needs_no_list(root: Path) -> None:
    assert len(SyntheticDataset(root, phases="t7", planes=FocalPlane.F_00)) == 11
    assert len(SyntheticDataset(root, phases=Phase.T8, planes="F-15")) == 2
    assert len(SyntheticDataset(root, phases=[])) == 0


def test_images_come_in_order_with_what_their_run_says(root: Path) -> None:
    dataset = SyntheticDataset(root, image_mode="RGB")
    assert len(dataset) == 14
    assert [int(sample["image"][0, 0, 0]) for sample in dataset] == list(range(14))
    sample = dataset[12]
    assert sample["image"].shape == (4, 6, 3)
    assert sample["image"].dtype == np.uint8
    del sample["image"]
    assert (
        sample
        == dataset.get_metadata(-2)
        == {
            "phase": "t8",
            "phase_index": Phase.T8.index,
            "plane": "F-15",
            "prompt": "a microscopic image of a human embryo at phase t8 recorded at focal plane F-15",
            "run": "b",
            "path": str(root / "b" / "img1.png"),
        }
    )
    assert repr(dataset) == f"SyntheticDataset('{root}', 3 runs, 14 images)"


def test_filters_grey_images_and_transforms(root: Path) -> None:
    dataset = SyntheticDataset(root, phases=[Phase.T7], planes=["_F-15"])
    assert [sample["image"].tolist() for sample in dataset] == [[[13] * 6] * 4]
    assert len(SyntheticDataset(root, phases=["tHB"])) == 0
    assert SyntheticDataset(root, transform=brightened)[0]["image"].max() == 1


def test_wrong_choices_are_named(root: Path) -> None:
    with pytest.raises(OptionError, match=r"there is no phase 't77'; did you mean t7\?"):
        SyntheticDataset(root, phases=["t77"])
    with pytest.raises(OptionError, match=r"image_mode 'grey'; give \"L\" or \"RGB\""):
        SyntheticDataset(root, image_mode="grey")  # type: ignore[arg-type]  # the point of it


def test_bounds_are_those_of_a_list(root: Path) -> None:
    dataset = SyntheticDataset(root)
    for index in (14, -15):
        with pytest.raises(IndexError, match=rf"no sample {index}: SyntheticDataset"):
            dataset[index]


def test_it_travels_to_a_worker(root: Path) -> None:
    copy = pickle.loads(pickle.dumps(SyntheticDataset(root, transform=brightened)))
    assert copy[3]["image"].max() == 4


def test_problems_are_raised_at_once(root: Path) -> None:
    (root / "a" / "metadata.json").unlink()
    (root / "b" / "metadata.json").write_text("{}")
    with pytest.raises(InputProblemsError) as caught:
        SyntheticDataset(root)
    assert len(caught.value.problems) == 5
