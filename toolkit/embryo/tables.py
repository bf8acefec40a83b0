"""The tables beside the frames: when each frame was taken, and the grades of the videos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toolkit.embryo.csv_rows import CsvTable

TIME_COLUMNS: Final = ("frame_index", "time")
"""The columns of ``<video>_timeElapsed.csv``: the frame's number, and hours since the first frame."""
GRADE_COLUMNS: Final = ("video_name", "TE", "ICM")
"""The columns of ``embryo_dataset_grades.csv``: trophectoderm and inner cell mass."""
_MEND_HINT: Final = "mend the file, or take it from the published archive again"


@dataclass(frozen=True, slots=True)
class TimeStamps:
    """When the frames of a video were taken.

    Attributes:
        frames: (n,) int64, ascending frame numbers without repetition.
        hours: (n,) float32, hours; NaN for a frame that is listed without a time.
    """

    frames: NDArray[np.int64]
    hours: NDArray[np.float32]

    def hours_of(self, frames: ArrayLike) -> NDArray[np.float32]:
        """Return the hours of each frame number, float32 of the same shape; NaN for frames without a time stamp."""
        numbers = np.asarray(frames)
        if not len(self.frames):
            return np.full(numbers.shape, np.nan, np.float32)
        rows = np.minimum(np.searchsorted(self.frames, numbers), len(self.frames) - 1)
        return np.where(self.frames[rows] == numbers, self.hours[rows], np.float32(np.nan))


@dataclass(frozen=True, slots=True)
class Grades:
    """What embryologists say of a blastocyst; ``"NA"`` is a grade of the dataset, None is a field left empty.

    Attributes:
        te: grade of the trophectoderm, such as "A".
        icm: grade of the inner cell mass.
    """

    te: str | None
    icm: str | None


def read_time_stamps(path: Path) -> TimeStamps:
    """Return the time stamps of a video, sorted by frame; columns other than ``TIME_COLUMNS`` are left out.

    Raises:
        InputProblemsError: all that is wrong with the file, with line numbers: a column that is missing, numbers that
            are none, times that are negative or not finite, frames that come twice.
        MvtkError: the file cannot be read.
    """
    table = CsvTable(path)
    hours_by_frame: dict[int, float] = {}
    for line, (frame_text, time_text) in table.records(TIME_COLUMNS):
        frame = table.frame_number(line, frame_text, TIME_COLUMNS[0])
        hours = table.quantity(line, time_text, TIME_COLUMNS[1]) if time_text else np.nan
        if frame in hours_by_frame:
            table.problem(line, f"frame {frame} comes twice")
        elif frame is not None and hours is not None:
            hours_by_frame[frame] = hours
    table.require_sound(_MEND_HINT)
    frames = sorted(hours_by_frame)
    hours_array = np.array([hours_by_frame[frame] for frame in frames], np.float32)
    return TimeStamps(np.array(frames, np.int64), hours_array)


def read_grades(path: Path) -> dict[str, Grades]:
    """Return the grades by the video's name, in the order of the file.

    Raises:
        InputProblemsError: all that is wrong with the file, with line numbers: a column that is missing, a row without
            a name, a video that comes twice.
        MvtkError: the file cannot be read.
    """
    table = CsvTable(path)
    grades: dict[str, Grades] = {}
    for line, (video, te, icm) in table.records(GRADE_COLUMNS):
        if not video:
            table.problem(line, "no video_name")
        elif video in grades:
            table.problem(line, f"video {video} comes twice")
        else:
            grades[video] = Grades(te or None, icm or None)
    table.require_sound(_MEND_HINT)
    return grades
