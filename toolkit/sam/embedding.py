"""What an image encoder makes of images: one tensor for SAM, three for SAM2, handled as one thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Embedding:
    """The embeddings of B images.

    Attributes:
        levels: each (B, C, h, w), the finest first; the last is the one that mask decoder's attention works on. SAM
            has one level, SAM2 two finer ones beside it.
    """

    levels: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.levels[0])

    def __getitem__(self, images: int | slice | Tensor) -> Embedding:
        """Return the embeddings of some images; of one, given by its number, as a batch of one."""
        if isinstance(images, int):
            images = slice(images, images + 1 or None)
        return Embedding(tuple(level[images] for level in self.levels))

    @classmethod
    def concatenate(cls, embeddings: Sequence[Embedding]) -> Self:
        """Return the images of all ``embeddings``, in order, as one batch."""
        import torch

        return cls(tuple(torch.cat(levels) for levels in zip(*(each.levels for each in embeddings), strict=True)))

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> Embedding:
        """Return it on another device, or in another dtype; what is there already is not copied."""
        return Embedding(tuple(level.to(device=device, dtype=dtype, non_blocking=True) for level in self.levels))

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each level of one image: (C, h, w)."""
        return tuple(tuple(level.shape[1:]) for level in self.levels)
