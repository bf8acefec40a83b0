"""COCO annotation files: boxes and keypoints of many images in one JSON file.

The format is described at https://cocodataset.org/#format-data. Roboflow's exports have an unused super-category 0, and
numbers from 0 on. Segmentations are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.annotations.coco_records import (
    CocoAnnotation,
    CocoCategory,
    CocoImage,
    Id,
    read_carefully,
    read_quickly,
)
from toolkit.annotations.named_images import NamedImages, merge_images
from toolkit.annotations.problems import raise_problems
from toolkit.annotations.table import AnnotationTable, Finding
from toolkit.core.files import read_bytes


def load_coco(path: Path) -> AnnotationTable:
    """Read a COCO file; see :func:`parse_coco`.

    Raises:
        MvtkError: the file is missing, unreadable or wrong; one line that names it and what is wrong.
    """
    return parse_coco(read_bytes(path), str(path))


def parse_coco(data: bytes, source: str) -> AnnotationTable:
    """Read the content of a COCO file.

    All boxes of an image are kept, crowds too. The findings name what is left out or mended:

    * ``image listed twice``: images of one file name become one, with the objects of both.
    * ``annotation without its image``: its ``image_id`` is no image's; left out.
    * ``annotation without box or keypoints``: left out; a box is not derived from a segmentation.
    * ``object without labelled keypoints``: no keypoint has a visibility above 0; they are left out, a box is kept.
    * ``duplicate annotation id``, ``crowd box``: kept.
    * ``unknown category``: its ``category_id`` is missing, or no category's; kept with class -1.

    Class names are those of the categories in order of their ids: numbers first, then texts, shorter ones first.
    Categories of one name are one class. A category of the lowest id that no annotation has and that is the
    super-category of another one, as Roboflow writes it, is none.

    Args:
        data: UTF-8 JSON; a byte-order mark is accepted.
        source: names the file in errors.

    Raises:
        MvtkError: the data is no JSON (line and column are named), or no COCO file.
        InputProblemsError: everything that is wrong with its records, the first 20 in words and the number of others.
    """
    problems: list[str] = []
    records = read_quickly(data) or read_carefully(data, source, problems)
    images = _merge(records.images)
    image_of = _find_images(records.images, images, problems)
    class_names, class_of = _find_classes(
        records.categories, {annotation.category_id for annotation in records.annotations}, problems
    )
    raise_problems(source, problems)
    findings = [Finding("image listed twice", images.names[index]) for index in _repeated(images.indices)]
    return _Objects.read(records.annotations, image_of, class_of).table(images, class_names, findings)


def _merge(records: Sequence[CocoImage]) -> NamedImages:
    widths, heights = [image.width for image in records], [image.height for image in records]
    sizes_wh = np.column_stack((np.array(widths, np.int64), np.array(heights, np.int64)))
    return merge_images([image.file_name for image in records], sizes_wh)


def _find_images(records: Sequence[CocoImage], images: NamedImages, problems: list[str]) -> dict[Id, int]:
    """Return each image id's place among the images; contradictions are added to ``problems``."""
    for place in images.contradicting.tolist():
        image, known_wh = records[place], images.sizes_wh[images.indices[place]]
        sizes = f"{known_wh[0]}x{known_wh[1]} and {image.width}x{image.height}"
        problems.append(f"image {image.file_name!r} has two sizes (width x height), {sizes}")
    ids = [image.id for image in records]
    indices = images.indices.tolist()
    image_of = dict(zip(ids, indices, strict=True))
    if len(image_of) < len(ids):
        for image_id, index in zip(ids, indices, strict=True):
            if image_of[image_id] != index:
                names = f"{images.names[index]!r} and {images.names[image_of[image_id]]!r}"
                problems.append(f"image id {image_id!r} stands for {names}")
    return image_of


def _find_classes(
    categories: Sequence[CocoCategory], used: set[Id | None], problems: list[str]
) -> tuple[tuple[str, ...], dict[Id | None, int]]:
    """Return the class names, and the class of each category id; contradictions are added to ``problems``.

    Args:
        categories: as the file lists them.
        used: the ids that annotations have.
        problems: grows by the ids that stand for two names.
    """
    name_of: dict[Id, str] = {}
    for category in categories:
        name = name_of.setdefault(category.id, category.name)
        if name != category.name:
            problems.append(f"category id {category.id!r} stands for {name!r} and {category.name!r}")
    ids = sorted(name_of, key=_id_order)
    if ids and ids[0] not in used:
        lowest, name = ids[0], name_of[ids[0]]
        if any(category.id != lowest and category.supercategory == name for category in categories):
            del ids[0]
    index_of = {name: index for index, name in enumerate(dict.fromkeys(name_of[each] for each in ids))}
    return tuple(index_of), {each: index_of[name_of[each]] for each in ids}


def _id_order(identifier: Id) -> tuple[int, int, str]:
    """Order ids: numbers first, then texts, shorter ones first so that "2" comes before "10"."""
    return (0, identifier, "") if isinstance(identifier, int) else (1, len(identifier), identifier)


@dataclass(frozen=True, slots=True, eq=False)
class _Objects:
    """The m annotations of a file in its order, whether they are of use or not.

    Attributes:
        annotations: the records.
        image_indices: (m,) int64, -1 without an image.
        class_ids: (m,) int64, -1 without a class.
        has_box: (m,) bool.
        boxes_xywh: (m, 4) float64, zeros without a box.
        keypoint_counts: (m,) int64.
        keypoints_xyv: (k, 3) float64.
        owners: (k,) int64, ascending: the annotation that each keypoint is of.
    """

    annotations: Sequence[CocoAnnotation]
    image_indices: NDArray[np.int64]
    class_ids: NDArray[np.int64]
    has_box: NDArray[np.bool_]
    boxes_xywh: NDArray[np.float64]
    keypoint_counts: NDArray[np.int64]
    keypoints_xyv: NDArray[np.float64]
    owners: NDArray[np.int64]

    @classmethod
    def read(
        cls, annotations: Sequence[CocoAnnotation], image_of: Mapping[Id, int], class_of: Mapping[Id | None, int]
    ) -> _Objects:
        """Put the records' numbers into arrays."""
        count = len(annotations)
        boxes = [annotation.bbox for annotation in annotations]
        has_box = np.fromiter((box is not None for box in boxes), np.bool_, count)
        boxes_xywh = np.zeros((count, 4))
        boxes_xywh[has_box] = _numbers(filter(None, boxes), 4)
        keypoints = [annotation.keypoints or () for annotation in annotations]
        keypoint_counts = np.fromiter(map(len, keypoints), np.int64, count) // 3
        return cls(
            annotations,
            _looked_up((annotation.image_id for annotation in annotations), image_of, count),
            _looked_up((annotation.category_id for annotation in annotations), class_of, count),
            has_box,
            boxes_xywh,
            keypoint_counts,
            _numbers(keypoints, 3),
            np.repeat(np.arange(count), keypoint_counts),
        )

    def table(self, images: NamedImages, class_names: tuple[str, ...], findings: list[Finding]) -> AnnotationTable:
        """Return what is of use, in order of the images, with what is found on the way added to ``findings``."""
        has_image = self.image_indices >= 0
        is_labelled = np.zeros_like(self.has_box)
        is_labelled[self.owners[self.keypoints_xyv[:, 2] != 0]] = True
        has_points = self.keypoint_counts > 0
        is_kept = has_image & (self.has_box | is_labelled)
        found = {
            "annotation without its image": ~has_image,
            "annotation without box or keypoints": has_image & ~self.has_box & ~has_points,
            "object without labelled keypoints": has_image & has_points & ~is_labelled,
            "unknown category": is_kept & (self.class_ids < 0),
            "crowd box": is_kept & self._is_crowd(),
            "duplicate annotation id": is_kept & self._is_duplicate(),
        }
        for kind, applies in found.items():
            findings.extend(Finding(kind, self._name(index)) for index in np.flatnonzero(applies).tolist())
        kept = np.flatnonzero(is_kept)
        order = kept[np.argsort(self.image_indices[kept], kind="stable")]
        return AnnotationTable(
            images.names,
            images.sizes_wh,
            self.image_indices[order],
            self.has_box[order],
            self.boxes_xywh[order],
            self.class_ids[order],
            np.where(is_labelled, self.keypoint_counts, 0)[order],
            self._ordered_keypoints(order[is_labelled[order]]),
            class_names,
            findings,
        )

    def _ordered_keypoints(self, order: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the keypoints of the annotations ``order``, in that order."""
        rank = np.full(len(self.annotations), -1)
        rank[order] = np.arange(len(order))
        ranks = rank[self.owners]
        wanted = np.flatnonzero(ranks >= 0)
        return self.keypoints_xyv[wanted[np.argsort(ranks[wanted], kind="stable")]]

    def _is_crowd(self) -> NDArray[np.bool_]:
        # A crowd is 1, and true for some writers.
        crowds = (annotation.iscrowd == 1 for annotation in self.annotations)
        return np.fromiter(crowds, np.bool_, len(self.annotations))

    def _is_duplicate(self) -> NDArray[np.bool_]:
        """Tell which annotations have an id that one before them has."""
        is_duplicate = np.zeros_like(self.has_box)
        ids = [annotation.id for annotation in self.annotations]
        if len(set(ids)) < len(ids):
            seen = set[Id | None]([None])
            for index, annotation_id in enumerate(ids):
                is_duplicate[index] = annotation_id is not None and annotation_id in seen
                seen.add(annotation_id)
        return is_duplicate

    def _name(self, index: int) -> str:
        annotation_id = self.annotations[index].id
        return f"annotations[{index}]" if annotation_id is None else str(annotation_id)


def _looked_up(ids: Iterable[Id | None], index_of: Mapping[Any, int], count: int) -> NDArray[np.int64]:
    return np.fromiter(map(index_of.get, ids, repeat(-1)), np.int64, count)


def _numbers(rows: Iterable[Sequence[float]], width: int) -> NDArray[np.float64]:
    return np.fromiter(chain.from_iterable(rows), np.float64).reshape(-1, width)


def _repeated(indices: NDArray[np.int64]) -> list[int]:
    """Return the value of each element that an element before it has too."""
    _values, first = np.unique(indices, return_index=True)
    return np.delete(indices, first).tolist()
