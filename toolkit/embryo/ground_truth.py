"""The ground truth of a dataset as one table: the phase of every frame that has one."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.core.files import atomic_write
from toolkit.embryo.frame_index import open_frame_index
from toolkit.embryo.phases import PHASES
from toolkit.embryo.planes import FocalPlane
from toolkit.embryo.selection import select_frames

COLUMNS = ("identifier", "phase", "phase_index")
"""The columns: a frame such as ``F+00_DML271-2_51``, its phase's label, and the phase's place in the order, from 0."""

_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """What became of a table.

    Attributes:
        rows: how many frames it has.
        remarks: what whoever uses it should know, one line each: videos without phases, an index that is not stored.
    """

    rows: int
    remarks: tuple[str, ...]


def save_ground_truth(
    root: Path,
    output: Path,
    *,
    planes: Sequence[FocalPlane] = (FocalPlane.F_00,),
    overwrite: bool = False,
    index_path: Path | None = None,
) -> GroundTruth:
    """Write a row for every frame that has a phase, in the order of planes, videos (by name) and frame numbers.

    Args:
        root: the extracted dataset.
        output: the CSV file to write, with the header ``identifier,phase,phase_index``.
        planes: the focal planes whose frames are listed.
        overwrite: whether ``output`` may be replaced.
        index_path: where the frame index is kept, as :func:`open_frame_index` takes it.

    Raises:
        OptionError: the dataset has no such plane.
        TargetExistsError: ``output`` exists and ``overwrite`` is false.
        MvtkError: the dataset cannot be read, or ``output`` cannot be written.
    """
    index = open_frame_index(root, index_path=index_path, strict=True)
    positions = select_frames(index, planes=planes, phases=PHASES)
    with atomic_write(output, overwrite=overwrite) as stream:
        stream.write(format_rows([COLUMNS]))
        for start in range(0, len(positions), _ROWS_AT_ONCE):
            frames = map(index.frame, positions[start : start + _ROWS_AT_ONCE].tolist())
            rows = [(frame.label, frame.phase.label, frame.phase.index) for frame in frames if frame.phase]
            stream.write(format_rows(rows))
    return GroundTruth(len(positions), tuple(index.remarks))


def format_rows(rows: Sequence[Sequence[object]]) -> bytes:
    """Return rows as lines of a CSV file, UTF-8; bytes of a file name that are not UTF-8 are kept."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode(errors="surrogateescape")
