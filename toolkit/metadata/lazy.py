"""A dataset over one metadata file: annotations from the mapped file, images from the disk when they are needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from toolkit.core.errors import OptionError
from toolkit.images.files import ImageError
from toolkit.metadata.collating import Sample
from toolkit.metadata.columns import Kind
from toolkit.metadata.errors import MetadataError, SampleImageError
from toolkit.metadata.image_cache import ImageCache
from toolkit.metadata.image_loading import IMAGE_LOADERS, ImageLoader
from toolkit.metadata.reading import open_metadata
from toolkit.metadata.sample_sequence import SampleSequence

_ROW_NAMES: Final[dict[Kind, str]] = {"detector": "bboxes", "landmarker": "keypoints", "teacher": "bbox"}


class LazyNPYDataset(SampleSequence):
    """The samples of one metadata file, for a training loop; opening it takes as long for a million as for ten.

    A sample is a dict of fresh arrays, which the caller may change:

    - detector: ``image``, ``bboxes`` (n, 4) float32 left, top, width, height in pixels, ``image_path``;
    - landmarker: ``image``, ``keypoints`` (n, 3) float32 x, y in pixels and visibility, ``image_path``;
    - teacher: ``image``, cropped to its box, ``bbox`` (4,) float32 in pixels of the full image, ``image_path``.

    ``image`` is (H, W, 3) uint8 RGB with the pixels as stored: an EXIF orientation is ignored, as the annotations are
    for stored pixels. ``image_path`` is the full path, a string.

    Pickling (worker processes that are spawned, not forked) keeps the path and the options: the copy opens the file
    again, which shares its pages between processes, and has an empty cache.

    Args:
        path: the metadata file.
        cache_size: most decoded images to keep in memory; 0: none, unless ``cache_bytes`` is given.
        image_loader: "pil" reads all formats of toolkit.images, "cv2" what OpenCV reads; JPEG pixels may differ by
            a few steps between them.
        root_dir: the folder that the image paths are relative to; None for the one that the file names.
        transform: gets each sample, and returns what takes its place; it may change the sample.
        cache_bytes: most bytes of decoded images to keep in memory; with ``cache_size`` both limits hold.
        with_classes: add ``class_ids`` (n,) int64 to detector samples, ``class_id`` (int) to others; -1: none.

    Attributes:
        path, root_dir, image_loader, transform, with_classes: as above; path and folder are absolute.
        kind: "detector", "landmarker" or "teacher".
        class_names: what the class ids stand for.

    Raises:
        MetadataError: ``path`` is damaged, of the old layout, or no metadata file.
        OptionError: there is no such loader, or a limit of the cache is negative.
        MvtkError: the file cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        cache_size: int = 0,
        image_loader: ImageLoader = "pil",
        root_dir: str | os.PathLike[str] | None = None,
        transform: Callable[[Sample], Any] | None = None,
        *,
        cache_bytes: int = 0,
        with_classes: bool = False,
    ) -> None:
        if image_loader not in IMAGE_LOADERS:
            raise OptionError(f"image_loader={image_loader!r}: no such loader", 'give "pil" or "cv2"')
        self._file = open_metadata(path)
        self.path = Path(path).absolute()
        self.image_loader = image_loader
        self.transform = transform
        self.with_classes = with_classes
        self._cache = ImageCache(cache_size, cache_bytes)
        self.root_dir = _absolute(self._file.root if root_dir is None else Path(root_dir))
        self._prepare()

    def _prepare(self) -> None:
        """Set what follows from the open file and the options."""
        self.kind: Kind = self._file.kind
        self.class_names = self._file.info.class_names
        self._path_start = f"{str(self.root_dir).rstrip('/')}/"
        self._load = IMAGE_LOADERS[self.image_loader]

    def __len__(self) -> int:
        return len(self._file)

    def __repr__(self) -> str:
        limits = [f"{self._cache.max_images} images"] if self._cache.max_images else []
        limits += [f"{self._cache.max_bytes} bytes"] if self._cache.max_bytes else []
        cache = " and ".join(limits) or "none"
        return f"{type(self).__name__}({self.kind}, {len(self)} samples, {str(self.path)!r}, cache: {cache})"

    def __getstate__(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "image_loader": self.image_loader,
            "root_dir": self.root_dir,
            "transform": self.transform,
            "with_classes": self.with_classes,
            "cache_limits": (self._cache.max_images, self._cache.max_bytes),
            "identity": self._file.identity,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        identity, cache_limits = state.pop("identity"), state.pop("cache_limits")
        self.__dict__.update(state)
        self._cache = ImageCache(*cache_limits)
        self._file = open_metadata(self.path)
        if self._file.identity != identity:
            raise MetadataError(self.path, "changed since the dataset was opened", "open the dataset again")
        self._prepare()

    def _sample_at(self, position: int) -> Sample:
        sample = self._raw_sample_at(position)
        if not sample["image"].flags.writeable:
            sample["image"] = sample["image"].copy()
        return sample if self.transform is None else self.transform(sample)

    def _sample_to_copy_at(self, position: int) -> Sample:
        return self._raw_sample_at(position) if self.transform is None else self._sample_at(position)

    def _raw_sample_at(self, position: int) -> Sample:
        """Return a sample before its transform, whose image may be read-only."""
        image_path = self._image_path(position)
        annotations = self._annotations(position)
        image_hwc = self._image(position, image_path)
        if self.kind == "teacher":
            image_hwc = self._crop(position, image_hwc, annotations["bbox"])
        return {"image": image_hwc, **annotations, "image_path": image_path}

    def _metadata_at(self, position: int) -> Sample:
        return {"image_path": self._image_path(position), **self._annotations(position)}

    def _image_path(self, position: int) -> str:
        stored = self._file.image_path(position)
        # A file from elsewhere must not make a program read what lies outside of the folder of images.
        if stored.startswith("/") or (".." in stored and ".." in stored.split("/")):
            problem = f"sample {position}: the image path {stored!r} leads out of the root folder"
            raise MetadataError(self.path, problem, "make the file again with paths below its root")
        return self._path_start + stored

    def _annotations(self, position: int) -> Sample:
        """Return fresh copies of the sample's rows and, if asked for, classes."""
        rows = self._file.rows_of(position)
        is_one = self.kind == "teacher"
        annotations: Sample = {_ROW_NAMES[self.kind]: self._file.rows[position if is_one else rows].copy()}
        if self.with_classes and self.kind == "detector":
            annotations["class_ids"] = self._file.class_ids[rows].astype(np.int64)
        elif self.with_classes:
            annotations["class_id"] = int(self._file.class_ids[position])
        return annotations

    def _image(self, position: int, image_path: str) -> NDArray[np.uint8]:
        """Return the full image; read-only if it is the cache's."""
        try:
            return self._cache.get(image_path, self._load)
        except ImageError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise SampleImageError(error.message, error.hint, position) from error
            raise self._missing(position, image_path) from error

    def _missing(self, position: int, image_path: str) -> SampleImageError:
        sample = f"{image_path}: no such image, for sample {position} of {self.path}"
        if self.root_dir.is_dir():
            return SampleImageError(sample, "put it back, or make the metadata file again", position)
        return SampleImageError(
            f"{sample}; the root folder {self.root_dir} itself is missing",
            "say where the images are with root_dir=",
            position,
        )

    def _crop(self, position: int, image_hwc: NDArray[np.uint8], box_xywh: NDArray[np.float32]) -> NDArray[np.uint8]:
        part_hwc = crop_to_box(image_hwc, box_xywh)
        if part_hwc.size == 0:
            height, width = image_hwc.shape[:2]
            box = ", ".join(f"{number:g}" for number in box_xywh)
            problem = f"sample {position}: its box ({box}) holds no pixel of its image, {width} x {height}"
            raise MetadataError(self.path, problem, "see that the boxes are pixels of this very image")
        return part_hwc


def crop_to_box(image_hwc: NDArray[np.uint8], box_xywh: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the part of an image that a box touches: whole pixels, clipped to the image.

    Columns floor(x) to ceil(x + w), rows floor(y) to ceil(y + h), the last ones excluded. The sums are rounded to
    float32 as their terms were: 10.3 + 20.7 ends at 31, not in the pixel behind it.

    Args:
        image_hwc: (H, W, C).
        box_xywh: (4,) float32 left, top, width, height in pixels.

    Returns:
        A contiguous copy; empty (size 0) where the box touches no pixel or is not finite.
    """
    left, top = np.floor(box_xywh[:2])
    with np.errstate(over="ignore", invalid="ignore"):
        right, bottom = np.ceil(box_xywh[:2] + box_xywh[2:])
    if not np.isfinite((left, top, right, bottom)).all():
        return np.empty((0, 0, *image_hwc.shape[2:]), image_hwc.dtype)
    height, width = image_hwc.shape[:2]
    columns = slice(int(max(left, 0)), int(min(max(right, 0), width)))
    rows = slice(int(max(top, 0)), int(min(max(bottom, 0), height)))
    return image_hwc[rows, columns].copy()


def _absolute(folder: Path) -> Path:
    """Return a folder's full path, which a later change of the working folder does not alter."""
    folder = folder.absolute()
    return folder.resolve() if ".." in folder.parts else folder
