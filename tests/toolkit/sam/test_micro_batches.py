"""Batches in pieces: after running out of memory smaller ones, and nothing lost or done twice."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from toolkit.device_memory import OutOfMemoryError
from toolkit.sam.data_loading import TrainingSample
from toolkit.sam.micro_batches import MicroBatches


def _samples(counts: Sequence[int]) -> list[TrainingSample]:
    """Samples whose boxes hold the number of the sample and of the instance."""
    return [
        TrainingSample(
            f"s{index}",
            torch.tensor([[index, k, 0, 0] for k in range(count)], dtype=torch.float32),
            torch.zeros((count, 1, 1), dtype=torch.bool),
        )
        for index, count in enumerate(counts)
    ]


class _Device:
    """Memory for so many images and instances at once."""

    def __init__(self, images: int, instances: int) -> None:
        self.images, self.instances = images, instances

    def work(self, samples: Sequence[TrainingSample]) -> list[tuple[float, float]]:
        if len(samples) > self.images or sum(map(len, samples)) > self.instances:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [(float(box[0]), float(box[1])) for sample in samples for box in sample.boxes_xyxy]


@given(st.lists(st.integers(1, 30), max_size=8), st.integers(1, 6), st.integers(1, 40), st.integers(1, 8))
def test_every_instance_is_done_once_and_in_order(
    counts: list[int], images: int, instances: int, batch_size: int
) -> None:
    micro_batches = MicroBatches(batch_size)
    done = [
        each for _, results in micro_batches.run(_samples(counts), _Device(images, instances).work) for each in results
    ]
    assert done == [(index, k) for index, count in enumerate(counts) for k in range(count)]


def test_smaller_pieces_stay_and_are_told() -> None:
    micro_batches = MicroBatches(4)
    device = _Device(images=2, instances=8)
    pieces = [[len(each) for each in piece] for piece, _ in micro_batches.run(_samples([3, 3, 3, 3, 30]), device.work)]
    assert pieces == [[3, 3], [3, 3], [7], [7], [1], [7], [7], [1]]
    assert micro_batches.notices == [
        "out of memory: 2 images at once from now on",
        "out of memory: 15 instances at once from now on",
        "out of memory: 7 instances at once from now on",
    ]
    assert [len(piece) for piece, _ in micro_batches.run(_samples([3, 3, 3]), device.work)] == [2, 1]


def test_a_single_instance_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(OutOfMemoryError, match="not enough memory for 1 instances of s0"):
        list(MicroBatches(4).run(_samples([2]), _Device(images=1, instances=0).work))


def test_other_errors_are_no_lack_of_memory() -> None:
    def work(samples: Sequence[TrainingSample]) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        list(MicroBatches(4).run(_samples([1, 1]), work))
