"""A small input for the ``mvtk embryo`` commands, made from real photographs.

``python -m toolkit.embryo.demo OUT`` writes into the new or empty folder OUT:

- ``archives/``: the ten files of the published record in miniature. Each of four photographs becomes a "video" that
  zooms and turns, blurred in each focal plane as much as the plane is off the middle one;
- ``all-synthetic-runs/``: two runs of three images each, cut from the same videos.

The photographs are those of :mod:`toolkit.dataset.demo`. They show no embryos: what the tables say of phases and grades
is made up, with the oddities that the published tables have (numbers that are missing, a last phase that ends past the
last frame, grades that are ``NA``). The data show how the commands work and are no use for training.
"""

from __future__ import annotations

import functools
import gzip
import io
import sys
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from toolkit.core.files import make_folder, write_bytes
from toolkit.dataset.demo import require_empty, run_demo, scenes
from toolkit.embryo.layout import (
    ANNOTATIONS_FOLDER,
    ARCHIVE_SUFFIX,
    GRADES_NAME,
    PHASES_SUFFIX,
    TIMES_FOLDER,
    TIMES_SUFFIX,
)
from toolkit.embryo.phases import PHASES, Phase, PhaseRange
from toolkit.embryo.planes import PLANES, FocalPlane
from toolkit.embryo.synthetic import new_run
from toolkit.embryo.tables import GRADE_COLUMNS, TIME_COLUMNS

FRAME_SIDE_PX = 500
"""The side of the published frames."""

_HOURS_A_FRAME = 0.3
_BLUR_PX_A_UM = 0.08
_JPEG_QUALITY = 80
_MADE = datetime(2026, 1, 1, tzinfo=UTC)
"""When the synthetic runs say that they were made: fixed, so that the demonstration is the same every time."""


@dataclass(frozen=True, slots=True)
class Video:
    """What a made-up video is made from.

    Attributes:
        name: its name.
        photograph: the stem of the scene that it shows.
        frames: the number of its last frame; the first is 1.
        missing: numbers that it lacks.
        phases: its phases.
        grades: of trophectoderm and inner cell mass.
    """

    name: str
    photograph: str
    frames: int
    missing: tuple[int, ...]
    phases: tuple[PhaseRange, ...]
    grades: tuple[str, str]

    @property
    def numbers(self) -> list[int]:
        """The numbers of its frames."""
        return [number for number in range(1, self.frames + 1) if number not in self.missing]


def _phases(first_frame: int, frames_a_phase: int, phases: Sequence[Phase]) -> tuple[PhaseRange, ...]:
    """Return phases that follow each other, each of so many frames."""
    firsts = [first_frame + frames_a_phase * index for index in range(len(phases))]
    return tuple(
        PhaseRange(phase, first, first + frames_a_phase - 1) for phase, first in zip(phases, firsts, strict=True)
    )


VIDEOS = (
    Video("DEMO1-1", "cell", 49, (), _phases(3, 3, PHASES), ("A", "B")),
    Video("DEMO1-2", "retina", 32, (7, 20), _phases(2, 4, PHASES[:8]), ("NA", "NA")),
    Video("DEMO2-1", "motorcycle", 40, (), _phases(1, 5, PHASES[2:5]) + _phases(18, 4, PHASES[6:11]), ("B", "NA")),
    Video("DEMO2-2", "deep_field_1", 36, (1,), _phases(4, 4, PHASES[4:13]), ("C", "B")),
)


def write_demo(output: Path) -> int:
    """Write the demonstration input into ``output`` and return how many photographs it is made from.

    Raises:
        MissingExtraError: scikit-image is not installed.
        MvtkError: ``output`` is not an empty folder, or cannot be written.
    """
    require_empty(output)
    wanted = {video.photograph for video in VIDEOS}
    photographs = {scene.stem: _grey(scene.image) for _, scene in scenes() if scene.stem in wanted}
    archives = output / "archives"
    make_folder(archives)
    with ThreadPoolExecutor() as threads:  # OpenCV lets other threads work while it draws and encodes
        for plane in PLANES:
            files: dict[str, bytes] = {}
            for video in VIDEOS:
                draw = functools.partial(_frame_jpeg, photographs[video.photograph], plane, video.frames)
                names = [f"{plane.folder}/{video.name}/{_frame_name(number)}" for number in video.numbers]
                files.update(zip(names, threads.map(draw, video.numbers), strict=True))
            _write_archive(archives, plane.folder, files)
    _write_tables(archives)
    _write_synthetic_runs(output / "all-synthetic-runs", photographs)
    return len(VIDEOS)


def _grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the middle square of an image (HxW or HxWx3) as grey HxW."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(image[top : top + side, left : left + side])
    return square if square.ndim == 2 else np.asarray(cv2.cvtColor(square, cv2.COLOR_RGB2GRAY), np.uint8)


def _frame_jpeg(square_hw: NDArray[np.uint8], plane: FocalPlane, frames: int, number: int) -> bytes:
    """Return one frame: the photograph, zoomed and turned more with each, and blurred as the plane is out of focus."""
    progress = number / frames
    side = square_hw.shape[0]
    zoom = FRAME_SIDE_PX / side * (1 + 0.25 * progress)
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), 20 * progress, zoom)
    matrix[:, 2] += (FRAME_SIDE_PX - side) / 2
    frame_hw = cv2.warpAffine(
        square_hw, matrix, (FRAME_SIDE_PX, FRAME_SIDE_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    if plane is not FocalPlane.F_00:
        frame_hw = cv2.GaussianBlur(frame_hw, (0, 0), _BLUR_PX_A_UM * abs(plane.offset_um))
    return cv2.imencode(".jpeg", frame_hw, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()


def _frame_name(number: int) -> str:
    return f"D2026.01.01_S0001_I132_WELL1_RUN{number}.jpeg"


def _write_tables(archives: Path) -> None:
    """Write phases, time stamps and grades."""
    phases, times = {}, {}
    grades = [",".join(GRADE_COLUMNS)]
    for video in VIDEOS:
        rows = [f"{part.phase.label},{part.first},{part.last}" for part in video.phases]
        phases[f"{ANNOTATIONS_FOLDER}/{video.name}{PHASES_SUFFIX}"] = _lines(rows)
        rows = [f"{number},{(number - 1) * _HOURS_A_FRAME:.2f}" for number in range(1, video.frames + 1)]
        times[f"{TIMES_FOLDER}/{video.name}{TIMES_SUFFIX}"] = _lines([",".join(TIME_COLUMNS), *rows])
        grades.append(",".join([video.name, *video.grades]))
    _write_archive(archives, ANNOTATIONS_FOLDER, phases)
    _write_archive(archives, TIMES_FOLDER, times)
    write_bytes(archives / GRADES_NAME, _lines(grades))


def _lines(rows: Sequence[str]) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()


def _write_archive(archives: Path, name: str, files: dict[str, bytes]) -> None:
    """Write files and the folders above them as ``<name>.tar.gz``, the same bytes every time."""
    stream = io.BytesIO()
    # No name and no time in the gzip header: they would tell where and when the archive was made.
    with (
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=stream, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for folder in sorted({parent for path in files for parent in PurePosixPath(path).parents} - {PurePosixPath()}):
            entry = tarfile.TarInfo(str(folder))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    write_bytes(archives / f"{name}{ARCHIVE_SUFFIX}", stream.getvalue())


def _write_synthetic_runs(root: Path, photographs: dict[str, NDArray[np.uint8]]) -> None:
    """Write two runs in the layout of generated images."""
    for name, phase, plane in (("run1", Phase.T7, FocalPlane.F_00), ("run2", Phase.TB, FocalPlane.F_MINUS_15)):
        folder = new_run(root, name, phase, plane, when=_MADE).parent
        for number in range(3):
            write_bytes(folder / f"img{number}.jpg", _frame_jpeg(photographs["cell"], plane, 3, number))


def main(arguments: Sequence[str]) -> int:
    """Write the demonstration input into the folder given; see :func:`toolkit.dataset.demo.run_demo`."""
    return run_demo(
        arguments,
        "toolkit.embryo.demo",
        write_demo,
        "photographs with archives of time-lapse videos and synthetic runs",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
