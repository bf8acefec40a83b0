"""One split of a dataset, looked at before training: every image's size and labels, and everything that is wrong.

Only headers of images are read. Nothing is written: Ultralytics' own scan keeps a pickled ``.cache`` beside the labels
and rewrites JPEG files whose end it does not like.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from toolkit.annotations.problems import raise_problems
from toolkit.annotations.yolo import ParsedLabels, YoloBox, load_labels
from toolkit.core.errors import MvtkError
from toolkit.images import read_size
from toolkit.npz.errors import NpzError, PickledMemberError
from toolkit.npz.npy_header import ArrayHeader
from toolkit.npz.reading import NpzReader, open_npz
from toolkit.yolo.source import Kind, YoloSource, label_path_of

_KEY_PAIRS: Final = (("image", "mask"), ("arr_0", "arr_1"))
_IMAGE_CHANNELS: Final = (1, 3)
_JPEG_SUFFIXES: Final = (".jpg", ".jpeg")
_JPEG_END: Final = b"\xff\xd9"
_TAIL_BYTES: Final = 4096
"""Cameras and editors put something behind a JPEG's end marker, rarely as much as this."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImage:
    """One image and its objects.

    Attributes:
        path: the image or NPZ file, absolute.
        size_hw: height and width in pixels, upright.
        class_ids: (N,) float32.
        boxes_cxcywh: (N, 4) float32: centre, width and height as fractions of the image's.
        outlines_xy: an outline an object, (K, 2) float32 in fractions; none where the labels are boxes.
    """

    path: str
    size_hw: tuple[int, int]
    class_ids: NDArray[np.float32]
    boxes_cxcywh: NDArray[np.float32]
    outlines_xy: tuple[NDArray[np.float32], ...]


@dataclass(frozen=True, slots=True, eq=False)
class ScannedSplit:
    """All images of a split.

    Attributes:
        images: in the order of their paths, those with a problem left out.
        without_labels: how many have no label file, which makes them backgrounds.
        empty: how many have an empty one, which says the same.
        left_out: label rows that say nothing: repeats of another row, boxes without an area or beyond the image.
        problems: a line each.
    """

    images: tuple[LabelledImage, ...]
    without_labels: int
    empty: int
    left_out: int
    problems: tuple[str, ...]

    @property
    def objects(self) -> int:
        """How many objects the images have together."""
        return sum(len(image.class_ids) for image in self.images)

    def remarks(self, split: str) -> Iterator[str]:
        """Yield what a person should know of it, a line each."""
        if self.without_labels:
            yield (
                f"{split}: {self.without_labels:,} of {len(self.images):,} images have no label file: "
                "they count as backgrounds"
            )
        if self.left_out:
            yield (
                f"{split}: {self.left_out:,} label rows are left out: they repeat another row, have no area, "
                "or reach beyond the image"
            )


@functools.lru_cache(maxsize=8)
def scan_split(images: tuple[str, ...], class_count: int, kind: Kind) -> ScannedSplit:
    """Look at the images of a split and at their labels; the result is kept, as training asks for it again.

    Args:
        images: absolute paths.
        class_count: class ids from there on are a problem.
        kind: whether the files are pairs or plain images.
    """
    scanned: list[LabelledImage] = []
    problems: list[str] = []
    without_labels = empty = left_out = 0
    for path in images:
        label_path = Path(label_path_of(path))
        try:
            size_hw = _pair_size(path) if kind == "pairs" else _image_size(path)
            labels = load_labels(label_path, class_count=class_count) if label_path.exists() else None
        except MvtkError as error:
            problems.append(str(error))
            continue
        wrong = [problem for problem in labels.problems if problem.effect == "refused"] if labels else []
        if wrong:
            problems.extend(f"{label_path}:{problem.line}: {problem.text}" for problem in wrong)
            continue
        without_labels += labels is None
        labels = labels or ParsedLabels([], [], ())
        empty += not labels.boxes and not labels.polygons
        left_out += len(labels.problems)
        scanned.append(_labelled(path, size_hw, labels))
    return ScannedSplit(tuple(scanned), without_labels, empty - without_labels, left_out, tuple(problems))


def _labelled(path: str, size_hw: tuple[int, int], labels: ParsedLabels) -> LabelledImage:
    rows: Sequence[YoloBox] = labels.boxes or [polygon.bounding_box() for polygon in labels.polygons]
    table = np.array(rows, np.float32).reshape(-1, 5)
    outlines = tuple(np.array(polygon.points_xy, np.float32) for polygon in labels.polygons)
    return LabelledImage(path, size_hw, table[:, 0], table[:, 1:], outlines)


def _image_size(path: str) -> tuple[int, int]:
    """Return an image's height and width as OpenCV decodes it, JPEGs upright.

    Raises:
        MvtkError: it cannot be read, is no image, or is a JPEG that is cut short.
    """
    if not path.lower().endswith(_JPEG_SUFFIXES):
        return read_size(path)
    size_hw = read_size(path, exif="apply")
    with open(path, "rb") as stream:  # noqa: PTH123 - a million
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL_BYTES))
        if _JPEG_END not in stream.read():
            raise MvtkError(f"{path}: the JPEG file is cut short", "copy it again")
    return size_hw


def _pair_size(path: str) -> tuple[int, int]:
    """Return the height and width of a pair by the headers of its arrays.

    Raises:
        MvtkError: it is damaged, or its arrays are no image of one or three channels with a mask of its size.
    """
    with open_npz(path) as npz:
        image_key, mask_key = next((keys for keys in _KEY_PAIRS if keys[0] in npz.members), _KEY_PAIRS[0])
        image, mask = _header(npz, image_key), _header(npz, mask_key)
    mask_hw = mask.shape[:2]
    if mask.shape[2:] not in ((), (1,)) or 0 in mask_hw or len(mask_hw) != 2:
        raise NpzError(npz.path, f"member '{mask_key}' has shape {mask.shape}, not (H, W) or (H, W, 1)")
    channels_last = image.shape[:2] == mask_hw and image.shape[2:] in ((), *((count,) for count in _IMAGE_CHANNELS))
    channels_first = len(image.shape) == 3 and image.shape[1:] == mask_hw and image.shape[0] in _IMAGE_CHANNELS
    if not (channels_last or channels_first):
        raise NpzError(
            npz.path,
            f"member '{image_key}' has shape {image.shape} beside a mask of {mask_hw[0]} x {mask_hw[1]}",
            "training takes grey and RGB images of their mask's size",
        )
    return mask_hw[0], mask_hw[1]


def _header(npz: NpzReader, key: str) -> ArrayHeader:
    header = npz.header(key)
    if header is None:
        raise NpzError(npz.path, f"member '{key}' is not an NPY array")
    if header.pickled:
        raise PickledMemberError(npz.path, f"member '{key}' is pickled and is not read", "store it as a plain array")
    return header


def require_sound(source: YoloSource) -> tuple[str, ...]:
    """Look at every image's header and labels, and return what a person should know.

    Raises:
        InputProblemsError: something is wrong with them, or no image to train on has an object; the first problems in
            words, and the number of the others.
    """
    scan_split.cache_clear()  # files may have changed since another run of this process
    problems: list[str] = []
    remarks: list[str] = []
    for split, images in source.splits.items():
        scanned = scan_split(images, len(source.names), source.kind)
        problems += scanned.problems
        remarks += scanned.remarks(split)
        if split == "train" and not scanned.problems and not scanned.objects:
            problems.append("no training image has an object: the label files are missing or empty")
    hint = "mvtk dataset verify checks pairs in full" if source.kind == "pairs" else "correct them"
    raise_problems(str(source.data_yaml), problems, hint)
    return tuple(remarks)
