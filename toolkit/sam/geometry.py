"""How an image and its masks and boxes are scaled for SAM, and logits back: sizes, without the arrays' contents.

SAM (Kirillov et al., "Segment Anything", 2023) scales the longer side of an image to ``input_size`` and pads the rest
at the bottom and at the right; SAM2 (Ravi et al., 2024) squashes the image to a square. Sizes and rounding are those
of transformers' ``SamImageProcessor`` and ``Sam2ImageProcessor``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from toolkit.core.errors import MvtkError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class ResizeGeometry:
    """The way of one image of a given size through a model, and of its masks back.

    Attributes:
        height: of the image, in pixels.
        width: of the image, in pixels.
        input_size: side of the square that the image encoder takes, in pixels.
        low_resolution: side of the square of logits that the mask decoder gives, in pixels.
        square: the image is squashed to the square (SAM2) instead of being scaled and padded (SAM).

    Raises:
        MvtkError: the image is so narrow that nothing would be left of its shorter side.
    """

    height: int
    width: int
    input_size: int
    low_resolution: int
    square: bool = False

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise ValueError(f"an image has at least one pixel, not {self.height} x {self.width}")
        if min(self.valid_low_hw) < 1:
            raise MvtkError(
                f"an image of {self.width} x {self.height} pixels is too narrow: scaled to {self.low_resolution}"
                " pixels, nothing is left of its shorter side",
                "crop or split the image",
            )

    @property
    def resized_hw(self) -> tuple[int, int]:
        """Height and width of the image in the encoder's input; the rest of the square is padding."""
        return self._scaled(self.input_size)

    @property
    def valid_low_hw(self) -> tuple[int, int]:
        """Height and width of the area of the logits that belongs to the image, at the upper left of the square."""
        return self._scaled(self.low_resolution)

    def scale_boxes(self, boxes_xyxy: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Return boxes in pixels of the encoder's input.

        Args:
            boxes_xyxy: (N, 4), x1, y1, x2, y2 in pixels of the image.

        Returns:
            (N, 4) float64, in the same order.
        """
        height, width = self.resized_hw
        factors = np.array([width / self.width, height / self.height] * 2)
        scaled: npt.NDArray[np.float64] = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4) * factors
        return scaled

    def to_original(self, logits: Tensor) -> Tensor:
        """Return logits at the image's size, as ``post_process_masks(..., binarize=False)`` of the processor does.

        Args:
            logits: (N, low_resolution, low_resolution), N may be 0.

        Returns:
            (N, height, width), bilinearly interpolated, same dtype and device; above 0 is foreground.
        """
        from torch.nn.functional import interpolate

        square_n1hw = logits[:, None]
        if not self.square:
            size = (self.input_size, self.input_size)
            resized_height, resized_width = self.resized_hw
            square_n1hw = interpolate(square_n1hw, size, mode="bilinear", align_corners=False)
            square_n1hw = square_n1hw[..., :resized_height, :resized_width]
        return interpolate(square_n1hw, (self.height, self.width), mode="bilinear", align_corners=False)[:, 0]

    def _scaled(self, side_px: int) -> tuple[int, int]:
        if self.square:
            return side_px, side_px
        # The order of the operations decides what is rounded up; it is SamImageProcessor's.
        scale = side_px * 1.0 / max(self.height, self.width)
        return int(self.height * scale + 0.5), int(self.width * scale + 0.5)
