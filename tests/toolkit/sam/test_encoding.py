from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.builders import write_image
from tests.sam_datasets import make_dataset
from toolkit.core.errors import MvtkError
from toolkit.device_memory import OutOfMemoryError
from toolkit.sam.embedding import Embedding
from toolkit.sam.embedding_cache import EmbeddingCache
from toolkit.sam.encoding import EncodingRequest, encoding_requests, fill_cache, missing_requests
from toolkit.sam.layout import read_layout
from toolkit.sam.losses import instance_losses
from toolkit.sam.model import TrainableSam
from toolkit.sam.preprocessing import prepare_boxes, prepare_image, prepare_targets
from toolkit.sam.samples import SamSamples
from toolkit.sam.variants import IDENTITY, variant_names, vary_sample


@pytest.fixture
def samples(tmp_path: Path) -> SamSamples:
    return SamSamples(read_layout(make_dataset(tmp_path / "data", (1, 2, 3, 1, 2))))


@pytest.fixture
def cache(tmp_path: Path, sam: TrainableSam) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "cache", sam.model_hash)


@pytest.mark.parametrize("kind", ["sam", "sam2"])
def test_a_cached_embedding_and_its_losses_are_those_of_the_full_path(
    kind: str, samples: SamSamples, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    sam: TrainableSam = request.getfixturevalue(kind)
    cache = EmbeddingCache(tmp_path, sam.model_hash)
    variants = variant_names("dihedral")
    requests = encoding_requests(samples, variants)

    list(fill_cache(sam, cache, missing_requests(cache, requests), batch_size=3))

    assert cache.missing(each.key for each in requests) == []
    for index, each in enumerate(requests):
        sample = vary_sample(samples[index // len(variants)], each.key.variant)
        geometry = sam.geometry(*sample.image_hwc.shape[:2])
        boxes = [prepare_boxes(sample.boxes_xyxy, geometry)]
        targets = [prepare_targets(sample.masks_nhw, geometry)]
        full = sam.encode(prepare_image(sample.image_hwc, geometry)[None])
        cached = cache.get(each.key)
        for ours, theirs in zip(cached.levels, full.levels, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            instance_losses(sam.decode(cached, boxes).logits, targets),
            instance_losses(sam.decode(full, boxes).logits, targets),
            rtol=0,
            atol=1e-4,
        )


def test_each_is_reported_in_order_and_none_is_made_twice(
    sam: TrainableSam, samples: SamSamples, cache: EmbeddingCache
) -> None:
    requests = encoding_requests(samples, [IDENTITY])

    made = list(fill_cache(sam, cache, missing_requests(cache, requests), batch_size=2))

    assert [each.request for each in made] == requests
    assert [each.batch_size for each in made] == [2, 2, 2, 2, 1]
    assert sum(each.size_bytes for each in made) == cache.size().size_bytes
    assert missing_requests(cache, requests) == []


def test_what_was_stored_stays_when_a_run_ends_early(
    sam: TrainableSam, samples: SamSamples, cache: EmbeddingCache
) -> None:
    requests = encoding_requests(samples, [IDENTITY])
    filling = fill_cache(sam, cache, requests)
    next(filling)
    filling.close()

    remaining = missing_requests(cache, requests)

    assert 0 < len(remaining) < len(requests)
    list(fill_cache(sam, cache, remaining))
    assert missing_requests(cache, requests) == []


def test_equal_images_are_encoded_once(sam: TrainableSam, samples: SamSamples, cache: EmbeddingCache) -> None:
    image = samples.files(0).image
    samples.files(1).image.write_bytes(image.read_bytes())

    requests = encoding_requests(samples, [IDENTITY])

    assert len(requests) == 5
    assert len(missing_requests(cache, requests)) == 4


def test_out_of_memory_halves_the_batch_for_good(
    sam: TrainableSam, samples: SamSamples, cache: EmbeddingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, sizes = sam.encode, []

    def encode_two_at_most(pixel_values: torch.Tensor) -> Embedding:
        sizes.append(len(pixel_values))
        if len(pixel_values) > 2:
            raise OutOfMemoryError("not enough memory")
        return encode(pixel_values)

    monkeypatch.setattr(sam, "encode", encode_two_at_most)

    made = list(fill_cache(sam, cache, encoding_requests(samples, [IDENTITY]), batch_size=5))

    assert sizes == [5, 2, 2, 1]
    assert [each.batch_size for each in made] == [2, 2, 2, 2, 1]
    assert cache.size().files == 5


def test_when_not_even_one_image_fits_it_says_so(
    sam: TrainableSam, samples: SamSamples, cache: EmbeddingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(pixel_values: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(sam.model, "get_image_embeddings", no_memory)

    with pytest.raises(OutOfMemoryError, match="not enough memory on cpu to encode a batch of 1; use a smaller batch"):
        list(fill_cache(sam, cache, encoding_requests(samples, [IDENTITY]), batch_size=4))


def test_an_unreadable_image_is_named_with_its_sample(
    sam: TrainableSam, samples: SamSamples, cache: EmbeddingCache
) -> None:
    samples.files(2).image.write_bytes(b"no image")

    with pytest.raises(MvtkError, match=r"sample image_2: .*image_2.png: "):
        list(fill_cache(sam, cache, encoding_requests(samples, [IDENTITY])))


def test_a_too_narrow_image_is_named_with_its_sample(
    sam: TrainableSam, samples: SamSamples, cache: EmbeddingCache
) -> None:
    write_image(samples.files(2).image, np.zeros((300, 1, 3), np.uint8))

    with pytest.raises(MvtkError, match="sample image_2: an image of 1 x 300 pixels is too narrow"):
        list(fill_cache(sam, cache, encoding_requests(samples, [IDENTITY])))


def test_few_requests_are_taken_ahead(sam: TrainableSam, samples: SamSamples, cache: EmbeddingCache) -> None:
    requests = encoding_requests(samples, [IDENTITY])
    taken: list[EncodingRequest] = []

    def watched() -> Iterator[EncodingRequest]:
        for request in requests * 20:
            taken.append(request)
            yield request

    filling = fill_cache(sam, cache, watched(), batch_size=2, threads=2)
    next(filling)
    filling.close()

    assert len(taken) <= 10


def test_a_cache_of_another_model_is_a_bug(sam: TrainableSam, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the cache is another model's"):
        list(fill_cache(sam, EmbeddingCache(tmp_path, "cd"), []))
