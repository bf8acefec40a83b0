"""Several datasets one after another, as one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate

from toolkit.metadata.collating import Sample
from toolkit.metadata.sample_sequence import SampleSequence


class CombinedLazyDataset(SampleSequence):
    """The samples of several datasets, in their order; kinds, files and options may differ.

    Args:
        datasets: lazy datasets, or combined ones; none at all makes an empty dataset.

    Attributes:
        datasets: those that were given.
    """

    def __init__(self, datasets: Iterable[SampleSequence]) -> None:
        self.datasets = tuple(datasets)
        self._ends = list(accumulate(map(len, self.datasets)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} samples in {len(self.datasets)} datasets)"

    def _sample_at(self, position: int) -> Sample:
        dataset, index = self._find(position)
        return dataset[index]

    def _sample_to_copy_at(self, position: int) -> Sample:
        dataset, place = self._find(position)
        return dataset._sample_to_copy_at(place)

    def _metadata_at(self, position: int) -> Sample:
        dataset, index = self._find(position)
        return dataset.get_metadata(index)

    def _find(self, position: int) -> tuple[SampleSequence, int]:
        number = bisect_right(self._ends, position)
        start = self._ends[number - 1] if number else 0
        return self.datasets[number], position - start
