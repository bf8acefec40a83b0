"""Convert one image, mask and label: what a worker does.

Driver and workers both start with this module: it imports no pydantic, and OpenCV and NumPy only when the work begins.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.core.batch import Outcome, Publishing, Step
from toolkit.core.errors import MvtkError
from toolkit.core.files import TargetExistsError, atomic_write, make_folder, read_bytes, write_bytes
from toolkit.dataset.pairing import Pair
from toolkit.npz.pair_options import Compression, PairOptions

if TYPE_CHECKING:
    from toolkit.npz.writing import Buffer

ALREADY_CONVERTED = "already converted"


@dataclass(frozen=True, slots=True)
class ConvertPair(Step[Pair]):
    """Make one NPZ file and copy its label; both appear whole, or neither does.

    Attributes:
        images_root: the root of the images dataset.
        labels_root: the root of the labels dataset.
        mask_folder: the folder with the masks.
        output_root: the dataset to make.
        reading: how image and mask are read.
        compression: how the NPZ file is compressed.
        overwrite: replace what exists.
    """

    images_root: Path
    labels_root: Path
    mask_folder: Path
    output_root: Path
    reading: PairOptions
    compression: Compression
    overwrite: bool

    def process_one(self, item: Pair) -> Outcome | Publishing:
        """Convert one pair; what is returned publishes it.

        Raises:
            MvtkError: a file cannot be read or written, or is refused; see :class:`PairOptions`.
        """
        npz_path, label_path = output_paths(self.output_root, item.stem)
        label = read_bytes(self.labels_root / item.label)
        if not self.overwrite and npz_path.exists():
            self._copy_label(label, label_path)
            return Outcome.done(item.source, restored=f"labels/{item.stem}.txt")
        pieces, (width, height), warnings = self._encode(item)
        size_bytes = sum(len(piece) for piece in pieces)
        done = Outcome.done(item.source, warnings=warnings, size=f"{width}x{height}", bytes=size_bytes)
        return functools.partial(self._publish, item, label, pieces, done)

    def _publish(self, item: Pair, label: bytes, pieces: list[Buffer], done: Outcome) -> Outcome:
        """Publish a converted pair: its label when its NPZ file is written, then the NPZ file."""
        npz_path, label_path = output_paths(self.output_root, item.stem)
        make_folder(npz_path.parent)
        try:
            with atomic_write(npz_path, overwrite=self.overwrite) as stream, self._label_copied(label, label_path):
                stream.writelines(pieces)
        except TargetExistsError:
            if not npz_path.exists():
                raise
            return Outcome.skipped(item.source, ALREADY_CONVERTED)
        return done

    def _encode(self, item: Pair) -> tuple[list[Buffer], tuple[int, int], tuple[str, ...]]:
        from toolkit.npz.packing import encode_pair

        image_path, mask_path = self.images_root / item.source, self.mask_folder / item.mask
        return encode_pair(image_path, mask_path, self.reading, self.compression)

    @contextmanager
    def _label_copied(self, label: bytes, label_path: Path) -> Iterator[None]:
        """Publish the label after the block, which has then written the NPZ file but not yet published it."""
        yield
        self._copy_label(label, label_path)

    def _copy_label(self, label: bytes, label_path: Path) -> None:
        if not self.overwrite and label_path.exists():
            if read_bytes(label_path) != label:
                raise MvtkError(f"{label_path} exists with other content", "use --overwrite to replace it")
            return
        make_folder(label_path.parent)
        write_bytes(label_path, label, overwrite=self.overwrite)


def output_paths(output_root: Path, stem: str) -> tuple[Path, Path]:
    """Return the NPZ file and the label file of the pair ``<split>/<name>``."""
    return output_root / "images" / f"{stem}.npz", output_root / "labels" / f"{stem}.txt"
