"""Fill an embedding cache: images are read and prepared ahead in threads, encoded in batches, and stored behind."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from toolkit.core.errors import MvtkError
from toolkit.device_memory import OutOfMemoryError
from toolkit.images import load_image
from toolkit.sam.embedding import Embedding
from toolkit.sam.embedding_cache import EmbeddingCache, EmbeddingKey, hash_image
from toolkit.sam.preprocessing import prepare_image
from toolkit.sam.samples import SamSamples
from toolkit.sam.variants import vary_image

if TYPE_CHECKING:
    from torch import Tensor

    from toolkit.sam.model import TrainableSam

_WRITERS: Final = 2


@dataclass(frozen=True, slots=True)
class EncodingRequest:
    """One embedding to make.

    Attributes:
        sample_id: what errors and progress call the image.
        image: its file.
        key: of the embedding, which says the variant too.
    """

    sample_id: str
    image: Path
    key: EmbeddingKey


@dataclass(frozen=True, slots=True)
class Encoded:
    """One embedding that was made and stored.

    Attributes:
        request: for it.
        size_bytes: of its file.
        batch_size: of the batch that it was in.
    """

    request: EncodingRequest
    size_bytes: int
    batch_size: int


@dataclass(frozen=True, slots=True)
class _Prepared:
    request: EncodingRequest
    pixel_values: Tensor


def encoding_requests(samples: SamSamples, variants: Sequence[str], threads: int = 2) -> list[EncodingRequest]:
    """Return a request for each variant of each image, the variants of an image together.

    Every image file is read once, for its hash.

    Args:
        samples: whose images.
        variants: names, from :func:`toolkit.sam.variants.variant_names`.
        threads: that read.

    Raises:
        MvtkError: an image cannot be read.
    """
    files = [samples.files(index) for index in range(len(samples))]
    with ThreadPoolExecutor(threads, "hasher") as pool:
        hashes = list(pool.map(hash_image, [each.image for each in files]))
    return [
        EncodingRequest(each.id, each.image, EmbeddingKey(image_hash, variant))
        for each, image_hash in zip(files, hashes, strict=True)
        for variant in variants
    ]


def missing_requests(cache: EmbeddingCache, requests: Iterable[EncodingRequest]) -> list[EncodingRequest]:
    """Return one request for each embedding that is not in the cache, in order; equal images count once."""
    by_key: dict[EmbeddingKey, EncodingRequest] = {}
    for request in requests:
        by_key.setdefault(request.key, request)
    return [by_key[key] for key in cache.missing(by_key)]


def fill_cache(
    sam: TrainableSam,
    cache: EmbeddingCache,
    requests: Iterable[EncodingRequest],
    *,
    batch_size: int = 1,
    threads: int = 2,
) -> Iterator[Encoded]:
    """Make and store embeddings, yielding each when it is on the disk, in order.

    Where the memory does not suffice for a batch, it is halved, for the rest too. What was stored stays when the
    iteration ends early: the next run goes on from there. Memory does not grow with the number of requests.

    Args:
        sam: the model, whose encoder is used.
        cache: with the model's hash.
        requests: from :func:`missing_requests`; with several processes, each does a part of them.
        batch_size: images encoded at once.
        threads: that read and prepare images.

    Raises:
        StopRunError: no space is left.
        OutOfMemoryError: not even one image fits.
        MvtkError: an image cannot be read, or an embedding cannot be stored; the line names it.
    """
    if cache.model_hash != sam.model_hash:
        raise ValueError("the cache is another model's")
    with ThreadPoolExecutor(threads, "preparer") as preparers, ThreadPoolExecutor(_WRITERS, "writer") as writers:
        prepared = _ahead(sam, requests, preparers, batch_size + threads)
        stored: deque[Future[Encoded]] = deque()
        try:
            for batch, embedding in _encoded_batches(sam, prepared, batch_size):
                for index, each in enumerate(batch):
                    stored.append(writers.submit(_store, cache, each.request, embedding[index], len(batch)))
                while len(stored) > batch_size:
                    yield stored.popleft().result()
            while stored:
                yield stored.popleft().result()
        finally:
            preparers.shutdown(cancel_futures=True)


def _ahead(
    sam: TrainableSam, requests: Iterable[EncodingRequest], pool: ThreadPoolExecutor, count: int
) -> Iterator[_Prepared]:
    """Yield prepared images in order, ``count`` of them being prepared meanwhile."""
    remaining = iter(requests)
    pending = deque(pool.submit(_prepare, sam, request) for request in itertools.islice(remaining, count))
    while pending:
        first = pending.popleft().result()
        pending.extend(pool.submit(_prepare, sam, request) for request in itertools.islice(remaining, 1))
        yield first


def _prepare(sam: TrainableSam, request: EncodingRequest) -> _Prepared:
    try:
        image_hwc = vary_image(load_image(request.image, to_8bit=True).pixels, request.key.variant)
        geometry = sam.geometry(*image_hwc.shape[:2])
    except MvtkError as error:
        raise MvtkError(f"sample {request.sample_id}: {error.message}", error.hint) from error
    return _Prepared(request, prepare_image(image_hwc, geometry))


def _encoded_batches(
    sam: TrainableSam, prepared: Iterator[_Prepared], batch_size: int
) -> Iterator[tuple[list[_Prepared], Embedding]]:
    """Yield batches with their embeddings, on the CPU."""
    import torch

    waiting: deque[_Prepared] = deque()
    while True:
        waiting.extend(itertools.islice(prepared, max(0, batch_size - len(waiting))))
        batch = list(itertools.islice(waiting, batch_size))
        if not batch:
            return
        try:
            embedding = sam.encode(torch.stack([each.pixel_values for each in batch])).to("cpu")
        except OutOfMemoryError:
            if len(batch) == 1:
                raise
            batch_size = len(batch) // 2
            continue
        for _ in batch:
            waiting.popleft()
        yield batch, embedding


def _store(cache: EmbeddingCache, request: EncodingRequest, embedding: Embedding, batch_size: int) -> Encoded:
    return Encoded(request, cache.put(request.key, embedding), batch_size)
