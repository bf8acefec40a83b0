"""Writing imported samples into a folder of SAM training data, so that a run that ends early can be gone on with.

Besides the files of :mod:`toolkit.sam.layout` there is ``OUTPUT/.mvtk-import/`` with one small record a sample: what it
was made from, and the size of each of its files. A sample is complete when its files have those sizes. Files appear
whole under their names; they are not forced to the disk one by one, which would take ten times as long: the job does
that once, before it writes ``summary.json``.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from toolkit.annotations.yolo import YoloBox, format_labels
from toolkit.core.errors import MvtkError
from toolkit.core.files import explain_os_error, make_folder, read_bytes, write_bytes
from toolkit.core.listing import is_folder, visible_entries
from toolkit.images import ExifPolicy, ImageError, load_image
from toolkit.images.decoding import EXIF_IGNORED
from toolkit.images.files import decoder_errors, open_image
from toolkit.sam.layout import BOXES, IMAGES, MASKS, SUMMARY, mask_name
from toolkit.sam.mask_bounds import mask_window

STATE_FOLDER: Final = ".mvtk-import"
_STAGING: Final = "staging"
_RECORD_SUFFIX: Final = ".json"
_SUFFIX_OF_FORMAT: Final = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "TIFF": ".tif",
    "BMP": ".bmp",
    "GIF": ".gif",
    "WEBP": ".webp",
}
_UNUSABLE_ID: Final = re.compile(r"[/\\\x00-\x1f\x7f]|^\.")
_MAX_ID_BYTES: Final = 200
"""A file system allows 255 for a name; a mask's has a number and a suffix besides."""


class SampleRecord(BaseModel):
    """What was written for a sample.

    Attributes:
        digest: of what it was made from; empty while its files are being replaced.
        files: the size in bytes of each file, by its path relative to the folder, POSIX style.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    digest: str
    files: dict[str, int]


@dataclass(frozen=True, slots=True)
class ImportedImage:
    """An image as it will be in the folder.

    Attributes:
        content: the file.
        suffix: of its name, by what the file is.
        height: in pixels.
        width: in pixels.
        warnings: about how it was read, for the outcome.
    """

    content: bytes
    suffix: str
    height: int
    width: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ImportedObject:
    """One object: its class and its pixels, (height, width) bool, some of them set."""

    class_id: int
    mask_hw: NDArray[np.bool_]


def read_image(path: Path, exif: ExifPolicy) -> ImportedImage:
    """Read an image in full, and return it as it will be in the folder: byte for byte, unless EXIF data turn it.

    One that EXIF data turn becomes a PNG without them, as programs differ in whether they heed them.

    Args:
        path: the file.
        exif: whether objects were drawn in the image as EXIF data turn it, or as it is stored.

    Raises:
        ImageError: the file cannot be read, is damaged or cut short.
    """
    decoded = load_image(path, exif="ignore", to_8bit=True, writable=False)
    if EXIF_IGNORED in decoded.warnings:
        pixels = load_image(path, exif=exif, to_8bit=True).pixels
        content, suffix = encode_png(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)), ".png"
        warnings: tuple[str, ...] = ("saved as PNG, as EXIF data turn it",)
    else:
        content, pixels, warnings = read_bytes(path), decoded.pixels, decoded.warnings
        with decoder_errors(path):
            suffix = _SUFFIX_OF_FORMAT[open_image(io.BytesIO(content)).format or ""]
    height, width = pixels.shape[:2]
    return ImportedImage(content, suffix, height, width, warnings)


def encode_png(pixels: NDArray[np.uint8] | cv2.typing.MatLike) -> bytes:
    """Return a PNG file of HxW grey or HxWx3 BGR uint8."""
    succeeded, content = cv2.imencode(".png", pixels)
    if not succeeded:
        raise ImageError(f"cannot be saved as PNG: {pixels.shape[1]}x{pixels.shape[0]} pixels")
    return content.tobytes()


def require_usable_id(sample_id: str) -> None:
    """Check that an id may be a part of the names of files.

    Raises:
        MvtkError: it could lead out of the folder, or make a hidden or an impossible name.
    """
    try:
        length = len(sample_id.encode())
    except UnicodeEncodeError:
        length = 0
    if _UNUSABLE_ID.search(sample_id) or not 0 < length <= _MAX_ID_BYTES:
        shown = repr(sample_id if len(sample_id) < _MAX_ID_BYTES else f"{sample_id[:_MAX_ID_BYTES]}…")
        raise MvtkError(f"{shown} cannot be the name of a sample's files")


def stage(path: Path, content: bytes) -> Path:
    """Write a file that is not yet under its name, and return its path.

    Raises:
        StopRunError: the disk is full.
        MvtkError: it cannot be written.
    """
    try:
        path.write_bytes(content)
    except OSError as error:
        raise explain_os_error(error, path, "write") from error
    return path


class ImportFolder:
    """A folder that samples are imported to.

    Args:
        root: the folder; it need not exist to be looked at.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._state = root / STATE_FOLDER

    def require_usable(self, sample_ids: Iterable[str], *, overwrite: bool) -> None:
        """Check that samples may be written here.

        Args:
            sample_ids: all samples of the import.
            overwrite: whether samples that are not among them may be removed.

        Raises:
            MvtkError: something that is no such folder has the name, or it holds other samples and ``overwrite`` is
                false.
        """
        if not is_folder(self._root):
            if os.path.lexists(self._root):
                raise MvtkError(f"{self._root}: not a folder", "give a new or an empty folder")
            return
        if not is_folder(self._state):
            if any(visible_entries(self._root)):
                raise MvtkError(f"{self._root}: not empty, and no import of mvtk", "give a new or an empty folder")
            return
        others = sorted(self._recorded() - set(sample_ids))
        if others and not overwrite:
            raise MvtkError(
                f"{self._root}: holds samples that this import has not: {others[0]!r} and {len(others) - 1} more",
                "give another folder, or use --overwrite to remove them",
            )

    def begin(self, sample_ids: Iterable[str], *, overwrite: bool, alone: bool) -> None:
        """Make the folder ready: its subfolders are there, and no samples of other imports.

        Args:
            sample_ids: all samples of the import.
            overwrite: remove the samples that are not among them; all others will be made again.
            alone: no other run writes to it: what killed runs have not finished is removed.

        Raises:
            MvtkError: as :meth:`require_usable`, or the folder cannot be written to.
        """
        self.require_usable(sample_ids, overwrite=overwrite)
        for folder in (self._state / _STAGING, *(self._root / name for name in (IMAGES, MASKS, BOXES))):
            make_folder(folder)
        if alone:
            self.clear_staging()
        if overwrite:
            _remove(self._root / SUMMARY)
            for sample_id in self._recorded() - set(sample_ids):
                self._remove_sample(sample_id)

    def clear_staging(self) -> None:
        """Remove what was not finished."""
        staging = self._state / _STAGING
        for left_over in list(staging.iterdir()) if staging.is_dir() else ():
            shutil.rmtree(left_over, ignore_errors=True)

    def record(self, sample_id: str) -> SampleRecord | None:
        """Return what was written for a sample; None where nothing was.

        Raises:
            MvtkError: the record cannot be read.
        """
        path = self._record_path(sample_id)
        if not path.exists():
            return None
        try:
            return SampleRecord.model_validate_json(read_bytes(path))
        except ValidationError:
            return SampleRecord(digest="", files={})  # cut short when the machine stopped: its sample is made again

    def is_complete(self, record: SampleRecord) -> bool:
        """Tell whether all files of a sample are there."""
        return bool(record.digest) and all(_size(self._root / name) == size for name, size in record.files.items())

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Make a folder for one sample's files, which is gone after the block.

        Raises:
            MvtkError: it cannot be written to.
        """
        try:
            folder = Path(tempfile.mkdtemp(dir=self._state / _STAGING))
        except OSError as error:
            raise explain_os_error(error, self._state / _STAGING, "write") from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def write_sample(
        self, sample_id: str, image: ImportedImage, objects: Iterable[ImportedObject], digest: str, staging: Path
    ) -> int:
        """Write a sample in place of what an earlier import wrote for it; one without objects is none.

        Equal objects (of one class, with the same pixels) are written once.

        Args:
            sample_id: one that :func:`require_usable_id` has passed.
            image: its image.
            objects: its objects, read one by one.
            digest: of what it was made from.
            staging: where its files are filled, before they get their names.

        Returns:
            the number of masks.

        Raises:
            StopRunError: the disk is full.
            MvtkError: a file cannot be written.
        """
        boxes: list[YoloBox] = []
        seen: set[tuple[int, bytes]] = set()
        staged: dict[str, Path] = {}
        for each in objects:
            content = encode_png(each.mask_hw.astype(np.uint8) * np.uint8(255))
            if (each.class_id, content) in seen:
                continue
            seen.add((each.class_id, content))
            staged[f"{MASKS}/{mask_name(sample_id, len(boxes))}"] = stage(staging / f"mask{len(boxes)}", content)
            boxes.append(_box(each))
        if not boxes:
            self._remove_sample(sample_id)
            return 0
        staged[f"{BOXES}/{sample_id}.txt"] = stage(staging / "boxes", format_labels(boxes).encode())
        staged[f"{IMAGES}/{sample_id}{image.suffix}"] = stage(staging / "image", image.content)
        self._publish(sample_id, staged, digest)
        return len(boxes)

    def write_summary(self, sample_ids: Sequence[str], class_names: Sequence[str], groups: Mapping[str, str]) -> None:
        """Write ``summary.json``, after all else is on the disk.

        Args:
            sample_ids: the samples that are there, in order.
            class_names: what their classes are called.
            groups: the group of each sample that has one.

        Raises:
            MvtkError: it cannot be written.
        """
        summary: dict[str, Any] = {"task_ids": list(sample_ids), "class_names": list(class_names)}
        content = (json.dumps(summary | ({"groups": dict(groups)} if groups else {}), indent=1) + "\n").encode()
        path = self._root / SUMMARY
        if not path.exists() or read_bytes(path) != content:
            os.sync()
            write_bytes(path, content, overwrite=True)

    @property
    def has_summary(self) -> bool:
        """Whether ``summary.json`` is there."""
        return (self._root / SUMMARY).exists()

    def _publish(self, sample_id: str, staged: Mapping[str, Path], digest: str) -> None:
        """Give files their names; at any moment the record lists all that may be there."""
        sizes = {name: path.stat().st_size for name, path in staged.items()}
        earlier = self.record(sample_id)
        known = {**earlier.files, **sizes} if earlier else sizes
        staging = next(iter(staged.values())).parent
        try:
            self._write_record(sample_id, SampleRecord(digest="", files=known), staging)
            for name in known.keys() - sizes.keys():
                _remove(self._root / name)
            for name, path in staged.items():
                os.replace(path, self._root / name)  # noqa: PTH105 - as it is called in toolkit.core.files
            self._write_record(sample_id, SampleRecord(digest=digest, files=sizes), staging)
        except OSError as error:
            raise explain_os_error(error, error.filename2 or error.filename or self._root, "write") from error

    def _write_record(self, sample_id: str, record: SampleRecord, staging: Path) -> None:
        path = stage(staging / "record", record.model_dump_json().encode())
        os.replace(path, self._record_path(sample_id))  # noqa: PTH105 - likewise

    def _remove_sample(self, sample_id: str) -> None:
        record = self.record(sample_id)
        for name in record.files if record else ():
            _remove(self._root / name)
        _remove(self._record_path(sample_id))

    def _record_path(self, sample_id: str) -> Path:
        return self._state / f"{sample_id}{_RECORD_SUFFIX}"

    def _recorded(self) -> set[str]:
        if not is_folder(self._state):
            return set()
        names = (entry.name for entry in visible_entries(self._state))
        return {name.removesuffix(_RECORD_SUFFIX) for name in names if name.endswith(_RECORD_SUFFIX)}


def _box(each: ImportedObject) -> YoloBox:
    """Return the smallest box around an object's pixels."""
    height, width = each.mask_hw.shape
    rows, columns = mask_window(each.mask_hw)
    return YoloBox(
        each.class_id,
        (columns.start + columns.stop) / 2 / width,
        (rows.start + rows.stop) / 2 / height,
        (columns.stop - columns.start) / width,
        (rows.stop - rows.start) / height,
    )


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise explain_os_error(error, path, "remove") from error


def _size(path: Path) -> int | None:
    """Return a file's size in bytes; None where it cannot be told."""
    try:
        return path.stat().st_size
    except OSError:
        return None
