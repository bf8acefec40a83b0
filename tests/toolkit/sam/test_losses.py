"""The loss against MONAI's, and loss and gradients of any batching against a plain reference, one sample at a time."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from toolkit.sam.losses import dice_ce_losses, instance_losses
from toolkit.sam.model import TrainableSam
from toolkit.sam.preprocessing import prepare_boxes, prepare_image, prepare_targets


@functools.cache
def _monai() -> Any:
    from monai.losses import DiceCELoss

    return DiceCELoss(sigmoid=True, squared_pred=True)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 4),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    density=st.sampled_from([0.0, 0.3, 1.0]),
    scale=st.sampled_from([0.1, 3.0, 40.0]),
    seed=st.integers(0, 99),
)
def test_each_instance_has_monais_loss_and_gradient(
    count: int, height: int, width: int, density: float, scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(count, height, width, generator=generator)
    targets = torch.rand(count, height, width, generator=generator) < density
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()

    losses = dice_ce_losses(ours, targets)
    expected = torch.stack(
        [_monai()(theirs[[index]][:, None], targets[[index]][:, None].float()) for index in range(count)]
    )
    losses.sum().backward()
    expected.sum().backward()

    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)


def test_the_padding_is_cropped_not_zeroed() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 32, 32, generator=generator)
    target = torch.rand(1, 20, 32, generator=generator) < 0.3
    padded = torch.zeros(1, 32, 32, dtype=torch.bool)
    padded[:, :20] = target
    zeroed = logits.clone()
    zeroed[:, 20:] = 0

    [loss] = instance_losses([logits], [target])

    torch.testing.assert_close(loss, dice_ce_losses(logits[:, :20], target)[0])
    assert abs(loss - dice_ce_losses(zeroed, padded)[0]) > 0.01


def test_images_of_mixed_sizes_keep_their_order() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = [(20, 32), (32, 10), (20, 32), (20, 32), (32, 10)]
    counts = [2, 1, 0, 3, 2]
    logits = [torch.randn(count, 32, 32, generator=generator) for count in counts]
    targets = [torch.rand(count, *size, generator=generator) < 0.4 for count, size in zip(counts, sizes, strict=True)]

    losses = instance_losses(logits, targets)

    alone = [instance_losses([each], [target]) for each, target in zip(logits, targets, strict=True)]
    torch.testing.assert_close(losses, torch.cat(alone), rtol=1e-6, atol=1e-6)


def test_reduced_precision_is_summed_in_float32() -> None:
    logits = torch.randn(2, 256, 256, generator=torch.Generator().manual_seed(0)).half()
    targets = torch.ones(2, 256, 256, dtype=torch.bool)

    losses = dice_ce_losses(logits, targets)

    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, dice_ce_losses(logits.float(), targets))


class _Sample(NamedTuple):
    pixel_values: Tensor
    boxes: Tensor
    targets: Tensor


def _samples(sam: TrainableSam) -> list[_Sample]:
    """Return images of several shapes with 1, 3, 2 and 5 instances."""
    rng = np.random.default_rng(7)
    samples = []
    for (height, width), count in [((90, 128), 1), ((64, 40), 3), ((50, 50), 2), ((90, 128), 5)]:
        geometry = sam.geometry(height, width)
        corners = np.sort(rng.uniform(0, 1, (count, 2, 2)), axis=1) * (width, height)
        samples.append(
            _Sample(
                prepare_image(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), geometry),
                prepare_boxes(corners.reshape(count, 4).astype(np.float32), geometry),
                prepare_targets(rng.random((count, height, width)) < 0.4, geometry),
            )
        )
    return samples


def _gradients(sam: TrainableSam) -> list[Tensor]:
    gradients = [parameter.grad for parameter in sam.trainable_parameters()]
    for parameter in sam.trainable_parameters():
        parameter.grad = None
    assert all(gradient is not None for gradient in gradients)
    return [gradient for gradient in gradients if gradient is not None]


def _reference(sam: TrainableSam, samples: list[_Sample]) -> tuple[float, list[Tensor]]:
    """Return loss and gradients by transformers' forward and MONAI's loss: no padding, one sample at a time."""
    model: Any = sam.model
    losses = []
    for sample in samples:
        height, width = sample.targets.shape[1:]
        output = model(pixel_values=sample.pixel_values[None], input_boxes=sample.boxes[None], multimask_output=False)
        for logits, target in zip(output.pred_masks[0, :, 0], sample.targets, strict=True):
            losses.append(_monai()(logits[None, None, :height, :width], target[None, None].float()))
    loss = torch.stack(losses).sum() / len(losses)
    loss.backward()
    return loss.item(), _gradients(sam)


@pytest.mark.parametrize("kind", ["sam", "sam2"])
@pytest.mark.parametrize("batches", [[[0], [1], [2], [3]], [[0, 1, 2, 3]], [[3, 1], [2, 0]], [[2], [0, 3, 1]]])
def test_loss_and_gradients_do_not_depend_on_the_batching(
    kind: str, batches: list[list[int]], request: pytest.FixtureRequest
) -> None:
    sam: TrainableSam = request.getfixturevalue(kind)
    samples = _samples(sam)
    expected_loss, expected_gradients = _reference(sam, samples)
    instance_count = sum(len(sample.boxes) for sample in samples)

    total = 0.0
    for batch in batches:
        part = [samples[index] for index in batch]
        embedding = sam.encode(torch.stack([sample.pixel_values for sample in part]))
        decoded = sam.decode(embedding, [sample.boxes for sample in part])
        losses = instance_losses(decoded.logits, [sample.targets for sample in part])
        loss = losses.sum() / instance_count
        loss.backward()
        total += loss.item()

    assert total == pytest.approx(expected_loss, abs=1e-5)
    for ours, theirs in zip(_gradients(sam), expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
