"""From an image and its boxes to masks of the image's size: what evaluation, prediction and previews share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from toolkit.device_memory import OutOfMemoryError, within_memory
from toolkit.sam.geometry import ResizeGeometry
from toolkit.sam.preprocessing import prepare_boxes, prepare_image

if TYPE_CHECKING:
    from torch import Tensor

    from toolkit.sam.embedding import Embedding
    from toolkit.sam.trainable_sam import TrainableSam

_BOXES_AT_ONCE: Final = 64
"""The decoder repeats an image's embedding for each of them: 4 MB, and its attention's intermediate results."""
_PIXELS_AT_ONCE: Final = 2**25
"""Of logits at the image's size, 4 bytes each: hundreds of instances in a large image would take gigabytes."""


@dataclass(frozen=True, slots=True, eq=False)
class PromptedImage:
    """An image ready for the encoder, and its boxes for the decoder.

    Attributes:
        pixel_values: (3, S, S) float32.
        boxes: (N, 4) float32 in pixels of the encoder's input; N may be 0.
        geometry: the way back to the image's size.
    """

    pixel_values: Tensor
    boxes: Tensor
    geometry: ResizeGeometry


@dataclass(frozen=True, slots=True, eq=False)
class PredictedMasks:
    """The masks of one image's boxes, in their order.

    Attributes:
        masks_nhw: (N, H, W) bool, of the image's size.
        scores: (N,) float32: the IoU that the model expects each to have.
    """

    masks_nhw: NDArray[np.bool_]
    scores: NDArray[np.float32]


def prompted_image(sam: TrainableSam, image_hwc: NDArray[np.uint8], boxes_xyxy: NDArray[np.float32]) -> PromptedImage:
    """Prepare an image and its boxes; it may run in any thread.

    Args:
        sam: the model that they are for.
        image_hwc: (H, W, 3) uint8 RGB.
        boxes_xyxy: (N, 4) in pixels of the image.

    Raises:
        MvtkError: the image is too narrow for the model.
    """
    height, width = image_hwc.shape[:2]
    geometry = sam.geometry(height, width)
    return PromptedImage(prepare_image(image_hwc, geometry), prepare_boxes(boxes_xyxy, geometry), geometry)


def embed(
    sam: TrainableSam, images: Sequence[PromptedImage], known: Sequence[Embedding | None] | None = None
) -> list[Embedding]:
    """Return the embedding of each image, a batch of one on the model's device.

    Args:
        sam: the model, whose encoder is used.
        images: encoded together, those that need it.
        known: for each image its embedding from a cache, or None; None: none is known.

    Raises:
        OutOfMemoryError: a smaller batch may do.
    """
    import torch

    found = list(known or [None] * len(images))
    unknown = [index for index, embedding in enumerate(found) if embedding is None]
    if unknown:
        made = sam.encode(torch.stack([images[index].pixel_values for index in unknown]))
        for place, index in enumerate(unknown):
            found[index] = made[place]
    return [embedding.to(sam.device, torch.float32) for embedding in found if embedding is not None]


def predict_masks(
    sam: TrainableSam, embeddings: Sequence[Embedding], images: Sequence[PromptedImage]
) -> list[PredictedMasks]:
    """Return the masks of each image's boxes.

    Args:
        sam: the model; it is used in evaluation mode and left as it was.
        embeddings: of each image a batch of one, from an encoder of the same weights.
        images: whose boxes to use.

    Raises:
        OutOfMemoryError: the memory does not even suffice for one box.
    """
    import torch

    model: Any = sam.model
    was_training = model.mask_decoder.training
    sam.set_training(training=False)
    try:
        with torch.inference_mode():
            pairs = zip(embeddings, images, strict=True)
            return [_masks_of(sam, embedding, image) for embedding, image in pairs]
    finally:
        sam.set_training(training=was_training)


def _masks_of(sam: TrainableSam, embedding: Embedding, image: PromptedImage) -> PredictedMasks:
    """Return the masks of one image, whose embedding is a batch of one."""
    geometry = image.geometry
    masks_nhw = np.empty((len(image.boxes), geometry.height, geometry.width), np.bool_)
    scores = np.empty(len(image.boxes), np.float32)
    pixels = max(geometry.height * geometry.width, geometry.input_size**2)
    at_once = min(_BOXES_AT_ONCE, max(1, _PIXELS_AT_ONCE // pixels))
    first = 0
    while first < len(scores):
        part = slice(first, first + at_once)
        try:
            masks_nhw[part], scores[part] = _decode(sam, embedding, image.boxes[part], geometry)
        except OutOfMemoryError:
            if at_once == 1:
                raise
            at_once //= 2
        else:
            first += at_once
    return PredictedMasks(masks_nhw, scores)


def _decode(
    sam: TrainableSam, embedding: Embedding, boxes: Tensor, geometry: ResizeGeometry
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Return the masks of some boxes of one image, (n, H, W), and their scores, (n,)."""

    def decode() -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        decoded = sam.decode(embedding, [boxes])
        is_mask = geometry.to_original(decoded.logits[0].float()) > 0
        return is_mask.cpu().numpy(), decoded.iou[0].float().cpu().numpy()

    return within_memory(decode, f"not enough memory on {sam.device} for the masks of {len(boxes)} boxes")
