"""The strict check of a metadata file: every sample, where opening it looks at the outermost offsets only."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from toolkit.metadata.boxes import BEYOND_EDGE, check_boxes
from toolkit.metadata.columns import Kind
from toolkit.metadata.reading import MetadataFile
from toolkit.metadata.record import STARTS_FIELDS

MAX_LISTED: Final = 20
"""Problems of one kind that are listed one by one; the rest is counted."""

ROW_NAMES: Final[dict[Kind, str]] = {"detector": "box", "landmarker": "keypoint", "teacher": "box"}

_VISIBILITIES: Final = (0, 1, 2)


def check_metadata(file: MetadataFile, *, images: bool = False) -> list[str]:
    """Return everything that is wrong with a file's samples, one line each, without the file's path.

    Offsets ascend; paths are relative and stay below the root; boxes are finite, have an area and lie in their image
    where its size is known (to 0.01 px; a teacher's box, which is clipped when it is used, at least partly); keypoints
    are finite, their visibility is 0, 1 or 2; class ids are those of class names, or -1; the sources have as many
    samples as the file. Of each kind of problem the first 20 are listed, and how many there are beyond.

    Args:
        file: the open file.
        images: also see that every image exists below the root; each distinct path costs one look at the disk.
    """
    problems = list(_offset_problems(file))
    if problems:
        # Without offsets nobody can say which sample a path or a box is of.
        return problems
    problems += path_problems(file)
    problems += _box_problems(file) if file.kind != "landmarker" else _keypoint_problems(file)
    problems += _class_problems(file)
    problems += _source_problems(file)
    if images:
        problems += _image_problems(file)
    return problems


def path_problems(file: MetadataFile) -> list[str]:
    """Return what is wrong with the image paths of a file whose offsets ascend, at most 20 lines of a kind and a count.

    A path is at least one byte long, relative, without NUL and without a step up (``..``).
    """
    starts, data = file.path_starts.astype(np.int64), file.path_bytes
    is_empty = starts[1:] == starts[:-1]
    empty = np.flatnonzero(is_empty)
    absolute = np.flatnonzero(~is_empty)[data[starts[:-1][~is_empty]] == ord("/")]
    with_nul = np.unique(_samples_of(starts, np.flatnonzero(data == 0)))
    is_dot = data == ord(".")
    with_dots = np.unique(_samples_of(starts, np.flatnonzero(is_dot[1:] & is_dot[:-1])))
    stepping_up = np.array([i for i in with_dots if b".." in _path(file, i).split(b"/")], np.int64)
    named = {
        "an empty image path": empty,
        "an absolute image path": absolute,
        "a NUL in the image path": with_nul,
        "an image path that leads upwards (..)": stepping_up,
    }
    return [line for problem, samples in named.items() for line in _listed(samples, _sample_line(file, problem))]


def sample_paths(file: MetadataFile) -> list[bytes]:
    """Return the image path of every sample of a file whose offsets ascend, as stored."""
    data = file.path_bytes.tobytes()
    bounds = file.path_starts.tolist()
    return [data[start:stop] for start, stop in itertools.pairwise(bounds)]


def samples_of_rows(file: MetadataFile) -> NDArray[np.int64]:
    """Return the sample that each row is of, (m,), in a file whose offsets ascend."""
    if file.row_starts is None:
        return np.arange(len(file), dtype=np.int64)
    starts = file.row_starts.astype(np.int64)
    return np.repeat(np.arange(len(file), dtype=np.int64), starts[1:] - starts[:-1])


def _samples_of(starts: NDArray[np.int64], positions: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return the sample that each byte of the paths is of."""
    return np.searchsorted(starts, positions, side="right") - 1


def _path(file: MetadataFile, index: int) -> bytes:
    return file.path_bytes[file.path_starts[index] : file.path_starts[index + 1]].tobytes()


def _offset_problems(file: MetadataFile) -> Iterator[str]:
    offsets = {"path_starts": file.path_starts}
    if file.row_starts is not None:
        offsets[STARTS_FIELDS[file.kind]] = file.row_starts
    for name, starts in offsets.items():

        def line(index: int, name: str = name, starts: NDArray[np.uint32] = starts) -> str:
            return f"sample {index}: `{name}` falls from {starts[index]} to {starts[index + 1]}"

        yield from _listed(np.flatnonzero(starts[1:] < starts[:-1]), line)


def _box_problems(file: MetadataFile) -> Iterator[str]:
    samples = samples_of_rows(file)
    checked = check_boxes(file.rows.astype(np.float64), file.image_sizes_wh.astype(np.int64)[samples], "drop")
    for fault, rows in checked.faults.items():
        if fault == BEYOND_EDGE and file.kind == "teacher":
            continue
        yield from _listed(rows, _row_line(file, samples, fault))


def _keypoint_problems(file: MetadataFile) -> Iterator[str]:
    samples = samples_of_rows(file)
    is_finite = np.isfinite(file.rows).all(axis=1)
    yield from _listed(np.flatnonzero(~is_finite), _row_line(file, samples, "keypoint with NaN or infinity"))
    odd = np.flatnonzero(is_finite & ~np.isin(file.rows[:, 2], _VISIBILITIES))
    yield from _listed(odd, _row_line(file, samples, "keypoint whose visibility is not 0, 1 or 2"))


def _class_problems(file: MetadataFile) -> Iterator[str]:
    names = len(file.info.class_names)
    odd = np.flatnonzero((file.class_ids < -1) | (file.class_ids >= names))
    samples = np.arange(len(file)) if file.kind == "landmarker" else samples_of_rows(file)

    def line(index: int) -> str:
        return f"sample {samples[index]}: class id {file.class_ids[index]}, with {names} class names"

    return _listed(odd, line)


def _source_problems(file: MetadataFile) -> Iterator[str]:
    total = sum(source.samples for source in file.info.sources)
    if total != len(file):
        yield f"its sources have {total} samples, the file {len(file)}"


def _image_problems(file: MetadataFile) -> Iterator[str]:
    if not file.root.is_dir():
        yield f"the root folder {file.root} does not exist"
        return
    root = os.fsencode(file.root) + b"/"
    first_of: dict[bytes, int] = {}
    for index, path in enumerate(sample_paths(file)):
        first_of.setdefault(path, index)
    # PTH113: to make a Path of each costs more than the look at the disk.
    missing = [i for path, i in first_of.items() if not os.path.isfile(root + path)]  # noqa: PTH113
    yield from _listed(np.array(missing, np.int64), _sample_line(file, "no such image"))


def _sample_line(file: MetadataFile, problem: str) -> Callable[[int], str]:
    return lambda index: f"sample {index}: {problem}: {os.fsdecode(_path(file, index))!r}"


def _row_line(file: MetadataFile, samples: NDArray[np.int64], problem: str) -> Callable[[int], str]:
    def line(row: int) -> str:
        sample = int(samples[row])
        numbers = ", ".join(f"{number:g}" for number in file.rows[row])
        return f"sample {sample}, {ROW_NAMES[file.kind]} {row - file.rows_of(sample).start}: {problem} ({numbers})"

    return line


def _listed(indices: NDArray[Any], line: Callable[[int], str]) -> Iterator[str]:
    """Yield a line for each of the first problems of a kind, and how many more there are."""
    for index in indices[:MAX_LISTED]:
        yield line(int(index))
    if len(indices) > MAX_LISTED:
        yield f"{len(indices) - MAX_LISTED} more like the last"
