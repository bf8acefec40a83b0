"""The records of a COCO file: its images, annotations and categories, checked one by one.

A file is read twice at most. Files in order are decoded straight into records by msgspec, which never builds what
nobody asked for: segmentations are most of many files. All others are read by the standard library, which knows the
place of what is malformed, and checked record by record, so that everything that is wrong is said together.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable
from reprlib import repr as shortened
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from toolkit.annotations.json_text import parse_json
from toolkit.annotations.named_images import MAX_SIDE_PX
from toolkit.annotations.rle import whole_number
from toolkit.core.errors import MvtkError

Id = int | str
"""What images, annotations and categories are called; 1 and "1" are two ids."""

_SHOWN_KEYS = 8
_HINT = "export it again, or take it out of the folder"
_Side = Annotated[int, Meta(ge=0, le=MAX_SIDE_PX)]
_Text = Annotated[str, Meta(min_length=1)]
_Record = TypeVar("_Record", bound=Struct)


class CocoImage(Struct, gc=False, frozen=True):
    """An image; a side of 0 pixels stands for whatever the file says that is no size."""

    id: Id
    file_name: _Text
    width: _Side = 0
    height: _Side = 0


class CocoAnnotation(Struct, gc=False, frozen=True):
    """An object in an image: its box is left, top, width and height, its keypoints x, y, v, x, y, v, …, in pixels."""

    image_id: Id
    id: Id | None = None
    category_id: Id | None = None
    # A list is what the garbage collector would walk through again and again while 200,000 of them are made.
    bbox: tuple[float, float, float, float] | None = None
    keypoints: list[float] | None = None
    iscrowd: Any = 0


class CocoCategory(Struct, frozen=True):
    """A class, and whatever the file says that it belongs to."""

    id: Id
    name: _Text
    supercategory: Any = None


class CocoRecords(Struct, frozen=True):
    """A file's records in the file's order, each with a number of keypoint values that is a multiple of 3."""

    images: list[CocoImage]
    annotations: list[CocoAnnotation]
    categories: list[CocoCategory] = []


def read_quickly(data: bytes) -> CocoRecords | None:
    """Return the records of a file in which all is as it should be; None for any other."""
    try:
        records = msgspec.json.decode(data.removeprefix(codecs.BOM_UTF8), type=CocoRecords)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    names = [image.file_name for image in records.images] + [category.name for category in records.categories]
    has_points = all(len(annotation.keypoints) % 3 == 0 for annotation in records.annotations if annotation.keypoints)
    return records if has_points and "\0" not in "".join(names) else None


def read_carefully(data: bytes, source: str, problems: list[str]) -> CocoRecords:
    """Return the records of a file without those that are wrong, and add what is wrong to ``problems``.

    Where nothing is wrong these are the records that `read_quickly` gives, if it gives any. This reads more: ``NaN``,
    numbers beyond a float's range (as infinite), ids such as ``7.0``, and sizes that are none (as 0).

    Raises:
        MvtkError: the data is no JSON, or no COCO file.
    """
    content = parse_json(data, source, _HINT)
    if not isinstance(content, dict):
        raise MvtkError(f"{source}: no COCO file: an object is expected, not {shortened(content)}", _HINT)
    missing = [f"`{key}`" for key in ("images", "annotations") if key not in content]
    if missing:
        raise MvtkError(f"{source}: no COCO file: it has no {' and no '.join(missing)}; {_found(content)}", _HINT)
    return CocoRecords(
        _read_all(content, "images", _read_image, problems),
        _read_all(content, "annotations", _read_annotation, problems),
        _read_all(content, "categories", _read_category, problems),
    )


class _RecordReader:
    """Takes typed values out of one JSON object, and notes what is wrong with them."""

    def __init__(self, record: dict[str, Any], place: str, problems: list[str]) -> None:
        self._record = record
        self._place = f"{place} (id {shortened(record['id'])})" if "id" in record else place
        self._problems = problems

    def value(self, key: str) -> Any:
        """Return what the file says, None where it says nothing."""
        return self._record.get(key)

    def required_id(self, key: str) -> Id:
        found = self.optional_id(key)
        if found is not None:
            return found
        if self.value(key) is None:
            self._note(f"has no `{key}`")
        return ""

    def optional_id(self, key: str) -> Id | None:
        value = self.value(key)
        found = value if isinstance(value, str) else whole_number(value)
        if found is None and value is not None:
            self._note(f"`{key}` is {shortened(value)}, neither a whole number nor text")
        return found

    def name(self, key: str) -> str:
        """Return text that is not empty, and may name a file as far as its characters go."""
        value = self.value(key)
        if value is None or value == "":
            self._note(f"has no `{key}`")
        elif not isinstance(value, str) or "\0" in value or _has_surrogates(value):
            self._note(f"`{key}` is {shortened(value)}, not text")
        else:
            return value
        return ""

    def side_px(self, key: str) -> int:
        side = whole_number(self.value(key))
        return side if side is not None and 0 <= side <= MAX_SIDE_PX else 0

    def box(self, key: str) -> tuple[float, float, float, float] | None:
        numbers = self._numbers(key, "a list of 4 numbers")
        if not numbers:
            return None
        if len(numbers) != 4:
            self._note(f"`{key}` is {shortened(self.value(key))}, not a list of 4 numbers")
            return None
        left, top, width, height = numbers
        return left, top, width, height

    def points(self, key: str) -> list[float] | None:
        numbers = self._numbers(key, "a list of numbers x, y, v, …")
        if numbers and len(numbers) % 3:
            self._note(f"`{key}` has {len(numbers)} numbers, not an x, a y and a v for each point")
        return numbers

    def _numbers(self, key: str, expected: str) -> list[float] | None:
        values = self.value(key)
        if values is None:
            return None
        if not isinstance(values, list) or any(type(value) not in {int, float} for value in values):
            self._note(f"`{key}` is {shortened(values)}, not {expected}")
            return None
        return [_as_float(value) for value in values]

    def _note(self, fault: str) -> None:
        self._problems.append(f"{self._place}: {fault}")


def _read_all(
    content: dict[str, Any], key: str, read: Callable[[_RecordReader], _Record], problems: list[str]
) -> list[_Record]:
    """Return the records without a problem of one of the file's lists; a list that is not there is empty."""
    values = content.get(key, [])
    if not isinstance(values, list):
        problems.append(f"`{key}` is {shortened(values)}, not a list")
        return []
    records = []
    for index, value in enumerate(values):
        place = f"{key}[{index}]"
        if not isinstance(value, dict):
            problems.append(f"{place} is {shortened(value)}, not an object")
            continue
        known_problems = len(problems)
        record = read(_RecordReader(value, place, problems))
        if len(problems) == known_problems:
            records.append(record)
    return records


def _read_image(reader: _RecordReader) -> CocoImage:
    return CocoImage(
        reader.required_id("id"), reader.name("file_name"), reader.side_px("width"), reader.side_px("height")
    )


def _read_annotation(reader: _RecordReader) -> CocoAnnotation:
    return CocoAnnotation(
        reader.required_id("image_id"),
        reader.optional_id("id"),
        reader.optional_id("category_id"),
        reader.box("bbox"),
        reader.points("keypoints"),
        reader.value("iscrowd"),
    )


def _read_category(reader: _RecordReader) -> CocoCategory:
    return CocoCategory(reader.required_id("id"), reader.name("name"), reader.value("supercategory"))


def _as_float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _has_surrogates(text: str) -> bool:
    """Tell whether text from JSON escapes holds half a character: no UTF-8, so no file's name either."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _found(content: dict[str, Any]) -> str:
    """Say what else a file is, as far as its keys tell."""
    keys = [shortened(key) for key in content]
    more = f" and {len(keys) - _SHOWN_KEYS} more" if len(keys) > _SHOWN_KEYS else ""
    found = f"its keys are {', '.join(keys[:_SHOWN_KEYS])}{more}" if keys else "it is empty"
    return f"{found}, as in an SA-1B file of one image" if "image" in content and "annotations" in content else found
