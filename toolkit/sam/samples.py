"""Samples of SAM training data as arrays: an image with a box, a class and a mask for each instance."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

from toolkit.annotations.problems import SHOWN_PROBLEMS, raise_problems
from toolkit.annotations.yolo import YoloBox, boxes_to_xyxy, parse_labels
from toolkit.core.errors import MvtkError
from toolkit.core.files import read_bytes
from toolkit.images import ImageError, load_image, load_mask, read_size
from toolkit.sam.layout import BOXES, HINT, MASKS, SamLayout, SampleFiles

# What problems are counted under.
UNREADABLE: Final = "unreadable file"
COUNT_MISMATCH: Final = "masks and boxes differ in number"
BAD_BOX: Final = "bad box"
WRONG_SIZE: Final = "mask of another size"
NOT_BINARY: Final = "mask is not binary"
EMPTY_MASK: Final = "empty mask"

_INSIDE: Final = 255


@dataclass(frozen=True, slots=True, eq=False)
class SamInstances:
    """The instances of one image.

    Attributes:
        id: the sample's id.
        boxes_xyxy: (N, 4) float32: left, top, right, bottom in pixels of the image, right and bottom exclusive, clipped
            to the image.
        masks_nhw: (N, H, W) bool, H and W being the image's.
        class_ids: (N,) int64.
    """

    id: str
    boxes_xyxy: NDArray[np.float32]
    masks_nhw: NDArray[np.bool_]
    class_ids: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class SamSample:
    """An image with its instances.

    Attributes:
        id: the sample's id.
        image_hwc: (H, W, 3) uint8 RGB.
        boxes_xyxy: see :class:`SamInstances`.
        masks_nhw: see :class:`SamInstances`.
        class_ids: see :class:`SamInstances`.
    """

    id: str
    image_hwc: NDArray[np.uint8]
    boxes_xyxy: NDArray[np.float32]
    masks_nhw: NDArray[np.bool_]
    class_ids: NDArray[np.int64]


class BoxRows(NamedTuple):
    """The content of a box file.

    Attributes:
        boxes_xyxy: the boxes without a problem, (N, 4) float32 as in :class:`SamInstances`.
        class_ids: their classes, (N,) int64.
        row_count: how many rows the file has, those with problems included.
    """

    boxes_xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    row_count: int


class SampleProblem(NamedTuple):
    """One thing that is wrong in the files of a sample.

    Attributes:
        kind: the category under which it is counted.
        text: the file, relative to the dataset, and what is wrong in it.
    """

    kind: str
    text: str


def load_sample(files: SampleFiles, class_count: int | None = None) -> SamSample:
    """Read one sample.

    Grey images become three equal channels and 16-bit ones are scaled to 8 bits; EXIF orientation is not applied.

    Args:
        files: its files.
        class_count: how many classes there are; None: any class will do.

    Raises:
        InputProblemsError: all that is wrong with it; the line names the sample.
    """
    try:
        image_hwc = load_image(files.image, to_8bit=True).pixels
    except ImageError as error:
        raise MvtkError(f"sample {files.id}: {error.message}", error.hint or HINT) from error
    height, width = image_hwc.shape[:2]
    instances = _load_instances(files, (height, width), class_count)
    return SamSample(files.id, image_hwc, instances.boxes_xyxy, instances.masks_nhw, instances.class_ids)


def load_instances(files: SampleFiles, class_count: int | None = None) -> SamInstances:
    """Read a sample without its image, of which only the header is looked at.

    Args:
        files: its files.
        class_count: how many classes there are; None: any class will do.

    Raises:
        InputProblemsError: all that is wrong with it; the line names the sample.
    """
    try:
        size_hw = read_size(files.image)
    except ImageError as error:
        raise MvtkError(f"sample {files.id}: {error.message}", error.hint or HINT) from error
    return _load_instances(files, size_hw, class_count)


class SamSamples(Sequence[SamSample]):
    """The samples of a dataset, each read when it is asked for; none is kept.

    Args:
        layout: the dataset.
        ids: which samples, in which order; None: all of them.

    Raises:
        MvtkError: an id is none of the dataset's.
    """

    def __init__(self, layout: SamLayout, ids: Iterable[str] | None = None) -> None:
        self.layout = layout
        by_id = {files.id: files for files in layout.samples}
        chosen = list(by_id if ids is None else ids)
        unknown = [sample_id for sample_id in chosen if sample_id not in by_id]
        raise_problems(str(layout.root), [f"no sample {sample_id!r} in it" for sample_id in unknown], HINT)
        self._files = [by_id[sample_id] for sample_id in chosen]

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids, in order."""
        return tuple(files.id for files in self._files)

    def files(self, index: SupportsIndex) -> SampleFiles:
        """Return the files of one sample."""
        return self._files[index]

    def instances(self, index: SupportsIndex) -> SamInstances:
        """Return one sample without its image; see :func:`load_instances`."""
        return load_instances(self._files[index], self.layout.class_count)

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, index: SupportsIndex) -> SamSample: ...
    @overload
    def __getitem__(self, index: slice) -> SamSamples: ...
    def __getitem__(self, index: SupportsIndex | slice) -> SamSample | SamSamples:
        """Return one sample (see :func:`load_sample`), or those of a slice, still unread."""
        if isinstance(index, slice):
            return SamSamples(self.layout, (files.id for files in self._files[index]))
        return load_sample(self._files[operator.index(index)], self.layout.class_count)

    def __iter__(self) -> Iterator[SamSample]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"SamSamples({str(self.layout.root)!r}, {len(self)} samples)"


def read_boxes(
    files: SampleFiles, class_count: int | None, size_hw: tuple[int, int], problems: list[SampleProblem]
) -> BoxRows:
    """Read a sample's boxes; a missing file has none where there are no masks either.

    Unlike for :func:`toolkit.annotations.yolo.parse_labels`, equal rows are no problem: two instances may well have the
    same bounding box.

    Args:
        files: the sample's files.
        class_count: how many classes there are; None: any class will do.
        size_hw: the image's height and width in pixels.
        problems: what is wrong is added to it, also where the file has not one row a mask.
    """
    try:
        content = read_bytes(files.boxes) if files.mask_names or files.boxes.exists() else b""
    except MvtkError as error:
        problems.append(SampleProblem(UNREADABLE, error.message))
        return _box_rows([], size_hw, 0)
    name = f"{BOXES}/{files.boxes.name}"
    lines = [(number, line) for number, line in enumerate(content.splitlines(), start=1) if line.strip()]
    boxes: list[YoloBox] = []
    faults: list[str] = []
    for number, line in lines:
        row = parse_labels(line, class_count=class_count)
        texts = [problem.text for problem in row.problems]
        texts += ["a polygon, where a box is needed" for _ in row.polygons]
        texts += ["the box lies outside the image" for box in row.boxes if _is_outside(box)]
        faults += [f"{name}:{number}: {text}" for text in texts]
        boxes += row.boxes
    more = len(faults) - SHOWN_PROBLEMS
    shown = faults[:SHOWN_PROBLEMS] + ([f"{name}: and {more} more problems"] if more > 0 else [])
    problems += [SampleProblem(BAD_BOX, fault) for fault in shown]
    if len(lines) != len(files.mask_names):
        text = f"{len(files.mask_names)} masks and {len(lines)} boxes: each mask needs one box"
        problems.append(SampleProblem(COUNT_MISMATCH, text))
    return _box_rows(boxes, size_hw, len(lines))


def read_masks(
    files: SampleFiles, size_hw: tuple[int, int], problems: list[SampleProblem], warnings: list[str]
) -> list[NDArray[np.bool_]]:
    """Read a sample's masks.

    A mask has two values, of which the higher one is the instance, or the instance all over.

    Args:
        files: the sample's files.
        size_hw: the image's height and width in pixels.
        problems: what is wrong is added to it.
        warnings: what is odd about how they were read is added to it.

    Returns:
        a mask a file, HxW bool; one that is unusable is empty.
    """
    masks = []
    for path in files.masks:
        mask_hw = np.zeros(size_hw, np.bool_)
        try:
            decoded = load_mask(path)
        except ImageError as error:
            problems.append(SampleProblem(UNREADABLE, error.message))
        else:
            warnings += decoded.warnings
            problem = _mask_problem(decoded.pixels, size_hw)
            if problem is None:
                mask_hw = decoded.pixels > 0
            else:
                kind, text = problem
                problems.append(SampleProblem(kind, f"{MASKS}/{path.name}: {text}"))
        masks.append(mask_hw)
    return masks


def _load_instances(files: SampleFiles, size_hw: tuple[int, int], class_count: int | None) -> SamInstances:
    problems: list[SampleProblem] = []
    rows = read_boxes(files, class_count, size_hw, problems)
    masks = read_masks(files, size_hw, problems, [])
    raise_problems(f"sample {files.id}", [problem.text for problem in problems], HINT)
    masks_nhw = np.stack(masks) if masks else np.zeros((0, *size_hw), np.bool_)
    return SamInstances(files.id, rows.boxes_xyxy, masks_nhw, rows.class_ids)


def _box_rows(boxes: Sequence[YoloBox], size_hw: tuple[int, int], row_count: int) -> BoxRows:
    height, width = size_hw
    boxes_xyxy = boxes_to_xyxy(boxes, width, height).clip(0, np.array((width, height, width, height), np.float32))
    return BoxRows(boxes_xyxy, np.array([box.class_id for box in boxes], np.int64), row_count)


def _is_outside(box: YoloBox) -> bool:
    """Tell whether nothing of a box is in the image."""
    left, top = box.x_center - box.width / 2, box.y_center - box.height / 2
    return left >= 1 or top >= 1 or left + box.width <= 0 or top + box.height <= 0


def _mask_problem(values_hw: NDArray[Any], size_hw: tuple[int, int]) -> tuple[str, str] | None:
    """Return kind and text of what is wrong with a mask, read by :func:`load_mask`."""
    if values_hw.shape != size_hw:
        height, width = values_hw.shape
        return WRONG_SIZE, f"{width} x {height} pixels (width x height), and the image has {size_hw[1]} x {size_hw[0]}"
    if not values_hw.any():
        return EMPTY_MASK, "the mask is empty"
    # As load_mask gives it, a mask of two values has 0 and 255.
    if np.count_nonzero(values_hw) != np.count_nonzero(values_hw == _INSIDE):
        return NOT_BINARY, f"{len(np.unique(values_hw))} different values, and a mask has two"
    return None
