"""The trainer and the validator: Ultralytics' own, with our datasets and models, and with checkpoints written whole."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any, Final

import torch
from ultralytics.data.utils import get_split_fraction
from ultralytics.models.yolo.detect import DetectionTrainer, DetectionValidator
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOCAL_RANK, LOGGER, RANK, colorstr, nms
from ultralytics.utils.metrics import ConfusionMatrix
from ultralytics.utils.torch_utils import strip_optimizer, torch_distributed_zero_first, unwrap_model

from toolkit.core.cpus import available_cpus
from toolkit.core.files import atomic_path
from toolkit.npz.pair_options import RGB_AND_MASK
from toolkit.yolo.engine.datasets import ContainedDataset, PairDataset
from toolkit.yolo.engine.detector import NO_TIME_LIMIT_S
from toolkit.yolo.engine.models import MaskGuidedDetectionModel
from toolkit.yolo.engine.weights import load_into
from toolkit.yolo.run_data import RunData

_AUTO: Final = "auto"
_SHOWN_CONF: Final = 0.25
_LEAST_CONF: Final = 0.001
_MATCHED_IOU: Final = 0.45
"""Ultralytics' own defaults of prediction, of validation, and of matching in confusion matrices."""
_LONG_TRAINING: Final = 10_000
"""Iterations from which ``optimizer=auto`` takes MuSGD in place of AdamW (Ultralytics 8.4, ``build_optimizer``)."""
_AUTO_MOMENTUM: Final = 0.9


def build_contained_dataset(
    settings: Any, data: Mapping[str, Any], img_path: str, mode: str, batch: int | None, stride: int
) -> ContainedDataset:
    """Return the dataset of a split, as ``build_yolo_dataset`` in ``ultralytics/data/build.py`` (8.4) makes it.

    Args:
        settings: Ultralytics' own.
        data: a data YAML of ours, read.
        img_path: what it has under the split's key.
        mode: ``train`` for augmented images, ``val`` for images of their own shapes.
        batch: images at once.
        stride: of the model, in pixels.
    """
    is_training = mode == "train"
    dataset_class = PairDataset if RunData.of(data).kind == "pairs" else ContainedDataset
    return dataset_class(
        img_path=img_path,
        imgsz=settings.imgsz,
        batch_size=batch,
        augment=is_training,
        hyp=settings,
        rect=settings.rect or not is_training,
        cache=settings.cache or None,
        single_cls=settings.single_cls or False,
        stride=stride,
        pad=0.0 if is_training else 0.5,
        prefix=colorstr(f"{mode}: "),
        task=settings.task,
        classes=settings.classes,
        data=data,
        fraction=get_split_fraction(settings.fraction, "train" if is_training else settings.split),
    )


class ReadableConfusionMatrix(ConfusionMatrix):
    """A confusion matrix of detections that a person would be shown.

    Average precision needs detections of every confidence, from 0.001 on; counted one by one, most of them are noise.
    """

    def process_batch(
        self, detections: Any, batch: Any, conf: float = _SHOWN_CONF, iou_thres: float = _MATCHED_IOU
    ) -> None:
        """Count the detections of an image; of those that are kept for average precision the confident ones."""
        super().process_batch(detections, batch, _SHOWN_CONF if conf <= _LEAST_CONF else conf, iou_thres)


class ContainedValidator(DetectionValidator):
    """Validation on our datasets."""

    def build_dataset(self, img_path: str, mode: str = "val", batch: int | None = None) -> ContainedDataset:
        """Return the dataset to validate on."""
        return build_contained_dataset(self.args, self.data, img_path, mode, batch, self.stride)

    def init_metrics(self, model: Any) -> None:
        """Begin a validation."""
        super().init_metrics(model)
        keeps_matches = self.args.plots and self.args.visualize
        self.confusion_matrix = ReadableConfusionMatrix(names=model.names, save_matches=keeps_matches)

    def postprocess(self, preds: Any) -> list[dict[str, torch.Tensor]]:
        """Return the detections of a batch: as Ultralytics does it, but no image's are dropped on a slow machine."""
        found = nms.non_max_suppression(
            preds,
            self.args.conf,
            self.args.iou,
            nc=0,
            multi_label=True,
            agnostic=self.args.single_cls or self.args.agnostic_nms,
            max_det=self.args.max_det,
            max_time_img=NO_TIME_LIMIT_S,
            end2end=self.end2end,
        )
        return [{"bboxes": x[:, :4], "conf": x[:, 4], "cls": x[:, 5], "extra": x[:, 6:]} for x in found]


class ContainedTraining(DetectionTrainer):
    """Training on our datasets.

    It is not called a trainer: Ultralytics lets the services it knows watch classes that are.
    """

    last: Path
    best: Path
    resume: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.device.type == "cpu":
            torch.set_num_threads(available_cpus())  # Ultralytics leaves one of the machine's out, whosever they are

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> ContainedDataset:
        """Return the dataset to train or validate on."""
        stride = max(int(unwrap_model(self.model).stride.max()), 32)
        return build_contained_dataset(self.args, self.data, img_path, mode, batch, stride)

    def train(self) -> None:
        """Train; on several GPUs in child processes, for which Ultralytics would first delete the run's folder."""
        self.resume = self.resume or self.ddp
        super().train()

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Move a batch to the device, in [0, 1]; with ``multi_scale`` the mask is scaled to the nearest pixel."""
        stored_hw = batch["img"].shape[2:]
        masks = batch["img"][:, -1:] if batch["img"].shape[1] == RGB_AND_MASK else None
        batch = super().preprocess_batch(batch)
        images = batch["img"]
        if masks is not None and images.shape[2:] != stored_hw:
            masks = masks.to(images.device, images.dtype) / 255
            images[:, -1:] = torch.nn.functional.interpolate(masks, size=images.shape[2:], mode="nearest-exact")
        return batch

    def get_validator(self) -> ContainedValidator:
        """Return the validator of each epoch."""
        return ContainedValidator(
            self.test_loader, save_dir=self.save_dir, args=copy(self.args), _callbacks=self.callbacks
        )

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> DetectionModel:
        """Return the model to train: built anew, with what fits of the weights."""
        model_class = MaskGuidedDetectionModel if RunData.of(self.data).attention == "mask-cbam" else DetectionModel
        model = model_class(
            cfg, nc=self.data["nc"], ch=self.data["channels"], verbose=verbose and self.args.verbose and RANK == -1
        )
        model = self.set_model_names_for_load(model)
        if weights is not None:
            load_into(model, weights)
        return model

    def build_optimizer(
        self,
        model: Any,
        name: str = _AUTO,
        lr: float = 0.001,
        momentum: float = _AUTO_MOMENTUM,
        decay: float = 1e-5,
        iterations: float = 1e5,
    ) -> torch.optim.Optimizer:
        """Return the optimiser. A learning rate that was asked for is kept where the optimiser is chosen by itself."""
        asked = RunData.of(self.data).lr0
        if str(name).lower() == _AUTO and asked is not None:
            name, lr, momentum = "MuSGD" if iterations > _LONG_TRAINING else "AdamW", asked, _AUTO_MOMENTUM
            self.args.optimizer, self.args.lr0, self.args.warmup_bias_lr = name, lr, 0.0
            LOGGER.info(f"{colorstr('optimizer:')} {name} with the learning rate that was asked for, lr0={lr}")
        optimizer: torch.optim.Optimizer = super().build_optimizer(model, name, lr, momentum, decay, iterations)
        return optimizer

    def save_model(self) -> bool:
        """Write the checkpoints of an epoch, each appearing whole or not at all; they name the user's data YAML."""
        last, best, data = self.last, self.best, self.args.data
        with atomic_path(last) as new_last, atomic_path(best) as new_best:
            self.last, self.best, self.args.data = new_last, new_best, str(RunData.of(self.data).data_yaml)
            try:
                return bool(super().save_model())
            finally:
                self.last, self.best, self.args.data = last, best, data

    def final_eval(self) -> None:
        """Strip the checkpoints of what only training needs, and validate the best one.

        As Ultralytics does it (8.4), but a stripped checkpoint replaces the other one in one step.
        """
        with torch_distributed_zero_first(LOCAL_RANK):
            if RANK in {-1, 0}:
                stripped = _strip(self.last)
                _strip(self.best, {"train_results": stripped.get("train_results")})
        if not self.best.exists():
            return
        LOGGER.info(f"\nValidating {self.best}...")
        self.validator.args.plots = self.args.plots
        self.validator.args.compile = False
        self.metrics = self.validator(model=self.best)
        self.metrics.pop("fitness", None)
        self.epoch += 1
        self.run_callbacks("on_fit_epoch_end")
        self.epoch -= 1


def _strip(path: Path, updates: dict[str, Any] | None = None) -> dict[str, Any]:
    if not path.exists():
        return {}
    level = LOGGER.level
    LOGGER.setLevel(logging.WARNING)  # it would tell the temporary file's name
    try:
        with atomic_path(path) as stripped:
            content: dict[str, Any] = strip_optimizer(path, str(stripped), updates)
    finally:
        LOGGER.setLevel(level)
    return content
