"""Bring the edge maps of one features file up to date: what a worker does.

Driver and workers both start with this module: it imports no pydantic, and NumPy and OpenCV only when the work begins.
"""

from __future__ import annotations

import functools
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core.batch import Outcome, Publishing, Step
from toolkit.edges.pairing import AnnotatedFile

if TYPE_CHECKING:
    import numpy.typing as npt

    from toolkit.annotations.sa1b import ImageAnnotation
    from toolkit.npz.reading import NpzReader

ALREADY_PROCESSED = "already processed"
NO_MASKS = "the annotation has no masks: the maps are empty"
OTHER_SIZE = "image_shape is not the annotation's size"


@dataclass(frozen=True, slots=True)
class UpdateFile(Step[AnnotatedFile]):
    """Compute the edge maps from the annotation and put them into the features file.

    Attributes:
        kernel_size: side of the square kernel in pixels.
        skip_processed: leave a file alone that another run has brought up to date since the plan was made.
        set_flag: mark the file as processed.
        add_256: write the 256x256 map also into a file that has none.
    """

    kernel_size: int
    skip_processed: bool
    set_flag: bool
    add_256: bool

    def process_one(self, item: AnnotatedFile) -> Outcome | Publishing:
        """Compute the maps of one file; what is returned writes them.

        Raises:
            MvtkError: the annotation or the features file cannot be read or is not sound.
        """
        from toolkit.annotations.sa1b import load_sa1b
        from toolkit.edges.marks import read_edge_marks
        from toolkit.edges.method_b import scaled_edge_maps
        from toolkit.npz.reading import open_npz

        annotation = load_sa1b(Path(item.json_path))
        with ExitStack() as stack:
            reader = stack.enter_context(open_npz(item.npz_path))
            marks = read_edge_marks(reader)
            if self.skip_processed and marks.up_to_date(self.kernel_size, add_256=self.add_256):
                return Outcome.skipped(item.source, ALREADY_PROCESSED)
            sides = (256, 64, 32) if self.add_256 or 256 in marks.sizes else (64, 32)
            maps = scaled_edge_maps(annotation.masks, self.kernel_size, sides)
            arrays = {f"edge_{side}x{side}": edge_map for side, edge_map in maps.items()} | self._marks(reader)
            warnings = _warnings(reader, annotation)
            return functools.partial(_publish, item, reader, stack.pop_all(), arrays, len(annotation.masks), warnings)

    def _marks(self, reader: NpzReader) -> dict[str, npt.NDArray[Any]]:
        """Return the marks to write: a version that is there already must not go on naming the maps before these."""
        import numpy as np

        from toolkit.edges.marks import FLAG_KEY, VERSION_KEY, edge_version

        marks: dict[str, npt.NDArray[Any]] = {}
        if self.set_flag:
            marks[FLAG_KEY] = np.array(1, np.uint8)
        if self.set_flag or VERSION_KEY in reader.members:
            marks[VERSION_KEY] = np.array(edge_version(self.kernel_size))
        return marks


def _publish(
    item: AnnotatedFile,
    reader: NpzReader,
    opened: ExitStack,
    arrays: dict[str, npt.NDArray[Any]],
    mask_count: int,
    warnings: tuple[str, ...],
) -> Outcome:
    from toolkit.npz.rewriting import rewrite_npz

    with opened:
        size_bytes = rewrite_npz(reader, arrays)
    maps = ",".join(key.removeprefix("edge_") for key, array in arrays.items() if array.ndim)
    return Outcome.done(item.source, warnings=warnings, masks=mask_count, maps=maps, bytes=size_bytes)


def _warnings(reader: NpzReader, annotation: ImageAnnotation) -> tuple[str, ...]:
    warnings = [] if len(annotation.masks) else [NO_MASKS]
    shape = _image_shape(reader)
    if shape is not None and shape != (annotation.height, annotation.width):
        warnings.append(OTHER_SIZE)
    return tuple(warnings)


def _image_shape(reader: NpzReader) -> tuple[int, int] | None:
    """Return height and width as the features file has them; None where it does not say."""
    header = reader.header("image_shape") if "image_shape" in reader.members else None
    if header is None or header.pickled or header.shape not in {(2,), (3,)} or header.dtype.kind not in "iu":
        return None
    height, width, *_ = reader.read("image_shape").tolist()
    return height, width
