"""Several datasets as one, against a list of all their samples."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import gradient, write_image
from tests.metadata_files import write_samples
from toolkit.metadata.collating import Sample
from toolkit.metadata.combined import CombinedLazyDataset
from toolkit.metadata.lazy import LazyNPYDataset
from toolkit.metadata.sample_sequence import SampleSequence


class Numbers(SampleSequence):
    """Samples that say whose and which they are."""

    def __init__(self, name: str, count: int) -> None:
        self.name, self.count = name, count

    def __len__(self) -> int:
        return self.count

    def _sample_at(self, position: int) -> Sample:
        return {"name": self.name, "number": position}

    def _metadata_at(self, position: int) -> Sample:
        return {"metadata": self.name, "number": position}


def outcome(call: Callable[[], Sample]) -> object:
    try:
        return call()
    except (IndexError, TypeError) as error:
        return type(error)


@given(
    st.lists(st.integers(0, 4), max_size=5),
    st.integers(-25, 25) | st.integers(-25, 25).map(np.int64) | st.just(1.0) | st.none(),
)
def test_indexing_is_that_of_a_list(counts: list[int], index: int) -> None:
    parts = [Numbers(str(number), count) for number, count in enumerate(counts)]
    combined = CombinedLazyDataset(parts)
    samples = [sample for part in parts for sample in part]
    assert len(combined) == len(samples)
    assert list(combined) == samples
    assert outcome(lambda: combined[index]) == outcome(lambda: operator.getitem(samples, index))
    metadata = [part.get_metadata(number) for part in parts for number in range(len(part))]
    assert outcome(lambda: combined.get_metadata(index)) == outcome(lambda: operator.getitem(metadata, index))


def test_nested() -> None:
    inner = CombinedLazyDataset([Numbers("a", 2), Numbers("b", 0)])
    combined = CombinedLazyDataset(iter([inner, Numbers("c", 1)]))
    assert [(sample["name"], sample["number"]) for sample in combined] == [("a", 0), ("a", 1), ("c", 0)]
    assert combined[-1] == {"name": "c", "number": 0}
    assert repr(combined) == "CombinedLazyDataset(3 samples in 2 datasets)"


def test_none_at_all() -> None:
    empty = CombinedLazyDataset([])
    assert len(empty) == 0
    assert list(empty) == []
    assert empty.get_batch([]) == {}
    with pytest.raises(IndexError, match=r"^no sample 0: CombinedLazyDataset\(0 samples in 0 datasets\) has 0$"):
        empty[0]


def test_different_kinds_and_files(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_image(tmp_path / folder / "a.png", gradient())
    detector = write_samples(tmp_path / "one/d.npy", "detector", [("a.png", [[1, 2, 3, 4]])])
    teacher = write_samples(tmp_path / "two/t.npy", "teacher", [("a.png", [1, 2, 3, 4]), ("a.png", [0, 0, 9, 9])])
    combined = CombinedLazyDataset([LazyNPYDataset(detector), LazyNPYDataset(teacher, cache_size=1)])
    assert [set(sample) - {"image", "image_path"} for sample in combined] == [{"bboxes"}, {"bbox"}, {"bbox"}]
    assert [sample["image"].shape for sample in combined] == [(24, 32, 3), (4, 3, 3), (9, 9, 3)]
    assert combined.get_metadata(-1)["image_path"] == str(tmp_path / "two/a.png")
    batch = combined.get_batch([2, 0])
    assert [image.shape for image in batch["image"]] == [(9, 9, 3), (24, 32, 3)]
    np.testing.assert_array_equal(batch["bbox"][0], [0, 0, 9, 9])
    assert batch["bbox"][1] is None
    assert batch["bboxes"][0] is None
