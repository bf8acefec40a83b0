"""The images of synthetic runs as a map-style dataset, with the names that :class:`EmbryoDataset` has for them."""

from __future__ import annotations

import bisect
import itertools
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from toolkit.core.errors import OptionError
from toolkit.embryo.phases import PHASES, Phase, as_phases
from toolkit.embryo.planes import PLANES, FocalPlane, as_planes
from toolkit.embryo.synthetic import SyntheticRun, list_runs
from toolkit.images.decoding import load_image
from toolkit.metadata.collating import Sample
from toolkit.metadata.sample_sequence import SampleSequence

ImageMode = Literal["L", "RGB"]


class SyntheticDataset(SampleSequence):
    """Generated images by index: runs by name, within a run the images by the numbers in their names.

    A sample is a dict of ``image`` (HxW uint8 grey, or HxWx3 uint8 RGB), ``phase`` and ``plane`` (labels such as ``t7``
    and ``F+00``), ``phase_index`` (0 to 15), ``prompt``, ``run`` and ``path`` (strings). In memory are the names of the
    images; an image is read when it is asked for.

    Args:
        root: a folder such as ``all-synthetic-runs``.
        phases: only runs of these phases, members or labels, or of one; None: of all.
        planes: only runs of these focal planes, members or names, or of one; None: of all.
        transform: what becomes of an image.
        image_mode: ``"L"`` for grey, or ``"RGB"``.

    Raises:
        OptionError: an unknown phase, plane or image mode.
        InputProblemsError: all problems of all runs.
        MvtkError: there is no such folder, or no run in it.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        phases: Collection[Phase | str] | Phase | str | None = None,
        planes: Collection[FocalPlane | str] | FocalPlane | str | None = None,
        transform: Callable[[NDArray[np.uint8]], Any] | None = None,
        image_mode: ImageMode = "L",
    ) -> None:
        if image_mode not in ("L", "RGB"):
            raise OptionError(f"image_mode {image_mode!r}", 'give "L" or "RGB"')
        wanted_phases = as_phases(PHASES if phases is None else phases) or ()
        wanted_planes = as_planes(PLANES if planes is None else planes) or ()
        self.root = Path(root)
        self.runs: list[SyntheticRun] = [
            run
            for run in list_runs(self.root)
            if run.metadata.phase in wanted_phases and run.metadata.plane in wanted_planes
        ]
        self._transform = transform
        self._image_mode = image_mode
        self._ends = list(itertools.accumulate(len(run.image_names) for run in self.runs))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __repr__(self) -> str:
        return f"SyntheticDataset({str(self.root)!r}, {len(self.runs)} runs, {len(self)} images)"

    def _sample_at(self, position: int) -> Sample:
        facts = self._metadata_at(position)
        image = _load(facts["path"], self._image_mode)
        return {"image": image if self._transform is None else self._transform(image), **facts}

    def _metadata_at(self, position: int) -> Sample:
        number = bisect.bisect_right(self._ends, position)
        run = self.runs[number]
        name = run.image_names[position - self._ends[number]]  # counts from the run's end: negative, and in bounds
        metadata = run.metadata
        return {
            "phase": metadata.phase.label,
            "phase_index": metadata.phase.index,
            "plane": metadata.plane.label,
            "prompt": metadata.prompt,
            "run": run.name,
            "path": str(run.folder / name),
        }


def _load(path: str, mode: ImageMode) -> NDArray[np.uint8]:
    """Return an image as HxWx3 uint8 RGB or HxW uint8 grey (ITU-R BT.601 luma; exact for grey files)."""
    import cv2

    image_hwc: NDArray[np.uint8] = load_image(path, to_8bit=True).pixels
    return image_hwc if mode == "RGB" else np.asarray(cv2.cvtColor(image_hwc, cv2.COLOR_RGB2GRAY), np.uint8)
