"""Datasets for Ultralytics' trainer and validator that leave the user's folders as they are."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from ultralytics.data.augment import Compose
from ultralytics.data.dataset import YOLODataset
from ultralytics.utils import LOGGER, IterableSimpleNamespace
from ultralytics.utils.patches import imread

from toolkit.core.errors import MvtkError
from toolkit.core.files import atomic_write, make_folder
from toolkit.images.letterboxing import letterbox_geometry, scale_to_fit
from toolkit.npz.pair_arrays import load_rgb_and_mask
from toolkit.npz.pair_options import RGB_AND_MASK
from toolkit.yolo.engine.transforms import PairFormat, PairLetterBox, pair_augmentation
from toolkit.yolo.run_data import RunData
from toolkit.yolo.scan import ScannedSplit, scan_split

_SPARE_DISK = 1.1


class ContainedDataset(YOLODataset):
    """Plain images. Labels come from mvtk's own scan, and cached images go to a folder of the run.

    Ultralytics would keep a pickled ``.cache`` beside the labels, take or make ``<stem>.npy`` beside the images, and
    rewrite JPEG files whose end it does not like.
    """

    _scan: ScannedSplit

    def get_img_files(self, img_path: str | list[str]) -> list[str]:
        """Return the images of the split that ``img_path`` names in the run's data, as many as ``fraction`` says."""
        run_data = RunData.of(self.data)
        images = run_data.images(img_path)
        count = self.fraction if isinstance(self.fraction, int) else max(1, round(len(images) * self.fraction))
        self._scan = scan_split(images[:count], run_data.class_count, run_data.kind)
        return [image.path for image in self._scan.images]

    def get_labels(self) -> list[dict[str, Any]]:
        """Return the labels in the form that ``YOLODataset.get_labels`` has."""
        labels = [
            {
                "im_file": image.path,
                "shape": image.size_hw,
                "cls": image.class_ids[:, None].copy(),
                "bboxes": image.boxes_cxcywh.copy(),
                "segments": list(image.outlines_xy),
                "keypoints": None,
                "normalized": True,
                "bbox_format": "xywh",
            }
            for image in self._scan.images
        ]
        self.verify_labels(labels, Path("labels"))
        return labels

    def load_image(
        self, i: int, rect_mode: bool = True, resize_short: bool = False
    ) -> tuple[NDArray[np.uint8], tuple[int, int], tuple[int, int]]:
        """Return image ``i``, its long side scaled to ``imgsz``, its height and width before, and after.

        Raises:
            MvtkError: it cannot be read.
        """
        del rect_mode, resize_short
        if self.ims[i] is not None:
            return self.ims[i], self.im_hw0[i], self.im_hw[i]
        pixels_hwc = self._read(i)
        height, width = pixels_hwc.shape[:2]
        scaled_hwc = self.scaled(pixels_hwc)
        size_hw = scaled_hwc.shape[:2]
        if self.augment and self.cache != "ram":
            self.ims[i], self.im_hw0[i], self.im_hw[i] = scaled_hwc, (height, width), size_hw
            self.buffer.append(i)  # what mosaic draws from
            if 1 < len(self.buffer) >= self.max_buffer_length:
                oldest = self.buffer.pop(0)
                self.ims[oldest], self.im_hw0[oldest], self.im_hw[oldest] = None, None, None
        return scaled_hwc, (height, width), (size_hw[0], size_hw[1])

    def decoded(self, path: str) -> NDArray[np.uint8]:
        """Return the pixels of a file, (H, W, C) uint8, BGR, as Ultralytics reads them.

        Raises:
            MvtkError: it cannot be read, or has another number of channels than the dataset.
        """
        pixels_hwc: NDArray[np.uint8] | None = imread(path, flags=self.cv2_flag)
        if pixels_hwc is None:
            raise MvtkError(f"{path}: cannot be decoded", "remove it with its label file, or replace it")
        if pixels_hwc.shape[2] != self.channels:
            raise MvtkError(
                f"{path}: {pixels_hwc.shape[2]} channels where the data YAML says {self.channels}",
                "correct one of them",
            )
        return pixels_hwc

    def scaled(self, pixels_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return pixels whose long side is ``imgsz``."""
        geometry = letterbox_geometry(pixels_hwc.shape[0], pixels_hwc.shape[1], self._side)
        return scale_to_fit(pixels_hwc, geometry, "bilinear")

    def check_cache_disk(self, safety_margin: float = _SPARE_DISK - 1) -> bool:
        """Return whether the folder for cached images has room for them; name their files there."""
        folder = RunData.of(self.data).cache_folder
        make_folder(folder)
        sizes_hw = [image.size_hw for image in self._scan.images]
        needed = (1 + safety_margin) * self.channels * sum(height * width for height, width in sizes_hw)
        if needed > shutil.disk_usage(folder).free:
            LOGGER.warning(f"{self.prefix}{needed / 2**30:.1f} GB of images do not fit {folder}: they are not cached")
            self.cache: str | None = None
            return False
        self.npy_files = [folder / _cache_name(path, self.channels) for path in self.im_files]
        return True

    def cache_images_to_disk(self, i: int) -> None:
        """Write the pixels of image ``i`` to its file among the cached ones, where it is not there yet."""
        if not self.npy_files[i].exists():
            with atomic_write(self.npy_files[i], overwrite=True) as stream:
                np.save(stream, self.decoded(self.im_files[i]), allow_pickle=False)

    def _read(self, i: int) -> NDArray[np.uint8]:
        """Return the pixels of image ``i``, from the disk cache where it is there and whole."""
        if self.cache == "disk":
            try:
                pixels_hwc: NDArray[np.uint8] = np.load(self.npy_files[i], allow_pickle=False)
            except (OSError, ValueError, EOFError):
                return self.decoded(self.im_files[i])
            if pixels_hwc.ndim == 3 and pixels_hwc.shape[2] == self.channels:
                return pixels_hwc
        return self.decoded(self.im_files[i])

    @property
    def _side(self) -> int:
        return max(self.imgsz) if isinstance(self.imgsz, Sequence) else int(self.imgsz)


class PairDataset(ContainedDataset):
    """Pairs of image and mask (NPZ): four channels, red, green, blue and mask; or the image alone as BGR."""

    def decoded(self, path: str) -> NDArray[np.uint8]:
        """Return the pixels of a pair: (H, W, 4) uint8 RGB and mask, or (H, W, 3) uint8 BGR without it.

        Raises:
            MvtkError: the pair cannot be read.
        """
        rgbm_hwc = load_rgb_and_mask(Path(path))
        if self.channels == RGB_AND_MASK:
            return rgbm_hwc
        return np.asarray(cv2.cvtColor(rgbm_hwc, cv2.COLOR_RGBA2BGR), np.uint8)

    def scaled(self, pixels_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return pixels whose long side is ``imgsz``: the image bilinear, the mask nearest."""
        scaled_hwc = super().scaled(pixels_hwc)
        if self.channels != RGB_AND_MASK or scaled_hwc is pixels_hwc:
            return scaled_hwc
        geometry = letterbox_geometry(pixels_hwc.shape[0], pixels_hwc.shape[1], self._side)
        mask_hw = scale_to_fit(cv2.extractChannel(pixels_hwc, RGB_AND_MASK - 1), geometry, "nearest")
        return np.asarray(cv2.insertChannel(mask_hw, scaled_hwc, RGB_AND_MASK - 1), np.uint8)

    def build_transforms(self, hyp: IterableSimpleNamespace) -> Compose:
        """Return the augmentation, or the padding of validation, and the last step."""
        if self.channels != RGB_AND_MASK:
            return super().build_transforms(hyp)
        if self.augment:
            if self.rect:
                hyp.mosaic = hyp.mixup = hyp.cutmix = 0.0
            transforms = pair_augmentation(self, self._side, hyp)
        else:
            transforms = Compose([PairLetterBox(self._side)])
        last = PairFormat(bbox_format="xywh", normalize=True, batch_idx=True, bgr=hyp.bgr if self.augment else 0.0)
        transforms.append(last)
        return transforms


def _cache_name(path: str, channels: int) -> str:
    """Return a name that another content of the file does not have."""
    status = os.stat(path)  # noqa: PTH116 - a million
    identity = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{channels}"
    return f"{hashlib.blake2b(os.fsencode(identity), digest_size=16).hexdigest()}.npy"
