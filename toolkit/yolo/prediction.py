"""Detections in images, pairs of image and mask, or images with masks beside them: labels, COCO results, overlays.

Images are read and letterboxed ahead in threads, detected in batches, and the files are written behind.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from toolkit.annotations.yolo import YoloBox
from toolkit.core.batch import Figures, Outcome, Publishing
from toolkit.core.devices import resolve_devices
from toolkit.core.errors import MvtkError, OptionError
from toolkit.core.extras import require_installed
from toolkit.core.files import make_folder, write_bytes
from toolkit.core.listing import require_folder, walk_files, walk_sorted
from toolkit.core.options import DeviceBatchOptions
from toolkit.device_memory import HalvingStep
from toolkit.images import load_image
from toolkit.images.search import is_image
from toolkit.npz.packing import load_pair
from toolkit.npz.pair_arrays import join_rgb_and_mask, load_rgb_and_mask
from toolkit.npz.pair_options import RGB_AND_MASK, PairOptions
from toolkit.prediction_job import PredictionJob, name_of
from toolkit.prediction_records import RECORDS, CocoResult, Record, model_mark, write_record
from toolkit.preview import draw_boxes, overlay_mask, save_png
from toolkit.yolo.detections import DetectionOptions, Detections, PreparedImage
from toolkit.yolo.detector import YoloDetector
from toolkit.yolo.preparation.source import PAIR_SUFFIX
from toolkit.yolo.run_folder import weights_of

LABELS: Final = "labels"
OVERLAYS: Final = "overlays"

NO_MASK: Final = "mask not found"

_CPU_BATCH: Final = 1
_GPU_BATCH: Final = 16
_MASK_OPACITY: Final = 0.35
_NO_DEVICE: Final = "cpu"


class PredictYoloOptions(DeviceBatchOptions):
    """The options of a prediction.

    Attributes:
        source: folder with images or pairs (NPZ), searched to any depth, or one file of them.
        output: folder for the results, made if missing.
        model: a checkpoint (.pt), or the folder of a training run.
        masks: folder with a mask for each image, where the model takes one and the images are no pairs.
        mask_suffix: what a mask's name adds to its image's stem.
        mask_extension: a mask's file suffix, with the dot.
        resize_mask: resize a mask of another size than its image instead of failing the image.
        imgsz: side of the model's input in pixels; None: as it was trained.
        conf: leave out detections with a lower confidence.
        iou: of two detections of one class that overlap so much, the less confident one is left out.
        max_det: keep so many detections of an image, the most confident ones.
        class_ids: keep these classes only; none: all.
        save_conf: write each detection's confidence as a sixth field of its line.
        overlays: write each image with its boxes.
        batch_size: images at once; None: 1 on the CPU, 16 on a GPU. Halved when the memory does not suffice.
        threads: threads that read ahead, a worker.
        overwrite: do images again that were done by another model or with other options.
    """

    source: Path
    output: Path
    model: Path
    masks: Path | None = None
    mask_suffix: str = "_seg"
    mask_extension: str = Field(default=".png", pattern=r"^\.[^/]+$")
    resize_mask: bool = False
    imgsz: int | None = Field(default=None, ge=32)
    conf: float = Field(default=0.25, ge=0, le=1)
    iou: float = Field(default=0.7, ge=0, le=1)
    max_det: int = Field(default=300, ge=1)
    class_ids: tuple[int, ...] = ()
    save_conf: bool = False
    overlays: bool = True
    batch_size: int | None = Field(default=None, ge=1)
    threads: int = Field(default=2, ge=1)
    overwrite: bool = False

    @property
    def detection(self) -> DetectionOptions:
        """How the model is asked."""
        return DetectionOptions(self.imgsz, self.conf, self.iou, self.max_det, self.class_ids)

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders of the files that are written for an image besides its record."""
        return (LABELS, OVERLAYS) if self.overlays else (LABELS,)


@dataclass(frozen=True, slots=True)
class ImageItem:
    """One image or pair.

    Attributes:
        source: its path relative to the source folder, POSIX style.
        path: the file.
        mask_path: its mask's file; "" where it has none, or holds it itself.
    """

    source: str
    path: str
    mask_path: str

    @property
    def name(self) -> str:
        """Its path without the suffix, which names its results."""
        return name_of(self.source)


@dataclass(frozen=True, slots=True, eq=False)
class ReadImage:
    """An image that was read.

    Attributes:
        item: which one.
        pixels_hwc: (H, W, 3) or (H, W, 4) uint8: RGB, and the mask where the model takes one.
        prepared: what the model gets.
        warnings: remarks on how it was read.
    """

    item: ImageItem
    pixels_hwc: NDArray[np.uint8]
    prepared: PreparedImage
    warnings: tuple[str, ...]


class PredictYoloStep(HalvingStep[ImageItem, ReadImage]):
    """Detect the objects of one image.

    Args:
        options: what to do.
        made_by: what the records say made them.
        batch_size: images at once.
    """

    def __init__(self, options: PredictYoloOptions, made_by: str, batch_size: int) -> None:
        self._options = options
        self._made_by = made_by
        self._detector: YoloDetector | None = None
        self.batch_size = batch_size
        self.threads = options.threads

    def setup(self, device: str) -> None:
        """Load the model onto the device."""
        self._detector = YoloDetector(self._options.model, device, self._options.detection)

    @property
    def detector(self) -> YoloDetector:
        """The model, once the step is set up."""
        if self._detector is None:
            raise RuntimeError("the step is not set up")
        return self._detector

    def prepare(self, item: ImageItem) -> ReadImage:
        """Read the image, and its mask where the model takes one.

        Raises:
            MvtkError: one of them cannot be read, or they do not fit together or the model.
        """
        pixels_hwc, warnings = self._read(item)
        return ReadImage(item, pixels_hwc, self.detector.prepare(pixels_hwc), warnings)

    def _read(self, item: ImageItem) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        takes_mask = self.detector.channels == RGB_AND_MASK
        if item.path.lower().endswith(PAIR_SUFFIX):
            rgbm_hwc = load_rgb_and_mask(Path(item.path))
            return (rgbm_hwc if takes_mask else np.ascontiguousarray(rgbm_hwc[..., :3])), ()
        if not takes_mask:
            decoded = load_image(item.path, exif="apply", to_8bit=True)  # upright, as Ultralytics trains on it
            return decoded.pixels, decoded.warnings
        options = PairOptions(to_8bit=True, resize_mask=self._options.resize_mask)
        arrays, warnings = load_pair(Path(item.path), Path(item.mask_path), options)
        return join_rgb_and_mask(Path(item.mask_path), arrays["image"], arrays["mask"]), warnings

    def process_at_once(self, batch: Sequence[ReadImage]) -> Sequence[Outcome | Publishing]:
        """Detect the objects of a batch."""
        found = self.detector.find([image.prepared for image in batch])
        return [
            functools.partial(self._publish, image, detections) for image, detections in zip(batch, found, strict=True)
        ]

    def _publish(self, image: ReadImage, found: Detections) -> Outcome:
        """Write all files of one image, the record last."""
        options, name = self._options, image.item.name
        height, width = image.pixels_hwc.shape[:2]
        path = options.output / LABELS / f"{name}.txt"
        make_folder(path.parent)
        write_bytes(path, label_text(found, height, width, save_conf=options.save_conf).encode(), overwrite=True)
        if options.overlays:
            picture = options.output / OVERLAYS / f"{name}.png"
            make_folder(picture.parent)
            save_png(picture, self._overlay(image.pixels_hwc, found), overwrite=True)
        record = Record(self._made_by, "", options.parts, coco_boxes(found))
        write_record(options.output / RECORDS / f"{name}.json", record)
        return Outcome.done(image.item.source, warnings=image.warnings, objects=len(found))

    def _overlay(self, pixels_hwc: NDArray[np.uint8], found: Detections) -> NDArray[np.uint8]:
        image_hwc = np.ascontiguousarray(pixels_hwc[..., :3])
        if pixels_hwc.shape[2] == RGB_AND_MASK:
            image_hwc = overlay_mask(image_hwc, cv2.extractChannel(pixels_hwc, RGB_AND_MASK - 1), alpha=_MASK_OPACITY)
        names = self.detector.class_names
        class_ids = found.class_ids.tolist()
        labels = [
            f"{names.get(class_id, class_id)} {score:.2f}"
            for class_id, score in zip(class_ids, found.scores.tolist(), strict=True)
        ]
        return draw_boxes(image_hwc, found.boxes_xyxy, labels, class_ids)


class PredictYoloJob(PredictionJob[ImageItem]):
    """The prediction for all images below a folder, which is listed while the work goes on.

    ``labels/<image>.txt``, ``overlays``, ``records`` and, of all of them, ``predictions.json`` (COCO's list of results)
    are written below the output folder.

    Raises:
        MvtkError: a folder does not exist or has no images, a device, the model or the extra is not there, or the model
            takes masks and there are none.
    """

    command: ClassVar[str] = "yolo predict"

    def __init__(self, options: PredictYoloOptions) -> None:
        super().__init__(options.output, options.parts, overwrite=options.overwrite)
        self._options = options
        require_installed("ultralytics", "yolo")
        self._root = options.source if options.source.is_dir() else options.source.parent
        if not options.source.exists():
            raise MvtkError(f"{options.source}: no such file or folder", "give images, or pairs of image and mask")
        self._weights = weights_of(options.model)
        if not self._weights.is_file():
            raise MvtkError(f"{self._weights}: no such file", "give a checkpoint (.pt), or a run of mvtk yolo train")
        if options.masks is not None:
            require_folder(options.masks, "give the folder with the masks")
        if options.source.is_dir() and next(walk_files(options.source, _is_wanted), None) is None:
            raise MvtkError(f"there are no images in {options.source}", "give the folder that holds them, at any depth")
        if options.source.is_dir():
            self.require_apart_from(options.source)
        self._devices = resolve_devices(options.device, options.device_policy)
        detector = YoloDetector(self._weights, _NO_DEVICE, options.detection)
        self._takes_mask = detector.channels == RGB_AND_MASK
        if options.masks is not None and not self._takes_mask:
            raise OptionError(f"{self._weights}: takes images alone", "leave out --masks")
        self._objects = 0

    @property
    def options(self) -> PredictYoloOptions:
        """The options."""
        return self._options

    @property
    def devices(self) -> tuple[str, ...]:
        """One worker a device; none for the CPU with ``workers=0``, which works in the calling process."""
        return () if self._devices == ("cpu",) and not self._options.workers else self._devices

    @functools.cached_property
    def made_by(self) -> str:
        """What the records of this run say made them."""
        options = self._options
        return f"{model_mark(str(self._weights))} {options.detection} conf written: {options.save_conf}"

    def sources(self) -> Iterator[str]:
        """Yield the images below the source folder, or the one that was given."""
        if self._options.source.is_dir():
            return walk_sorted(self._options.source, _is_wanted)
        return iter([self._options.source.name])

    def item_of(self, source: str) -> ImageItem | Outcome:
        """Return the image with its mask, where the model takes one and the image is no pair."""
        options = self._options
        path = self._root / source
        if not self._takes_mask or source.lower().endswith(PAIR_SUFFIX):
            return ImageItem(source, str(path), "")
        if options.masks is None:
            hint = "give their folder with --masks, or pairs of image and mask (NPZ)"
            return Outcome.failed(source, f"the model takes a mask beside the image; {hint}", NO_MASK)
        mask = options.masks / f"{name_of(source)}{options.mask_suffix}{options.mask_extension}"
        if not mask.exists():
            return Outcome.failed(source, f"{NO_MASK}: {mask}", NO_MASK)
        return ImageItem(source, str(path), str(mask))

    def step(self) -> PredictYoloStep:
        """Return the prediction for one image."""
        batch_size = self._options.batch_size or (_CPU_BATCH if self._devices == ("cpu",) else _GPU_BATCH)
        return PredictYoloStep(self._options, self.made_by, batch_size)

    def watch(self, outcome: Outcome) -> Outcome:
        """Count the objects."""
        self._objects += int(outcome.details.get("objects", 0))
        return outcome

    def stats(self, figures: Figures) -> Mapping[str, Any]:
        """Return the figures of the run and of the list of results."""
        del figures
        if self._options.dry_run:
            return {}
        remarks = [self.results_remark()]
        return {"objects": self._objects, "images_in_results": self.images_in_results, "remarks": remarks}


def label_text(found: Detections, height: int, width: int, *, save_conf: bool) -> str:
    """Return detections as the text of a YOLO label file.

    Args:
        found: the detections.
        height: of the image in pixels.
        width: of the image in pixels.
        save_conf: add each one's confidence to its line.
    """
    centres_and_sizes = np.hstack(
        ((found.boxes_xyxy[:, :2] + found.boxes_xyxy[:, 2:]) / 2, found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2])
    ) / np.array([width, height] * 2)
    lines = []
    for class_id, numbers, score in zip(
        found.class_ids.tolist(), centres_and_sizes.tolist(), found.scores, strict=True
    ):
        box = YoloBox(class_id, *numbers)
        text = f"{box.class_id} {box.x_center:.6f} {box.y_center:.6f} {box.width:.6f} {box.height:.6f}"
        lines.append(f"{text} {score:.6f}\n" if save_conf else f"{text}\n")
    return "".join(lines)


def coco_boxes(found: Detections) -> list[CocoResult]:
    """Return detections as COCO results of one image without their ``image_id``; class ids become category ids."""
    boxes_xywh = np.hstack((found.boxes_xyxy[:, :2], found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]))
    return [
        {
            "category_id": class_id,
            "bbox": [round(value, 3) for value in box_xywh],
            "score": round(score, 6),
        }
        for class_id, box_xywh, score in zip(
            found.class_ids.tolist(), boxes_xywh.tolist(), found.scores.tolist(), strict=True
        )
    ]


def _is_wanted(name: str) -> bool:
    return name.lower().endswith(PAIR_SUFFIX) or is_image(name)
