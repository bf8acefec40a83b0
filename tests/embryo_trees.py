"""Miniature extracted embryo datasets with names like the real ones, for tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import numpy as np

from tests.builders import encoded
from toolkit.embryo.layout import ANNOTATIONS_FOLDER, GRADES_NAME, NESTED_FOLDER, TIMES_FOLDER, EmbryoTree, open_tree
from toolkit.embryo.planes import PLANES, FocalPlane

SIDE_PX = 16
FRAMES = range(1, 13)
PHASES = {"tPB2": (2, 4), "t2": (5, 9), "tM": (11, 14)}
"""Frame 1 comes before the first phase, frame 10 between two, and the last phase ends past frame 12."""
HOURS_A_FRAME = 0.25


def frame_name(number: int, well: int = 7) -> str:
    """The name of a frame as the dataset writes it: the number is not padded."""
    return f"D2013.01.28_S0717_I132_WELL{well}_RUN{number}.jpeg"


@cache
def frame_bytes(brightness: int) -> bytes:
    """A tiny grey JPEG of one brightness."""
    return encoded(np.full((SIDE_PX, SIDE_PX), brightness, np.uint8), "JPEG")


def brightness_of(plane: FocalPlane, number: int) -> int:
    """The brightness of a frame of the miniature: it tells plane and number (up to 30) apart."""
    return plane.index * 32 + number % 32


class MiniatureEmbryos:
    """A growing dataset in a folder: a plane folder a plane, tables and grades as they are published."""

    def __init__(self, root: Path, planes: Iterable[FocalPlane] = PLANES) -> None:
        self.root = root
        self.planes = tuple(planes)
        for name in (*(plane.folder for plane in self.planes), ANNOTATIONS_FOLDER, TIMES_FOLDER):
            (root / name).mkdir(parents=True, exist_ok=True)
        (root / GRADES_NAME).write_text("video_name,TE,ICM\n")

    @property
    def tree(self) -> EmbryoTree:
        """What there is of the dataset now."""
        return open_tree(self.root)

    def add_video(
        self,
        name: str,
        frames: Iterable[int] = FRAMES,
        phases: Mapping[str, tuple[int, int]] = PHASES,
        planes: Iterable[FocalPlane] | None = None,
        grades: tuple[str, str] = ("A", "NA"),
    ) -> None:
        """Add a video with all that belongs to it: frames in every plane, phases, time stamps and grades."""
        numbers = list(frames)
        for plane in self.planes if planes is None else planes:
            for number in numbers:
                self.add_frame(plane, name, number)
        self.write_phases(name, phases)
        self.write_times(name, numbers)
        with (self.root / GRADES_NAME).open("a") as stream:
            stream.write(f"{name},{grades[0]},{grades[1]}\n")

    def add_frame(self, plane: FocalPlane, video: str, number: int, name: str = "", content: bytes = b"") -> Path:
        """Add one frame; ``name`` and ``content`` for odd ones."""
        path = self.folder(plane, video) / (name or frame_name(number))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content or frame_bytes(brightness_of(plane, number)))
        return path

    def write_phases(self, video: str, phases: Mapping[str, tuple[int, int]]) -> Path:
        """Write the phases of a video."""
        path = self.root / ANNOTATIONS_FOLDER / f"{video}_phases.csv"
        path.write_text("".join(f"{phase},{first},{last}\n" for phase, (first, last) in phases.items()))
        return path

    def write_times(self, video: str, frames: Iterable[int]) -> Path:
        """Write time stamps for the given frames, a quarter of an hour apart, the first at 0."""
        path = self.root / TIMES_FOLDER / f"{video}_timeElapsed.csv"
        rows = "".join(f"{number},{(number - 1) * HOURS_A_FRAME}\n" for number in frames)
        path.write_text(f"frame_index,time\n{rows}")
        return path

    def nest_copy(self, plane: FocalPlane, video: str) -> Path:
        """Add the nested second copy of a video's frames that some published folders have; return its folder."""
        nested = self.folder(plane, video) / NESTED_FOLDER
        frames = [path for path in self.folder(plane, video).iterdir() if path.is_file()]
        nested.mkdir()
        for path in frames:
            (nested / path.name).write_bytes(path.read_bytes())
        return nested

    def folder(self, plane: FocalPlane, video: str) -> Path:
        """The folder of a video's frames in one plane."""
        return self.root / plane.folder / video


def published_oddities(root: Path) -> MiniatureEmbryos:
    """A dataset of three videos with everything that is odd in the published one and is no damage.

    AA83-7 lacks numbers and its last phase ends past its last frame; DML271-2 has a nested ``F0`` folder and the grade
    ``NA``; GS490-_6 has over a hundred rows of phases and time stamps more than frames.
    """
    embryos = MiniatureEmbryos(root)
    embryos.add_video("AA83-7", [number for number in FRAMES if number not in (3, 7, 8)])
    embryos.add_video("DML271-2", grades=("NA", "NA"))
    embryos.nest_copy(FocalPlane.F_00, "DML271-2")
    embryos.add_video("GS490-_6", phases={"t4": (3, 8), "t8": (9, 12), "tB": (13, 140)})
    embryos.write_times("GS490-_6", range(1, 141))
    return embryos
