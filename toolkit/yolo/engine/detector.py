"""A model that is asked for detections, in float32, on images letterboxed as validation does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch
import torchvision  # type: ignore[import-untyped]  # noqa: F401 - Ultralytics suppresses overlapping boxes by its operator where it is imported
from numpy.typing import NDArray
from ultralytics.utils import nms

from toolkit.core.errors import MvtkError, OptionError
from toolkit.device_memory import within_memory
from toolkit.images.letterboxing import letterbox_geometry, pad_to_frame, scale_to_fit
from toolkit.npz.pair_options import RGB_AND_MASK
from toolkit.yolo.detections import DetectionOptions, Detections, PreparedImage
from toolkit.yolo.engine.transforms import PADDING_RGBM
from toolkit.yolo.engine.weights import load_weights
from toolkit.yolo.run_folder import weights_of

NO_TIME_LIMIT_S: Final = 1e9
"""Of suppressing overlapping boxes: Ultralytics gives up after 50 ms an image, and drops what is left."""
_MASK: Final = RGB_AND_MASK - 1


class LoadedDetector:
    """See :class:`toolkit.yolo.detector.YoloDetector`, which keeps Ultralytics within bounds around this.

    Args:
        weights: a checkpoint (.pt), or the folder of a training run.
        device: ``cpu`` or a CUDA device as torch names it.
        options: how it is asked.

    Raises:
        OptionError: ``imgsz`` is no multiple of the model's stride.
        MvtkError: the weights cannot be loaded.
    """

    def __init__(self, weights: Path, device: str, options: DetectionOptions) -> None:
        checkpoint = load_weights(weights_of(weights))
        self.channels = checkpoint.channels
        self.class_names = checkpoint.class_names
        self._options = options
        self._device = torch.device(device)
        model: Any = checkpoint.model
        stride = int(model.stride.max())
        self._imgsz = options.imgsz or checkpoint.imgsz
        if self._imgsz % stride:
            raise OptionError(f"--imgsz {self._imgsz} is no multiple of the model's stride", f"give one of {stride}")
        self._model = model.fuse(verbose=False).eval().to(self._device)

    def prepare(self, image_hwc: NDArray[np.uint8]) -> PreparedImage:
        """Scale and pad an image: the image bilinear on grey, the mask nearest on 0.

        Raises:
            MvtkError: it has another number of channels than the model takes.
        """
        height, width, channels = image_hwc.shape
        if channels != self.channels:
            raise MvtkError(f"an image of {channels} channels for a model that takes {self.channels}")
        geometry = letterbox_geometry(height, width, self._imgsz)
        scaled_hwc = scale_to_fit(image_hwc, geometry, "bilinear")
        if channels == RGB_AND_MASK and scaled_hwc is not image_hwc:
            mask_hw = scale_to_fit(cv2.extractChannel(image_hwc, _MASK), geometry, "nearest")
            cv2.insertChannel(mask_hw, scaled_hwc, _MASK)
        fill = PADDING_RGBM if channels == RGB_AND_MASK else float(PADDING_RGBM[0])
        padded_hwc = pad_to_frame(scaled_hwc, geometry, fill)
        return PreparedImage((height, width), np.ascontiguousarray(padded_hwc.transpose(2, 0, 1)))

    def find(self, images: Sequence[PreparedImage]) -> list[Detections]:
        """Return what is found in prepared images.

        Raises:
            OutOfMemoryError: the device's memory does not suffice for so many at once.
        """
        if not images:
            return []
        failure = f"the memory does not suffice for {len(images)} images of {self._imgsz} pixels"
        found = within_memory(lambda: self._run(images), failure)
        return [self._in_image(boxes, image.size_hw) for boxes, image in zip(found, images, strict=True)]

    def _run(self, images: Sequence[PreparedImage]) -> list[NDArray[np.float32]]:
        options = self._options
        with torch.inference_mode():
            batch = torch.from_numpy(np.stack([image.input_chw for image in images])).to(self._device)
            predictions = self._model(batch.float() / 255)
            found = nms.non_max_suppression(
                predictions,
                options.conf,
                options.iou,
                classes=list(options.class_ids) or None,
                max_det=options.max_det,
                max_time_img=NO_TIME_LIMIT_S,
                end2end=getattr(self._model, "end2end", False),
            )
            return [boxes[:, :6].float().cpu().numpy() for boxes in found]

    def _in_image(self, found: NDArray[np.float32], size_hw: tuple[int, int]) -> Detections:
        """Return detections in pixels of the image, clipped to it; those outside it are left out."""
        height, width = size_hw
        geometry = letterbox_geometry(height, width, self._imgsz)
        shift = np.array([geometry.left, geometry.top] * 2, np.float64)
        factors = np.array([width / geometry.width, height / geometry.height] * 2)
        boxes_xyxy = np.clip((found[:, :4] - shift) * factors, 0, [width, height] * 2)
        kept = (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(axis=1)
        return Detections(
            boxes_xyxy[kept].astype(np.float32), found[kept, 4].astype(np.float32), found[kept, 5].astype(np.int64)
        )
