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
        return self._compute(item, attempts=2)

    def _compute(self, item: AnnotatedFile, attempts: int) -> Outcome | Publishing:
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
            done = Outcome.done(
                item.source,
                warnings=_warnings(reader, annotation),
                masks=len(annotation.masks),
                maps=",".join(f"{side}x{side}" for side in maps),
            )
            arrays = {f"edge_{side}x{side}": edge_map for side, edge_map in maps.items()} | self._marks(reader)
            return functools.partial(self._publish, item, reader, stack.pop_all(), arrays, done, attempts - 1)

    def _publish(
        self,
        item: AnnotatedFile,
        reader: NpzReader,
        opened: ExitStack,
        arrays: dict[str, npt.NDArray[Any]],
        done: Outcome,
        attempts: int,
    ) -> Outcome:
        """Write the maps; where the file was replaced meanwhile, it may have two names, begin with the new one."""
        from toolkit.npz.rewriting import ChangedMeanwhileError, rewrite_npz

        try:
            with opened:
                rewrite_npz(reader, arrays)
        except ChangedMeanwhileError:
            if not attempts:
                raise
            again = self._compute(item, attempts)
            return again if isinstance(again, Outcome) else again()
        return done

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


def _warnings(reader: NpzReader, annotation: ImageAnnotation) -> tuple[str, ...]:
    from toolkit.npz.feature_files import stored_image_size

    warnings = [] if len(annotation.masks) else [NO_MASKS]
    if stored_image_size(reader) not in (None, (annotation.height, annotation.width)):
        warnings.append(OTHER_SIZE)
    return tuple(warnings)
