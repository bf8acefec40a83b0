"""What all datasets of samples share: indices as those of a list, iteration, batches."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, SupportsIndex

from toolkit.metadata.batch_memory import BatchMemory
from toolkit.metadata.collating import GatheredSamples, Sample, collate_arrays


class SampleSequence(ABC):
    """Samples by index, made when they are asked for: a map-style dataset for ``torch.utils.data.DataLoader``."""

    @cached_property
    def _batch_memory(self) -> BatchMemory:
        return BatchMemory()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _sample_at(self, position: int) -> Sample:
        """Return the sample at ``position``, from 0 and within bounds."""

    def _sample_to_copy_at(self, position: int) -> Sample:
        """Return the sample at ``position`` for a caller who copies its image, which may be read-only."""
        return self._sample_at(position)

    @abstractmethod
    def _metadata_at(self, position: int) -> Sample:
        """Return the sample at ``position``, from 0 and within bounds, without its image."""

    def __getitem__(self, index: SupportsIndex) -> Sample:
        """Return one sample, with its image; negative indices count from the end.

        Raises:
            IndexError: there is no such sample.
            TypeError: the index is no integer.
        """
        return self._sample_at(self._position(index))

    def __iter__(self) -> Iterator[Sample]:
        for position in range(len(self)):
            yield self[position]

    def __getitems__(self, indices: Sequence[SupportsIndex]) -> GatheredSamples:
        """Return several samples, ready to be collated; ``torch.utils.data.DataLoader`` asks for batches by this name.

        Raises:
            IndexError: there is no such sample.
            TypeError: an index is no integer.
        """
        if type(self).__getitem__ is SampleSequence.__getitem__:
            samples = (self._sample_to_copy_at(self._position(index)) for index in indices)
        else:  # a subclass has indexing of its own
            samples = (self[index] for index in indices)
        return GatheredSamples(samples, len(indices), self._batch_memory)

    def get_metadata(self, index: SupportsIndex) -> Sample:
        """Return one sample without its image, which is not opened; no transform is applied.

        Raises:
            IndexError: there is no such sample.
            TypeError: the index is no integer.
        """
        return self._metadata_at(self._position(index))

    def get_batch(self, indices: Iterable[SupportsIndex]) -> dict[str, Any]:
        """Return several samples as columns, in the order of ``indices``.

        Returns:
            The columns that :func:`toolkit.metadata.collating.collate_samples` makes, with NumPy arrays.

        Raises:
            IndexError: there is no such sample; no image was read.
            TypeError: an index is no integer.
        """
        positions = [self._position(index) for index in indices]
        return collate_arrays(self.__getitems__(positions))

    def _position(self, index: SupportsIndex) -> int:
        try:
            number = operator.index(index)
        except TypeError:
            problem = f"a sample's index is an integer, not {type(index).__name__}"
            raise TypeError(f"{problem}; for several samples: get_batch(range(32))") from None
        count = len(self)
        if not -count <= number < count:
            raise IndexError(f"no sample {number}: {self!r} has {count}")
        return number + count if number < 0 else number
