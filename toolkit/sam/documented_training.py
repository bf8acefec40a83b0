"""The training function of the yolo-sam-training package, with its name and arguments.

What it got wrong is right here: the best weights are a snapshot, the frozen encoder runs once an image, and every
instance counts alike; see :mod:`toolkit.sam.documented_steps`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toolkit.core.devices import resolve_devices
from toolkit.preview import save_png
from toolkit.sam.data_loading import TrainingSample
from toolkit.sam.decoder_training import DecoderTraining
from toolkit.sam.documented_data import SamBatch, SAMDataset
from toolkit.sam.documented_steps import DRAWN_EVERY, save_prediction_visualization, validate_batch_shapes
from toolkit.sam.embedding_cache import DEFAULT_FOLDER, EmbeddingCache, EmbeddingKey
from toolkit.sam.processes import Processes
from toolkit.sam.run_folder import metric_plots
from toolkit.sam.schedule import Schedule
from toolkit.sam.train_options import DEFAULT_MODEL
from toolkit.sam.training_events import EpochReport

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import DataLoader

    from toolkit.sam.embedding import Embedding
    from toolkit.sam.trainable_sam import TrainableSam


@dataclass(frozen=True, slots=True, eq=False)
class LossPlot:
    """The losses of a run, drawn.

    Attributes:
        picture_hwc: (H, W, 3) uint8 RGB.
    """

    picture_hwc: NDArray[np.uint8]

    def savefig(self, path: str | Path) -> None:
        """Write it as PNG."""
        save_png(path, self.picture_hwc, overwrite=True)


def train_sam_model(
    train_loader: DataLoader[SamBatch],
    val_loader: DataLoader[SamBatch],
    model_save_path: str | Path,
    num_epochs: int = 10,
    learning_rate: float = 1e-5,
    weight_decay: float = 0,
    visualization_dir: str | Path | None = None,
    device: str | None = None,
    *,
    model: str | Path = DEFAULT_MODEL,
    warmup: float = 0.0,
    on_epoch: Callable[[EpochReport], None] | None = None,
) -> tuple[dict[str, Tensor], LossPlot]:
    """Fine-tune SAM's mask decoder on what two loaders give.

    Embeddings are cached in ``.mvtk-embeddings`` in ``model_save_path``, unless a loader changes its samples
    (``SAMDataset(transform=…)``). :class:`toolkit.sam.training.SamTraining` does more: it resumes, reads ahead, and
    uses several GPUs.

    Args:
        train_loader: of batches (:class:`toolkit.sam.documented_data.SamBatch`), each an optimiser step.
        val_loader: likewise, to validate on.
        model_save_path: the folder that the best model is written to, for ``SamModel.from_pretrained``.
        num_epochs: how often every training image is seen.
        learning_rate: the highest; it falls like a cosine.
        weight_decay: of AdamW.
        visualization_dir: where predictions are drawn after each epoch; None draws nothing.
        device: None: a GPU, where there is one.
        model: a folder with a SAM, or a Hugging Face id.
        warmup: the part of all steps over which the learning rate rises.
        on_epoch: called with the figures of each epoch.

    Returns:
        The state dict of the whole best model (lowest validation loss), a snapshot on the CPU, and the plot of losses.

    Raises:
        DivergedError: a loss is not a number; the line names the sample.
        MvtkError: the model cannot be loaded, or a file cannot be written.
    """
    from toolkit.sam.model import load_trainable_sam

    chosen = resolve_devices(device or "auto")[0]
    sam = load_trainable_sam(model, chosen)
    schedule = Schedule.of_run(learning_rate, num_epochs * len(train_loader), warmup, 0.0)
    training = DecoderTraining(
        sam,
        schedule,
        weight_decay=weight_decay,
        batch_size=train_loader.batch_size or 1,
        processes=Processes(chosen),
    )
    folder = Path(model_save_path)
    sources = [_LoaderSamples(loader, sam, folder / DEFAULT_FOLDER) for loader in (train_loader, val_loader)]
    history: list[EpochReport] = []
    best_state, best_loss = sam.decoder_state(), math.inf
    for epoch in range(1, num_epochs + 1):
        report = _epoch(training, sources[0], sources[1], epoch, best_loss)
        history.append(report)
        if report.is_best:
            best_state, best_loss = sam.decoder_state(), report.val_loss
        if visualization_dir is not None:
            _draw(training, sources[1], epoch, Path(visualization_dir))
        if on_epoch is not None:
            on_epoch(report)
    sam.load_decoder_state(best_state)
    sam.save_pretrained(folder)
    return sam.plain_state(), LossPlot(metric_plots(history)["loss.png"])


class _LoaderSamples:
    """What a loader gives, as training samples; embeddings by the content of what the encoder would see."""

    def __init__(self, loader: DataLoader[SamBatch], sam: TrainableSam, folder: Path) -> None:
        dataset: Any = loader.dataset
        self._loader = loader
        self._sam = sam
        is_fixed = isinstance(dataset, SAMDataset) and dataset.transform is None
        self._cache = EmbeddingCache(folder, sam.model_hash) if is_fixed else None

    def __iter__(self) -> Iterator[tuple[SamBatch, list[TrainingSample]]]:
        for number, batch in enumerate(self._loader):
            validate_batch_shapes(batch, number)
            yield batch, [self._sample(batch, index) for index in range(len(batch["labels"]))]

    def _sample(self, batch: SamBatch, index: int) -> TrainingSample:
        count = int(batch["num_masks_per_sample"][index])
        height, width = batch["valid_sizes"][index].tolist()
        sample = TrainingSample(
            batch["dataset_keys"][index],
            batch["input_boxes"][index, :count],
            batch["labels"][index, :count, :height, :width] > 0,
        )
        pixel_values = batch["pixel_values"][index]
        if self._cache is None:
            return replace(sample, pixel_values=pixel_values)
        return replace(sample, embedding=self._embedding(pixel_values, self._cache))

    def _embedding(self, pixel_values: Tensor, cache: EmbeddingCache) -> Embedding:
        digest = hashlib.blake2b(pixel_values.contiguous().numpy().data, digest_size=16)
        key = EmbeddingKey(digest.hexdigest())
        if key not in cache:
            cache.put(key, self._sam.encode(pixel_values[None]))
        return cache.get(key)


def _epoch(
    training: DecoderTraining, train: _LoaderSamples, val: _LoaderSamples, epoch: int, best_loss: float
) -> EpochReport:
    import torch

    steps = []
    for _, samples in train:
        training.add(samples)
        steps.append(training.finish_step())
    scores = [training.scores(samples) for _, samples in val]
    losses, ious = torch.cat([each.losses for each in scores]), torch.cat([each.ious for each in scores])
    instances = sum(step.instances for step in steps)
    val_loss = float(losses.mean())
    return EpochReport(
        epoch,
        training.step_count,
        steps[-1].learning_rate,
        sum(step.loss_sum for step in steps) / max(1, instances),
        val_loss,
        float(ious.mean()),
        instances,
        len(losses),
        is_best=val_loss < best_loss,
    )


def _draw(training: DecoderTraining, source: _LoaderSamples, epoch: int, folder: Path) -> None:
    """Draw the first image of every tenth validation batch."""
    for number, (batch, samples) in enumerate(source):
        if number % DRAWN_EVERY == 0 and len(samples[0]):
            logits = training.scores(samples[:1], with_logits=True).logits[0]
            truth = batch["labels"][0, : len(logits)]
            save_prediction_visualization(batch["pixel_values"][0], logits, truth, number, epoch, folder)
