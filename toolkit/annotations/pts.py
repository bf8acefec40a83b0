"""PTS files: the landmarks of one image.

::

    version: 1
    n_points: 68
    {
    32.310345 99.612347
    …
    }

The format is that of the 300-W annotations, https://ibug.doc.ic.ac.uk/resources/300-W/. Coordinates are pixels, x to
the right and y down; by convention the upper left pixel is (1, 1). They stay as they are written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.annotations.plain_text import decode_text, parse_numbers
from toolkit.annotations.problems import raise_problems
from toolkit.annotations.yolo import parse_number, shown
from toolkit.core.files import read_bytes

_VERSION = 1.0
_BRACES = [["{"], ["}"]]

_Line = tuple[int, list[str]]
"""A line's number, counted from 1, and its words."""


def load_pts(path: Path) -> NDArray[np.float64]:
    """Read a PTS file; see :func:`parse_pts`.

    Raises:
        MvtkError: the file is missing, unreadable or wrong; one line that names it and what is wrong.
    """
    return parse_pts(decode_text(read_bytes(path), str(path)), str(path))


def parse_pts(text: str, source: str) -> NDArray[np.float64]:
    """Read the content of a PTS file.

    Args:
        text: the content; a byte-order mark, any line ending and blank lines are accepted.
        source: names the file in errors.

    Returns:
        (n, 2) float64, x and y of each point as written; n is above 0.

    Raises:
        InputProblemsError: everything that is wrong, the first 20 in words and the number of the others.
    """
    numbered = enumerate(text.removeprefix("\ufeff").splitlines(), start=1)
    lines = [(number, words) for number, line in numbered if (words := line.split())]
    braces = [place for place, (_number, words) in enumerate(lines) if words in _BRACES]
    if [lines[place][1] for place in braces] != _BRACES:
        found = " and ".join(f"{words[0]} in line {number}" for number, words in map(lines.__getitem__, braces[:3]))
        raise_problems(source, [f"the points must be between one line {{ and one line }}, there is {found or 'none'}"])
    opening, closing = braces
    problems: list[str] = []
    count = _read_header(lines[:opening], problems)
    rows = lines[opening + 1 : closing]
    points_xy = _read_points(rows, problems)
    if count is not None and count != len(rows):
        problems.append(f"n_points is {count}, but there are {len(rows)} points")
    problems += [f"line {number}: text after the closing }}" for number, _words in lines[closing + 1 :]]
    raise_problems(source, problems)
    return points_xy


def format_pts(points_xy: NDArray[np.float64]) -> str:
    """Return the text of a PTS file that reads back as the very same numbers.

    Args:
        points_xy: (n, 2), n above 0, finite.

    Raises:
        ValueError: the points are none, or not all numbers.
    """
    if points_xy.ndim != 2 or points_xy.shape[1] != 2 or not len(points_xy) or not np.isfinite(points_xy).all():
        raise ValueError(f"no landmarks: an array of the shape {points_xy.shape}, or not finite")
    rows = "".join(f"{x!r} {y!r}\n" for x, y in points_xy.tolist())
    return f"version: 1\nn_points: {len(points_xy)}\n{{\n{rows}}}\n"


def _read_header(lines: Sequence[_Line], problems: list[str]) -> int | None:
    """Return the number of points that the header says, or None; what is wrong is added to ``problems``."""
    found: dict[str, str] = {}
    for number, words in lines:
        key, colon, value = " ".join(words).partition(":")
        if not colon or key.strip() not in {"version", "n_points"}:
            problems.append(f"line {number}: {shown(' '.join(words))} is neither version: nor n_points:")
        elif key.strip() in found:
            problems.append(f"line {number}: {key.strip()} is there twice")
        else:
            found[key.strip()] = value.strip()
    problems += [f"it has no {key}" for key in ("version", "n_points") if key not in found]
    if "version" in found and parse_number(found["version"]) != _VERSION:
        problems.append(f"version is {shown(found['version'])}, not 1")
    if "n_points" not in found:
        return None
    count = parse_number(found["n_points"])
    if count is None or not count.is_integer() or count < 1:
        problems.append(f"n_points is {shown(found['n_points'])}, not a whole number above 0")
        return None
    return int(count)


def _read_points(rows: Sequence[_Line], problems: list[str]) -> NDArray[np.float64]:
    """Return the points, (n, 2); what is wrong is added to ``problems``."""
    words = [word for _number, row in rows for word in row]
    if {len(row) for _number, row in rows} == {2}:
        numbers = parse_numbers(words)
        if np.isfinite(numbers).all():
            return numbers.reshape(-1, 2)
    for number, row in rows:
        if len(row) != 2:
            problems.append(f"line {number}: a point has x and y, not {len(row)} values")
        problems += [f"line {number}: {shown(word)} is not a finite number" for word in row if not _is_finite(word)]
    return np.empty((0, 2))


def _is_finite(word: str) -> bool:
    value = parse_number(word)
    return value is not None and math.isfinite(value)
