"""The class names of a dataset to be prepared: from a data YAML, a list of names, or the summary of SAM data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from toolkit.annotations.plain_text import decode_text
from toolkit.annotations.yolo_data_yaml import find_data_yaml, load_data_yaml
from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.core.files import read_bytes
from toolkit.sam.layout import SUMMARY, read_summary
from toolkit.yolo.preparation.source import CLASSES_NAME, LabelFolder

_RGB: Final = 3
_LISTS: Final = (CLASSES_NAME, "obj.names", f"labels/{CLASSES_NAME}")
"""Lists of names, one a line: Label Studio's, Darknet's, labelImg's."""
_YAML_SUFFIXES: Final = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class ClassNames:
    """The class names of a source.

    Attributes:
        names: by id, in order of the ids; None where nothing says them.
        channels: how many channels the images have.
        groups: the group of each id of an image that has one, as the summary of SAM data says.
        remarks: what a person should know.
    """

    names: dict[int, str] | None
    channels: int = _RGB
    groups: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def class_count(self) -> int | None:
        """The number of ids from 0 to the highest that has a name; None where there are no names."""
        return max(self.names) + 1 if self.names else None


def read_class_names(root: Path, label_folder: LabelFolder, names_file: Path | None) -> ClassNames:
    """Return the class names of a source.

    Args:
        root: the source.
        label_folder: ``"boxes"`` for SAM data, whose ``summary.json`` may name classes and groups.
        names_file: a data YAML, or a text file with one name a line; None: the source's own data YAML, else
            ``classes.txt`` or ``obj.names``, else the summary.

    Raises:
        InputProblemsError: all that is wrong in the file.
        MvtkError: it cannot be read, or it is not clear which one is meant.
    """
    names_of_summary, groups = _read_summary(root) if label_folder == "boxes" else ({}, {})
    if names_file is not None:
        if names_file.suffix.lower() in _YAML_SUFFIXES:
            return _from_yaml(names_file, groups)
        return ClassNames(_read_list(names_file), groups=groups)
    try:
        data_yaml = find_data_yaml(root)
    except MvtkError as error:
        raise MvtkError(error.message, "choose one with --names-yaml") from error
    lists = [root / name for name in _LISTS if (root / name).is_file()]
    if data_yaml is not None:
        found = _from_yaml(data_yaml, groups)
        others = [path for path in lists if _read_list(path) != found.names]
        remarks = tuple(
            f"{path.name} names the classes otherwise than {data_yaml.name}, which was taken" for path in others
        )
        return ClassNames(found.names, found.channels, groups, remarks)
    if lists:
        return ClassNames(_read_list(lists[0]), groups=groups)
    if names_of_summary:
        return ClassNames(names_of_summary, groups=groups)
    remark = (
        f"classes are called class_0, class_1 …: no data.yaml, {', '.join(_LISTS[:2])}; name them with --names-yaml"
    )
    return ClassNames(None, groups=groups, remarks=(remark,))


def _from_yaml(path: Path, groups: dict[str, str]) -> ClassNames:
    data = load_data_yaml(path)
    if data.raw.get("kpt_shape") is not None:
        raise MvtkError(f"{path}: kpt_shape: labels with keypoints are not taken", "use labels with boxes or polygons")
    return ClassNames(data.names, data.channels, groups)


def _read_list(path: Path) -> dict[int, str]:
    """Return the names of a text file, one a line; blank lines at its end do not count."""
    lines = [line.strip() for line in decode_text(read_bytes(path), str(path)).rstrip().splitlines()]
    problems = [f"line {number}: no name" for number, line in enumerate(lines, 1) if not line]
    if problems or not lines:
        raise InputProblemsError(str(path), problems or ["no names"], "it has one class name a line")
    return dict(enumerate(lines))


def _read_summary(root: Path) -> tuple[dict[int, str], dict[str, str]]:
    if not (root / SUMMARY).is_file():
        return {}, {}
    summary = read_summary(root / SUMMARY)
    return dict(enumerate(summary.class_names)), dict(summary.groups or {})
