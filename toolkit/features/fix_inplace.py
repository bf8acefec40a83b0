"""Replace the features of listed samples, whose features files may lie scattered."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from toolkit.core.batch import Outcome
from toolkit.core.errors import InputProblemsError, MvtkError, collected
from toolkit.core.file_index import FileIndex
from toolkit.core.files import read_bytes
from toolkit.core.listing import require_folder
from toolkit.features.encoding import FeatureItem
from toolkit.features.jobs import RepairJob
from toolkit.features.options import FixInplaceOptions
from toolkit.npz.feature_files import image_id_of

FEATURES_NOT_FOUND = "features file not found"
TWO_FEATURES = "two features files"
IMAGE_NOT_FOUND = "image not found"
SHARED_FEATURES = "features file of two images"
LISTED_TWICE = "listed twice"

_SUFFIXES = ("_features.npz", "_sam2_features.npz")


class SampleError(MvtkError):
    """A listed sample that cannot be repaired.

    Args:
        kind: what is wrong, under which the failure is counted.
        details: where.
        hint: what to do next.
    """

    def __init__(self, kind: str, details: str, hint: str = "") -> None:
        super().__init__(f"{kind}: {details}", hint)
        self.args = (kind, details, hint)
        self.kind = kind


class FixInplaceJob(RepairJob[FixInplaceOptions]):
    """The repair of listed samples; the list is held in memory.

    Raises:
        InputProblemsError: the list and every folder that does not exist.
        MvtkError: the list is empty, or as in :class:`EncodingJob`.
    """

    command: ClassVar[str] = "features fix-inplace"
    by_flag = False
    add_copy = True

    def __init__(self, options: FixInplaceOptions) -> None:
        problems: list[str] = []
        self._images: list[Path] = []
        with collected(problems):
            self._images = _read_list(options.samples)
        for folder in options.npz_dirs:
            with collected(problems):
                require_folder(folder, "give folders with features files")
        if problems:
            raise InputProblemsError("cannot begin", problems)
        super().__init__(options)
        self.set_flag = options.set_flag
        self._images = [image for image in self._images if options.shard.holds(image.as_posix())]

    @property
    def size(self) -> int:
        """The number of samples of this shard."""
        return len(self._images)

    def plan(self) -> Iterator[FeatureItem | Outcome]:
        """Yield each sample with its features file.

        The file is looked for beside the image as ``<stem>_features.npz``, then as ``<stem>_sam2_features.npz``, then
        anywhere below the folders given, which are listed once.
        """
        index = FileIndex(self._options.npz_dirs, lambda _, name: name if image_id_of(name) else "")
        owners: dict[str, str] = {}  # the image of each features file
        seen: set[str] = set()
        for image in self._images:
            source = image.as_posix()
            if not os.path.lexists(image):
                yield Outcome.failed(source, f"{IMAGE_NOT_FOUND}: {image}", IMAGE_NOT_FOUND)
                continue
            real = os.path.realpath(image)
            if real in seen:
                yield Outcome.skipped(source, LISTED_TWICE)
                continue
            seen.add(real)
            try:
                npz_path = _features_of(image, index, self._options.npz_dirs)
            except SampleError as error:
                yield Outcome.failed(source, str(error), error.kind)
                continue
            owner = owners.setdefault(os.path.realpath(npz_path), source)
            if owner != source:
                yield Outcome.failed(source, f"{SHARED_FEATURES}: {npz_path} is that of {owner} too", SHARED_FEATURES)
            else:
                yield self._settled(source, npz_path) or FeatureItem(source, os.fspath(npz_path), os.fspath(image))

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the folders given and those of images with a features file beside, and remove what killed runs left.

        Where only images are, nothing is written: those folders may be read-only.
        """
        folders = {image.parent for image in self._images if _beside(image)}
        with self._claimed([*self._options.npz_dirs, *folders]):
            yield


def _read_list(samples: Path) -> list[Path]:
    """Return the paths of a list, one a line; blank lines are passed over.

    A relative path starts from the current folder; where nothing is there, from the list's folder.

    Raises:
        MvtkError: the list cannot be read, or is empty.
    """
    text = os.fsdecode(read_bytes(samples).removeprefix(b"\xef\xbb\xbf"))
    images = [Path(line.rstrip("\r")) for line in text.split("\n") if line.strip()]
    if not images:
        raise MvtkError(f"{samples}: there are no paths in it", "write the path of one image a line")
    return [_from_list(image, samples.parent) for image in images]


def _from_list(image: Path, folder: Path) -> Path:
    beside_list = folder / image
    return beside_list if not os.path.lexists(image) and os.path.lexists(beside_list) else image


def _features_of(image: Path, index: FileIndex, npz_dirs: Sequence[Path]) -> Path:
    """Return the features file of an image.

    Raises:
        SampleError: it has no features file, or several.
    """
    beside = _beside(image)
    if beside is not None:
        return beside
    names = _names(image)
    for name in names:
        found = index.find(name)
        if len(found) > 1:
            raise SampleError(TWO_FEATURES, f"{found[0]} and {found[1]}", "keep the right one only")
        if found:
            return found[0]
    where = ", ".join(map(str, (image.parent, *npz_dirs)))
    raise SampleError(FEATURES_NOT_FOUND, f"{names[0]} is not in {where}", "name its folder with --npz-dirs")


def _beside(image: Path) -> Path | None:
    """Return the features file in the folder of the image; None where there is none."""
    paths = (image.parent / name for name in _names(image))
    return next((path for path in paths if os.path.lexists(path)), None)


def _names(image: Path) -> list[str]:
    """Return the names that the features file of an image may have, the one that counts first."""
    return [image.stem + suffix for suffix in _SUFFIXES]
