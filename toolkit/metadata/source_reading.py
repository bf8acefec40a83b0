"""The annotations of one raw dataset, whatever their format, in batches of images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from toolkit.annotations.coco import load_coco
from toolkit.annotations.csv_boxes import load_csv_boxes
from toolkit.annotations.pts import load_pts
from toolkit.annotations.table import AnnotationTable, Finding
from toolkit.annotations.yolo import ParsedLabels, load_labels
from toolkit.annotations.yolo_data_yaml import find_data_yaml, load_data_yaml
from toolkit.annotations.yolo_table import table_of_labels
from toolkit.core.errors import InputProblemsError, MvtkError, collected
from toolkit.core.files import read_bytes
from toolkit.core.listing import visible_entries
from toolkit.images import ImageError, read_size
from toolkit.metadata.raw_sources import AnnotationFile, RawSource
from toolkit.metadata.source_images import NO_FILE, SourceImages

_VISIBLE = 2
"""The visibility of points that PTS files give without one."""
NO_LABELS = "image without a label file, taken as background"
UNUSABLE = "annotations that cannot be used"

_CLASSES_FILE = "classes.txt"
_NOT_LABELS = frozenset({_CLASSES_FILE, "labels.txt", "notes.txt"})
_NO_LABELS = ParsedLabels([], [], ())


class Document(ABC):
    """Annotated images that were read, or are about to be, from one file or folder of files.

    Attributes:
        file: where they come from.
        paths: each image's path relative to the raw data folder; None for one without a file.
        findings: what is known to be left out before any batch is read.
    """

    def __init__(self, file: AnnotationFile, paths: Sequence[str | None], findings: list[Finding]) -> None:
        self.file = file
        self.paths = paths
        self.findings = findings

    @abstractmethod
    def batch(self, start: int, stop: int) -> AnnotationTable:
        """Return the annotations of the images from ``start`` up to ``stop``, without what is known as a finding.

        Raises:
            InputProblemsError: files that cannot be read or are wrong, all of them.
        """

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the class ids stand for."""
        return ()


class _TableDocument(Document):
    """A file that holds the annotations of all its images and was read as a whole."""

    def __init__(self, file: AnnotationFile, table: AnnotationTable, images: SourceImages) -> None:
        paths = [images.find(file.folder, name) for name in table.image_names]
        missing = (name for name, path in zip(table.image_names, paths, strict=True) if path is None)
        findings = [Finding(kind, f"{file.path}: {where}") for kind, where in table.findings]
        findings += [Finding(images.problem_of(file.folder, name), file.folder + name) for name in missing]
        super().__init__(file, paths, findings)
        self._table = table

    def batch(self, start: int, stop: int) -> AnnotationTable:
        return self._table.images(start, stop)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._table.class_names


class _FilesDocument(Document):
    """A folder with an annotation file an image, read batch by batch."""

    def __init__(
        self, raw_data_dir: Path, file: AnnotationFile, names: Sequence[str], paths: Sequence[str | None]
    ) -> None:
        missing = [name for name, path in zip(names, paths, strict=True) if path is None]
        super().__init__(file, paths, [Finding(NO_FILE, f"{file.path}{name}") for name in missing])
        self._raw_data_dir = raw_data_dir
        self._names = names

    def _annotation_path(self, index: int) -> Path:
        return self._raw_data_dir / f"{self.file.path}{self._names[index]}"


class _PtsDocument(_FilesDocument):
    def __init__(self, raw_data_dir: Path, file: AnnotationFile, images: SourceImages, *, shift: bool) -> None:
        names = _names_in(raw_data_dir / file.path, ".pts")
        paths = [images.find_stem(file.path, name.rpartition(".")[0]) for name in names]
        super().__init__(raw_data_dir, file, names, paths)
        self._shift_px = 1.0 if shift else 0.0

    def batch(self, start: int, stop: int) -> AnnotationTable:
        points_xy = []
        problems: list[str] = []
        for index in range(start, stop):
            points_xy.append(np.zeros((0, 2)))
            if self.paths[index] is not None:
                with collected(problems):
                    points_xy[-1] = load_pts(self._annotation_path(index)) - self._shift_px
        _raise(problems)
        counts = np.array([len(points) for points in points_xy], np.int64)
        with_points = np.flatnonzero(counts)
        flat_xy = np.concatenate(points_xy)
        return AnnotationTable(
            image_names=list(self._names[start:stop]),
            image_sizes_wh=np.zeros((stop - start, 2), np.int64),
            image_indices=with_points,
            has_box=np.zeros(len(with_points), np.bool_),
            boxes_xywh=np.zeros((len(with_points), 4)),
            class_ids=np.full(len(with_points), -1),
            keypoint_counts=counts[with_points],
            keypoints_xyv=np.column_stack((flat_xy, np.full(len(flat_xy), float(_VISIBLE)))),
        )


class _YoloDocument(_FilesDocument):
    """Label files and their images; then the images beside those that have none, which are backgrounds to YOLO."""

    def __init__(
        self, raw_data_dir: Path, file: AnnotationFile, images: SourceImages, class_names: Sequence[str]
    ) -> None:
        names = [name for name in _names_in(raw_data_dir / file.path, ".txt") if name not in _NOT_LABELS]
        image_folder = _image_folder_of(file.path)
        paths = [images.find_stem(image_folder, name.rpartition(".")[0]) for name in names]
        stems = {name.rpartition(".")[0] for name in names}
        backgrounds = [name for name in images.in_folder(image_folder) if name.rpartition(".")[0] not in stems]
        self._label_count = len(names)
        super().__init__(raw_data_dir, file, names + backgrounds, paths + [image_folder + name for name in backgrounds])
        self.findings += [Finding(NO_LABELS, image_folder + name) for name in backgrounds]
        self._class_names = tuple(class_names)

    def batch(self, start: int, stop: int) -> AnnotationTable:
        labelled = []
        problems: list[str] = []
        for index in range(start, stop):
            path, labels, size_wh = self.paths[index], _NO_LABELS, (0, 0)
            if path is not None:
                if index < self._label_count:
                    with collected(problems):
                        labels = load_labels(self._annotation_path(index))
                with suppress(ImageError):  # an image without a size is looked at again by whoever needs it
                    size_wh = read_size(self._raw_data_dir / path)[::-1]
            labelled.append((path or self._names[index], size_wh, labels if min(size_wh) else _NO_LABELS))
        _raise(problems)
        return table_of_labels(labelled, self._class_names)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._class_names


def read_documents(
    raw_data_dir: Path, source: RawSource, images: SourceImages, *, shift_pts: bool
) -> Iterator[Document]:
    """Yield the documents of a raw dataset: COCO and CSV files are read as a whole, PTS and YOLO files when asked for.

    Raises:
        MvtkError: a file cannot be read or is wrong.
    """
    if source.format == "pts":
        for file in source.files:
            yield _PtsDocument(raw_data_dir, file, images, shift=shift_pts)
    elif source.format == "yolo":
        class_names = _yolo_class_names(raw_data_dir / source.source)
        for file in source.files:
            yield _YoloDocument(raw_data_dir, file, images, class_names)
    else:
        for file, table in _read_tables(raw_data_dir, source):
            yield _TableDocument(file, table, images)


def _read_tables(raw_data_dir: Path, source: RawSource) -> list[tuple[AnnotationFile, AnnotationTable]]:
    load = load_coco if source.format == "coco" else load_csv_boxes
    tables: list[tuple[AnnotationFile, AnnotationTable]] = []
    problems: list[str] = []
    for file in source.files:
        with collected(problems):
            tables.append((file, load(raw_data_dir / file.path)))
    _raise(problems)
    return tables


def _names_in(folder: Path, suffix: str) -> list[str]:
    return sorted(entry.name for entry in visible_entries(folder) if entry.name.lower().endswith(suffix))


def _image_folder_of(label_folder: str) -> str:
    """Return where the images of a YOLO label folder are: its last component ``labels`` becomes ``images``."""
    before, _, after = label_folder.rpartition("/labels/")
    return f"{before}/images/{after}"


def _yolo_class_names(root: Path) -> tuple[str, ...]:
    """Return the class names of a YOLO dataset, by its data YAML or its classes.txt; none where neither is there."""
    data_yaml = find_data_yaml(root)
    if data_yaml is not None:
        description = load_data_yaml(data_yaml)
        return tuple(description.names.get(number, f"class_{number}") for number in range(description.class_count))
    classes = root / _CLASSES_FILE
    if not classes.is_file():
        return ()
    try:
        return tuple(read_bytes(classes).decode("utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        raise MvtkError(f"{classes}: not UTF-8 text from byte {error.start} on", "save it as UTF-8") from error


def _raise(problems: list[str]) -> None:
    if problems:
        raise InputProblemsError(UNUSABLE, problems)
