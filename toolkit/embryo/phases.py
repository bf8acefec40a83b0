"""The sixteen phases of development, and the files that say which frames of a video are in which.

``<video>_phases.csv`` has no header and a line ``phase,first,last`` for each phase that the video shows; both frame
numbers are inclusive (Gomez et al. 2022). Phases may be absent, and frames between two phases may have none. Frames
before the first phase have no label; the last phase may end beyond the last frame of the video.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toolkit.embryo.csv_rows import CsvTable
from toolkit.embryo.names import unknown_name

NO_PHASE: Final = -1
"""The phase index of a frame without a label."""
_FIELDS: Final = ("phase", "first", "last")


class Phase(Enum):
    """A phase of development; its value is its label, members run from the earliest to the latest."""

    TPB2 = "tPB2"
    TPNA = "tPNa"
    TPNF = "tPNf"
    T2 = "t2"
    T3 = "t3"
    T4 = "t4"
    T5 = "t5"
    T6 = "t6"
    T7 = "t7"
    T8 = "t8"
    T9_PLUS = "t9+"
    TM = "tM"
    TSB = "tSB"
    TB = "tB"
    TEB = "tEB"
    THB = "tHB"

    @property
    def label(self) -> str:
        """The name in the annotations, such as ``t9+``."""
        return self.value

    @property
    def index(self) -> int:
        """The place in the order of development, 0 (tPB2) to 15 (tHB)."""
        return _INDICES[self]


PHASES: Final = tuple(Phase)
_INDICES: Final = {phase: index for index, phase in enumerate(PHASES)}
_BY_LABEL: Final = {phase.label: phase for phase in PHASES}
_BY_LOWER_CASE: Final = {phase.label.lower(): phase for phase in PHASES}


def parse_phase(text: str) -> Phase:
    """Return the phase that ``text`` names, in any case.

    Raises:
        OptionError: there is no such phase; the line has the nearest one, and all of them.
    """
    phase = _BY_LOWER_CASE.get(text.strip().lower())
    if phase is None:
        raise unknown_name("phase", text, list(_BY_LABEL))
    return phase


def as_phases(chosen: Collection[Phase | str] | Phase | str | None) -> tuple[Phase, ...] | None:
    """Return phases that are given as members or labels, several or one; None, for no choice, stays None.

    Raises:
        OptionError: one of them is no phase.
    """
    if chosen is None:
        return None
    several = (chosen,) if isinstance(chosen, Phase | str) else chosen
    return tuple(phase if isinstance(phase, Phase) else parse_phase(phase) for phase in several)


def phase_at(index: int) -> Phase | None:
    """Return the phase with that index; None for ``NO_PHASE``."""
    return None if index == NO_PHASE else PHASES[index]


@dataclass(frozen=True, slots=True)
class PhaseRange:
    """The frames of one phase of a video.

    Attributes:
        phase: the phase.
        first: the number of its first frame.
        last: the number of its last frame, inclusive; it may lie beyond the video's last frame.
    """

    phase: Phase
    first: int
    last: int


def read_phase_ranges(path: Path) -> list[PhaseRange]:
    """Return the phases of a video in the order of development, which is also that of the frames.

    Raises:
        InputProblemsError: all that is wrong with the file, with line numbers: unknown phases, numbers that are none,
            a phase that ends before it begins, that comes twice, too early, or overlaps the one before.
        MvtkError: the file cannot be read.
    """
    table = CsvTable(path)
    ranges: list[PhaseRange] = []
    line = 0
    for line, fields in table.rows():
        current = _parse_range(table, line, fields)
        if current is None:
            continue
        if ranges:
            _check_order(table, line, ranges[-1], current)
        ranges.append(current)
    if not line:
        table.problem(1, "there is no phase in the file")
    table.require_sound("mend the file, or take it from the published archive again")
    return ranges


def phase_of(ranges: Sequence[PhaseRange], frame: int) -> Phase | None:
    """Return the phase of the frame with that number; None where it has no label."""
    for phase_range in ranges:
        if phase_range.first <= frame <= phase_range.last:
            return phase_range.phase
    return None


def phase_indices_of(ranges: Sequence[PhaseRange], frames: ArrayLike) -> NDArray[np.int8]:
    """Return the phase index of each frame number, as int8 of the same shape; ``NO_PHASE`` where it has no label.

    Args:
        ranges: as :func:`read_phase_ranges` returns them: ascending, without overlap.
        frames: frame numbers, in any order.
    """
    numbers = np.asarray(frames)
    indices = np.full(numbers.shape, NO_PHASE, np.int8)
    if not ranges:
        return indices
    firsts = np.array([phase_range.first for phase_range in ranges])
    lasts = np.array([phase_range.last for phase_range in ranges])
    phases = np.array([phase_range.phase.index for phase_range in ranges], np.int8)
    rows = np.searchsorted(firsts, numbers, side="right") - 1
    is_labelled = (rows >= 0) & (numbers <= lasts[rows])
    return np.where(is_labelled, phases[rows], indices)


def _parse_range(table: CsvTable, line: int, fields: list[str]) -> PhaseRange | None:
    if len(fields) != len(_FIELDS):
        table.problem(line, f"{len(fields)} fields, not the 3 of {','.join(_FIELDS)}")
        return None
    phase = _BY_LABEL.get(fields[0])
    if phase is None:
        table.problem(line, unknown_name("phase", fields[0], list(_BY_LABEL)).message)
    first = table.frame_number(line, fields[1], "first")
    last = table.frame_number(line, fields[2], "last")
    if phase is None or first is None or last is None:
        return None
    if first > last:
        table.problem(line, f"{phase.label} ends at frame {last}, before its first frame {first}")
    return PhaseRange(phase, first, last)


def _check_order(table: CsvTable, line: int, before: PhaseRange, current: PhaseRange) -> None:
    if current.phase == before.phase:
        table.problem(line, f"{current.phase.label} comes twice")
    elif current.phase.index < before.phase.index:
        table.problem(line, f"{current.phase.label} follows {before.phase.label}, which is a later phase")
    if current.first <= before.last:
        problem = f"{current.phase.label} begins at frame {current.first}, not after frame {before.last}"
        table.problem(line, f"{problem} where {before.phase.label} ends")
