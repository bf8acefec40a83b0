"""The layout of a metadata file: one NumPy record (an array of shape ``()``), ragged arrays flat with offsets.

``np.load(path, mmap_mode="r", allow_pickle=False)`` gives the record; its fields are, for n samples with m boxes or
keypoints in all:

=================  =====================  ===========================================================================
``format``         S16                    ``b"mvtk.metadata"``
``version``        int32                  1
``kind``           S16                    ``b"detector"``, ``b"landmarker"`` or ``b"teacher"``
``info``           S                      JSON: root, split, class names, sources and how they were split
``path_bytes``     (k,) uint8             the image paths relative to the root, one after another, in UTF-8 (a name
                                          that the disk has in other bytes keeps them)
``path_starts``    (n + 1,) uint32        path i is ``path_bytes[path_starts[i]:path_starts[i + 1]]``
``image_sizes_wh`` (n, 2) uint16, uint32  width and height in pixels; 0, 0 where unknown
``boxes_xywh``     (m, 4) float32         left, top, width, height in pixels (detector; teacher: m = n)
``box_starts``     (n + 1,) uint32        boxes of sample i, as for paths (detector)
``keypoints_xyv``  (m, 3) float32         x, y, visibility: 0 not labelled, 1 hidden, 2 visible (landmarker)
``keypoint_starts`` (n + 1,) uint32       keypoints of sample i (landmarker)
``class_ids``      (m,) int16 or int32    index into the class names, -1: none; (n,) for a landmarker
=================  =====================  ===========================================================================

All numbers are little-endian. Wider ones come first, so that every field is aligned.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

import numpy as np

from toolkit.metadata.columns import ROW_WIDTHS, Kind

FORMAT: Final = b"mvtk.metadata"
VERSION: Final = 1
MAX_RECORD_BYTES: Final = 2**31 - 1
"""NumPy keeps the size of a record's fields in a C int."""

ROW_FIELDS: Final[dict[Kind, str]] = {
    "detector": "boxes_xywh",
    "landmarker": "keypoints_xyv",
    "teacher": "boxes_xywh",
}
STARTS_FIELDS: Final[dict[Kind, str]] = {"detector": "box_starts", "landmarker": "keypoint_starts"}
"""Where a sample's rows begin; a teacher sample has exactly one row."""


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """Where a run of samples came from: the name and format of the source, and how many of the samples are its."""

    name: str
    format: str
    samples: int


@dataclass(frozen=True, slots=True)
class MetadataInfo:
    """What a file says of itself beside its arrays.

    Attributes:
        root: the folder that the image paths are relative to, itself relative to the metadata file's folder.
        split: "train", "val", "test", or "" where samples of several are together.
        class_names: what the class ids stand for.
        sources: in the order of the samples.
        written_by: the program.
        split_by: how samples were shared out: seed, train_split, and what groups images; empty where unknown.
    """

    root: str
    split: str = ""
    class_names: tuple[str, ...] = ()
    sources: tuple[SourceInfo, ...] = ()
    written_by: str = ""
    split_by: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Return the JSON that a file holds; ASCII, names that are not UTF-8 as escapes."""
        return json.dumps(asdict(self)).encode("ascii")

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Return what :meth:`to_json` wrote.

        Raises:
            ValueError, TypeError: it is not of that form; the text says what is wrong.
        """
        content = json.loads(data)
        if not isinstance(content, dict):
            raise TypeError("not a JSON object")
        if "\0" in _require(content, "root", str):
            raise ValueError("`root` holds a NUL")
        _require(content, "split", str)
        _require(content, "written_by", str)
        _require(content, "split_by", dict)
        for name in _require(content, "class_names", list):
            _require({"a class name": name}, "a class name", str)
        sources = []
        for source in _require(content, "sources", list):
            if not isinstance(source, dict):
                raise TypeError("a source is not an object")
            _require(source, "name", str)
            _require(source, "format", str)
            if _require(source, "samples", int) < 0:
                raise ValueError("a source has fewer than 0 samples")
            sources.append(SourceInfo(source["name"], source["format"], source["samples"]))
        return cls(
            content["root"],
            content["split"],
            tuple(content["class_names"]),
            tuple(sources),
            content["written_by"],
            content["split_by"],
        )


def _require(content: dict[str, Any], key: str, expected: type) -> Any:
    if key not in content:
        raise ValueError(f"`{key}` is missing")
    if not isinstance(content[key], expected) or isinstance(content[key], bool):
        raise TypeError(f"`{key}` is not of type {expected.__name__}")
    return content[key]


@dataclass(frozen=True, slots=True)
class RecordShape:
    """How much a file holds; with the kind it determines the record's type.

    Attributes:
        kind: what the samples are.
        samples: n.
        rows: m, boxes or keypoints.
        path_bytes: k.
        info_bytes: length of the JSON.
        longest_side_px: the largest image side.
        classes: number of class names.
    """

    kind: Kind
    samples: int
    rows: int
    path_bytes: int
    info_bytes: int
    longest_side_px: int
    classes: int

    def fields(self) -> list[tuple[str, np.dtype[Any], tuple[int, ...]]]:
        """Return name, type and shape of each field in the order of the file."""
        side = "<u2" if self.longest_side_px <= np.iinfo(np.uint16).max else "<u4"
        class_id = "<i2" if self.classes <= np.iinfo(np.int16).max else "<i4"
        fields: list[tuple[str, str, tuple[int, ...]]] = [
            ("format", "S16", ()),
            ("version", "<i4", ()),
            ("kind", "S16", ()),
            ("info", f"S{self.info_bytes}", ()),
            ("path_starts", "<u4", (self.samples + 1,)),
            ("path_bytes", "u1", (self.path_bytes,)),
            ("image_sizes_wh", side, (self.samples, 2)),
            (ROW_FIELDS[self.kind], "<f4", (self.rows, ROW_WIDTHS[self.kind])),
            ("class_ids", class_id, (self.samples if self.kind == "landmarker" else self.rows,)),
        ]
        if self.kind in STARTS_FIELDS:
            fields.append((STARTS_FIELDS[self.kind], "<u4", (self.samples + 1,)))
        typed = [(name, np.dtype(code), shape) for name, code, shape in fields]
        return sorted(typed, key=_alignment)

    @property
    def record_bytes(self) -> int:
        """The record's size; one beyond ``MAX_RECORD_BYTES`` has no dtype."""
        return sum(dtype.itemsize * int(np.prod(shape, dtype=object)) for _, dtype, shape in self.fields())

    def dtype(self) -> np.dtype[Any]:
        """Return the record's type."""
        return np.dtype(self.fields())


def _alignment(named: tuple[str, np.dtype[Any], tuple[int, ...]]) -> tuple[int, str]:
    """Sort by falling size of a number, text last, then by name: the bytes depend on nothing else."""
    name, dtype, _ = named
    return (0 if dtype.kind == "S" else -dtype.itemsize, name)
