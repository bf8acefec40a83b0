"""Annotations of many images as arrays, whatever file they came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Finding(NamedTuple):
    """Something in a file that is left out or mended, and does not make the rest useless.

    Attributes:
        kind: what it is, equal for equal causes, so that findings can be counted: ``"annotation without its image"``.
        where: which one it is: an image's name, an annotation's id, a line.
    """

    kind: str
    where: str


@dataclass(frozen=True, slots=True)
class AnnotationTable:
    """Images, and the annotated objects in them in the order of their images, as they stand in the file.

    Boxes and points are in pixels, x to the right and y down, as the file says them: not clipped, not checked for NaN.

    Attributes:
        image_names: n names, relative to the file's folder, POSIX or as the file writes them; no two are equal.
        image_sizes_wh: (n, 2) int64, width and height in pixels; 0, 0 where the file does not say.
        image_indices: (m,) int64, ascending: the image of each object. Objects of one image keep the file's order.
        has_box: (m,) bool: whether the object has a box of its own.
        boxes_xywh: (m, 4) float64: left, top, width, height; zeros without a box.
        class_ids: (m,) int64: index into ``class_names``, or -1.
        keypoint_counts: (m,) int64: how many of ``keypoints_xyv`` are the object's.
        keypoints_xyv: (k, 3) float64: x, y and visibility (0 not labelled, 1 hidden, 2 visible), object by object.
        class_names: what ``class_ids`` stand for.
        findings: what was left out, or is odd.
    """

    image_names: list[str]
    image_sizes_wh: NDArray[np.int64]
    image_indices: NDArray[np.int64]
    has_box: NDArray[np.bool_]
    boxes_xywh: NDArray[np.float64]
    class_ids: NDArray[np.int64]
    keypoint_counts: NDArray[np.int64]
    keypoints_xyv: NDArray[np.float64]
    class_names: tuple[str, ...] = ()
    findings: list[Finding] = field(default_factory=list)

    def images(self, start: int, stop: int) -> AnnotationTable:
        """Return the images from ``start`` up to ``stop`` with their objects, as a table without findings."""
        first, last = (int(self.image_indices.searchsorted(image)) for image in (start, stop))
        point_ends = self.keypoint_counts[:last].cumsum()
        first_point = int(point_ends[first - 1]) if first else 0
        last_point = int(point_ends[last - 1]) if last else 0
        return AnnotationTable(
            self.image_names[start:stop],
            self.image_sizes_wh[start:stop],
            self.image_indices[first:last] - start,
            self.has_box[first:last],
            self.boxes_xywh[first:last],
            self.class_ids[first:last],
            self.keypoint_counts[first:last],
            self.keypoints_xyv[first_point:last_point],
            self.class_names,
        )
