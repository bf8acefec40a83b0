from __future__ import annotations

import numpy as np
import pytest
import torch

from toolkit.device_memory import HalvingStep, OutOfMemoryError
from toolkit.sam import inference
from toolkit.sam.embedding import Embedding
from toolkit.sam.inference import PredictedMasks, embed, predict_masks, prompted_image
from toolkit.sam.trainable_sam import Decoded, TrainableSam

BOXES = np.array([[10, 5, 60, 40], [0, 0, 30, 70], [33.5, 20, 80.25, 66]], np.float32)


def an_image(height: int = 70, width: int = 90, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def predict(sam: TrainableSam, image_hwc: np.ndarray, boxes_xyxy: np.ndarray) -> PredictedMasks:
    prompted = prompted_image(sam, image_hwc, boxes_xyxy)
    [predicted] = predict_masks(sam, embed(sam, [prompted]), [prompted])
    return predicted


@pytest.mark.parametrize("size_hw", [(70, 90), (150, 60), (128, 128)])
def test_masks_are_those_of_transformers_processor_and_model(sam: TrainableSam, size_hw: tuple[int, int]) -> None:
    from transformers import SamImageProcessor, SamProcessor

    square, low = {"height": 128, "width": 128}, {"height": 32, "width": 32}
    images = SamImageProcessor(
        size={"longest_edge": 128}, pad_size=square, mask_size={"longest_edge": 32}, mask_pad_size=low
    )
    processor = SamProcessor(images)
    processor.target_size = 128
    image_hwc = an_image(*size_hw)
    inputs = processor(images=image_hwc, input_boxes=[BOXES.tolist()], return_tensors="pt")
    with torch.no_grad():
        output = sam.model(
            pixel_values=inputs["pixel_values"], input_boxes=inputs["input_boxes"].float(), multimask_output=False
        )
    [expected] = images.post_process_masks(
        output.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"], pad_size=square
    )
    predicted = predict(sam, image_hwc, BOXES)
    assert predicted.masks_nhw.shape == (3, *size_hw)
    assert 0 < predicted.masks_nhw.mean() < 1
    assert np.mean(predicted.masks_nhw != expected[:, 0].numpy()) < 1e-3
    np.testing.assert_allclose(predicted.scores, output.iou_scores[0, :, 0].numpy(), atol=1e-5)


def test_batches_and_chunks_of_boxes_change_nothing(sam: TrainableSam, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [an_image(), an_image(40, 128, 1), an_image(seed=2)]
    boxes = [np.tile(BOXES, (10, 1)), BOXES[:1], BOXES[:0]]
    alone = [predict(sam, image, box) for image, box in zip(images, boxes, strict=True)]
    monkeypatch.setattr(inference, "_BOXES_AT_ONCE", 7)
    prompted = [prompted_image(sam, image, box) for image, box in zip(images, boxes, strict=True)]
    together = predict_masks(sam, embed(sam, prompted), prompted)
    for one, other in zip(alone, together, strict=True):
        assert one.masks_nhw.shape == other.masks_nhw.shape
        assert np.mean(one.masks_nhw != other.masks_nhw) < 1e-3 if len(one.masks_nhw) else True
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


def test_known_embeddings_are_not_computed_again(sam: TrainableSam, monkeypatch: pytest.MonkeyPatch) -> None:
    prompted = [prompted_image(sam, an_image(seed=seed), BOXES) for seed in range(3)]
    expected = embed(sam, prompted)
    encoded: list[int] = []
    encode = sam.encode
    monkeypatch.setattr(sam, "encode", lambda pixels: encoded.append(len(pixels)) or encode(pixels))
    found = embed(sam, prompted, [expected[0], None, expected[2]])
    assert encoded == [1]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.levels[0], other.levels[0], atol=1e-5, rtol=1e-5)


def test_fewer_boxes_at_once_where_the_memory_does_not_suffice(
    sam: TrainableSam, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = predict(sam, an_image(), np.tile(BOXES, (4, 1)))
    decode, tried = sam.decode, list[int]()

    def scarce(embedding: Embedding, boxes: list[torch.Tensor]) -> Decoded:
        tried.append(len(boxes[0]))
        if len(boxes[0]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(embedding, boxes)

    monkeypatch.setattr(sam, "decode", scarce)
    found = predict(sam, an_image(), np.tile(BOXES, (4, 1)))
    assert tried[0] == 12
    assert max(tried[-4:]) <= 3
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    monkeypatch.setattr(sam, "decode", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("out of memory")))
    with pytest.raises(OutOfMemoryError, match="not enough memory on cpu for the masks of 1 boxes"):
        predict(sam, an_image(), BOXES)


def test_the_decoder_is_left_in_training_as_it_was(sam: TrainableSam) -> None:
    sam.set_training(training=True)
    predict(sam, an_image(), BOXES)
    assert sam.model.mask_decoder.training
    sam.set_training(training=False)
    predict(sam, an_image(), BOXES)
    assert not sam.model.mask_decoder.training


class Halving(HalvingStep[str, int]):
    """Doubles numbers, three at most at once."""

    def __init__(self) -> None:
        self.batch_size, self.threads, self.done = 8, 1, list[list[int]]()

    def prepare(self, item: str) -> int:
        return int(item)

    def process_at_once(self, batch: list[int]) -> list[int]:
        if len(batch) > 3:
            raise OutOfMemoryError("too many")
        self.done.append(list(batch))
        return [2 * number for number in batch]


def test_a_batch_that_does_not_fit_is_done_in_halves_and_the_next_ones_are_smaller() -> None:
    step = Halving()
    assert step.process_batch(list(range(8))) == [2 * number for number in range(8)]
    assert step.done == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert step.batch_size == 2
