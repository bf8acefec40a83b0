"""The data YAML of a YOLO dataset: its class names and the folders of its splits.

It is read as ``check_det_dataset`` in ``ultralytics/data/utils.py`` (8.4) reads it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from toolkit.annotations.yolo import parse_number, shown
from toolkit.core.config import load_yaml
from toolkit.core.errors import InputProblemsError, MvtkError, one_line
from toolkit.core.files import explain_os_error, read_bytes

MAX_CLASSES = 100_000
"""Class ids end here: far above any data set's, so that a stray number does not fill the memory with names."""

_DATA_YAML_NAMES = ("data.yaml", "dataset.yaml", "data.yml")
_NAMES_KEY = re.compile(rb"""^(?:names|"names"|'names')[ \t]*:""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class DataYaml:
    """What a YOLO data YAML says.

    Attributes:
        path: the file.
        names: class names by id, in order of the ids, which may have gaps.
        splits: for ``train``, ``val`` and ``test``, where given, the paths as they are written in the file.
        channels: how many channels the images have; 3 where the file does not say.
        raw: everything in the file.
    """

    path: Path
    names: dict[int, str]
    splits: dict[str, list[str]]
    channels: int
    raw: dict[Any, Any]

    @property
    def class_count(self) -> int:
        """The number of ids from 0 to the highest that has a name."""
        return max(self.names) + 1


def load_data_yaml(path: Path) -> DataYaml:
    """Read a YOLO data YAML.

    Names are a list or a mapping from ids; with ``nc`` alone they are ``class_0``, ``class_1`` and so on, as in
    Ultralytics. Unlike there, ids may have gaps.

    Raises:
        InputProblemsError: keys that are missing, wrong or contradict each other, all of them.
        MvtkError: the file cannot be read, or is not valid YAML.
    """
    raw = load_yaml(path)
    if not isinstance(raw, dict):
        raise InputProblemsError(str(path), ["not a mapping of keys to values"], "a data YAML needs a 'names' key")
    problems: list[str] = []
    names = _read_names(raw, problems)
    splits = _read_splits(raw, problems)
    channels = _whole_number(raw.get("channels", 3))
    if channels is None or channels < 1:
        problems.append(f"channels: {shown(str(raw['channels']))} is not a whole number from 1 on")
    if problems or channels is None:
        raise InputProblemsError(str(path), problems, "correct the file")
    return DataYaml(path, names, splits, channels, raw)


def find_data_yaml(root: Path) -> Path | None:
    """Return a dataset's data YAML: ``data.yaml``, ``dataset.yaml`` or ``data.yml``, else the only one with ``names``.

    Raises:
        MvtkError: there are several candidates, or the folder cannot be read.
    """
    try:
        paths = sorted(path for path in root.iterdir() if path.suffix in {".yaml", ".yml"} and path.is_file())
    except OSError as error:
        raise explain_os_error(error, root, "list the folder") from error
    candidates = [path for path in paths if path.name in _DATA_YAML_NAMES]
    candidates = candidates or [path for path in paths if _NAMES_KEY.search(read_bytes(path))]
    if len(candidates) > 1:
        found = ", ".join(path.name for path in candidates)
        raise MvtkError(
            f"{root}: several data YAMLs: {found}", "keep the one that is meant, or call it data.yaml alone"
        )
    return candidates[0] if candidates else None


def format_data_yaml(names: Mapping[int, str], splits: Sequence[str], *, channels: int = 4, comment: str = "") -> str:
    """Return the text of a data YAML for a dataset laid out as ``images/<split>``, as Ultralytics 8.4 reads it.

    There is no ``path`` key: Ultralytics then takes the YAML's own folder, and the dataset can be moved. It demands the
    keys ``train`` and ``val``: a split called ``train2017`` stands for ``train``, and a key without a split is null. It
    also demands ids without gaps: one without a name is called ``class_<id>``.

    Args:
        names: class names by id; at least one.
        splits: the splits that exist.
        channels: how many channels the images have.
        comment: text for the top of the file.
    """
    class_count = max(names) + 1
    folders = {split: f"images/{split}" for split in splits}
    content = {
        **{role: folders.get(role) or _folder_named_like(role, folders) for role in ("train", "val")},
        **folders,
        "channels": channels,
        "nc": class_count,
        "names": {class_id: names.get(class_id, f"class_{class_id}") for class_id in range(class_count)},
    }
    header = "".join(f"# {one_line(line)}\n" for line in comment.splitlines())
    # PyYAML writes some unprintable characters, such as U+0085, so that they read back as others, unless it may escape.
    is_printable = all(name.isprintable() for name in names.values())
    return header + yaml.safe_dump(content, sort_keys=False, allow_unicode=is_printable, width=math.inf)


def _folder_named_like(role: str, folders: Mapping[str, str]) -> str | None:
    """Return the folder of the only split whose name begins with ``role``, as ``train2017`` does."""
    alike = [folder for split, folder in folders.items() if split.startswith(role)]
    return alike[0] if len(alike) == 1 else None


def _read_names(raw: Mapping[Any, Any], problems: list[str]) -> dict[int, str]:
    """Return the class names by id, in order of the ids; what is wrong is added to ``problems``."""
    given = raw.get("names")
    class_count = None
    if "nc" in raw:
        class_count = _whole_number(raw["nc"])
        if class_count is None or not 1 <= class_count <= MAX_CLASSES:
            problems.append(f"nc: {shown(str(raw['nc']))} is not a whole number from 1 to {MAX_CLASSES}")
            class_count = None
    if given is None:
        if "nc" not in raw:
            problems.append("names: missing, and so is nc")
        return {class_id: f"class_{class_id}" for class_id in range(class_count or 0)}
    if not isinstance(given, (list, dict)):
        problems.append("names: not a list, nor a mapping from class ids")
        return {}
    names: dict[int, str] = {}
    for key, name in given.items() if isinstance(given, dict) else enumerate(given):
        class_id = _whole_number(key)
        if class_id is None or not 0 <= class_id < MAX_CLASSES:
            problems.append(f"names: {shown(str(key))} is not a class id, a whole number from 0 on")
        elif name is None or isinstance(name, (list, dict)):
            problems.append(f"names: class {class_id} has no name")
        elif class_id in names:
            problems.append(f"names: class {class_id} is given twice")
        else:
            names[class_id] = str(name)
    if not given:
        problems.append("names: empty")
    if class_count is not None and class_count != len(given):
        problems.append(f"nc: {class_count}, but there are {len(given)} names")
    return dict(sorted(names.items()))


def _read_splits(raw: Mapping[Any, Any], problems: list[str]) -> dict[str, list[str]]:
    """Return the paths of each split that is given; what is wrong is added to ``problems``."""
    splits: dict[str, list[str]] = {}
    for key, split in (("train", "train"), ("validation", "val"), ("val", "val"), ("test", "test")):
        given = raw.get(key)
        paths = [given] if isinstance(given, str) else given
        if not paths:
            continue
        if isinstance(paths, list) and all(isinstance(path, str) for path in paths):
            splits[split] = paths
        else:
            problems.append(f"{key}: not a path or a list of paths")
    return splits


def _whole_number(value: object) -> int | None:
    """Return a whole number that YAML may also have given as text or as a float; None for anything else."""
    if isinstance(value, int):
        return None if isinstance(value, bool) else value
    if not isinstance(value, (float, str)):
        return None
    number = parse_number(value) if isinstance(value, str) else value
    return int(number) if number is not None and math.isfinite(number) and number == int(number) else None
