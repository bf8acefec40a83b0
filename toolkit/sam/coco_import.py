"""Make a folder of SAM training data from a COCO file: one sample an image, one mask an annotation."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import msgspec
import numpy as np
from msgspec import Raw, Struct

from toolkit.annotations.coco import parse_coco
from toolkit.annotations.coco_records import Id
from toolkit.annotations.rle import parse_segmentations
from toolkit.core.batch import Outcome
from toolkit.core.errors import MvtkError, OptionError
from toolkit.core.files import read_bytes
from toolkit.images.search import image_stem
from toolkit.sam.image_references import ImageFinder, path_parts
from toolkit.sam.import_job import (
    EMPTY_OBJECT,
    OTHER_LABEL,
    ImportItem,
    ImportJob,
    ImportOptions,
    ImportStep,
    Remarks,
    choose_classes,
    digest_of,
    failed_entry,
    repeated_groups,
)
from toolkit.sam.import_writing import ImportedObject, require_usable_id

UNUSABLE_IMAGE: Final = "unusable image"
NOT_ANNOTATED: Final = "not annotated"
UNLABELLED: Final = "object"
"""The class of annotations whose category is none of the file's."""
_ROBOFLOW_COPY: Final = re.compile(r"\.rf\.[0-9A-Za-z]+$")
"""What Roboflow adds to the stem of each augmented copy of one photograph."""
_CROWD: Final = "crowd regions are left out"
_BOX_ONLY: Final = "objects with a box only are left out"
_FILLED_BOX: Final = "boxes are filled: their masks are no outlines of objects"


class ImportCocoOptions(ImportOptions):
    """The options of an import from COCO.

    Attributes:
        annotations: the file.
        crowds: whether crowd regions are objects.
        fill_boxes: whether an object that has a box only becomes a filled rectangle; else it is left out.
        ids: what samples are called by: the stem of their image's name, or the image's id.
    """

    annotations: Path
    crowds: bool = False
    fill_boxes: bool = False
    ids: Literal["image", "number"] = "image"


class _Image(Struct, gc=False, frozen=True):
    id: Id
    file_name: str
    width: int | None = None
    height: int | None = None


class _Annotation(Struct, gc=False, frozen=True):
    image_id: Id
    id: Id | None = None
    category_id: Id | None = None
    segmentation: Any = None
    bbox: tuple[float, float, float, float] | None = None
    iscrowd: Any = 0


class _Head(Struct, gc=False, frozen=True):
    image_id: Id
    category_id: Id | None = None


class _Category(Struct, frozen=True):
    id: Id
    name: str


class _Records(Struct, frozen=True):
    images: list[_Image]
    annotations: list[Raw]
    categories: list[_Category] = []


@dataclass(frozen=True, slots=True)
class CocoItem(ImportItem):
    """One image to import.

    Attributes:
        size_hw: its height and width in pixels; None where the file does not say.
        annotations: its annotations, each as JSON.
    """

    size_hw: tuple[int, int] | None
    annotations: tuple[bytes, ...]


class ImportCocoImage(ImportStep[CocoItem, ImportCocoOptions]):
    """Import one image.

    Args:
        options: the job's.
        class_names: of the classes 0, 1, ….
        label_of: the name of each category's class, by its id.
    """

    def __init__(
        self, options: ImportCocoOptions, class_names: Sequence[str], label_of: Mapping[Id | None, str]
    ) -> None:
        super().__init__(options, class_names)
        self._label_of = label_of
        self._finder: ImageFinder | None = None

    def setup(self, device: str) -> None:
        """Prepare to find images."""
        del device
        options = self._options
        if options.images is None:
            raise OptionError("there is no folder with images", "give --images")
        self._finder = ImageFinder(options.images, options.image_match, options.image_prefix)

    def find_image(self, item: CocoItem, staging: Path) -> Path:
        """Return the image."""
        del staging
        if self._finder is None:
            raise ValueError("setup was not called")
        return self._finder.find(item.reference)

    def objects(self, item: CocoItem, height: int, width: int, remarks: Remarks) -> Iterator[ImportedObject]:
        """Yield the annotations of an image as masks."""
        if item.size_hw is not None and item.size_hw != (height, width):
            said = "x".join(map(str, item.size_hw))
            raise MvtkError(
                f"the image has {height}x{width} pixels (height x width), and the annotations are for {said}",
                "it is another image, or a resized one, or one that EXIF data turn (--exif apply)",
            )
        for content in item.annotations:
            annotation = msgspec.json.decode(content, type=_Annotation)
            class_id = self.class_id(self._label_of.get(annotation.category_id, UNLABELLED))
            if class_id is None:
                remarks.add(OTHER_LABEL)
            elif annotation.iscrowd and not self._options.crowds:
                remarks.add(_CROWD)
            else:
                yield from self._object(class_id, annotation, (height, width), remarks)

    def _object(
        self, class_id: int, annotation: _Annotation, size_hw: tuple[int, int], remarks: Remarks
    ) -> Iterator[ImportedObject]:
        segmentation = annotation.segmentation
        if not segmentation:
            if not self._options.fill_boxes or annotation.bbox is None:
                remarks.add(_BOX_ONLY)
                return
            segmentation = [_corners(annotation.bbox)]
            remarks.add(_FILLED_BOX)
        name = f"annotation {annotation.id}"
        masks = parse_segmentations([segmentation], *size_hw, name_of=lambda _: name)
        mask_hw = masks.mask_hw(0).astype(np.bool_)
        if mask_hw.any():
            yield ImportedObject(class_id, mask_hw)
        else:
            remarks.add(EMPTY_OBJECT)


class ImportCocoJob(ImportJob[CocoItem, ImportCocoOptions]):
    """The import of one COCO file.

    Raises:
        OptionError: options that contradict each other.
        InputProblemsError: everything that is wrong with the file's records, or all categories that are no classes.
        MvtkError: the file cannot be read, or the output folder cannot be used.
    """

    command: ClassVar[str] = "sam import-coco"

    def __init__(self, options: ImportCocoOptions) -> None:
        ImportCocoImage(options, (), {}).setup("")  # the folder is there
        source = str(options.annotations)
        data = read_bytes(options.annotations)
        class_names = parse_coco(data, source).class_names  # which says everything that is wrong with the records
        file = _File.read(data, source)
        self._label_of: dict[Id | None, str] = {category.id: category.name for category in file.categories}
        used = {self._label_of.get(head.category_id, UNLABELLED) for head in file.heads}
        if options.classes is not None:
            class_names = tuple(sorted(used))
        elif UNLABELLED in used - set(class_names):
            class_names = (*class_names, UNLABELLED)
        class_names = choose_classes(class_names, options)
        planner = _Planner(options, (class_names, self._label_of))
        entries = [planner.entry(image, annotations) for image, annotations in file.by_image()]
        if not entries:
            raise MvtkError(f"{source}: it has no images", "export a dataset that has some")
        super().__init__(options, entries, class_names, repeated_groups(planner.group_of))

    def step(self) -> ImportCocoImage:
        """Return the import of one image."""
        return ImportCocoImage(self.options, self.class_names, self._label_of)


@dataclass(frozen=True, slots=True)
class _File:
    """What a file holds that the table of its boxes does not.

    Attributes:
        images: in the order of the file.
        annotations: in the order of the file, as JSON.
        heads: what each of them is of.
        categories: in the order of the file.
    """

    images: list[_Image]
    annotations: list[bytes]
    heads: list[_Head]
    categories: list[_Category]

    @classmethod
    def read(cls, data: bytes, source: str) -> _File:
        """Read a file in which nothing is wrong.

        Raises:
            MvtkError: it holds what only some readers take, such as NaN.
        """
        try:
            records = msgspec.json.decode(data.removeprefix(codecs.BOM_UTF8), type=_Records)
            heads = [msgspec.json.decode(record, type=_Head) for record in records.annotations]
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            hint = "write it again with whole numbers for ids and sizes, and without NaN"
            raise MvtkError(f"{source}: {error}", hint) from error
        return cls(records.images, list(map(bytes, records.annotations)), heads, records.categories)

    def by_image(self) -> Iterator[tuple[_Image, list[bytes]]]:
        """Yield each image with its annotations; images of one name are one."""
        image_of = {image.file_name: image for image in reversed(self.images)}
        name_of = {image.id: image.file_name for image in self.images}
        annotations: dict[str, list[bytes]] = {image.file_name: [] for image in self.images}
        for head, annotation in zip(self.heads, self.annotations, strict=True):
            if head.image_id in name_of:
                annotations[name_of[head.image_id]].append(annotation)
        for name, found in annotations.items():
            yield image_of[name], found


class _Planner:
    """Decides what becomes of each image.

    Args:
        options: the job's.
        classes: whatever tells which class an annotation is of.

    Attributes:
        group_of: what each sample shows, by its id: the augmented copies of one photograph are of one group.
    """

    def __init__(self, options: ImportCocoOptions, classes: object) -> None:
        self._options = options
        fields = {"crowds", "fill_boxes", "exif"}
        self._settings = repr((classes, options.model_dump(mode="json", include=fields))).encode()
        self.group_of: dict[str, str] = {}

    def entry(self, image: _Image, annotations: Sequence[bytes]) -> CocoItem | Outcome:
        """Return the item of an image, or why it is none."""
        source = str(image.id)
        try:
            name = path_parts(image.file_name)[-1]
            if self._options.ids == "image":
                source = image_stem(name) or name
            require_usable_id(source)
        except MvtkError as error:
            return failed_entry(f"image {image.id}", error, UNUSABLE_IMAGE)
        if source in self.group_of:
            return Outcome.failed(source, f"there is another sample {source!r}; use --ids number", UNUSABLE_IMAGE)
        self.group_of[source] = _ROBOFLOW_COPY.sub("", image.file_name.rpartition(".")[0]) or image.file_name
        if not annotations:
            return Outcome.skipped(source, NOT_ANNOTATED)
        size_hw = (image.height, image.width) if image.height and image.width else None
        digest = digest_of([self._settings, image.file_name.encode(), repr(size_hw).encode(), *annotations])
        return CocoItem(source, image.file_name, digest, size_hw, tuple(annotations))


def _corners(box_xywh: tuple[float, float, float, float]) -> list[float]:
    """Return a box as a polygon: x1, y1, x2, y2, …."""
    left, top, width, height = box_xywh
    right, bottom = left + width, top + height
    return [left, top, right, top, right, bottom, left, bottom]
