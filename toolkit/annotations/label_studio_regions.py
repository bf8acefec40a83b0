"""The regions of one Label Studio annotation: brush masks, polygons, rectangles and ellipses, as masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from reprlib import repr as shortened
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta, Raw, Struct
from numpy.typing import NDArray

from toolkit.annotations.brush_rle import decode_brush_rle
from toolkit.annotations.label_studio import KIND_OF_TYPE, RegionKind
from toolkit.annotations.rle import parse_segmentations
from toolkit.core.errors import InputProblemsError, MvtkError

ALPHA_THRESHOLD: Final = 128
"""From which alpha on, of 0 to 255, a brush mask's pixel is inside: those at least half covered."""

_MIN_POINTS: Final = 3
_ELLIPSE_POINTS: Final = 256
"""Its corners lie less than 0.01 % of a radius off the outline."""
_LABELS: Final = "labels"


class _Value(Struct, gc=False, frozen=True):
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0
    rotation: float | None = 0.0
    radius_x: float = msgspec.field(default=0.0, name="radiusX")
    radius_y: float = msgspec.field(default=0.0, name="radiusY")
    points: list[tuple[float, float]] = msgspec.field(default_factory=list)
    format: str = "rle"
    rle: list[Annotated[int, Meta(ge=0, le=255)]] = msgspec.field(default_factory=list)


class _Labels(Struct, gc=False, frozen=True):
    labels: list[str] | None = None
    brush: list[str] | None = msgspec.field(default=None, name="brushlabels")
    polygon: list[str] | None = msgspec.field(default=None, name="polygonlabels")
    rectangle: list[str] | None = msgspec.field(default=None, name="rectanglelabels")
    ellipse: list[str] | None = msgspec.field(default=None, name="ellipselabels")

    def all(self) -> tuple[str, ...]:
        """All labels that are given."""
        return tuple(
            label
            for found in (self.labels, self.brush, self.polygon, self.rectangle, self.ellipse)
            for label in found or ()
        )


class _Result(Struct, gc=False, frozen=True):
    type: str = ""
    id: str | None = None
    to_name: str = ""
    original_width: int | None = None
    original_height: int | None = None
    image_rotation: float | None = None
    value: Raw = Raw(b"{}")


@dataclass(frozen=True, slots=True)
class Region:
    """One region that has a shape.

    Attributes:
        name: which one it is, for errors: ``"result[2] (id AbC)"``.
        kind: what it was drawn as.
        labels: its labels, in the order of the file; it may have none.
        to_name: the name of the image in the labelling interface.
        size_hw: height and width in pixels of the image that it was drawn in; None where the file does not say.
    """

    name: str
    kind: RegionKind
    labels: tuple[str, ...]
    to_name: str
    size_hw: tuple[int, int] | None
    _value: _Value

    def mask_hw(self, height: int, width: int, *, alpha_threshold: int = ALPHA_THRESHOLD) -> NDArray[np.bool_]:
        """Return the pixels inside.

        A polygon's, rectangle's or ellipse's are those that pycocotools finds in a polygon; what lies outside of the
        image is cut off.

        Args:
            height: of the image, in pixels.
            width: of the image, in pixels.
            alpha_threshold: a brush mask's pixel is inside from this alpha on, 1 to 255.

        Returns:
            (height, width) bool; without a pixel for a region without an area.

        Raises:
            MvtkError: it was drawn in an image of another size, or its shape cannot be read; the line names it.
        """
        if self.size_hw is not None and self.size_hw != (height, width):
            drawn = "x".join(map(str, self.size_hw))
            raise MvtkError(
                f"{self.name} was drawn in an image of {drawn}, and this one has {height}x{width} (height x width)",
                "it is another image, or a resized one, or one that EXIF data turn",
            )
        try:
            if self.kind == "brush":
                return self._brush_hw(height, width, alpha_threshold)
            return _filled_hw(self._corners_xy(height, width), height, width)
        except InputProblemsError as error:
            raise MvtkError(f"{self.name}: {error.problems[0]}") from error
        except MvtkError as error:
            raise MvtkError(f"{self.name}: {error.message}", error.hint) from error

    def _brush_hw(self, height: int, width: int, alpha_threshold: int) -> NDArray[np.bool_]:
        if self._value.format != "rle":
            raise MvtkError(f"a brush mask in the format {shortened(self._value.format)}, not rle")
        if not self._value.rle:
            return np.zeros((height, width), np.bool_)
        alpha_hw = decode_brush_rle(bytes(self._value.rle), height, width)
        return np.greater_equal(alpha_hw, alpha_threshold)

    def _corners_xy(self, height: int, width: int) -> NDArray[np.float64]:
        """Return the outline's corners in pixels: (n, 2), x to the right and y down."""
        value = self._value
        if self.kind == "polygon":
            return _pixels(value.points, height, width)
        center_xy = _pixels([(value.x, value.y)], height, width)
        if self.kind == "rectangle":
            offsets = [(0.0, 0.0), (value.width, 0.0), (value.width, value.height), (0.0, value.height)]
            offsets_xy = _pixels(offsets, height, width)
        else:
            angles = np.linspace(0, 2 * math.pi, _ELLIPSE_POINTS, endpoint=False)
            unit_xy = np.column_stack((np.cos(angles), np.sin(angles)))
            offsets_xy = unit_xy * _pixels([(value.radius_x, value.radius_y)], height, width)
        return center_xy + _turned(offsets_xy, value.rotation or 0.0)


@dataclass(frozen=True, slots=True)
class Regions:
    """What an annotation's results hold.

    Attributes:
        regions: those with a shape of the wanted kinds, in the order of the file.
        left_out: for each result that may have been meant as an object and is none of them, its type, such as
            ``"keypointlabels"``.
    """

    regions: tuple[Region, ...]
    left_out: tuple[str, ...]


def parse_regions(results: bytes, kinds: Sequence[RegionKind]) -> Regions:
    """Read the regions of one annotation.

    A region is one result, with its labels; or several of one id, of which one has the shape and another the labels
    (where the labelling interface has both as tags of their own).

    Args:
        results: the list of results as JSON.
        kinds: which kinds of regions are wanted.

    Raises:
        InputProblemsError: everything that is wrong with them.
        MvtkError: they are no list of results.
    """
    try:
        records = msgspec.json.decode(results, type=list[_Result])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MvtkError(f"the results cannot be read: {error}") from error
    problems: list[str] = []
    labels_of = _labels_by_id(records)
    regions: list[Region] = []
    for index, record in enumerate(records):
        name = f"result[{index}]" if record.id is None else f"result[{index}] (id {shortened(record.id)})"
        kind = KIND_OF_TYPE.get(record.type)
        if kind is not None and kind in kinds:
            region = _region(name, kind, record, labels_of.get(record.id or "", ()), problems)
            if region is not None:
                regions.append(region)
    if problems:
        raise InputProblemsError("the annotation cannot be used", problems)
    return Regions(tuple(regions), tuple(record.type for record in records if _is_left_out(record, kinds)))


def _labels_by_id(records: Sequence[_Result]) -> dict[str, tuple[str, ...]]:
    """Return the labels that stand in results of their own, by the id of their region."""
    found = ((record.id, record.value) for record in records if record.type == _LABELS and record.id)
    return {region_id: _labels(value) for region_id, value in found}


def _labels(value: Raw) -> tuple[str, ...]:
    try:
        return msgspec.json.decode(value, type=_Labels).all()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ()


def _region(
    name: str, kind: RegionKind, record: _Result, labels: tuple[str, ...], problems: list[str]
) -> Region | None:
    """Return a region, or None with what is wrong with it added to ``problems``."""
    if record.image_rotation:
        problems.append(f"{name}: the image was turned by {record.image_rotation:g} degrees in Label Studio")
        return None
    try:
        value = msgspec.json.decode(record.value, type=_Value)
        own_labels = msgspec.json.decode(record.value, type=_Labels).all()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        problems.append(f"{name}: {error} of its value")
        return None
    size_hw = None
    if record.original_height is not None and record.original_width is not None:
        size_hw = record.original_height, record.original_width
    return Region(name, kind, own_labels or labels, record.to_name, size_hw, value)


def _is_left_out(record: _Result, kinds: Sequence[RegionKind]) -> bool:
    if record.type in KIND_OF_TYPE:
        return KIND_OF_TYPE[record.type] not in kinds
    return record.type.endswith(_LABELS) and record.type != _LABELS


def _pixels(points: Sequence[tuple[float, float]], height: int, width: int) -> NDArray[np.float64]:
    """Return percentages of width and height as pixels: (n, 2)."""
    percent_xy: NDArray[np.float64] = np.array(points, np.float64).reshape(-1, 2)
    percent_xy *= np.array((width, height)) / 100
    return percent_xy


def _turned(offsets_xy: NDArray[np.float64], rotation_deg: float) -> NDArray[np.float64]:
    """Return offsets turned clockwise, as they look with y down."""
    cosine, sine = math.cos(math.radians(rotation_deg)), math.sin(math.radians(rotation_deg))
    turned_xy: NDArray[np.float64] = offsets_xy @ np.array([[cosine, sine], [-sine, cosine]])
    return turned_xy


def _filled_hw(corners_xy: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    if len(corners_xy) < _MIN_POINTS:
        return np.zeros((height, width), np.bool_)
    segmentation: Any = [corners_xy.reshape(-1).tolist()]
    return parse_segmentations([segmentation], height, width).mask_hw(0).astype(np.bool_)
