"""Boxes in CSV files: one box a row, in one of the forms that exports have.

* ``filename,width,height,class,xmin,ymin,xmax,ymax``: TensorFlow's, which Roboflow writes too;
* ``image_path,xmin,ymin,xmax,ymax``;
* ``filename,x,y,w,h``, from a box's upper left corner on;
* ``file,x1,y1,x2,y2,class`` without a header: RetinaNet's,
  https://github.com/fizyr/keras-retinanet#csv-datasets, with empty fields for an image without boxes.

All numbers are pixels.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toolkit.annotations.named_images import MAX_SIDE_PX, NamedImages, merge_images
from toolkit.annotations.plain_text import decode_text, parse_numbers
from toolkit.annotations.problems import EXPORT_AGAIN, raise_problems
from toolkit.annotations.table import AnnotationTable
from toolkit.annotations.yolo import parse_number, shown
from toolkit.core.errors import MvtkError
from toolkit.core.files import read_bytes

_SHOWN_COLUMNS = 12


@dataclass(frozen=True, slots=True)
class _Form:
    """One kind of file.

    Attributes:
        columns: what a file must have; the first one is the image's file name.
        box: left, top, and right and bottom or width and height.
        has_corners: whether a box is given by two corners.
    """

    columns: tuple[str, ...]
    box: tuple[str, ...]
    has_corners: bool = True


_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_XYWH = ("x", "y", "w", "h")
_HEADERLESS_CORNERS = ("x1", "y1", "x2", "y2")
_SIZE = ("width", "height")
_LABELS = ("class", "label")
"""Columns for the class; a form that demands none may have one."""

_FORMS = (
    _Form(("filename", *_SIZE, "class", *_CORNERS), _CORNERS),
    _Form(("image_path", *_CORNERS), _CORNERS),
    _Form(("filename", *_XYWH), _XYWH, has_corners=False),
)
_HEADERLESS = _Form(("file", *_HEADERLESS_CORNERS, "class"), _HEADERLESS_CORNERS)


def load_csv_boxes(path: Path) -> AnnotationTable:
    """Read a CSV file of boxes; see :func:`parse_csv_boxes`.

    Raises:
        MvtkError: the file is missing, unreadable or wrong; one line that names it and what is wrong.
    """
    return parse_csv_boxes(read_bytes(path), str(path))


def parse_csv_boxes(data: bytes, source: str) -> AnnotationTable:
    """Read the content of a CSV file of boxes.

    Columns may be in any order and in upper case, and a file may have others. Images are in order of their first row;
    class names are sorted, and a box without one has class -1. A row whose box is empty names an image without boxes.
    Boxes are not judged: a right edge before the left one gives a negative width, and ``nan`` is a number.

    Args:
        data: UTF-8; a byte-order mark, any line ending and blank lines are accepted.
        source: names the file in errors.

    Raises:
        MvtkError: the data is no CSV, or none of the known forms; the columns found are named.
        InputProblemsError: everything that is wrong with its rows, the first 20 in words and the number of the others.
    """
    rows = _Rows.read(data, source)
    form, columns = _recognise(rows, source)
    rows.keep_whole(len(columns))
    table = _build(rows, form, columns)
    rows.raise_problems(source)
    return table


@dataclass(slots=True, eq=False)
class _Rows:
    """The rows of a file that are not blank.

    Attributes:
        fields: of all rows, one row after the other: a list a row would cost more than all else.
        counts: how many of them each row has.
        lines: on which line each row ends, counted from 1.
        problems: line and text of what is wrong.
    """

    fields: list[str]
    counts: list[int]
    lines: list[int]
    problems: list[tuple[int, str]]

    @classmethod
    def read(cls, data: bytes, source: str) -> _Rows:
        """Split a file into rows and fields."""
        rows = cls([], [], [], [])
        reader = csv.reader(io.StringIO(decode_text(data, source), newline=""), strict=True)
        try:
            for fields in reader:
                if any(map(str.strip, fields)):
                    rows.fields += fields
                    rows.counts.append(len(fields))
                    rows.lines.append(reader.line_num)
        except csv.Error as error:
            raise MvtkError(f"{source}: no CSV: line {reader.line_num}: {error}", EXPORT_AGAIN) from error
        return rows

    def take_header(self) -> None:
        """Take the first row off."""
        del self.fields[: self.counts.pop(0)]
        del self.lines[0]

    def keep_whole(self, field_count: int) -> None:
        """Leave out the rows that have another number of fields, which is a problem."""
        if set(self.counts) <= {field_count}:
            return
        fields, lines, remaining = list[str](), list[int](), iter(self.fields)
        for place, count in enumerate(self.counts):
            row = list(islice(remaining, count))
            if count == field_count:
                fields += row
                lines.append(self.lines[place])
            else:
                self.note(place, f"{count} fields, not {field_count}")
        self.fields, self.counts, self.lines = fields, [field_count] * len(lines), lines

    def note(self, index: int, text: str) -> None:
        """Add a problem of one row."""
        self.problems.append((self.lines[index], text))

    def raise_problems(self, source: str) -> None:
        """Raise what is wrong, if anything is, in order of the lines."""
        raise_problems(source, [f"line {line}: {text}" for line, text in sorted(self.problems)])


def _recognise(rows: _Rows, source: str) -> tuple[_Form, list[str]]:
    """Return a file's form and the names of all of its columns, and take the header off its rows."""
    header = [field.strip() for field in rows.fields[: rows.counts[0]]] if rows.counts else []
    if not header or _is_headerless(header):
        return _HEADERLESS, list(_HEADERLESS.columns)
    line = rows.lines[0]
    rows.take_header()
    columns = [name.lower() for name in header]
    fitting = [form for form in _FORMS if set(form.columns) <= set(columns)]
    if not fitting:
        more = f" and {len(header) - _SHOWN_COLUMNS} more" if len(header) > _SHOWN_COLUMNS else ""
        found = ", ".join(map(shown, header[:_SHOWN_COLUMNS]))
        known = "; ".join(",".join(form.columns) for form in _FORMS)
        raise MvtkError(
            f"{source}: line {line}: no known header; its columns are {found}{more}",
            f"known are {known}; and, without a header, {','.join(_HEADERLESS.columns)}",
        )
    form = max(fitting, key=lambda each: len(each.columns))
    twice = [name for name in (*form.columns, *_LABELS) if columns.count(name) > 1]
    if twice:
        raise MvtkError(f"{source}: line {line}: the column {twice[0]} is there twice", EXPORT_AGAIN)
    return form, columns


def _is_headerless(fields: Sequence[str]) -> bool:
    """Tell whether these, stripped, are the fields of a box, or of an image without boxes, and no header."""
    box = fields[1:5]
    return len(fields) == len(_HEADERLESS.columns) and (
        not any(box) or all(parse_number(field) is not None for field in box)
    )


def _build(rows: _Rows, form: _Form, columns: Sequence[str]) -> AnnotationTable:
    """Return the table of rows that have all fields; what is wrong with them is noted there."""
    column = {name: rows.fields[place :: len(columns)] for place, name in enumerate(columns)}
    images = _read_images(rows, form, column)
    # An image without boxes has a row too, whose box is empty.
    has_box = [any(map(str.strip, box)) for box in zip(*(column[name] for name in form.box), strict=True)]
    boxes_xywh = _read_boxes(rows, form, column, has_box)
    labels = next((column[name] for name in _LABELS if name in column), [""] * len(has_box))
    class_names, class_ids = _read_classes(
        [label if boxed else "" for label, boxed in zip(labels, has_box, strict=True)]
    )
    boxed = np.flatnonzero(np.array(has_box, np.bool_))
    order = boxed[np.argsort(images.indices[boxed], kind="stable")]
    return AnnotationTable(
        image_names=images.names,
        image_sizes_wh=images.sizes_wh,
        image_indices=images.indices[order],
        has_box=np.ones(len(order), np.bool_),
        boxes_xywh=boxes_xywh[order],
        class_ids=class_ids[order],
        keypoint_counts=np.zeros(len(order), np.int64),
        keypoints_xyv=np.empty((0, 3)),
        class_names=class_names,
    )


def _read_images(rows: _Rows, form: _Form, column: Mapping[str, Sequence[str]]) -> NamedImages:
    """Return the images that the rows name."""
    names = column[form.columns[0]]
    for place, name in enumerate(names):
        if not name.strip():
            rows.note(place, f"{form.columns[0]} is empty")
    sizes_wh = np.zeros((len(names), 2), np.int64)
    for axis, name in enumerate(_SIZE):
        if name in form.columns:
            sizes_wh[:, axis] = _read_sides_px(rows, name, column[name])
    images = merge_images(names, sizes_wh)
    for place in images.contradicting.tolist():
        here, before = sizes_wh[place], images.sizes_wh[images.indices[place]]
        sizes = f"{here[0]}x{here[1]}, but {before[0]}x{before[1]} in a row before"
        rows.note(place, f"the image is {sizes} (width x height)")
    return images


def _read_boxes(
    rows: _Rows, form: _Form, column: Mapping[str, Sequence[str]], has_box: Sequence[bool]
) -> NDArray[np.float64]:
    """Return the box of each row as left, top, width and height, something not finite for a row without one."""
    boxes = np.empty((len(has_box), 4))
    for axis, name in enumerate(form.box):
        boxes[:, axis] = parse_numbers([text or "nan" for text in column[name]])
        # NaN may be what the file says, too.
        for place in np.flatnonzero(np.isnan(boxes[:, axis])).tolist():
            text = column[name][place]
            if has_box[place] and parse_number(text) is None:
                rows.note(place, f"{name} is {shown(text)}, not a number")
    if form.has_corners:
        with np.errstate(invalid="ignore", over="ignore"):
            boxes[:, 2:] -= boxes[:, :2]
    return boxes


def _read_sides_px(rows: _Rows, name: str, column: Sequence[str]) -> NDArray[np.int64]:
    """Return the widths or heights of images; 0 where a field is empty, or wrong, which is noted."""
    sides = parse_numbers([text or "0" for text in column])
    is_side = (sides >= 0) & (sides <= MAX_SIDE_PX) & (sides == np.floor(sides))
    for place in np.flatnonzero(~is_side).tolist():
        if column[place].strip():
            rows.note(place, f"{name} is {shown(column[place])}, not a whole number of pixels")
    return np.where(is_side, sides, 0).astype(np.int64)


def _read_classes(labels: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the class names, sorted, and the class id of each label; -1 for an empty one."""
    name_of = {label: label.strip() for label in set(labels)}
    index_of = {name: index for index, name in enumerate(sorted({*name_of.values()} - {""}))}
    id_of = {label: index_of.get(name, -1) for label, name in name_of.items()}
    return tuple(index_of), np.fromiter(map(id_of.__getitem__, labels), np.int64, len(labels))
