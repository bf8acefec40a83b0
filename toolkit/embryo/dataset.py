"""A map-style dataset of the frames: torch's ``DataLoader`` takes it as it is, and nothing here needs torch."""

from __future__ import annotations

import functools
import operator
import os
from collections.abc import Callable, Collection
from typing import Any, Literal, SupportsIndex

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.core.errors import MvtkError, OptionError
from toolkit.embryo.frame_index import Frame, open_frame_index
from toolkit.embryo.phases import NO_PHASE, Phase, as_phases
from toolkit.embryo.planes import FocalPlane, as_planes
from toolkit.embryo.selection import select_frames
from toolkit.images.decoding import load_image
from toolkit.images.files import ImageError

ImageMode = Literal["L", "RGB"]


class EmbryoDataset:
    """The frames of an extracted dataset, by focal plane, then video, then number.

    A sample is a dict that torch's default collation takes:

    - ``image``: HxW uint8 for ``image_mode="L"``, HxWx3 uint8 RGB for "RGB"; or what ``transform`` makes of it;
    - ``phase``: its label such as "t9+", "" without one; ``phase_index``: 0 (tPB2) to 15 (tHB), -1 without one;
    - ``plane``: such as "F+00"; ``video``: its name; ``frame``: the number in the file's name; ``path``: the file.

    Pickled, it is its arguments and the name of the stored index, which each worker opens anew: pages are shared.

    Attributes:
        index: all frames of the dataset. Its ``remark`` says where it could not be stored.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        planes: Collection[FocalPlane | str] | FocalPlane | str | None = None,
        videos: Collection[str] | str | None = None,
        phases: Collection[Phase | str] | Phase | str | None = None,
        *,
        median_only: bool = False,
        transform: Callable[[NDArray[np.uint8]], Any] | None = None,
        image_mode: ImageMode = "L",
        index_path: str | os.PathLike[str] | None = None,
        strict: bool = False,
    ) -> None:
        """Open a dataset.

        Args:
            root: the extracted dataset.
            planes: planes to have, members or their names, or one of them; None: all that are there.
            videos: names of videos, or one; None: all.
            phases: phases to have, members or their labels, or one of them; None: all frames, those without a label
                too.
            median_only: only the middle frame of each phase of each video, the same one in all planes where they have
                it (:func:`toolkit.embryo.selection.middle_frames`).
            transform: what becomes of an image.
            image_mode: "L" or "RGB".
            index_path: where the index is kept; None: in the dataset's folder.
            strict: look for frames that came or went since the index was made: a system call a video and plane.

        Raises:
            OptionError: an unknown plane, video, phase or image mode.
            InputProblemsError: all problems of all tables of phases and time stamps.
            MvtkError: the folder is no dataset, or cannot be read.
        """
        if image_mode not in ("L", "RGB"):
            raise OptionError(f"image_mode {image_mode!r}", 'give "L" or "RGB"')
        self.index = open_frame_index(root, index_path=index_path, strict=strict)
        self._select = functools.partial(
            select_frames,
            planes=as_planes(planes),
            videos=(videos,) if isinstance(videos, str) else None if videos is None else tuple(videos),
            phases=as_phases(phases),
            median_only=median_only,
        )
        self._transform = transform
        self._image_mode = image_mode
        self._positions = self._select(self.index)

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        """Return a sample; a negative index counts from the end.

        Raises:
            IndexError: there is no such sample.
            MvtkError: its file is gone or damaged.
        """
        frame = self.get_metadata(index)
        image = self._read(frame)
        return {
            "image": image if self._transform is None else self._transform(image),
            "phase": "" if frame.phase is None else frame.phase.label,
            "phase_index": NO_PHASE if frame.phase is None else frame.phase.index,
            "plane": frame.plane.label,
            "video": frame.video,
            "frame": frame.number,
            "path": os.fspath(frame.path),
        }

    def __repr__(self) -> str:
        chosen = [
            f"{name}={_shown(value)}" for name, value in self._select.keywords.items() if value not in (None, False)
        ]
        return f"EmbryoDataset({', '.join([repr(str(self.index.root)), *chosen])}: {len(self)} frames)"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_positions"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._positions = self._select(self.index)

    @property
    def phase_indices(self) -> NDArray[np.int8]:
        """(n,) int8, the phase index of each sample, -1 without a label: for weights and samplers."""
        return self.index.phase_indices[self._positions]

    def get_metadata(self, index: SupportsIndex) -> Frame:
        """Return what is known of a sample without reading its image.

        Raises:
            IndexError: there is no such sample.
        """
        place = operator.index(index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"sample {place} of {len(self)}")
        return self.index.frame(int(self._positions[place]))

    def _read(self, frame: Frame) -> NDArray[np.uint8]:
        try:
            return read_frame(frame, self._image_mode)
        except ImageError as error:
            if frame.path.exists():
                raise
            hint = "the index may be old, as the videos have changed since: open the dataset again with strict=True"
            raise MvtkError(error.message, hint) from error


def read_frame(frame: Frame, image_mode: ImageMode = "L") -> NDArray[np.uint8]:
    """Return the image of a frame: HxW uint8 for "L", HxWx3 uint8 RGB for "RGB"; colour becomes grey by its luma.

    Raises:
        ImageError: the file cannot be read, is damaged or cut short.
    """
    if image_mode == "RGB":
        return np.asarray(load_image(frame.path).pixels, np.uint8)
    stored = load_image(frame.path, keep_mode=True).pixels
    if stored.ndim == 2 and stored.dtype == np.uint8:
        return stored
    return np.asarray(cv2.cvtColor(load_image(frame.path).pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def _shown(value: tuple[FocalPlane | Phase | str, ...] | bool) -> str:
    if isinstance(value, bool):
        return str(value)
    return "+".join(entry if isinstance(entry, str) else entry.label for entry in value)
