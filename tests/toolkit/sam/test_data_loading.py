"""How samples reach the decoder: both paths give the same, in the order asked for."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.sam_datasets import make_dataset
from toolkit.core.errors import MvtkError
from toolkit.sam.data_loading import (
    CachedSource,
    ImageSource,
    SampleSource,
    TrainingSample,
    epoch_order,
    read_ahead,
)
from toolkit.sam.embedding_cache import EmbeddingCache
from toolkit.sam.encoding import encoding_requests, fill_cache, missing_requests
from toolkit.sam.layout import read_layout
from toolkit.sam.model import TrainableSam
from toolkit.sam.samples import SamSamples
from toolkit.sam.variants import variant_names

VARIANTS = variant_names("dihedral")


@pytest.fixture
def samples(tmp_path: Path) -> SamSamples:
    return SamSamples(read_layout(make_dataset(tmp_path / "data", [2, 1, 3])))


@pytest.fixture
def cached(tmp_path: Path, samples: SamSamples, sam: TrainableSam) -> CachedSource:
    cache = EmbeddingCache(tmp_path / "cache", sam.model_hash)
    requests = encoding_requests(samples, VARIANTS)
    list(fill_cache(sam, cache, missing_requests(cache, requests), batch_size=4))
    hashes = [request.key.image_hash for request in requests[:: len(VARIANTS)]]
    return CachedSource(samples, sam.geometry, cache, hashes, variants=VARIANTS, seed=3)


def test_both_paths_give_the_same_variant_of_a_sample(
    samples: SamSamples, sam: TrainableSam, cached: CachedSource
) -> None:
    full = ImageSource(samples, sam.geometry, variants=VARIANTS, seed=3)
    shapes = set()
    for epoch in range(6):
        for position in range(3):
            mine, other = cached.load(position, epoch), full.load(position, epoch)
            assert mine.id == other.id
            assert torch.equal(mine.boxes_xyxy, other.boxes_xyxy)
            assert torch.equal(mine.targets, other.targets)
            assert mine.embedding is not None
            assert other.pixel_values is not None
            torch.testing.assert_close(
                mine.embedding.levels, sam.encode(other.pixel_values[None]).levels, rtol=1e-4, atol=1e-4
            )
            shapes.add(tuple(mine.targets.shape[1:]))
    assert shapes == {(21, 32), (32, 21)}


def test_prompts_are_shifted_on_the_cached_path_too(samples: SamSamples, cached: CachedSource) -> None:
    shifting = CachedSource(
        samples, cached._geometry, cached._cache, cached._image_hashes, jitters_boxes=True, variants=VARIANTS, seed=3
    )
    plain, first, again, later = (
        cached.load(2, 0), shifting.load(2, 0), shifting.load(2, 0), shifting.load(2, 1)
    )  # fmt: skip
    assert not torch.equal(first.boxes_xyxy, plain.boxes_xyxy)
    assert torch.equal(first.boxes_xyxy, again.boxes_xyxy)
    assert not torch.equal(first.boxes_xyxy, later.boxes_xyxy)
    assert torch.equal(first.targets, plain.targets)


class _Numbers(SampleSource):
    """Samples whose first box holds their position; it knows how many are wanted at once."""

    def __init__(self) -> None:
        self.loaded: list[int] = []
        self.lock = threading.Lock()

    def load(self, position: int, epoch: int) -> TrainingSample:
        assert epoch == 0
        if position == 13:
            raise MvtkError("sample 13 cannot be read")
        with self.lock:
            self.loaded.append(position)
        return TrainingSample(str(position), torch.full((1, 4), float(position)), torch.zeros(1, 1, 1).bool())


def test_samples_come_in_order_and_are_not_read_far_ahead() -> None:
    source = _Numbers()
    reading = read_ahead(source, list(range(100, 50, -1)), 0, threads=3, ahead=5)
    assert [next(reading).id for _ in range(10)] == [str(number) for number in range(100, 90, -1)]
    assert len(source.loaded) <= 10 + 5 + 1
    assert [sample.id for sample in reading] == [str(number) for number in range(90, 50, -1)]
    assert len(source.loaded) == 50


def test_a_sample_that_cannot_be_read_ends_the_reading() -> None:
    reading = read_ahead(_Numbers(), range(10, 20), 0, threads=2, ahead=4)
    with pytest.raises(MvtkError, match="sample 13 cannot be read"):
        list(reading)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    assert sorted(epoch_order(50, 1, 2).tolist()) == list(range(50))
    assert np.array_equal(epoch_order(50, 1, 2), epoch_order(50, 1, 2))
    assert not np.array_equal(epoch_order(50, 1, 2), epoch_order(50, 1, 3))
    assert not np.array_equal(epoch_order(50, 1, 2), epoch_order(50, 2, 2))
