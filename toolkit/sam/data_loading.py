"""Samples on their way to the decoder: read ahead in threads, in the order asked for, never more than a few at a time.

Two paths lead there. With a cache, a sample is its embedding and its masks at the decoder's resolution: its image is
not even opened. Without one (or with augmentation that changes what the encoder sees) it is the encoder's input.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from toolkit.sam.augmentation import augment, jittered_boxes, sample_generator
from toolkit.sam.embedding_cache import EmbeddingCache, EmbeddingKey
from toolkit.sam.geometry import ResizeGeometry
from toolkit.sam.preprocessing import prepare_boxes, prepare_image, prepare_targets
from toolkit.sam.samples import SamSamples
from toolkit.sam.train_options import Augmentation
from toolkit.sam.variants import IDENTITY, vary_sample

if TYPE_CHECKING:
    from torch import Tensor

    from toolkit.sam.embedding import Embedding


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSample:
    """An image with its instances as the decoder takes them, on the CPU.

    Attributes:
        id: the sample's id.
        boxes_xyxy: (N, 4) float32 in pixels of the encoder's input.
        targets: (N, h, w) bool, the valid area of the logits.
        embedding: of this one image; None where the encoder has yet to run.
        pixel_values: (3, S, S) float32, the encoder's input; None where there is an embedding.
    """

    id: str
    boxes_xyxy: Tensor
    targets: Tensor
    embedding: Embedding | None = None
    pixel_values: Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    def part(self, instances: slice) -> TrainingSample:
        """Return the sample with some of its instances."""
        return replace(self, boxes_xyxy=self.boxes_xyxy[instances], targets=self.targets[instances])


class SampleSource(ABC):
    """Training samples by their position; each is made when it is asked for, in any thread.

    Args:
        samples: the images and their instances.
        geometry: of an image of a height and width; see :meth:`toolkit.sam.trainable_sam.TrainableSam.geometry`.
        variants: the mirrored and turned variants of which each epoch draws one.
        seed: of all random choices.
    """

    def __init__(
        self,
        samples: SamSamples,
        geometry: Callable[[int, int], ResizeGeometry],
        *,
        variants: Sequence[str] = (IDENTITY,),
        seed: int = 0,
    ) -> None:
        self.samples = samples
        self._geometry = geometry
        self._variants = tuple(variants)
        self._seed = seed

    def __len__(self) -> int:
        return len(self.samples)

    @abstractmethod
    def load(self, position: int, epoch: int) -> TrainingSample:
        """Return the sample at ``position`` as epoch ``epoch`` sees it.

        Raises:
            MvtkError: its files cannot be used; the line names the sample.
        """

    def _draw(self, position: int, epoch: int) -> tuple[np.random.Generator, str]:
        """Return the generator of a sample's random choices, and the variant, which is the first of them."""
        rng = sample_generator(self._seed, epoch, self.samples.files(position).id)
        return rng, self._variants[int(rng.integers(len(self._variants)))]


class ImageSource(SampleSource):
    """Samples as the encoder's input: the image is read, changed and preprocessed each time.

    Args:
        samples: the images and their instances.
        geometry: see :class:`SampleSource`.
        augmentation: what is changed at random; nothing for validation.
        variants: see :class:`SampleSource`.
        seed: see :class:`SampleSource`.
    """

    def __init__(
        self,
        samples: SamSamples,
        geometry: Callable[[int, int], ResizeGeometry],
        *,
        augmentation: Sequence[Augmentation] = (),
        variants: Sequence[str] = (IDENTITY,),
        seed: int = 0,
    ) -> None:
        super().__init__(samples, geometry, variants=variants, seed=seed)
        self._augmentation = frozenset(augmentation)

    def load(self, position: int, epoch: int) -> TrainingSample:
        """Return the sample at ``position`` as epoch ``epoch`` sees it.

        Raises:
            MvtkError: its files cannot be used; the line names the sample.
        """
        rng, variant = self._draw(position, epoch)
        sample = augment(vary_sample(self.samples[position], variant), self._augmentation, rng)
        geometry = self._geometry(*sample.image_hwc.shape[:2])
        return TrainingSample(
            sample.id,
            prepare_boxes(sample.boxes_xyxy, geometry),
            prepare_targets(sample.masks_nhw, geometry),
            pixel_values=prepare_image(sample.image_hwc, geometry),
        )


class CachedSource(SampleSource):
    """Samples whose embeddings are in a cache: masks and boxes are read, the image is not.

    Args:
        samples: the images and their instances.
        geometry: see :class:`SampleSource`.
        cache: holds the embedding of each variant of each image.
        image_hashes: of the image files, in the order of ``samples``.
        jitters_boxes: whether prompts are shifted at random; nothing else can be changed at this point.
        variants: see :class:`SampleSource`.
        seed: see :class:`SampleSource`.
    """

    def __init__(
        self,
        samples: SamSamples,
        geometry: Callable[[int, int], ResizeGeometry],
        cache: EmbeddingCache,
        image_hashes: Sequence[str],
        *,
        jitters_boxes: bool = False,
        variants: Sequence[str] = (IDENTITY,),
        seed: int = 0,
    ) -> None:
        super().__init__(samples, geometry, variants=variants, seed=seed)
        self._jitters_boxes = jitters_boxes
        self._cache = cache
        self._image_hashes = image_hashes

    def load(self, position: int, epoch: int) -> TrainingSample:
        """Return the sample at ``position`` as epoch ``epoch`` sees it.

        Raises:
            MvtkError: its masks, boxes or embedding cannot be used; the line names it.
        """
        rng, variant = self._draw(position, epoch)
        instances = vary_sample(self.samples.instances(position), variant)
        size_hw = instances.masks_nhw.shape[1:]
        boxes_xyxy = instances.boxes_xyxy
        if self._jitters_boxes:
            boxes_xyxy = jittered_boxes(instances.masks_nhw, rng)
        geometry = self._geometry(*size_hw)
        return TrainingSample(
            instances.id,
            prepare_boxes(boxes_xyxy, geometry),
            prepare_targets(instances.masks_nhw, geometry),
            embedding=self._cache.get(EmbeddingKey(self._image_hashes[position], variant)),
        )


def read_ahead(
    source: SampleSource, positions: Sequence[int], epoch: int, *, threads: int, ahead: int
) -> Iterator[TrainingSample]:
    """Yield samples in the order of ``positions``, while threads read the next ones.

    Args:
        source: of the samples.
        positions: which, in order.
        epoch: for which epoch.
        threads: threads that read.
        ahead: how many samples may wait, at most.

    Raises:
        MvtkError: a sample's files cannot be used.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="reader") as executor:
        waiting: deque[Future[TrainingSample]] = deque()
        try:
            for position in positions:
                waiting.append(executor.submit(source.load, position, epoch))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def epoch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order in which epoch ``epoch`` sees ``count`` images: it depends on nothing but the seed."""
    return np.random.default_rng((seed, epoch)).permutation(count)
