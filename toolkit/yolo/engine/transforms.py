"""Augmentation of image and mask as one array of four channels: red, green, blue, mask.

Ultralytics' own transforms treat every channel alike: a mask would be blurred by interpolation and padded with grey,
and colour augmentation is left out for four channels. Here the mask moves with its image to the nearest pixel, is
padded with 0, and colours change in the image alone. What draws random numbers is Ultralytics' own code, so that
settings mean the same.
"""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from ultralytics.data.augment import (
    Albumentations,
    BaseTransform,
    Compose,
    CopyPaste,
    CutMix,
    Format,
    MixUp,
    Mosaic,
    RandomFlip,
    RandomHSV,
    RandomPerspective,
)
from ultralytics.utils import IterableSimpleNamespace

from toolkit.images.letterboxing import letterbox_geometry, pad_to_frame

Labels = dict[str, Any]

PADDING_RGBM: Final = (114, 114, 114, 0)
"""Ultralytics' grey for the image; no mask."""
_PADDING_WORD: Final = np.array(PADDING_RGBM, np.uint8).view(np.uint32)[0]
_MASK: Final = 3


class PairMosaic(Mosaic):
    """Four pairs in one; what none of them covers is grey without a mask."""

    def apply_image(self, labels: Labels, params: Labels | None = None) -> Labels:
        """Replace ``img`` (H, W, 4) by the mosaic, (2 * imgsz, 2 * imgsz, 4)."""
        side = 2 * self.imgsz
        canvas = np.full((side, side), _PADDING_WORD).view(np.uint8).reshape(side, side, 4)
        for patch in (params or {})["layout"]:
            source = patch["labels_patch"]["img"][patch["y1b"] : patch["y2b"], patch["x1b"] : patch["x2b"]]
            canvas[patch["y1a"] : patch["y2a"], patch["x1a"] : patch["x2a"]] = source
        labels["img"] = canvas
        return labels


class PairPerspective(RandomPerspective):
    """Rotation, scale, shear and translation: the image bilinear on grey, the mask nearest on 0."""

    def apply_image(self, labels: Labels, params: Labels | None = None) -> Labels:
        """Replace ``img`` (H, W, 4) by the warped one, of the size that ``params`` has."""
        mask_hw = cv2.extractChannel(labels["img"], _MASK)
        labels = super().apply_image(labels, params)
        matrix, size_wh = (params or {})["M"], (params or {})["size"]
        if self.perspective:
            mask_hw = cv2.warpPerspective(mask_hw, matrix, dsize=size_wh, flags=cv2.INTER_NEAREST, borderValue=0)
        else:
            mask_hw = cv2.warpAffine(mask_hw, matrix[:2], dsize=size_wh, flags=cv2.INTER_NEAREST, borderValue=0)
        cv2.insertChannel(mask_hw, labels["img"], _MASK)
        return labels


class PairHSV(RandomHSV):
    """Hue, saturation and value of the image; the mask stays as it is."""

    def apply_image(self, labels: Labels, params: Labels | None = None) -> Labels:
        """Replace the colours of ``img`` (H, W, 4)."""
        if not (self.hgain or self.sgain or self.vgain):
            return labels
        colours = super().apply_image({"img": _to_bgr(labels["img"])}, params)
        labels["img"] = _with_mask(colours["img"], cv2.extractChannel(labels["img"], _MASK))
        return labels


class PairAlbumentations(Albumentations):
    """Albumentations, where installed: its spatial transforms move the mask, the others leave it alone."""

    def __call__(self, labels: Labels) -> Labels:
        """Transform ``img`` (H, W, 4) and what belongs to it."""
        if self.transform is None:
            return labels
        labels["semantic_mask"] = cv2.extractChannel(labels["img"], _MASK)
        labels["img"] = _to_bgr(labels["img"])
        labels = super().__call__(labels)
        labels["img"] = _with_mask(labels["img"], labels.pop("semantic_mask"))
        return labels


class PairFormat(Format):
    """The last step: (4, H, W) uint8, colours as stored (RGB), or reversed with the probability ``bgr``."""

    def _format_img(self, img: NDArray[np.uint8]) -> torch.Tensor:
        chw = np.ascontiguousarray(img.transpose(2, 0, 1))
        if self.bgr and np.random.random() < self.bgr:  # noqa: NPY002 - the generator that Ultralytics seeds
            chw[:_MASK] = chw[:_MASK][::-1].copy()
        return torch.from_numpy(chw)


class PairLetterBox(BaseTransform):
    """The padding of validation: :func:`toolkit.images.letterbox`, whose scaling the dataset has done.

    Args:
        imgsz: what the long side was scaled to, in pixels.
    """

    def __init__(self, imgsz: int) -> None:
        self.imgsz = imgsz

    def __call__(self, labels: Labels) -> Labels:
        """Pad ``img`` (H, W, 4) to a square of side ``imgsz``, or to ``rect_shape`` where the batch has one."""
        frame = labels.pop("rect_shape", None)
        frame_hw = None if frame is None else (int(frame[0]), int(frame[1]))
        height, width = labels["ori_shape"]
        geometry = letterbox_geometry(height, width, self.imgsz, frame_hw)
        instances = labels["instances"]
        instances.convert_bbox(format="xyxy")
        instances.denormalize(geometry.width, geometry.height)
        instances.add_padding(geometry.left, geometry.top)
        labels["img"] = pad_to_frame(labels["img"], geometry, PADDING_RGBM)
        labels["resized_shape"] = geometry.frame_hw
        labels["ratio_pad"] = ((geometry.height / height, geometry.width / width), (geometry.left, geometry.top))
        return labels


def pair_augmentation(dataset: Any, imgsz: int, settings: IterableSimpleNamespace) -> Compose:
    """Return the augmentation of pairs, in the order of ``v8_transforms`` in ``ultralytics/data/augment.py`` (8.4).

    Args:
        dataset: what mosaic and mixing draw further pairs from.
        imgsz: side of the result in pixels.
        settings: Ultralytics' hyperparameters.
    """
    mosaic = PairMosaic(dataset, imgsz=imgsz, p=settings.mosaic)
    perspective = PairPerspective(
        degrees=settings.degrees,
        translate=settings.translate,
        scale=settings.scale,
        shear=settings.shear,
        perspective=settings.perspective,
        size=(imgsz, imgsz),
    )
    if settings.copy_paste_mode == "flip":
        pasted = CopyPaste(dataset, p=settings.copy_paste, mode="flip")
        placed = Compose([mosaic, pasted, perspective])
    else:
        other = Compose([PairMosaic(dataset, imgsz=imgsz, p=settings.mosaic), perspective])
        pasted = CopyPaste(dataset, pre_transform=other, p=settings.copy_paste, mode=settings.copy_paste_mode)
        placed = Compose([mosaic, perspective, pasted])
    return Compose(
        [
            placed,
            MixUp(dataset, pre_transform=placed, p=settings.mixup),
            CutMix(dataset, pre_transform=placed, p=settings.cutmix),
            PairAlbumentations(p=1.0, transforms=getattr(settings, "augmentations", None)),
            PairHSV(hgain=settings.hsv_h, sgain=settings.hsv_s, vgain=settings.hsv_v),
            RandomFlip(direction="vertical", p=settings.flipud),
            RandomFlip(direction="horizontal", p=settings.fliplr),
        ]
    )


def _to_bgr(rgbm: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the colours in the order that Ultralytics' and OpenCV's colour spaces start from; a copy."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(rgbm), cv2.COLOR_RGBA2BGR), np.uint8)


def _with_mask(bgr: NDArray[np.uint8], mask_hw: NDArray[Any]) -> NDArray[np.uint8]:
    rgbm = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGBA)
    return np.asarray(cv2.insertChannel(mask_hw, rgbm, _MASK), np.uint8)
