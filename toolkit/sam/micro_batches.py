"""Batches in pieces that fit into memory: after running out of it, smaller ones, with the same result."""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from toolkit.device_memory import OutOfMemoryError, within_memory
from toolkit.sam.data_loading import TrainingSample

ResultT = TypeVar("ResultT")


class MicroBatches:
    """How many images, and how many instances, are worked on at once.

    Args:
        max_images: at first; it is halved when the memory does not suffice. When it does not suffice for one image,
            its instances are divided.

    Attributes:
        max_images: now.
        max_instances: now; None while one image was never too much.
        notices: what was made smaller, one line each; whoever reports them removes them.
    """

    def __init__(self, max_images: int) -> None:
        self.max_images = max_images
        self.max_instances: int | None = None
        self.notices: list[str] = []

    def run(
        self, samples: Sequence[TrainingSample], work: Callable[[Sequence[TrainingSample]], ResultT]
    ) -> Iterator[tuple[Sequence[TrainingSample], ResultT]]:
        """Yield each piece of ``samples``, in order, with what ``work`` returns for it.

        Args:
            samples: each with at least one instance.
            work: has no effect when it runs out of memory, so that it can be called again with less.

        Raises:
            OutOfMemoryError: a single instance is too much.
        """
        pending = deque(self._pieces(samples))
        while pending:
            piece = pending.popleft()
            try:
                result = within_memory(functools.partial(work, piece), _too_large(piece))
            except OutOfMemoryError:
                if not self._shrink(piece):
                    raise
                pending = deque(self._pieces([*piece, *itertools.chain.from_iterable(pending)]))
                continue
            yield piece, result

    def _pieces(self, samples: Sequence[TrainingSample]) -> Iterator[list[TrainingSample]]:
        """Divide samples; an image with too many instances is divided too."""
        piece: list[TrainingSample] = []
        for part in self._parts(samples):
            instances = sum(map(len, piece)) + len(part)
            is_full = len(piece) == self.max_images
            if piece and (is_full or (self.max_instances is not None and instances > self.max_instances)):
                yield piece
                piece = []
            piece.append(part)
        if piece:
            yield piece

    def _parts(self, samples: Sequence[TrainingSample]) -> Iterator[TrainingSample]:
        for sample in samples:
            if self.max_instances is None or len(sample) <= self.max_instances:
                yield sample
            else:
                for start in range(0, len(sample), self.max_instances):
                    yield sample.part(slice(start, start + self.max_instances))

    def _shrink(self, piece: Sequence[TrainingSample]) -> bool:
        """Lower the limits below what ``piece`` needs; tell whether that is possible."""
        if len(piece) > 1:
            self.max_images = len(piece) // 2
            self.notices.append(f"out of memory: {self.max_images} images at once from now on")
        elif len(piece[0]) > 1:
            self.max_instances = len(piece[0]) // 2
            self.notices.append(f"out of memory: {self.max_instances} instances at once from now on")
        else:
            return False
        return True


def _too_large(piece: Sequence[TrainingSample]) -> str:
    names = ", ".join(sample.id for sample in piece)
    return f"not enough memory for {sum(map(len, piece))} instances of {names}"
