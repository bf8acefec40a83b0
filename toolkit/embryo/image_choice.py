"""Which frames become the images of a folder, and in which order they are numbered."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.core.shuffling import shuffle_key
from toolkit.embryo.frame_index import Frame, FrameIndex
from toolkit.embryo.image_copy import FolderImage
from toolkit.embryo.phases import Phase
from toolkit.embryo.planes import FocalPlane
from toolkit.embryo.prompts import prompt_of
from toolkit.embryo.selection import select_frames


@dataclass(frozen=True, slots=True)
class ChosenImage:
    """One image that the folder is to have.

    Attributes:
        item: its number, where it comes from, and its text.
        frame: the frame that it shows.
        phase: the phase of that frame.
    """

    item: FolderImage
    frame: Frame
    phase: Phase


class ImageChoice:
    """The images of a folder by number; in memory are 8 bytes for each besides the frame index.

    Args:
        index: the frames of the dataset.
        positions: (n,) positions of frames that have a phase; number k is the frame at ``positions[k]``.
    """

    def __init__(self, index: FrameIndex, positions: NDArray[np.int64]) -> None:
        self._index = index
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[ChosenImage]:
        root = self._index.root
        for number, position in enumerate(self._positions.tolist()):
            frame = self._index.frame(position)
            if frame.phase is None:
                raise AssertionError(f"{frame.label} has no phase")
            source = frame.path.relative_to(root).as_posix()
            yield ChosenImage(FolderImage(source, number, _text(frame.phase, frame.plane)), frame, frame.phase)

    @property
    def fingerprint(self) -> str:
        """A hash of which frame has which number and which phase; it does not depend on where the dataset lies."""
        index, positions = self._index, self._positions
        digest = hashlib.blake2b("\0".join(index.videos).encode(errors="surrogateescape"), digest_size=16)
        for column in (index.plane_indices, index.video_indices, index.numbers, index.phase_indices):
            digest.update(column[positions].astype("<i4").tobytes())
        return digest.hexdigest()


def choose_images(
    index: FrameIndex,
    *,
    planes: Collection[FocalPlane] | None,
    videos: Collection[str] | None,
    phases: Collection[Phase],
    median_only: bool,
    shuffle: bool,
    seed: int,
) -> ImageChoice:
    """Choose frames of some phases and number them.

    The order is that of planes, videos (by name) and frame numbers or, shuffled, that of a hash of the seed and the
    frame's label: another version of any library does not change it, and neither does where the dataset lies.

    Args:
        index: the frames of the dataset.
        planes: None: all that are there.
        videos: None: all.
        phases: frames without a label are never chosen.
        median_only: only the middle frame of each phase of each video and plane.
        shuffle: whether the numbers are shuffled.
        seed: another one shuffles otherwise.

    Raises:
        OptionError: a plane or a video that the dataset has not.
    """
    positions = select_frames(index, planes=planes, videos=videos, phases=phases, median_only=median_only)
    if shuffle:
        ordered = sorted(positions.tolist(), key=lambda position: shuffle_key(seed, index.frame(position).label))
        positions = np.array(ordered, np.int64)
    return ImageChoice(index, positions)


_text = functools.cache(prompt_of)
"""One string for all images of a phase and plane."""
