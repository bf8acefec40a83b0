"""From annotated images to the samples of each kind and split."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.annotations.table import AnnotationTable, Finding
from toolkit.metadata.boxes import BoxPolicy, boxes_around, check_boxes, stored_finite
from toolkit.metadata.columns import Kind, SampleColumns
from toolkit.splitting import Split

NO_EXTENT = "keypoints that span no box in their image"
BAD_KEYPOINTS = "keypoints with NaN or infinity"


@dataclass(frozen=True, slots=True)
class SplitImages:
    """Annotated images of which it is known where they are, how large, and for which split.

    Attributes:
        table: n images and their objects; all sizes are known but for images that are in no split.
        paths: n paths relative to the root; None for an image that is left out.
        splits: n splits; None for an image that is left out.
    """

    table: AnnotationTable
    paths: Sequence[str | None]
    splits: Sequence[Split | None]


@dataclass(frozen=True, slots=True)
class SampleBuilder:
    """Makes samples of some kinds.

    Attributes:
        kinds: which.
        policy: what becomes of faulty boxes.
    """

    kinds: Sequence[Kind]
    policy: BoxPolicy

    def build(self, images: SplitImages, findings: list[Finding]) -> Iterator[tuple[Split, SampleColumns]]:
        """Yield the samples of each split and kind that has some; objects that are left out become findings."""
        objects = _sound_objects(images, self.policy, findings)
        present = {split for split in images.splits if split is not None}
        paths = [b"" if path is None else os.fsencode(path) for path in images.paths]
        for split in sorted(present):
            in_split = np.array([one == split for one in images.splits], np.bool_)
            for kind in self.kinds:
                yield split, _BUILD[kind](images.table, objects, paths, in_split)


@dataclass(frozen=True, slots=True)
class _Objects:
    """What of a table's m objects can be used; boxes (m, 4) float64 after the policy."""

    boxes_xywh: NDArray[np.float64]
    box_usable: NDArray[np.bool_]
    crop_xywh: NDArray[np.float64]
    crop_usable: NDArray[np.bool_]
    points_usable: NDArray[np.bool_]


def _sound_objects(images: SplitImages, policy: BoxPolicy, findings: list[Finding]) -> _Objects:
    table = images.table
    of_used_image = np.array([split is not None for split in images.splits], np.bool_)[table.image_indices]
    own = table.has_box & of_used_image
    rows = np.flatnonzero(own)
    checked = check_boxes(table.boxes_xywh[rows], table.image_sizes_wh[table.image_indices[rows]], policy)
    for kind, faulty in checked.faults.items():
        findings.extend(Finding(kind, _box_place(images, int(rows[index]))) for index in faulty)
    boxes = table.boxes_xywh.copy()
    boxes[rows] = checked.boxes_xywh
    box_usable = np.zeros(len(own), np.bool_)
    box_usable[rows] = checked.kept
    points_usable, around, has_around = _keypoints(images, of_used_image, findings)
    derived = np.flatnonzero(~table.has_box & points_usable)
    # They stay as documented, clipped at 0 only: that the padding goes over the far edges is no fault.
    in_image = check_boxes(around[derived], table.image_sizes_wh[table.image_indices[derived]], "clip").kept
    kept = in_image & has_around[derived]
    findings.extend(Finding(NO_EXTENT, _image_of(images, int(row))) for row in derived[~kept])
    crop, crop_usable = boxes.copy(), box_usable.copy()
    crop[derived], crop_usable[derived] = around[derived], kept
    return _Objects(boxes, box_usable, crop, crop_usable, points_usable)


def _keypoints(
    images: SplitImages, of_used_image: NDArray[np.bool_], findings: list[Finding]
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.bool_]]:
    """Return which objects have keypoints that can be used, the boxes around them, and whether they span one."""
    table = images.table
    has_points = (table.keypoint_counts > 0) & of_used_image
    if not has_points.any():
        nothing = np.zeros(len(has_points), np.bool_)
        return nothing, np.zeros((len(has_points), 4)), nothing
    odd = np.zeros(len(has_points), np.bool_)
    owners = np.repeat(np.arange(len(has_points)), table.keypoint_counts)
    odd[owners[~stored_finite(table.keypoints_xyv)]] = True
    findings.extend(Finding(BAD_KEYPOINTS, _image_of(images, int(row))) for row in np.flatnonzero(odd & has_points))
    around, has_around = boxes_around(table.keypoints_xyv, table.keypoint_counts)
    return has_points & ~odd, around, has_around


def _box_place(images: SplitImages, row: int) -> str:
    box = ", ".join(f"{value:g}" for value in images.table.boxes_xywh[row])
    return f"{_image_of(images, row)}: [{box}]"


def _image_of(images: SplitImages, row: int) -> str:
    image = int(images.table.image_indices[row])
    return images.paths[image] or images.table.image_names[image]


def _detector(
    table: AnnotationTable, objects: _Objects, paths: Sequence[bytes], in_split: NDArray[np.bool_]
) -> SampleColumns:
    """Return a sample an image, with all of its boxes."""
    chosen = np.flatnonzero(in_split)
    rows = objects.box_usable & in_split[table.image_indices]
    counts = np.bincount(table.image_indices[rows], minlength=len(in_split))[chosen]
    return SampleColumns.build(
        "detector",
        [paths[image] for image in chosen.tolist()],
        table.image_sizes_wh[chosen],
        counts,
        objects.boxes_xywh[rows],
        table.class_ids[rows],
    )


def _landmarker(
    table: AnnotationTable, objects: _Objects, paths: Sequence[bytes], in_split: NDArray[np.bool_]
) -> SampleColumns:
    """Return a sample an object with keypoints."""
    chosen = objects.points_usable & in_split[table.image_indices]
    owners = table.image_indices[chosen]
    return SampleColumns.build(
        "landmarker",
        [paths[image] for image in owners.tolist()],
        table.image_sizes_wh[owners],
        table.keypoint_counts[chosen],
        table.keypoints_xyv[np.repeat(chosen, table.keypoint_counts)],
        table.class_ids[chosen],
    )


def _teacher(
    table: AnnotationTable, objects: _Objects, paths: Sequence[bytes], in_split: NDArray[np.bool_]
) -> SampleColumns:
    """Return a sample a box: the object's own, else the one around its keypoints."""
    chosen = objects.crop_usable & in_split[table.image_indices]
    owners = table.image_indices[chosen]
    return SampleColumns.build(
        "teacher",
        [paths[image] for image in owners.tolist()],
        table.image_sizes_wh[owners],
        np.ones(len(owners), np.int64),
        objects.crop_xywh[chosen],
        table.class_ids[chosen],
    )


_BUILD = {"detector": _detector, "landmarker": _landmarker, "teacher": _teacher}
