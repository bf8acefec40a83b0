"""Augmentation of SAM samples: the image, all its masks and its boxes are changed together.

Every random choice is drawn from a generator that the seed, the epoch and the sample determine: the result depends
neither on the order in which samples are read nor on the threads that read them, and a resumed run sees the same.
Images and masks are changed by torchvision's transforms (``torchvision.transforms.v2.functional``).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from toolkit.core.extras import require_extra
from toolkit.sam.mask_bounds import mask_boxes
from toolkit.sam.samples import SamSample
from toolkit.sam.train_options import Augmentation

if TYPE_CHECKING:
    from torch import Tensor

BRIGHTNESS: Final = 0.2
CONTRAST: Final = 0.2
SATURATION: Final = 0.2
HUE: Final = 0.03
"""Colour factors are drawn from 1 - x to 1 + x, the hue's shift from -x to x turns of the colour circle."""
MAX_ROTATION_DEGREES: Final = 20.0
CROP_AREA: Final = (0.5, 1.0)
CROP_ASPECT: Final = (3 / 4, 4 / 3)
"""The crop's area as a fraction of the image's, and its width to height as a factor of the image's."""
MIN_VISIBLE: Final = 0.2
MIN_AREA_PX: Final = 4
"""An instance stays when so much of its area, and so many pixels, are left."""
BOX_NOISE: Final = 0.1
MAX_BOX_NOISE: Final = 20 / 1024
"""Prompts shift by a normal deviation of a tenth of the box's side, at most 20 pixels in an image of 1024 (Kirillov et
al., Segment Anything, 2023, appendix A)."""
_CROP_DRAWS: Final = 8


def sample_generator(seed: int, epoch: int, sample_id: str) -> np.random.Generator:
    """Return the generator of all random choices for one sample in one epoch."""
    digest = hashlib.blake2b(f"{seed}\0{epoch}\0{sample_id}".encode(errors="surrogateescape"), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def augment(sample: SamSample, kinds: Collection[Augmentation], rng: np.random.Generator) -> SamSample:
    """Return ``sample`` changed at random.

    Rotation and crop keep at least one instance; one that they leave (nearly) nothing of is dropped, and the boxes of
    the others are taken from their masks. A cropped image keeps its scale: SAM's own preprocessing resizes it to the
    model's input, which makes the crop a random resized one.

    Args:
        sample: as :func:`toolkit.sam.samples.load_sample` returns it.
        kinds: what may change.
        rng: of all random choices; see :func:`sample_generator`.

    Returns:
        A sample of the same dtypes; a crop is smaller than the image.
    """
    if "colour" in kinds:
        sample = replace(sample, image_hwc=_recoloured(sample.image_hwc, rng))
    if "rotation" in kinds:
        sample = _rotated(sample, rng)
    if "crop" in kinds:
        sample = _cropped(sample, rng)
    if "boxes" in kinds:
        sample = replace(sample, boxes_xyxy=jittered_boxes(sample.masks_nhw, rng))
    return sample


def jittered_boxes(masks_nhw: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the boxes of masks, their edges shifted at random, inside the image and at least a pixel wide and high.

    Args:
        masks_nhw: (N, H, W) bool.
        rng: of the shifts.

    Returns:
        (N, 4) float32 in pixels, right and bottom exclusive.
    """
    boxes_xyxy = mask_boxes(masks_nhw)
    height, width = masks_nhw.shape[1:]
    sides_wh = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    limit_px = MAX_BOX_NOISE * max(height, width)
    noise = rng.standard_normal(boxes_xyxy.shape) * BOX_NOISE * np.tile(sides_wh, 2)
    shifted = boxes_xyxy + np.clip(noise, -limit_px, limit_px)
    bounds_wh = np.array([width, height], np.float64)
    upper_left = np.clip(np.minimum(shifted[:, :2], shifted[:, 2:] - 1), 0, bounds_wh - 1)
    lower_right = np.clip(np.maximum(shifted[:, 2:], upper_left + 1), 1, bounds_wh)
    return np.concatenate([upper_left, lower_right], axis=1).astype(np.float32)


def _recoloured(image_hwc: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    functional = _transforms().functional

    image = _image_tensor(image_hwc)
    image = functional.adjust_brightness(image, rng.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS))
    image = functional.adjust_contrast(image, rng.uniform(1 - CONTRAST, 1 + CONTRAST))
    image = functional.adjust_saturation(image, rng.uniform(1 - SATURATION, 1 + SATURATION))
    return _image_array(functional.adjust_hue(image, rng.uniform(-HUE, HUE)))


def _rotated(sample: SamSample, rng: np.random.Generator) -> SamSample:
    """Return a sample turned about its centre; its size stays, and black fills the corners."""
    transforms = _transforms()
    functional, modes = transforms.functional, transforms.InterpolationMode

    angle_degrees = rng.uniform(-MAX_ROTATION_DEGREES, MAX_ROTATION_DEGREES)
    image = functional.rotate(_image_tensor(sample.image_hwc), angle_degrees, modes.BILINEAR)
    masks = functional.rotate(_mask_tensor(sample.masks_nhw), angle_degrees, modes.NEAREST)
    turned = _with_visible(sample, _image_array(image), masks.numpy().astype(bool))
    return sample if turned is None else turned


def _cropped(sample: SamSample, rng: np.random.Generator) -> SamSample:
    functional = _transforms().functional

    height, width = sample.image_hwc.shape[:2]
    for _ in range(_CROP_DRAWS):
        area = rng.uniform(*CROP_AREA)
        aspect = math.exp(rng.uniform(math.log(CROP_ASPECT[0]), math.log(CROP_ASPECT[1])))
        crop_h = min(height, max(1, round(height * math.sqrt(area / aspect))))
        crop_w = min(width, max(1, round(width * math.sqrt(area * aspect))))
        top, left = int(rng.integers(height - crop_h + 1)), int(rng.integers(width - crop_w + 1))
        image = functional.crop(_image_tensor(sample.image_hwc), top, left, crop_h, crop_w)
        masks = functional.crop(_mask_tensor(sample.masks_nhw), top, left, crop_h, crop_w)
        cropped = _with_visible(sample, _image_array(image), masks.numpy().astype(bool))
        if cropped is not None:
            return cropped
    return sample


def _with_visible(sample: SamSample, image_hwc: NDArray[np.uint8], masks_nhw: NDArray[np.bool_]) -> SamSample | None:
    """Return the changed sample with those instances that are still to be seen; None when there are none."""
    before_px = sample.masks_nhw.sum(axis=(1, 2))
    after_px = masks_nhw.sum(axis=(1, 2))
    kept = np.flatnonzero((after_px >= MIN_AREA_PX) & (after_px >= MIN_VISIBLE * before_px))
    if not len(kept):
        return None
    return SamSample(sample.id, image_hwc, mask_boxes(masks_nhw[kept]), masks_nhw[kept], sample.class_ids[kept])


def _transforms() -> ModuleType:
    return require_extra("torchvision.transforms.v2", "sam")


def _image_tensor(image_hwc: NDArray[np.uint8]) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(image_hwc.transpose(2, 0, 1)))


def _image_array(image_chw: Tensor) -> NDArray[np.uint8]:
    return np.ascontiguousarray(image_chw.numpy().transpose(1, 2, 0))


def _mask_tensor(masks_nhw: NDArray[np.bool_]) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(masks_nhw).view(np.uint8))
