"""YOLO label files.

A label file has one object a line: ``class x_center y_center width height`` or ``class x1 y1 x2 y2 x3 y3 …``.
Coordinates are fractions of the image's width and height, x to the right and y down, origin at the image's upper left
corner. What counts as a problem follows ``verify_image_label`` in ``ultralytics/data/utils.py`` (8.4): a file that
Ultralytics would refuse, or change without being asked, has at least one problem here. The format is documented at
https://docs.ultralytics.com/datasets/detect/ and https://docs.ultralytics.com/datasets/segment/.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from toolkit.core.files import read_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COORDINATE_TOLERANCE = 0.01
"""How far beyond the image a coordinate or a box's edge may be, as a fraction of the side: Ultralytics accepts 1 %.

Exports round to whole pixels, so that an edge one pixel outside a small image is normal.
"""

Effect = Literal["refused", "dropped", "kept"]

_BOX_FIELDS = 5
_PREDICTION_FIELDS = 6
_MIN_POLYGON_FIELDS = 7
_SHOWN_CHARACTERS = 24


class YoloBox(NamedTuple):
    """One box: a class id and the box's centre and size as fractions of the image's width and height."""

    class_id: int
    x_center: float
    y_center: float
    width: float
    height: float


class YoloPolygon(NamedTuple):
    """One outline: a class id and at least three (x, y) corners as fractions of the image's width and height."""

    class_id: int
    points_xy: tuple[tuple[float, float], ...]

    def bounding_box(self) -> YoloBox:
        """Return the smallest box around the corners, of the same class."""
        xs, ys = zip(*self.points_xy, strict=True)
        left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
        return YoloBox(self.class_id, (left + right) / 2, (top + bottom) / 2, right - left, bottom - top)


class LabelProblem(NamedTuple):
    """What is wrong in a label file.

    Attributes:
        line: counted from 1.
        text: what is wrong.
        effect: what Ultralytics does about it: "refused" leaves the whole image out, "dropped" the row, "kept" nothing.
    """

    line: int
    text: str
    effect: Effect = "refused"


@dataclass(frozen=True, slots=True)
class ParsedLabels:
    """A label file's content.

    Attributes:
        boxes: the box rows without a problem, in file order.
        polygons: the polygon rows without a problem, in file order.
        problems: every problem of the file, by line. A file without rows is a background image and has none.
    """

    boxes: list[YoloBox]
    polygons: list[YoloPolygon]
    problems: tuple[LabelProblem, ...]


def parse_labels(text: str | bytes, *, class_count: int | None = None) -> ParsedLabels:
    """Read the rows of a YOLO label file and find everything that is wrong with them.

    A byte-order mark, any line ending, blank lines and a class id written as ``0.0`` are accepted, as Ultralytics does.

    Args:
        text: the file's content; bytes are read as UTF-8.
        class_count: how many classes there are; ids from there on are a problem. None: any id will do.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    boxes: list[YoloBox] = []
    polygons: list[YoloPolygon] = []
    problems: list[LabelProblem] = []
    first_line_of_row: dict[tuple[float, ...], int] = {}
    first_line_of_kind: dict[str, int] = {}
    for line, content in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        fields = content.split()
        if not fields:
            continue
        fault = _shape_fault(content, len(fields))
        if fault:
            problems.append(LabelProblem(line, fault))
            continue
        first_line_of_kind.setdefault("box" if len(fields) == _BOX_FIELDS else "polygon", line)
        row, faults, effect = _parse_row(fields, class_count)
        if row is not None:
            # Ultralytics compares rows as 32-bit floats.
            same_as = first_line_of_row.setdefault((row.class_id, *array("f", _coordinates(row))), line)
            if same_as != line:
                faults, effect = [f"repeats line {same_as}"], "dropped"
            elif isinstance(row, YoloBox):
                boxes.append(row)
            else:
                polygons.append(row)
        problems.extend(LabelProblem(line, fault, effect) for fault in faults)
    if len(first_line_of_kind) > 1:
        (_, first), (kind, line) = first_line_of_kind.items()
        other = "polygon" if kind == "box" else "box"
        problems.append(LabelProblem(line, f"a {kind} row, but line {first} is a {other} row: a file holds one kind"))
        problems.sort(key=lambda problem: problem.line)
    return ParsedLabels(boxes, polygons, tuple(problems))


def load_labels(path: Path, *, class_count: int | None = None) -> ParsedLabels:
    """Read a YOLO label file; see :func:`parse_labels`.

    Raises:
        MvtkError: if the file cannot be read. What is wrong inside it is in the result's ``problems``.
    """
    return parse_labels(read_bytes(path), class_count=class_count)


def format_labels(boxes: Iterable[YoloBox]) -> str:
    """Return the text of a label file: one line a box, coordinates with six decimals; empty for no boxes."""
    return "".join(
        f"{box.class_id} {box.x_center:.6f} {box.y_center:.6f} {box.width:.6f} {box.height:.6f}\n" for box in boxes
    )


def boxes_to_xyxy(boxes: Sequence[YoloBox], width_px: int, height_px: int) -> NDArray[np.float32]:
    """Return the boxes' corners in pixels: (n, 4) float32, left, top, right, bottom; not clipped to the image.

    Pixel edges are whole numbers: a box around the whole image is (0, 0, width_px, height_px).
    """
    import numpy as np  # needed here alone, and slow to import for who only reads labels

    centers_and_sizes = np.array([box[1:] for box in boxes], dtype=np.float64).reshape(-1, 4)
    centers, half_sizes = centers_and_sizes[:, :2], centers_and_sizes[:, 2:] / 2
    corners = np.concatenate((centers - half_sizes, centers + half_sizes), axis=1)
    return (corners * (width_px, height_px, width_px, height_px)).astype(np.float32)


def _shape_fault(content: str, field_count: int) -> str | None:
    """Return why a line is no label row at all, or None."""
    if not content.isascii() and any("\udc80" <= character <= "\udcff" for character in content):
        return "not UTF-8 text"
    if field_count == _PREDICTION_FIELDS:
        return "6 fields: a sixth field is a prediction's confidence, a label has 5"
    if field_count == _BOX_FIELDS or (field_count >= _MIN_POLYGON_FIELDS and field_count % 2):
        return None
    return (
        f"{field_count} fields: a box has 5 (class x_center y_center width height), a polygon 1 + 2 a point, 3 or more"
    )


def _parse_row(fields: list[str], class_count: int | None) -> tuple[YoloBox | YoloPolygon | None, list[str], Effect]:
    """Return a row and no faults, or None and all of its faults; and what Ultralytics does about them."""
    class_id, faults = _parse_class(fields[0], class_count)
    values: list[float] = []
    for field in fields[1:]:
        value = parse_number(field)
        if value is None:
            faults.append(f"{shown(field)} is not a number")
        elif not math.isfinite(value):
            faults.append(f"{shown(field)} is not a finite number")
        else:
            values.append(value)
    if len(values) < len(fields) - 1:
        return None, faults, "refused"
    if len(fields) == _BOX_FIELDS:
        box = YoloBox(class_id, *values)
        accepted = not faults and all(map(_inside, values)) and min(box.width, box.height) >= 0
        faults += _box_faults(box)
        return (None if faults else box), faults, "kept" if accepted else "refused"
    polygon = YoloPolygon(class_id, tuple(zip(values[::2], values[1::2], strict=True)))
    accepted = not faults and all(map(_inside, values))
    faults += _polygon_faults(polygon)
    return (None if faults else polygon), faults, "kept" if accepted else "refused"


def _parse_class(field: str, class_count: int | None) -> tuple[int, list[str]]:
    """Return a class id (0 where it is wrong) and what is wrong with it."""
    value = parse_number(field)
    if value is None or not math.isfinite(value) or value < 0 or value != int(value):
        return 0, [f"class {shown(field)} is not a whole number from 0 on"]
    if class_count is not None and value >= class_count:
        names = "name" if class_count == 1 else "names"
        return 0, [f"class {shown(field)} is beyond the {class_count} {names}"]
    return int(value), []


def parse_number(field: str) -> float | None:
    """Return the number, or None for what only Python's ``float`` takes for one (``1_000``, other scripts' digits)."""
    if "_" in field or not field.isascii():
        return None
    try:
        return float(field)
    except ValueError:
        return None


def _box_faults(box: YoloBox) -> list[str]:
    """Return what is wrong with a box's place and size."""
    faults = [
        f"{name} {value:g} is outside [0, 1]"
        for name, value in zip(box._fields[1:], box[1:], strict=True)
        if not _inside(value)
    ]
    faults += [
        f"{name} {value:g} is not above 0"
        for name, value in (("width", box.width), ("height", box.height))
        if -COORDINATE_TOLERANCE <= value <= 0
    ]
    if not faults:
        faults += [
            f"the box spans {center - size / 2:.4f} to {center + size / 2:.4f} of the image's {side}, outside [0, 1]"
            for side, center, size in (("width", box.x_center, box.width), ("height", box.y_center, box.height))
            if not (_inside(center - size / 2) and _inside(center + size / 2))
        ]
    return faults


def _polygon_faults(polygon: YoloPolygon) -> list[str]:
    """Return what is wrong with a polygon's corners: at most one entry for those outside, whatever their number."""
    outside = [value for value in _coordinates(polygon) if not _inside(value)]
    if outside:
        more = f" (and {len(outside) - 1} more)" if len(outside) > 1 else ""
        return [f"coordinate {outside[0]:g}{more} is outside [0, 1]"]
    box = polygon.bounding_box()
    return [] if box.width > 0 and box.height > 0 else ["the polygon has no area"]


def _inside(value: float) -> bool:
    return -COORDINATE_TOLERANCE <= value <= 1 + COORDINATE_TOLERANCE


def _coordinates(row: YoloBox | YoloPolygon) -> Iterable[float]:
    return row[1:] if isinstance(row, YoloBox) else (value for point in row.points_xy for value in point)


def shown(field: str) -> str:
    """Return a field in quotes, shortened: a damaged file may hold one of any length."""
    return repr(field if len(field) <= _SHOWN_CHARACTERS else field[: _SHOWN_CHARACTERS - 1] + "…")
