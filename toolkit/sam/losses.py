"""The loss of fine-tuning: MONAI's ``DiceCELoss(sigmoid=True, squared_pred=True)``, one value an instance.

Each instance is compared on the area of the logits that belongs to its image. Zeroing the padding instead would not be
the same: the cross-entropy of a zero logit is log 2, and its Dice denominator grows. The values of all instances are
to be added up and divided by the number of instances in the effective batch, so that neither the way samples are
batched nor the number of instances beside them changes what one instance counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor

_SMOOTH: Final = 1e-5
"""MONAI's ``smooth_nr`` and ``smooth_dr``."""


def dice_ce_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of each instance, equal to MONAI's ``DiceCELoss(sigmoid=True, squared_pred=True)`` of it alone.

    Soft Dice with squared predictions in the denominator (Milletari et al., "V-Net", 2016) plus binary cross-entropy,
    both in float32 whatever the logits' dtype. MONAI takes one instance at a time where no reduction is wanted; a test
    holds the two together.

    Args:
        logits: (N, h, w), floating point.
        targets: (N, h, w), bool or 0 and 1.

    Returns:
        (N,) float32.
    """
    from torch.nn.functional import binary_cross_entropy_with_logits

    logits_np = logits.float().flatten(1)
    targets_np = targets.to(logits_np.dtype).flatten(1)
    probabilities_np = logits_np.sigmoid()
    overlap = (probabilities_np * targets_np).sum(1)
    # The targets are 0 and 1: their squares are themselves.
    total = probabilities_np.square().sum(1) + targets_np.sum(1)
    dice = 1 - (2 * overlap + _SMOOTH) / (total + _SMOOTH)
    return dice + binary_cross_entropy_with_logits(logits_np, targets_np, reduction="none").mean(1)


def instance_losses(logits: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Return the loss of each instance of several images.

    Args:
        logits: for each image (N_i, L, L), as the mask decoder gives them: with the padding.
        targets: for each image (N_i, h_i, w_i), from :func:`toolkit.sam.preprocessing.prepare_targets`: the padding
            is left out of the logits as it is of these.

    Returns:
        (sum of N_i,) float32, in the order of the images.
    """
    import torch

    # Images of one size share a call: their number, not that of the instances, is what a small batch costs.
    losses: list[Tensor | None] = [None] * len(logits)
    by_size: dict[tuple[int, int], list[int]] = {}
    for index, target in enumerate(targets):
        by_size.setdefault((target.shape[1], target.shape[2]), []).append(index)
    for (height, width), indices in by_size.items():
        together = dice_ce_losses(
            torch.cat([logits[index][:, :height, :width] for index in indices]),
            torch.cat([targets[index] for index in indices]),
        )
        for index, part in zip(
            indices, together.split_with_sizes([len(targets[index]) for index in indices]), strict=True
        ):
            losses[index] = part
    return torch.cat([part for part in losses if part is not None])
