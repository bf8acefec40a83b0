"""A detection model whose neck looks where the mask is.

The stock model is built from its YAML, and each level that the head reads (P3 to P5) gets a block behind it. The block
is the convolutional block attention module (Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018,
arXiv:1807.06521): attention over channels, then over places. The mask guides both: the channels are also pooled over
the masked area alone, and the places get the mask as a third map beside mean and maximum. Each block begins as the
identity.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel

_REDUCTION: Final = 16
_KERNEL: Final = 7
"""Both as in the paper."""
_LEAST_HIDDEN: Final = 8


class MaskGuidedAttention(nn.Module):
    """One block: channel attention, then spatial attention, both guided by a mask.

    Args:
        channels: of the features.
        stride: pixels of the model's input to a cell of the features.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        hidden = max(channels // _REDUCTION, _LEAST_HIDDEN)
        self.channel_weights = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), _zeros(hidden, channels, 1))
        self.place_weights = _zeros(3, 1, _KERNEL)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Weight the features.

        Args:
            features: (B, C, H, W).
            mask: (B, 1, H * stride, W * stride) in [0, 1].

        Returns:
            (B, C, H, W); each weight is between 0 and 2, and 1 at the start.
        """
        share = nn.functional.avg_pool2d(mask, self.stride)  # of each cell that the mask covers
        everywhere = features.mean((2, 3), keepdim=True)
        covered = share.float().sum((2, 3), keepdim=True)
        inside = (features.float() * share.float()).sum((2, 3), keepdim=True) / covered.clamp(min=1e-6)
        inside = torch.where(covered > 0, inside, everywhere.float()).to(features.dtype)
        weighted = features * 2 * torch.sigmoid(self.channel_weights(everywhere) + self.channel_weights(inside))
        maps = torch.cat((weighted.mean(1, keepdim=True), weighted.amax(1, keepdim=True), share), 1)
        return weighted * 2 * torch.sigmoid(self.place_weights(maps))


def _zeros(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    """Return a convolution of the same size that gives 0 at the start: the sigmoid of that, doubled, is 1."""
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    nn.init.zeros_(convolution.weight)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution


class MaskGuidedDetectionModel(DetectionModel):
    """A detection model for image and mask, with a :class:`MaskGuidedAttention` block behind each neck level.

    The layers keep their places and names, so that a stock checkpoint's weights fit. The input's last channel is the
    mask; the first convolution sees it, too.

    Args:
        cfg: the model's YAML, as ``DetectionModel`` takes it.
        ch: channels of the input, the mask included.
        nc: classes; None: as the YAML says.
        verbose: log the layers.
    """

    def __init__(self, cfg: Any = "yolo11n.yaml", ch: int = 4, nc: int | None = None, verbose: bool = True) -> None:
        super().__init__(cfg, ch=ch, nc=nc, verbose=verbose)
        head = self.model[-1]
        widths = [level[0].conv.in_channels for level in head.cv2]
        strides = [int(stride) for stride in head.stride]
        self.mask_attention = nn.ModuleDict(
            {
                str(layer): MaskGuidedAttention(width, stride)
                for layer, width, stride in zip(head.f, widths, strides, strict=True)
            }
        )

    def _predict_once(self, x: Tensor, profile: bool = False, embed: Any = None) -> Any:
        """Run the layers; a block of attention works on what its layer gave, before anything else reads it."""
        blocks = self._modules.get("mask_attention")
        if not blocks or embed:  # while the stock model is built, which measures its strides by a run
            return super()._predict_once(x, profile, embed)
        mask = x[:, -1:]
        output: Any = x
        kept: list[Any] = []
        for layer in self.model:
            if isinstance(layer.f, int):
                given = output if layer.f == -1 else kept[layer.f]
            else:
                given = [output if f == -1 else kept[f] for f in layer.f]
            output = layer(given)
            if str(layer.i) in blocks:
                output = blocks[str(layer.i)](output, mask)
            kept.append(output if layer.i in self.save else None)
        return output
