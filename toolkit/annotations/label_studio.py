"""Label Studio's JSON exports: tasks with their annotations, and the regions of one annotation as masks.

The format is described at https://labelstud.io/guide/export (``JSON``, not ``JSON-MIN``) and, for each kind of region,
at https://labelstud.io/tags. Positions and sizes are percentages of the image's width and height; a rotation is in
degrees clockwise and turns a rectangle about its upper left corner, in pixels and not in percentages. Nothing is read
of who made an annotation: neither names nor e-mail addresses leave the file.

A file is read in two steps. The first one finds the tasks, and leaves the regions as the bytes that they are: brush
masks make up nearly all of a file. ``parse_regions`` of :mod:`toolkit.annotations.label_studio_regions` then reads
those of one annotation.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Raw, Struct

from toolkit.annotations.json_text import parse_json
from toolkit.core.errors import MvtkError
from toolkit.core.files import read_bytes

AnnotationChoice = Literal["first", "last", "all"]
PredictionUse = Literal["ignore", "fallback", "only"]
RegionKind = Literal["brush", "polygon", "rectangle", "ellipse"]

KIND_OF_TYPE: Final[Mapping[str, RegionKind]] = {
    "brush": "brush",
    "brushlabels": "brush",
    "polygon": "polygon",
    "polygonlabels": "polygon",
    "rectangle": "rectangle",
    "rectanglelabels": "rectangle",
    "ellipse": "ellipse",
    "ellipselabels": "ellipse",
}
"""What the ``type`` of a result with a shape stands for; the others are labels, choices, texts, points and so on."""

NO_RESULTS: Final = b"[]"
_LABELS: Final = "labels"
_EXPORT_AGAIN: Final = "export the project again, as JSON"


@dataclass(frozen=True, slots=True)
class Annotation:
    """What one person, or one model, has drawn in one image.

    Attributes:
        id: its number; None where the file does not say.
        created_at: when it was made, ISO 8601; empty where the file does not say.
        is_cancelled: whether the person has skipped the task instead.
        results: the list of results as JSON, for ``parse_regions``.
    """

    id: int | str | None
    created_at: str
    is_cancelled: bool
    results: bytes


@dataclass(frozen=True, slots=True)
class Task:
    """One task: an image and what was drawn in it.

    Attributes:
        id: its number, or whatever else the file calls it.
        data: the texts among its data, such as ``{"image": "/data/upload/1/0a1b2c3d-car.jpg"}``.
        file_upload: the name of the uploaded file; empty for images from elsewhere.
        annotations: in the order of the file.
        predictions: in the order of the file.
    """

    id: int | str
    data: Mapping[str, str]
    file_upload: str
    annotations: tuple[Annotation, ...]
    predictions: tuple[Annotation, ...]


class TaskProblem(NamedTuple):
    """A task that cannot be read.

    Attributes:
        place: which one it is, such as ``"tasks[3] (id 7)"``.
        text: what is wrong with it; no more of its content than types and keys.
    """

    place: str
    text: str


@dataclass(frozen=True, slots=True)
class Export:
    """The content of an export.

    Attributes:
        tasks: in the order of the file.
        problems: the tasks that cannot be read.
    """

    tasks: tuple[Task, ...]
    problems: tuple[TaskProblem, ...]


class _AnnotationRecord(Struct, gc=False, frozen=True):
    id: int | str | None = None
    created_at: str | None = None
    was_cancelled: bool | None = None
    skipped: bool | None = None
    """What ``was_cancelled`` was called before 2021."""
    result: Raw = Raw(NO_RESULTS)


class _TaskRecord(Struct, gc=False, frozen=True):
    id: int | str
    data: dict[str, Any]
    annotations: list[_AnnotationRecord] | None = None
    completions: list[_AnnotationRecord] | None = None
    """What ``annotations`` were called before 2021."""
    # A list of numbers where the export was asked not to have them in full.
    predictions: list[_AnnotationRecord | int] | None = None
    file_upload: str | None = None


class _TaskId(Struct, frozen=True):
    id: int | str | None = None


def load_export(path: Path) -> Export:
    """Read an export; see :func:`parse_export`.

    Raises:
        MvtkError: the file is missing, unreadable or no export; one line that names it and what is wrong.
    """
    return parse_export(read_bytes(path), str(path))


def parse_export(data: bytes, source: str) -> Export:
    """Read the content of an export.

    Args:
        data: UTF-8 JSON; a byte-order mark is accepted.
        source: names the file in errors.

    Raises:
        MvtkError: the data is no JSON (line and column are named), or no list of tasks.
    """
    try:
        records = msgspec.json.decode(data.removeprefix(codecs.BOM_UTF8), type=list[Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        content = parse_json(data, source, _EXPORT_AGAIN)
        if isinstance(content, list):
            raise MvtkError(f"{source}: no JSON as Label Studio writes it: {error}", _EXPORT_AGAIN) from error
        raise MvtkError(
            f"{source}: no export: a list of tasks is expected, {_found(content)}", _EXPORT_AGAIN
        ) from error
    tasks: list[Task] = []
    problems: list[TaskProblem] = []
    for index, record in enumerate(records):
        try:
            tasks.append(_task(msgspec.json.decode(record, type=_TaskRecord)))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            problems.append(TaskProblem(_place(index, record), f"{error}{_other_format(record)}"))
    if problems and not tasks:
        raise MvtkError(f"{source}: no export: {problems[0].place}: {problems[0].text}", _EXPORT_AGAIN)
    return Export(tuple(tasks), tuple(problems))


def choose_annotations(
    task: Task, which: AnnotationChoice = "last", predictions: PredictionUse = "ignore"
) -> tuple[Annotation, ...]:
    """Return the annotations of a task that count; none where it has none that was not cancelled.

    Args:
        task: the task.
        which: the first or the last one by the time at which it was made (where that is equal or unknown, by the
            order of the file), or all of them.
        predictions: whether those of models count: never, only for tasks that have no annotation, or alone.
    """
    made = [annotation for annotation in task.annotations if not annotation.is_cancelled]
    if predictions == "only" or (predictions == "fallback" and not made):
        made = list(task.predictions)
    if which == "all" or not made:
        return tuple(made)
    ordered = sorted(made, key=lambda annotation: annotation.created_at)
    return (ordered[0 if which == "first" else -1],)


def list_labels(results: bytes, kinds: Sequence[RegionKind]) -> set[str]:
    """Return the labels of the regions of some kinds, and "" where one has none, without reading their shapes.

    Nothing is said of what is wrong: ``parse_regions`` does that.
    """
    try:
        heads = msgspec.json.decode(results, type=list[_ResultHead])
        labels = [head.labels() for head in heads]
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return set()
    own_results = [(head, found) for head, found in zip(heads, labels, strict=True) if head.type == _LABELS]
    labelled_ids = {head.id for head, found in own_results if found}
    shapes = [(head, found) for head, found in zip(heads, labels, strict=True) if KIND_OF_TYPE.get(head.type) in kinds]
    shape_ids = {head.id for head, _ in shapes}
    is_any_bare = any(not found and head.id not in labelled_ids for head, found in shapes)
    named = {label for head, found in own_results if head.id in shape_ids for label in found}
    return named | {label for _, found in shapes for label in found} | ({""} if is_any_bare else set())


class _ResultHead(Struct, gc=False, frozen=True):
    type: str = ""
    id: str | None = None
    value: dict[str, Raw] | None = None

    def labels(self) -> list[str]:
        values = (self.value or {}).items()
        found = (msgspec.json.decode(value, type=list[str]) for key, value in values if key.endswith(_LABELS))
        return [label for labels in found for label in labels]


def _task(record: _TaskRecord) -> Task:
    return Task(
        record.id,
        {key: value for key, value in record.data.items() if isinstance(value, str)},
        record.file_upload or "",
        tuple(map(_annotation, [*(record.annotations or ()), *(record.completions or ())])),
        tuple(_annotation(each) for each in record.predictions or () if isinstance(each, _AnnotationRecord)),
    )


def _annotation(record: _AnnotationRecord) -> Annotation:
    is_cancelled = bool(record.was_cancelled or record.skipped)
    # Bytes of their own: a view of the file would keep all of it in memory.
    results = bytes(record.result)
    return Annotation(record.id, record.created_at or "", is_cancelled, NO_RESULTS if results == b"null" else results)


def _place(index: int, record: Raw) -> str:
    try:
        task_id = msgspec.json.decode(record, type=_TaskId).id
    except (msgspec.MsgspecError, UnicodeDecodeError):
        task_id = None
    return f"tasks[{index}]" if task_id is None else f"tasks[{index}] (id {shortened(task_id)})"


def _other_format(record: Raw) -> str:
    """Say what an object that is no task seems to be instead."""
    try:
        keys = msgspec.json.decode(record, type=dict[str, Raw]).keys()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    if "annotator" in keys or "annotation_id" in keys:
        return "; this seems to be a JSON-MIN export, which lacks what is needed"
    if "result" in keys:
        return "; this seems to be a list of annotations or predictions without their tasks"
    return ""


def _found(content: Any) -> str:
    if isinstance(content, dict) and "images" in content:
        return "and this seems to be a COCO file"
    return f"not {'an object' if isinstance(content, dict) else shortened(content)}"
