"""Samples to batches: a dict of columns, images and boxes as tensors or as arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from toolkit.core.extras import require_extra
from toolkit.metadata.batch_memory import BatchMemory

if TYPE_CHECKING:
    from torch.utils.data import DataLoader, Dataset

    from toolkit.metadata.sample_sequence import SampleSequence

Sample = dict[str, Any]
"""One sample: ``image``, ``image_path`` and annotations by name."""

RAGGED_COLUMNS: Final = frozenset({"bboxes", "class_ids"})
"""As many rows as the image has objects: a list also where the counts of a batch happen to agree."""

_NUMBER_TYPES: Final = (bool, int, float, np.number, np.bool_)
_TENSOR_KINDS: Final = "biufc"
"""Kinds of NumPy types that PyTorch has, too."""

_Column = list[Any]


def collate_samples(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return samples as one batch for training: the ``collate_fn`` of a ``torch.utils.data.DataLoader``.

    Returns:
        By name, in the order of the samples:
        ``image``: (B, H, W, 3) uint8 tensor if all have one size, otherwise a list of (H, W, 3) tensors.
        ``bboxes``: a list of (n, 4) float32 tensors; ``class_ids``: a list of (n,) int64 tensors. Always lists.
        ``keypoints``: (B, n, 3) float32 tensor, or a list of (n, 3) tensors.
        ``bbox``: (B, 4) float32 tensor. ``class_id``: (B,) int64 tensor. ``image_path``: a list of strings.
        What a transform added: arrays and tensors of one shape and type are stacked, numbers become a tensor, all else
        stays a list. A name that only some of the samples have is a list with None for the others.

    Raises:
        MissingExtraError: torch is not installed.
    """
    torch = require_extra("torch", "torch")

    def as_tensor(value: object) -> object:
        if not isinstance(value, np.ndarray) or value.dtype.kind not in _TENSOR_KINDS:
            return value
        # A flipped image has negative strides and a broadcast array is read-only: PyTorch takes neither.
        return torch.from_numpy(np.require(value, requirements=["C", "W"]))

    def stack(tensors: _Column) -> object:
        # NumPy copies in this thread. torch.stack wakes all of PyTorch's threads and waits for the last of them, which
        # takes far longer than the copy where other work keeps the processors busy.
        return torch.from_numpy(np.stack([tensor.numpy() for tensor in tensors]))

    return _collate(samples, as_tensor, torch.Tensor, stack)


def collate_arrays(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return samples as one batch of NumPy arrays, with the columns of :func:`collate_samples`."""
    return _collate(samples, lambda value: value, np.ndarray, np.stack)


def make_dataloader(dataset: SampleSequence, batch_size: int | None = 32, **options: Any) -> DataLoader[Any]:
    """Return a ``torch.utils.data.DataLoader`` that batches ragged boxes; a bare one cannot.

    Args:
        dataset: what to load.
        batch_size: samples a batch; None for single samples. A ``batch_sampler`` takes its place.
        options: any other argument of ``DataLoader``. ``collate_fn`` is :func:`collate_samples` unless given.

    Raises:
        MissingExtraError: torch is not installed.
    """
    require_extra("torch", "torch")
    from torch.utils.data import DataLoader

    if options.get("batch_sampler") is not None:
        batch_size = 1  # the value with which DataLoader takes a batch sampler
    if batch_size is not None:
        options.setdefault("collate_fn", collate_samples)
    return DataLoader(cast("Dataset[Any]", dataset), batch_size=batch_size, **options)


class GatheredSamples(list[Sample]):
    """Samples whose images already lie one behind another in memory: their batch needs no further copy.

    Each image is copied as soon as it is decoded, while the processor's caches hold it, and its own memory serves for
    the next one. Beside stacking at the end, a batch needs half the memory, and a fraction of the time. A pickle is a
    plain list.

    Args:
        samples: the samples, which are taken one by one.
        count: how many they are.
        memory: where the images' memory comes from.
    """

    def __init__(self, samples: Iterable[Sample], count: int, memory: BatchMemory) -> None:
        super().__init__()
        self._memory = memory
        self._images: NDArray[Any] | None = None
        self._slots: list[NDArray[Any]] = []
        for index, sample in enumerate(samples):
            self.append(self._gathered(index, sample, count))

    def __reduce__(self) -> tuple[type[list[Sample]], tuple[list[Sample]]]:
        return list, (list(self),)

    @property
    def images_bhwc(self) -> NDArray[Any] | None:
        """All images as one array; None where sizes differ, or where a sample has got another image since."""
        are_in_place = len(self._slots) == len(self) and all(
            sample.get("image") is slot for sample, slot in zip(self, self._slots, strict=True)
        )
        return self._images if are_in_place else None

    def _gathered(self, index: int, sample: Any, count: int) -> Any:
        """Return the sample with its image in the common array; what a transform made unfit for it, as it is."""
        image_hwc = sample.get("image") if isinstance(sample, dict) else None
        if not isinstance(image_hwc, np.ndarray):
            return sample
        if self._images is None:
            self._images = self._memory.take((count, *image_hwc.shape), image_hwc.dtype)
        if (image_hwc.shape, image_hwc.dtype) != (self._images.shape[1:], self._images.dtype):
            return sample if image_hwc.flags.writeable else {**sample, "image": image_hwc.copy()}
        slot = self._images[index]
        slot[...] = image_hwc
        self._slots.append(slot)
        return {**sample, "image": slot}


def _collate(
    samples: Sequence[Sample],
    convert: Callable[[object], object],
    array_type: type,
    stack: Callable[[_Column], object],
) -> dict[str, Any]:
    """Return the columns of ``samples``.

    Args:
        samples: the batch.
        convert: makes an ``array_type`` of a NumPy array, and leaves other values as they are.
        array_type: what ``convert`` makes and ``stack`` takes.
        stack: joins arrays of one shape along a new first axis.
    """

    def column(name: str) -> object:
        if name == "image" and isinstance(samples, GatheredSamples) and samples.images_bhwc is not None:
            return convert(samples.images_bhwc)
        values = [sample.get(name) for sample in samples]
        if all(isinstance(value, _NUMBER_TYPES) for value in values):
            return convert(np.array(values))
        converted = [convert(value) for value in values]
        return stack(converted) if name not in RAGGED_COLUMNS and _agree(converted, array_type) else converted

    names = dict.fromkeys(name for sample in samples for name in sample)
    return {name: column(name) for name in names}


def _agree(values: _Column, array_type: type) -> bool:
    """Tell whether all values are arrays of one shape and type."""
    if not all(isinstance(value, array_type) for value in values):
        return False
    arrays: list[NDArray[Any]] = values
    return len({(array.shape, array.dtype) for array in arrays}) == 1
