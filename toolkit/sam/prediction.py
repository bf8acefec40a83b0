"""Masks for images and boxes: 8-bit PNG files, COCO results and overlays.

Images are read ahead in threads, encoded in batches, and the files are written behind.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from toolkit.core.batch import Figures, Outcome, Publishing
from toolkit.core.errors import MvtkError
from toolkit.core.extras import require_installed
from toolkit.core.files import make_folder, read_bytes
from toolkit.core.listing import require_folder, walk_files, walk_sorted
from toolkit.device_memory import HalvingStep
from toolkit.images import load_image
from toolkit.images.search import is_image
from toolkit.prediction_job import PredictionJob, name_of
from toolkit.prediction_records import RECORDS, Record, content_mark, model_mark, write_record
from toolkit.preview import save_png
from toolkit.sam.coco_results import coco_results
from toolkit.sam.detection import Detector, Prompts, load_detector
from toolkit.sam.inference import PredictedMasks, embed, predict_masks, prompted_image
from toolkit.sam.model import load_trainable_sam
from toolkit.sam.model_step import ModelOptions
from toolkit.sam.panels import paint_instances, write_labels
from toolkit.sam.prompt_files import parse_prompts
from toolkit.sam.run_models import tuned_model

if TYPE_CHECKING:
    from toolkit.sam.trainable_sam import TrainableSam

MASKS: Final = "masks"
OVERLAYS: Final = "overlays"

NO_BOXES: Final = "no boxes file"

_MIN_LABEL_PX: Final = 10
_LABEL_SHARE: Final = 1 / 50
"""A label's height as a share of the image's longer side."""


class PredictSamOptions(ModelOptions):
    """The options of a prediction.

    Attributes:
        images: folder with the images, searched to any depth.
        output: folder for the results, made if missing.
        boxes: folder with a YOLO text file for each image, at the image's path with the suffix ``.txt``.
        detector: a YOLO model that finds the boxes, instead of ``boxes``.
        class_names: by class id; they label the overlays, and a class beyond them is an error. Empty: any class.
        min_score: leave out masks whose predicted IoU is lower; None: keep all.
        masks: write a PNG file a mask.
        overlays: write each image with its masks over it.
        overwrite: do images again that were done by another model or from other boxes.
    """

    images: Path
    output: Path
    boxes: Path | None = None
    detector: Path | None = None
    class_names: tuple[str, ...] = ()
    min_score: float | None = Field(default=None, ge=0, le=1)
    masks: bool = True
    overlays: bool = True
    overwrite: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders of the files that are written for an image besides its record."""
        return tuple(name for name, wanted in ((MASKS, self.masks), (OVERLAYS, self.overlays)) if wanted)

    @model_validator(mode="after")
    def _one_source_of_boxes(self) -> Self:
        if (self.boxes is None) == (self.detector is None):
            raise ValueError("give either --boxes or --detector")
        return self


@dataclass(frozen=True, slots=True)
class ImageItem:
    """One image.

    Attributes:
        source: its path relative to the folder of images, POSIX style.
        boxes_path: the file with its boxes; "" where a detector finds them.
    """

    source: str
    boxes_path: str

    @property
    def name(self) -> str:
        """Its path without the suffix, which names its results."""
        return name_of(self.source)


@dataclass(frozen=True, slots=True, eq=False)
class ReadImage:
    """An image that was read, and what it is to be prompted with, where that is known.

    Attributes:
        item: which one.
        image_hwc: (H, W, 3) uint8 RGB.
        prompts: its boxes; None where a detector finds them.
        boxes_mark: what tells the boxes from others.
        warnings: remarks on how it was read.
    """

    item: ImageItem
    image_hwc: NDArray[np.uint8]
    prompts: Prompts | None
    boxes_mark: str
    warnings: tuple[str, ...]


class PredictSamStep(HalvingStep[ImageItem, ReadImage]):
    """Predict the masks of one image's boxes.

    Args:
        options: what to do.
        made_by: what the records say made them.
        batch_size: images encoded at once.
    """

    def __init__(self, options: PredictSamOptions, made_by: str, batch_size: int) -> None:
        self._options = options
        self._made_by = made_by
        self._sam: TrainableSam | None = None
        self._detector: Detector | None = None
        self.batch_size = batch_size
        self.threads = options.threads

    def setup(self, device: str) -> None:
        """Load the model, and the detector where there is one, onto the device."""
        if self._options.detector is not None:
            self._detector = load_detector(self._options.detector, device)
        self._sam = load_trainable_sam(tuned_model(self._options.model), device)

    @property
    def sam(self) -> TrainableSam:
        """The model, once the step is set up."""
        if self._sam is None:
            raise RuntimeError("the step is not set up")
        return self._sam

    def prepare(self, item: ImageItem) -> ReadImage:
        """Read the image and its boxes.

        Raises:
            MvtkError: one of them cannot be read, or boxes are wrong.
        """
        options = self._options
        decoded = load_image(options.images / item.source, to_8bit=True)
        prompts, mark = None, str(options.detector)
        if item.boxes_path:
            data = read_bytes(item.boxes_path)
            mark = content_mark(data)
            height, width = decoded.pixels.shape[:2]
            class_count = len(options.class_names) or None
            prompts = parse_prompts(data, item.boxes_path, height, width, class_count=class_count)
        return ReadImage(item, decoded.pixels, prompts, mark, decoded.warnings)

    def process_at_once(self, batch: Sequence[ReadImage]) -> Sequence[Outcome | Publishing]:
        """Encode a batch and predict its masks."""
        prompts = self._prompts(batch)
        images = [
            prompted_image(self.sam, image.image_hwc, found.boxes_xyxy)
            for image, found in zip(batch, prompts, strict=True)
        ]
        predictions = predict_masks(self.sam, embed(self.sam, images), images)
        return [
            functools.partial(self._publish, image, found, predicted)
            for image, found, predicted in zip(batch, prompts, predictions, strict=True)
        ]

    def _prompts(self, batch: Sequence[ReadImage]) -> list[Prompts]:
        if self._detector is not None:
            return list(self._detector.detect([image.image_hwc for image in batch]))
        return [image.prompts for image in batch if image.prompts is not None]

    def _publish(self, image: ReadImage, prompts: Prompts, predicted: PredictedMasks) -> Outcome:
        """Write all files of one image, the record last."""
        options, name = self._options, image.item.name
        kept = np.flatnonzero(predicted.scores >= (-np.inf if options.min_score is None else options.min_score))
        masks_nhw, scores, class_ids = predicted.masks_nhw[kept], predicted.scores[kept], prompts.class_ids[kept]
        if options.masks:
            self._write_masks(name, masks_nhw)
        if options.overlays:
            painted_hwc = paint_instances(image.image_hwc, masks_nhw)
            self._write_overlay(name, painted_hwc, prompts.boxes_xyxy[kept], self._labels(class_ids, scores))
        results = coco_results(masks_nhw, scores, class_ids)
        record = Record(self._made_by, image.boxes_mark, options.parts, results)
        write_record(options.output / RECORDS / f"{name}.json", record)
        empty = int(np.count_nonzero(~masks_nhw.any(axis=(1, 2))))
        warnings = (*image.warnings, *(["an empty mask was predicted"] if empty else []))
        return Outcome.done(image.item.source, warnings=warnings, masks=len(kept), low_scores=len(prompts) - len(kept))

    def _write_masks(self, name: str, masks_nhw: NDArray[np.bool_]) -> None:
        """Write ``masks/<name>_<k>.png``, and remove those of higher numbers that another run left."""
        folder = (self._options.output / MASKS / name).parent
        make_folder(folder)
        stem = Path(name).name
        for number, mask_hw in enumerate(masks_nhw):
            save_png(folder / f"{stem}_{number}.png", np.where(mask_hw, 255, 0).astype(np.uint8), overwrite=True)
        number = len(masks_nhw)
        while (left_over := folder / f"{stem}_{number}.png").exists():
            left_over.unlink()
            number += 1

    def _write_overlay(
        self, name: str, painted_hwc: NDArray[np.uint8], boxes_xyxy: NDArray[np.float32], labels: Sequence[str]
    ) -> None:
        path = self._options.output / OVERLAYS / f"{name}.png"
        make_folder(path.parent)
        text_px = max(_MIN_LABEL_PX, round(max(painted_hwc.shape[:2]) * _LABEL_SHARE))
        save_png(path, write_labels(painted_hwc, boxes_xyxy, labels, text_px), overwrite=True)

    def _labels(self, class_ids: NDArray[np.int64], scores: NDArray[np.float32]) -> list[str]:
        names = self._options.class_names
        prefixes = [f"{names[class_id]} " if names else "" for class_id in class_ids.tolist()]
        return [f"{prefix}{score:.2f}" for prefix, score in zip(prefixes, scores.tolist(), strict=True)]


class PredictSamJob(PredictionJob[ImageItem]):
    """The prediction for all images below a folder, which is listed while the work goes on.

    ``masks/<image>_<k>.png`` (0 and 255, k being the line of the box where no mask was left out), ``overlays``,
    ``records`` and, of all of them, ``predictions.json`` are written below the output folder.

    Raises:
        MvtkError: a folder does not exist or has no images, or a device, the model or the extra is not there.
    """

    command: ClassVar[str] = "sam predict"

    def __init__(self, options: PredictSamOptions) -> None:
        super().__init__(options.output, options.parts, overwrite=options.overwrite)
        require_folder(options.images, "give the folder with the images")
        if options.boxes is not None:
            require_folder(options.boxes, "give the folder with a YOLO text file for each image")
        if next(walk_files(options.images, is_image), None) is None:
            raise MvtkError(f"there are no images in {options.images}", "give the folder that holds them, at any depth")
        self.require_apart_from(options.images)
        self._options = options
        self._devices = options.worker_devices()
        require_installed("transformers", "sam")
        self._masks = 0

    @property
    def options(self) -> PredictSamOptions:
        """The options."""
        return self._options

    @property
    def devices(self) -> tuple[str, ...]:
        """One worker a device; none for the CPU with ``workers=0``, which works in the calling process."""
        return () if self._devices == ("cpu",) and not self._options.workers else self._devices

    @functools.cached_property
    def made_by(self) -> str:
        """What the records of this run say made them."""
        return f"{model_mark(tuned_model(self._options.model))} min_score {self._options.min_score}"

    def sources(self) -> Iterator[str]:
        """Yield the images below the folder."""
        return walk_sorted(self._options.images, is_image)

    def item_of(self, source: str) -> ImageItem | Outcome:
        """Return the image with its boxes file, where no detector finds the boxes."""
        options = self._options
        boxes_path = options.boxes and options.boxes / f"{name_of(source)}.txt"
        if boxes_path and not boxes_path.exists():
            return Outcome.failed(source, f"{boxes_path}: no such file; an empty one says: no objects", NO_BOXES)
        return ImageItem(source, os.fspath(boxes_path) if boxes_path else "")

    def prompts_mark(self, item: ImageItem) -> str:
        """Return what tells the boxes from others: their content, or which detector finds them.

        Raises:
            MvtkError: the boxes cannot be read.
        """
        return content_mark(read_bytes(item.boxes_path)) if item.boxes_path else str(self._options.detector)

    def step(self) -> PredictSamStep:
        """Return the prediction for one image."""
        return PredictSamStep(self._options, self.made_by, self._options.images_at_once(self._devices))

    def watch(self, outcome: Outcome) -> Outcome:
        """Count the masks."""
        self._masks += int(outcome.details.get("masks", 0))
        return outcome

    def stats(self, figures: Figures) -> Mapping[str, Any]:
        """Return how many masks were predicted, and how many images are in ``predictions.json``."""
        del figures
        if self._options.dry_run:
            return {}
        remarks = [self.results_remark()]
        return {"masks": self._masks, "images_in_results": self.images_in_results, "remarks": remarks}
