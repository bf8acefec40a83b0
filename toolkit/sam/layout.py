"""Where everything is in a folder of SAM training data, and what its ``summary.json`` says.

The layout is that of the yolo-sam-training package: ``images/<id>.png`` (or another usual suffix),
``masks/<id>_<k>.png`` with k from 0, ``boxes/<id>.txt`` with one YOLO line a mask in the order of k, and
``summary.json``, a JSON object with these keys (others are passed over):

- ``task_ids``: the ids of the samples, texts or whole numbers;
- ``class_names`` (optional): the names of the classes 0, 1, …;
- ``groups`` (optional): the group of each id that has one; samples of one group, such as the images of one patient,
  stay on one side of a split.

An id is any stem of a file name. A mask's number is what follows the last underscore of its name, so that
``a_1_0.png`` is mask 0 of ``a_1`` and ``a_1.png`` mask 1 of ``a``, whatever images there are.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from toolkit.annotations.json_text import parse_json
from toolkit.annotations.problems import raise_problems
from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.core.files import read_bytes
from toolkit.core.listing import is_folder, require_folder, visible_entries
from toolkit.images.search import image_stem

IMAGES: Final = "images"
MASKS: Final = "masks"
BOXES: Final = "boxes"
SUMMARY: Final = "summary.json"

HINT: Final = "mvtk sam verify lists all problems"
_SUMMARY_HINT: Final = 'it is a JSON object such as {"task_ids": ["image1", "image2"]}'

# What problems and leftovers are counted under.
BAD_SUMMARY: Final = "bad summary.json"
NO_IMAGE: Final = "no image"
TWO_IMAGES: Final = "two images"
NO_BOXES: Final = "no boxes"
MASK_NUMBERS: Final = "mask numbers"
NOT_LISTED: Final = "not in summary.json"
NO_SAMPLE: Final = "belongs to no image"


@dataclass(frozen=True, slots=True)
class SampleFiles:
    """The files of one sample; names, not paths, as a dataset has a great many of them.

    Attributes:
        root: the dataset's folder.
        id: the sample's id.
        image_name: the image file in ``images``.
        mask_names: the mask files in ``masks``, in the order of their numbers.
    """

    root: Path
    id: str
    image_name: str
    mask_names: tuple[str, ...]

    @property
    def image(self) -> Path:
        """The image file."""
        return self.root / IMAGES / self.image_name

    @property
    def masks(self) -> tuple[Path, ...]:
        """The mask files, in the order of their numbers; none for an image without instances."""
        return tuple(self.root / MASKS / name for name in self.mask_names)

    @property
    def boxes(self) -> Path:
        """The box file, which an image without instances may lack."""
        return self.root / BOXES / f"{self.id}.txt"


@dataclass(frozen=True, slots=True)
class SamLayout:
    """A folder of SAM training data.

    Attributes:
        root: the folder.
        samples: its samples, sorted by id.
        class_names: the names of the classes; empty where ``summary.json`` has none.
        groups: the group of each sample that has one.
    """

    root: Path
    samples: tuple[SampleFiles, ...]
    class_names: tuple[str, ...]
    groups: Mapping[str, str]

    @property
    def class_count(self) -> int | None:
        """The number of classes; None where it is not known."""
        return len(self.class_names) or None

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the samples, sorted."""
        return tuple(files.id for files in self.samples)


@dataclass(frozen=True, slots=True)
class Summary:
    """What ``summary.json`` says.

    Attributes:
        ids: the ids of the samples, in the order of the file.
        class_names: see :class:`SamLayout`.
        groups: see :class:`SamLayout`.
    """

    ids: tuple[str, ...]
    class_names: tuple[str, ...] = ()
    groups: Mapping[str, str] | None = None


class LayoutProblem(NamedTuple):
    """One thing that is wrong with the files of a dataset.

    Attributes:
        source: the file concerned, relative to the dataset, POSIX style.
        kind: the category under which it is counted.
        text: what is wrong, without the file.
        sample_id: of the sample concerned; "" where there is none.
    """

    source: str
    kind: str
    text: str
    sample_id: str = ""


@dataclass(frozen=True, slots=True)
class LayoutScan:
    """What one look at the folders of a dataset found.

    Attributes:
        layout: the samples that have one image.
        problems: what keeps samples from being read as they were meant, by file.
        leftovers: what is part of no sample; harmless in itself, but a sign that something is missing.
    """

    layout: SamLayout
    problems: tuple[LayoutProblem, ...]
    leftovers: tuple[LayoutProblem, ...]


def read_layout(root: Path) -> SamLayout:
    """Return what is in a folder of SAM training data; nothing but ``summary.json`` is opened.

    An image without masks is a sample without instances. Files that belong to no sample are passed over.

    Raises:
        InputProblemsError: all that is wrong: images, boxes or masks that are missing, two images of one id, two masks
            of one number; the first 20 in words.
        MvtkError: the folder or one of its parts is missing, or ``summary.json`` is unusable.
    """
    scan = scan_layout(root)
    raise_problems(str(root), [f"{problem.source}: {problem.text}" for problem in scan.problems], HINT)
    return scan.layout


def scan_layout(root: Path) -> LayoutScan:
    """Return what is in a folder of SAM training data, with what is wrong with it.

    Raises:
        MvtkError: as for :func:`read_layout`.
    """
    require_folder(root, "give the folder with images, masks, boxes and summary.json")
    missing = [f"no folder {name}" for name in (IMAGES, MASKS, BOXES) if not is_folder(root / name)]
    if missing:
        raise InputProblemsError(str(root), missing, "give the folder with images, masks, boxes and summary.json")
    return _Folders.list(root).scan(read_summary(root / SUMMARY))


def read_summary(path: Path) -> Summary:
    """Read a ``summary.json``.

    Raises:
        InputProblemsError: all problems of its values.
        MvtkError: the file is missing, or no JSON object.
    """
    content = parse_json(read_bytes(path), str(path), _SUMMARY_HINT)
    if not isinstance(content, dict):
        raise MvtkError(f"{path}: not a JSON object", _SUMMARY_HINT)
    problems: list[str] = []
    ids = _ids(content.get("task_ids"), problems)
    names = content.get("class_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        problems.append("class_names: not a list of texts")
    groups = content.get("groups", {})
    if not isinstance(groups, dict) or not all(_is_name(group) for group in groups.values()):
        problems.append("groups: not an object of id: group")
    raise_problems(str(path), problems, _SUMMARY_HINT)
    return Summary(tuple(ids), tuple(names), {sample_id: str(group) for sample_id, group in groups.items()})


def format_summary(summary: Summary) -> str:
    """Return the text of a ``summary.json``."""
    content: dict[str, Any] = {"task_ids": list(summary.ids)}
    if summary.class_names:
        content["class_names"] = list(summary.class_names)
    if summary.groups:
        content["groups"] = dict(summary.groups)
    return json.dumps(content, indent=2) + "\n"


def mask_name(sample_id: str, number: int) -> str:
    """Return the name of the file of a sample's mask."""
    return f"{sample_id}_{number}.png"


def parse_mask_name(name: str) -> tuple[str, int] | None:
    """Return the sample's id and the mask's number; None for what is no name of a mask."""
    stem, _, ending = name.rpartition(".")
    sample_id, _, number = stem.rpartition("_")
    if ending.lower() != "png" or not sample_id or not (number.isascii() and number.isdecimal()):
        return None
    return sample_id, int(number)


def _ids(value: Any, problems: list[str]) -> list[str]:
    if not isinstance(value, list):
        problems.append("task_ids: missing" if value is None else "task_ids: not a list")
        return []
    ids = [str(entry) for entry in value if _is_name(entry)]
    if len(ids) < len(value):
        problems.append(f"task_ids: {len(value) - len(ids)} entries are neither texts nor whole numbers")
    problems += [f"task_ids: {sample_id!r} cannot be part of a file name" for sample_id in ids if _is_odd(sample_id)]
    problems += [f"task_ids: {sample_id!r} is listed {count} times" for sample_id, count in _repeated(ids)]
    return ids


def _is_name(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _is_odd(sample_id: str) -> bool:
    """Tell whether an id would lead out of the dataset's folders or name no file."""
    return not sample_id or "/" in sample_id or "\0" in sample_id


def _repeated(ids: list[str]) -> Iterator[tuple[str, int]]:
    return ((sample_id, count) for sample_id, count in Counter(ids).items() if count > 1)


@dataclass(frozen=True, slots=True)
class _Folders:
    """The names in the three folders.

    Attributes:
        root: the dataset's folder.
        images: the image files of each id, sorted.
        masks: the number and name of each mask of an id, sorted by number.
        boxes: the ids with a box file.
        others: what has no name of an image, a mask or a box file, relative to ``root``.
    """

    root: Path
    images: Mapping[str, list[str]]
    masks: Mapping[str, list[tuple[int, str]]]
    boxes: set[str]
    others: list[str]

    @classmethod
    def list(cls, root: Path) -> _Folders:
        images: dict[str, list[str]] = {}
        masks: dict[str, list[tuple[int, str]]] = {}
        others: list[str] = []
        for name in _names(root / IMAGES):
            images.setdefault(image_stem(name), []).append(name)
        others += [f"{IMAGES}/{name}" for name in images.pop("", ())]
        for name in _names(root / MASKS):
            parsed = parse_mask_name(name)
            if parsed is None:
                others.append(f"{MASKS}/{name}")
            else:
                masks.setdefault(parsed[0], []).append((parsed[1], name))
        box_names = _names(root / BOXES)
        others += [f"{BOXES}/{name}" for name in box_names if not name.endswith(".txt")]
        boxes = {name.removesuffix(".txt") for name in box_names if name.endswith(".txt")}
        return cls(root, images, {sample_id: sorted(found) for sample_id, found in masks.items()}, boxes, others)

    def scan(self, summary: Summary) -> LayoutScan:
        problems: list[LayoutProblem] = []
        samples = []
        for sample_id in sorted(summary.ids):
            files = self._sample(sample_id)
            problems += self._problems(sample_id)
            if files is not None:
                samples.append(files)
        layout = SamLayout(self.root, tuple(samples), summary.class_names, summary.groups or {})
        return LayoutScan(layout, tuple(problems), tuple(self._leftovers(summary)))

    def _sample(self, sample_id: str) -> SampleFiles | None:
        names = self.images.get(sample_id, [])
        masks = tuple(name for _, name in self.masks.get(sample_id, ()))
        return SampleFiles(self.root, sample_id, names[0], masks) if len(names) == 1 else None

    def _problems(self, sample_id: str) -> Iterator[LayoutProblem]:
        names = self.images.get(sample_id, [])
        if not names:
            yield LayoutProblem(f"{IMAGES}/{sample_id}", NO_IMAGE, "no such image, and task_ids lists it", sample_id)
        if len(names) > 1:
            yield LayoutProblem(f"{IMAGES}/{names[0]}", TWO_IMAGES, f"{names[1]} is an image of the same id", sample_id)
        masks = self.masks.get(sample_id, [])
        if masks and sample_id not in self.boxes:
            yield LayoutProblem(
                f"{BOXES}/{sample_id}.txt", NO_BOXES, f"no such file, and there are {len(masks)} masks", sample_id
            )
        numbers = [number for number, _ in masks]
        if numbers != list(range(len(numbers))):
            text = f"the masks are numbered {_shortened(numbers)}, not from 0 on without a gap"
            yield LayoutProblem(f"{MASKS}/{masks[0][1]}", MASK_NUMBERS, text, sample_id)

    def _leftovers(self, summary: Summary) -> Iterator[LayoutProblem]:
        listed = set(summary.ids)
        for sample_id in sorted(set(summary.groups or ()) - listed):
            yield LayoutProblem(SUMMARY, BAD_SUMMARY, f"the group of {sample_id!r}, which task_ids does not list")
        for sample_id in sorted(self.images.keys() - listed):
            yield LayoutProblem(f"{IMAGES}/{self.images[sample_id][0]}", NOT_LISTED, "task_ids does not list it")
        known = listed | self.images.keys()
        for sample_id in sorted(self.masks.keys() - known):
            for _, name in self.masks[sample_id]:
                yield LayoutProblem(f"{MASKS}/{name}", NO_SAMPLE, f"there is no image {sample_id!r}")
        for sample_id in sorted(self.boxes - known):
            yield LayoutProblem(f"{BOXES}/{sample_id}.txt", NO_SAMPLE, f"there is no image {sample_id!r}")
        for name in sorted(self.others):
            yield LayoutProblem(name, NO_SAMPLE, "not named as an image, a mask (<id>_<k>.png) or boxes (<id>.txt)")


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in visible_entries(folder))


def _shortened(numbers: list[int], shown: int = 12) -> str:
    more = ", …" if len(numbers) > shown else ""
    return ", ".join(map(str, numbers[:shown])) + more
