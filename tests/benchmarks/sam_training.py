"""``mvtk sam train`` against the documented loop, which runs the frozen encoder for every image in every epoch.

The shapes are ViT-B's, the weights random. Of the documented loop a few steps are measured and the rest is reckoned;
ours is measured as it is, its embeddings being random numbers of the right shape where they are to exist already.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from tests.benchmarks.measuring import Figure, peak_memory_mib
from tests.sam_datasets import make_dataset
from tests.sam_models import save_tiny_sam
from toolkit.sam.decoder_training import DecoderTraining
from toolkit.sam.demo_model import spread_weights
from toolkit.sam.embedding import Embedding
from toolkit.sam.embedding_cache import DEFAULT_FOLDER, EmbeddingCache
from toolkit.sam.encoding import EncodingRequest, encoding_requests, fill_cache
from toolkit.sam.layout import read_layout
from toolkit.sam.model import load_trainable_sam
from toolkit.sam.samples import SamSamples
from toolkit.sam.train_options import TrainOptions
from toolkit.sam.trainable_sam import TrainableSam
from toolkit.sam.training import SamTraining
from toolkit.sam.training_events import EpochReport
from toolkit.sam.variants import variant_names

if TYPE_CHECKING:
    from torch import Tensor

IMAGES, BOXES_AN_IMAGE, VAL_SIZE = 30, 3, 0.2
SIZE_HW = (768, 1024)
EPOCHS_OF_A_RUN = 10
ENCODED_IMAGES = 2
FEW_IMAGES, MANY_IMAGES = 60, 240
_TRAIN = """
import sys
from pathlib import Path
from toolkit.sam.train_options import TrainOptions
from toolkit.sam.training import SamTraining
data, model, output = map(Path, sys.argv[1:])
options = TrainOptions(data=data, model=str(model), output=output, epochs=1, device="cpu", tensorboard=False)
for event in SamTraining(options).run():
    pass
"""


def measure(folder: Path) -> Iterator[Figure]:
    """Measure an epoch whose embeddings exist, what a whole run is reckoned to take, and the memory of an epoch."""
    yield from _speed(folder)
    yield from _memory(folder)


def _speed(folder: Path) -> Iterator[Figure]:
    sam = _vit_b(folder / "model")
    data = make_dataset(folder / "data", [BOXES_AN_IMAGE] * IMAGES, size_hw=SIZE_HW)
    requests = encoding_requests(SamSamples(read_layout(data)), variant_names("none"))
    _store_random_embeddings(sam, EmbeddingCache(data / DEFAULT_FOLDER, sam.model_hash), requests)
    documented = DocumentedLoop(sam)
    before_s = documented.step_s()
    encode_s = _encoding_s(sam, EmbeddingCache(folder / "cold", sam.model_hash), requests[:ENCODED_IMAGES])
    epoch = measure_epoch(TrainOptions(data=data, model=str(folder / "model"), output=folder / "run", epochs=2))
    step_s, forward_s = statistics.mean([before_s, documented.step_s()]), documented.forward_s()
    val_images = round(VAL_SIZE * IMAGES)
    documented_s = (IMAGES - val_images) * step_s + val_images * forward_s
    run_s = IMAGES * encode_s + EPOCHS_OF_A_RUN * epoch.seconds
    yield Figure("SAM ViT-B, documented training step of one image", step_s, " s")
    yield Figure("SAM ViT-B, encoding of one image into the cache", encode_s, " s")
    yield Figure("SAM ViT-B, epoch with embeddings, an image", epoch.seconds / IMAGES, " s")
    yield Figure(
        "SAM ViT-B, documented epoch over ours with embeddings", documented_s / epoch.seconds, "x", at_least=15
    )
    what = f"SAM ViT-B, {EPOCHS_OF_A_RUN} documented epochs over ours with a cold cache"
    yield Figure(what, EPOCHS_OF_A_RUN * documented_s / run_s, "x", at_least=6)
    yield Figure("SAM ViT-B, part of an epoch outside the decoder", 100 * epoch.outside, " %", at_most=10)


class DocumentedLoop:
    """The training step that the yolo-sam-training package documents, on one image with its boxes.

    The processor's work is not in it: the package does that once, before the first epoch.

    Args:
        sam: whose model and parameters to use.
    """

    def __init__(self, sam: TrainableSam) -> None:
        import torch
        from monai.losses import DiceCELoss

        self._model: Any = sam.model
        self._optimizer = torch.optim.Adam(sam.trainable_parameters(), lr=1e-5)
        self._loss = DiceCELoss(sigmoid=True, squared_pred=True)
        corners = np.sort(np.random.default_rng(0).uniform(0, sam.input_size, (BOXES_AN_IMAGE, 2, 2)), axis=1)
        self._boxes = torch.tensor(corners.reshape(1, BOXES_AN_IMAGE, 4), dtype=torch.float32)
        self._pixel_values = torch.randn(1, 3, sam.input_size, sam.input_size)
        self._labels = (torch.rand(BOXES_AN_IMAGE, 1, sam.low_resolution, sam.low_resolution) < 0.3).float()

    def step_s(self) -> float:
        """Return the seconds of a training step."""
        started_s = time.perf_counter()
        self._predicted().backward()
        self._optimizer.step()
        self._optimizer.zero_grad()
        return time.perf_counter() - started_s

    def forward_s(self) -> float:
        """Return the seconds of a validation step."""
        import torch

        started_s = time.perf_counter()
        with torch.no_grad():
            self._predicted()
        return time.perf_counter() - started_s

    def _predicted(self) -> Tensor:
        output = self._model(pixel_values=self._pixel_values, input_boxes=self._boxes, multimask_output=False)
        loss: Tensor = self._loss(output.pred_masks[0], self._labels)
        return loss


class Epoch:
    """An epoch of ours: its seconds, and the part of them that was spent outside the decoder."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.decoder_s = 0.0

    @property
    def outside(self) -> float:
        """From 0 to 1."""
        return 1 - self.decoder_s / self.seconds

    def timed(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``work``, its seconds added to the decoder's."""

        def timed_work(*arguments: Any, **options: Any) -> Any:
            started_s = time.perf_counter()
            try:
                return work(*arguments, **options)
            finally:
                self.decoder_s += time.perf_counter() - started_s

        return timed_work


def measure_epoch(options: TrainOptions) -> Epoch:
    """Run two epochs and return the second: training, validation, panels, checkpoints and all."""
    epoch = Epoch()
    of_decoder = {name: epoch.timed(getattr(DecoderTraining, name)) for name in ("add", "finish_step", "scores")}
    with mock.patch.multiple(DecoderTraining, **of_decoder):
        for event in SamTraining(options).run():
            if isinstance(event, EpochReport) and event.epoch == 1:
                epoch.decoder_s, started_s = 0.0, time.perf_counter()
            elif isinstance(event, EpochReport) and event.epoch == options.epochs:
                epoch.seconds = time.perf_counter() - started_s
                break
    return epoch


def _vit_b(folder: Path) -> TrainableSam:
    """Save a SAM of ViT-B's shapes and load it.

    Its weights are spread: as built they are of the order of 1e-10, and numbers that are too small to be normal, which
    a processor takes many times as long to multiply, would be what is measured.
    """
    import torch
    from transformers import SamConfig, SamModel

    torch.manual_seed(0)
    model = SamModel(SamConfig())
    with torch.no_grad():
        spread_weights(model)
    TrainableSam(model).save_pretrained(folder)
    return load_trainable_sam(folder)


def _store_random_embeddings(sam: TrainableSam, cache: EmbeddingCache, requests: list[EncodingRequest]) -> None:
    import torch

    for request in requests:
        cache.put(request.key, Embedding(tuple(torch.randn(1, *shape) for shape in sam.embedding_shape)))


def _encoding_s(sam: TrainableSam, cache: EmbeddingCache, requests: list[EncodingRequest]) -> float:
    """Return the seconds that each of some images takes from its file to its embedding on the disk."""
    started_s = time.perf_counter()
    for _ in fill_cache(sam, cache, requests):
        pass
    return (time.perf_counter() - started_s) / len(requests)


def _memory(folder: Path) -> Iterator[Figure]:
    """Train a small model on few and on many images: what is kept of them would be megabytes each.

    Few are enough for the allocator's own reserves to have grown: they settle after some 50 images.
    """
    model = save_tiny_sam(folder / "tiny", input_size=512)
    peaks = []
    for count in (FEW_IMAGES, MANY_IMAGES):
        data = make_dataset(folder / f"{count}", [BOXES_AN_IMAGE] * count, size_hw=(512, 512))
        arguments = [sys.executable, "-c", _TRAIN, str(data), str(model), str(folder / f"run-{count}")]
        peaks.append(peak_memory_mib(arguments))
    yield Figure(f"sam train, memory with {FEW_IMAGES} images", peaks[0], " MiB")
    what = f"sam train, memory of each image more, up to {MANY_IMAGES}"
    yield Figure(what, 1024 * (peaks[1] - peaks[0]) / (MANY_IMAGES - FEW_IMAGES), " KiB", at_most=200)
