"""Segmentations of COCO and SA-1B annotations, read as run lengths.

A mask's pixels, taken column by column from the upper left corner, are runs of zeros and ones in turn, zeros first;
the runs' lengths are its *counts*. A file has them as a list of numbers or as text, or has polygons instead. The text
holds numbers of 5 bits a character, from ``"0"`` on, lowest bits first; a sixth bit says that the number goes on, and
the highest of the 5 bits of its last character is its sign. From the fourth on, a number is the difference to the count
two before.

The reference is ``common/maskApi.c`` of https://github.com/cocodataset/cocoapi (``rleFrString``, ``rleFrPoly``). It
checks nothing: counts that do not fill the image make it show uninitialised memory. Here they are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from reprlib import repr as shortened

import numpy as np
from numpy.typing import NDArray

from toolkit.core.errors import InputProblemsError, MvtkError

MAX_MASK_PIXELS = 2**29 - 1
"""The largest height times width: a number of six characters, the most that the reference decodes without overflow, has
30 bits, one of them the sign."""

_MAX_CHARACTERS = 6
_MAX_COORDINATE_PX = 1_000_000
_MAX_OUTLINE_PX = 4_000_000
"""How long the outlines of an image's polygons may be in all: a pixel costs the reference 80 bytes and some 30 ns."""

_MIN_POLYGON_NUMBERS = 6
_GOES_ON, _ENDS, _FOREIGN = b"+.!"
_KIND_OF_CHARACTER = bytes(
    _ENDS if ord("0") <= code < ord("P") else _GOES_ON if ord("P") <= code <= ord("o") else _FOREIGN
    for code in range(256)
)

_SIGNED_DIGIT = np.concatenate((np.arange(16), np.arange(-16, 0))).astype(np.int64)
"""What the last character of a number stands for, by its 5 bits."""


@dataclass(frozen=True, slots=True, eq=False)
class RunLengths:
    """The masks of one image as run lengths, pixels taken column by column (COCO's order).

    A mask's counts are the lengths of its runs of zeros and ones in turn, zeros first; they sum to ``height * width``.
    Only the first may be 0: the mask then begins with ones. An empty mask is ``[height * width]``, a full one
    ``[0, height * width]``.

    Attributes:
        height: of the image, in pixels.
        width: of the image, in pixels.
        counts: all masks' counts, one mask after the other.
        first: (masks + 1,); mask ``i`` has ``counts[first[i]:first[i + 1]]``.
    """

    height: int
    width: int
    counts: NDArray[np.int64]
    first: NDArray[np.int64]

    def __len__(self) -> int:
        """The number of masks."""
        return len(self.first) - 1

    def mask_hw(self, index: int) -> NDArray[np.uint8]:
        """Return mask ``index`` as pixels: (height, width) uint8, 1 inside, in column-major memory order."""
        counts = self.counts[self.first[index] : self.first[index + 1]]
        values = np.arange(len(counts), dtype=np.uint8) & 1
        return np.repeat(values, counts).reshape(self.width, self.height).T


def parse_segmentations(
    segmentations: Sequence[object],
    height: int,
    width: int,
    *,
    name_of: Callable[[int], str] = "annotations[{}]".format,
) -> RunLengths:
    """Read the ``segmentation`` values of one image's annotations, in any mixture of these forms.

    * ``{"size": [height, width], "counts": "text"}``, SA-1B's form; bytes are read as well.
    * ``{"size": [height, width], "counts": [12, 3, …]}``, COCO's crowd regions.
    * ``[[x1, y1, x2, y2, x3, y3, …], …]``, polygons in pixels, x to the right and y down: their union, rasterised as
      pycocotools does.
    * ``[]``, an annotation that has a box only: an empty mask.

    Runs of length 0 that are not the first are removed and their neighbours joined.

    Args:
        segmentations: the values, as ``json`` gives them.
        height: of the image, in pixels.
        width: of the image, in pixels; height times width is between 1 and `MAX_MASK_PIXELS`.
        name_of: names the annotation of a segmentation's index in errors.

    Returns:
        one mask a segmentation, in their order.

    Raises:
        InputProblemsError: every segmentation that is wrong, with the first thing that is wrong with it.
    """
    pixels = height * width
    if not 0 < pixels <= MAX_MASK_PIXELS or height < 0:
        raise ValueError(f"no masks of {height} x {width} pixels")
    reader = _SegmentationReader(height, width)
    readable: dict[int, bytes | NDArray[np.int64]] = {}
    problems: dict[int, str] = {}
    for index, segmentation in enumerate(segmentations):
        try:
            readable[index] = reader.read(segmentation)
        except MvtkError as error:
            problems[index] = error.message
    counts, first = _decode(list(readable.values()))
    places = list(readable)
    problems |= {places[mask]: fault for mask, fault in _count_faults(counts, first, pixels)}
    if problems:
        lines = [f"{name_of(index)}: {problems[index]}" for index in sorted(problems)]
        raise InputProblemsError("the segmentations cannot be read", lines)
    return RunLengths(height, width, *_without_empty_runs(counts, first))


def parse_compressed_counts(texts: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Decode the texts of several masks together.

    Args:
        texts: well-formed, one a mask: characters from ``"0"`` to ``"o"``, numbers that end, of up to six characters.

    Returns:
        all masks' counts, unchecked, and where those of each mask begin; see `RunLengths`.
    """
    digits = np.frombuffer(b"".join(texts), np.uint8) - np.uint8(ord("0"))
    goes_on = digits >= 32
    last = np.flatnonzero(~goes_on)
    numbers = _SIGNED_DIGIT[digits[last]]
    # From each number's last character back to its first; few numbers have more than one. The character before the
    # text is its last one, by Python's index -1, and ends a number too.
    back = 1
    unfinished = np.flatnonzero(goes_on[last - back])
    while unfinished.size:
        numbers[unfinished] = numbers[unfinished] * 32 + (digits[last[unfinished] - back] & 31)
        back += 1
        unfinished = unfinished[goes_on[last[unfinished] - back]]
    first = _starts(np.searchsorted(last, np.cumsum([len(text) for text in texts], dtype=np.int64)))
    for start, stop in pairwise(first.tolist()):
        for every_second in (numbers[start + 1 : stop : 2], numbers[start + 2 : stop : 2]):
            np.add.accumulate(every_second, out=every_second)
    return numbers, first


def whole_number(value: object) -> int | None:
    """Return a JSON value as an int where it is a whole number (``848.0`` is: SA-V writes sizes so), else None."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


class _SegmentationReader:
    """Turns the segmentations of one image into well-formed texts, or counts from 0 to the number of pixels."""

    def __init__(self, height: int, width: int) -> None:
        self._height = height
        self._width = width
        self._outline_px = 0.0

    def read(self, segmentation: object) -> bytes | NDArray[np.int64]:
        """Return the text or the counts of a mask.

        Raises:
            MvtkError: the segmentation is wrong; what about it, without the annotation's name.
        """
        if isinstance(segmentation, dict):
            return self._read_rle(segmentation)
        if not isinstance(segmentation, list):
            raise MvtkError(
                f"the segmentation is {shortened(segmentation)}, neither an RLE object nor a list of polygons"
            )
        if not segmentation:
            return np.array([self._height * self._width], dtype=np.int64)
        return self._read_polygons(segmentation)

    def _read_rle(self, rle: dict[str, object]) -> bytes | NDArray[np.int64]:
        self._check_size(rle.get("size"))
        counts = rle.get("counts")
        if isinstance(counts, str):
            # Whatever is not ASCII becomes bytes that are not run lengths either.
            counts = counts.encode("utf-8", "surrogatepass")
        if isinstance(counts, bytes):
            return _well_formed(counts)
        if isinstance(counts, list):
            return self._read_counts(counts)
        raise MvtkError(f"the RLE's counts are {shortened(counts)}, neither text nor a list")

    def _check_size(self, size: object) -> None:
        sides = [whole_number(side) for side in size] if isinstance(size, list) else []
        if len(sides) != 2 or None in sides:
            raise MvtkError(f"the RLE's size is {shortened(size)}, not [height, width]")
        if sides != [self._height, self._width]:
            rle_size = "x".join(map(shortened, sides))
            raise MvtkError(f"RLE size {rle_size} contradicts the image, {self._height}x{self._width} (height x width)")

    def _read_counts(self, counts: list[object]) -> NDArray[np.int64]:
        pixels = self._height * self._width
        numbers = [whole_number(count) for count in counts]
        for place, number in enumerate(numbers):
            if number is None or not 0 <= number <= pixels:
                raise MvtkError(f"counts[{place}] is {shortened(counts[place])}, not a whole number from 0 to {pixels}")
        return np.array(numbers, dtype=np.int64)

    def _read_polygons(self, polygons: list[object]) -> bytes:
        from pycocotools import mask as coco_mask  # needed for polygons alone

        for polygon in polygons:
            self._outline_px += _outline_length_px(_checked_polygon(polygon))
        if self._outline_px > _MAX_OUTLINE_PX:
            raise MvtkError(f"the image's polygons have outlines of more than {_MAX_OUTLINE_PX} pixels in all")
        parts = coco_mask.frPyObjects(polygons, self._height, self._width)
        # In pairs: the time to merge all at once grows with the square of their number.
        while len(parts) > 1:
            parts = [coco_mask.merge(parts[place : place + 2]) for place in range(0, len(parts), 2)]
        counts: bytes = parts[0]["counts"]
        return counts


def _well_formed(text: bytes) -> bytes:
    """Return ``text``, whose characters make whole numbers that cannot overflow."""
    kinds = text.translate(_KIND_OF_CHARACTER)
    foreign = kinds.find(_FOREIGN)
    if foreign >= 0:
        raise MvtkError(f"character {foreign} of the counts is 0x{text[foreign]:02x}, not one from '0' to 'o'")
    long = kinds.find(bytes([_GOES_ON]) * _MAX_CHARACTERS)
    if long >= 0:
        raise MvtkError(f"the number at character {long} of the counts has more than {_MAX_CHARACTERS} characters")
    if kinds and kinds[-1] == _GOES_ON:
        raise MvtkError("the last number of the counts does not end: the text is cut short")
    return text


def _checked_polygon(polygon: object) -> list[float]:
    """Return ``polygon``, a list x1, y1, x2, y2, … of at least three points whose numbers the reference can hold."""
    if not isinstance(polygon, list):
        raise MvtkError(f"a polygon is {shortened(polygon)}, not a list of numbers x1, y1, x2, y2, …")
    for number in polygon:
        # NaN compares as false.
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) <= _MAX_COORDINATE_PX:
            raise MvtkError(
                f"a polygon has the coordinate {shortened(number)}, not one within ±{_MAX_COORDINATE_PX} px"
            )
    if len(polygon) < _MIN_POLYGON_NUMBERS or len(polygon) % 2:
        raise MvtkError(f"a polygon has {len(polygon)} numbers, not an x and a y for each of at least 3 points")
    return polygon


def _outline_length_px(polygon: list[float]) -> float:
    """Return the number of pixels that the reference visits along a closed polygon."""
    points_xy = np.array(polygon, dtype=np.float64).reshape(-1, 2)
    steps_xy = np.abs(points_xy - np.roll(points_xy, 1, axis=0))
    return float(steps_xy.max(axis=1).sum()) + len(points_xy)


def _decode(masks: Sequence[bytes | NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the counts of texts and of masks whose counts are known, in their order, and where each begins."""
    texts = [mask for mask in masks if isinstance(mask, bytes)]
    counts, first = parse_compressed_counts(texts)
    if len(texts) == len(masks):
        return counts, first
    decoded = iter(np.split(counts, first[1:-1]))
    return _joined([next(decoded) if isinstance(mask, bytes) else mask for mask in masks])


def _count_faults(counts: NDArray[np.int64], first: NDArray[np.int64], pixels: int) -> Iterator[tuple[int, str]]:
    """Yield the masks whose counts cannot be those of ``pixels`` pixels, and what is wrong with each."""
    # Read as unsigned, a negative count is larger than any image.
    (outside,) = np.nonzero(counts.view(np.uint64) > pixels)
    faulty, places = np.unique(np.searchsorted(first, outside, side="right") - 1, return_index=True)
    for mask, place in zip(faulty.tolist(), outside[places].tolist(), strict=True):
        yield mask, f"counts[{place - first[mask]}] is {counts[place]}, not a whole number from 0 to {pixels}"
    sums = np.zeros(len(first) - 1, dtype=np.int64)
    filled = np.flatnonzero(np.diff(first))
    sums[filled] = np.add.reduceat(counts, first[filled])
    for mask in np.setdiff1d(np.flatnonzero(sums != pixels), faulty).tolist():
        yield mask, f"the counts sum to {sums[mask]}, the image has {pixels} pixels"


def _without_empty_runs(
    counts: NDArray[np.int64], first: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the same masks without runs of length 0 that are not a mask's first."""
    empty = counts == 0
    empty[first[:-1]] = False
    if not empty.any():
        return counts, first
    return _joined([_counts_between_changes(mask) for mask in np.split(counts, first[1:-1])])


def _counts_between_changes(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the counts of the same mask with runs that end where pixels change: where an odd number of runs ends."""
    ends = np.cumsum(counts)
    pixels = ends[-1]
    places, times = np.unique(ends[ends < pixels], return_counts=True)
    changes: NDArray[np.int64] = places[times % 2 == 1]
    return np.diff(changes, prepend=0, append=pixels)


def _joined(masks: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.concatenate(masks), _starts(np.cumsum([len(mask) for mask in masks]))


def _starts(ends: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate((np.zeros(1, dtype=np.int64), ends))
