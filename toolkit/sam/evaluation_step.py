"""The evaluation of one sample: masks for its boxes by one or two models, and their scores against the true masks."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from toolkit.core.batch import Figure, Outcome, Publishing
from toolkit.device_memory import HalvingStep
from toolkit.sam.coco_results import encode_rle
from toolkit.sam.embedding_cache import EmbeddingCache, EmbeddingKey, hash_image
from toolkit.sam.evaluation_tables import InstanceRow, InstanceScores
from toolkit.sam.inference import PredictedMasks, PromptedImage, embed, predict_masks, prompted_image
from toolkit.sam.layout import SampleFiles
from toolkit.sam.metrics import score_masks
from toolkit.sam.model import load_trainable_sam
from toolkit.sam.samples import SamSample, load_sample

if TYPE_CHECKING:
    from toolkit.sam.embedding import Embedding
    from toolkit.sam.trainable_sam import TrainableSam

NO_INSTANCES: Final = "no instances"

ROWS: Final = "rows"
MASKS: Final = "masks"
"""Details of an outcome, as JSON, that are for the job and not for the log: the scores, and the predicted masks."""


@dataclass(frozen=True, slots=True)
class EvaluationItem:
    """One sample's files."""

    files: SampleFiles

    @property
    def source(self) -> str:
        """The sample's id."""
        return self.files.id


@dataclass(frozen=True, slots=True, eq=False)
class ReadSample:
    """A sample that was read and prepared.

    Attributes:
        sample: its image and instances.
        prompted: the same for the model.
        embedding: from the cache; None where it is not there.
    """

    sample: SamSample
    prompted: PromptedImage
    embedding: Embedding | None


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """How samples are evaluated.

    Attributes:
        model: to evaluate.
        baseline: to compare with; None: nothing.
        class_count: how many classes there are; None: any class will do.
        boundary_tolerance: see :class:`EvaluateSamOptions`.
        cache_dir: see there.
        cache_dtype: see there.
        with_masks: send the predicted masks along, for panels.
    """

    model: str
    baseline: str | None
    class_count: int | None
    boundary_tolerance: float
    cache_dir: Path
    cache_dtype: Literal["float32", "float16"]
    with_masks: bool


class EvaluateSamStep(HalvingStep[EvaluationItem, ReadSample]):
    """Predict and score the masks of one sample.

    Args:
        settings: how.
        batch_size: images encoded at once.
        threads: threads that read ahead.
    """

    def __init__(self, settings: EvaluationSettings, batch_size: int, threads: int) -> None:
        self._settings = settings
        self._models: list[TrainableSam] = []
        self.batch_size = batch_size
        self.threads = threads

    def setup(self, device: str) -> None:
        """Load the models onto the device."""
        settings = self._settings
        names = [settings.model, *([settings.baseline] if settings.baseline else [])]
        self._models = [load_trainable_sam(name, device) for name in names]
        self._cache = EmbeddingCache(settings.cache_dir, self._models[0].model_hash, settings.cache_dtype)

    def prepare(self, item: EvaluationItem) -> ReadSample | Outcome:
        """Read the sample.

        Raises:
            MvtkError: it cannot be used; the line names it and all its problems.
        """
        sample = load_sample(item.files, self._settings.class_count)
        if not len(sample.masks_nhw):
            return Outcome.skipped(item.source, NO_INSTANCES)
        key = EmbeddingKey(hash_image(item.files.image))
        embedding = self._cache.get(key) if key in self._cache else None
        return ReadSample(sample, prompted_image(self._models[0], sample.image_hwc, sample.boxes_xyxy), embedding)

    def process_at_once(self, batch: Sequence[ReadSample]) -> Sequence[Outcome | Publishing]:
        """Predict the masks of a batch with both models; they share the embeddings where their encoders are equal."""
        first = self._models[0]
        images = [read.prompted for read in batch]
        embeddings = embed(first, images, [read.embedding for read in batch])
        predictions = [predict_masks(first, embeddings, images)]
        for other in self._models[1:]:
            if other.model_hash != first.model_hash:
                images = [prompted_image(other, read.sample.image_hwc, read.sample.boxes_xyxy) for read in batch]
                embeddings = embed(other, images)
            predictions.append(predict_masks(other, embeddings, images))
        pairs = zip(batch, zip(*predictions, strict=True), strict=True)
        return [functools.partial(self._score, read.sample, predicted) for read, predicted in pairs]

    def _score(self, sample: SamSample, predictions: Sequence[PredictedMasks]) -> Outcome:
        """Compare each model's masks with the true ones."""
        truth_nhw = sample.masks_nhw
        scores = [
            InstanceScores.of(
                score_masks(predicted.masks_nhw, truth_nhw, self._settings.boundary_tolerance), predicted.scores
            )
            for predicted in predictions
        ]
        rows = [
            InstanceRow(
                sample=sample.id,
                instance=number,
                class_id=int(sample.class_ids[number]),
                area_px=int(np.count_nonzero(truth_hw)),
                scores=scores[0][number],
                baseline=scores[1][number] if len(scores) > 1 else None,
            )
            for number, truth_hw in enumerate(truth_nhw)
        ]
        mean_iou = float(np.mean([row.scores.iou for row in rows]))
        private: dict[str, Figure] = {ROWS: json.dumps([row.to_json() for row in rows])}
        if self._settings.with_masks:
            private[MASKS] = json.dumps([encode_rle(mask_hw) for mask_hw in predictions[0].masks_nhw])
        details = {"instances": len(rows), "mean_iou": round(mean_iou, 6), **private}
        return Outcome(sample.id, "done", details=details)
