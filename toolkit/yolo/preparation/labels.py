"""What the label files of a dataset say: how many boxes of which class each split has, and all that is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from toolkit.annotations.yolo import LabelProblem, ParsedLabels, parse_labels
from toolkit.annotations.yolo_data_yaml import MAX_CLASSES
from toolkit.core.errors import MvtkError
from toolkit.core.files import read_bytes
from toolkit.splitting import Split


@dataclass(slots=True)
class SplitFigures:
    """What one split has.

    Attributes:
        images: how many.
        unlabelled: images without a label file, which are backgrounds to Ultralytics.
        backgrounds: images without objects, those included.
        polygon_files: label files with polygons.
        box_files: label files with boxes.
        objects: boxes and polygons by class id.
    """

    images: int = 0
    unlabelled: int = 0
    backgrounds: int = 0
    polygon_files: int = 0
    box_files: int = 0
    objects: Counter[int] = field(default_factory=Counter)


@dataclass(slots=True)
class LabelFigures:
    """What all label files together say.

    Attributes:
        splits: what each split has.
        problems: files that cannot be used, one line each with the file and the line in it.
        odd: rows that Ultralytics drops or takes although they are odd: how many, and one of them in words.
    """

    splits: dict[Split, SplitFigures] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    odd: dict[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def highest_class(self) -> int:
        """The highest class id that occurs; 0 where none does."""
        return max((class_id for split in self.splits.values() for class_id in split.objects), default=0)

    def read(self, root: Path, labelled: Iterable[tuple[Split, str]], class_count: int | None) -> None:
        """Read the label files of images.

        Args:
            root: the source.
            labelled: each image's split and label file, relative to ``root``; "" for an image without one.
            class_count: how many classes there are; None where nothing says.
        """
        for split, label in labelled:
            figures = self.splits.setdefault(split, SplitFigures())
            figures.images += 1
            if not label:
                figures.unlabelled += 1
                figures.backgrounds += 1
                continue
            try:
                data = read_bytes(root / label)
            except MvtkError as error:
                self.problems.append(str(error).removeprefix(f"{root}/"))
                continue
            parsed = parse_labels(data, class_count=MAX_CLASSES if class_count is None else class_count)
            self._add(label, data, parsed, figures)

    def _add(self, label: str, data: bytes, parsed: ParsedLabels, figures: SplitFigures) -> None:
        refused = [problem for problem in parsed.problems if problem.effect == "refused"]
        self.problems += [f"{label}:{problem.line}: {problem.text}" for problem in refused]
        if refused:
            return
        classes = Counter([box.class_id for box in parsed.boxes] + [polygon.class_id for polygon in parsed.polygons])
        polygons = bool(parsed.polygons)
        if parsed.problems:
            odd_classes, polygons = self._odd_rows(label, data, parsed.problems)
            classes += odd_classes
            polygons = polygons or bool(parsed.polygons)
        figures.objects.update(classes)
        figures.polygon_files += polygons
        figures.box_files += bool(classes) and not polygons
        figures.backgrounds += not classes

    def _odd_rows(self, label: str, data: bytes, problems: Iterable[LabelProblem]) -> tuple[Counter[int], bool]:
        """Note odd rows; return the classes of those that count nevertheless, and whether one of them is a polygon."""
        lines = data.decode(errors="replace").removeprefix("\ufeff").splitlines()
        classes: dict[int, int] = {}
        has_polygon = False
        for problem in problems:
            count, example = self.odd.get(problem.effect, (0, f"{label}:{problem.line}: {problem.text}"))
            self.odd[problem.effect] = count + 1, example
            if problem.effect == "kept":
                fields = lines[problem.line - 1].split()
                classes[problem.line] = int(float(fields[0]))
                has_polygon = has_polygon or len(fields) > 5
        return Counter(classes.values()), has_polygon
