"""A YOLO dataset as training finds it: the images of each split, what kind they are of, and the class names.

The data YAML is read as Ultralytics reads it (``check_det_dataset`` in ``ultralytics/data/utils.py``, 8.4), but nothing
is downloaded and no code in it is run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from toolkit.annotations.plain_text import decode_text
from toolkit.annotations.yolo_data_yaml import DataYaml, find_data_yaml, load_data_yaml
from toolkit.core.errors import InputProblemsError, MvtkError, OptionError, collected
from toolkit.core.files import read_bytes
from toolkit.core.listing import list_files
from toolkit.npz.pair_options import RGB_AND_MASK
from toolkit.yolo.preparation.source import IMAGE_SUFFIXES, PAIR_SUFFIX

Kind = Literal["pairs", "images"]
Attention = Literal["auto", "none", "channel", "mask-cbam"]

_YAML_SUFFIXES: Final = frozenset({".yaml", ".yml"})
_SUFFIXES: Final = IMAGE_SUFFIXES | {PAIR_SUFFIX}
_LIST_SUFFIX: Final = ".txt"
_RGB: Final = 3
_HINT: Final = "mvtk dataset convert-mask-attention and mvtk yolo prepare make datasets that training takes"


@dataclass(frozen=True, slots=True)
class YoloSource:
    """A dataset to train on.

    Attributes:
        data_yaml: the file that describes it.
        names: class names by id, without gaps.
        splits: for each split, the absolute paths of its images, sorted.
        kind: ``pairs`` of image and mask (NPZ), or plain ``images``.
        stored_channels: how many channels the images have as they are stored: 4 for pairs.
    """

    data_yaml: Path
    names: Mapping[int, str]
    splits: Mapping[str, tuple[str, ...]]
    kind: Kind
    stored_channels: int

    def attention(self, asked: Attention) -> Attention:
        """Return what becomes of the masks: what was asked for, ``auto`` decided."""
        if asked != "auto":
            return asked
        return "channel" if self.kind == "pairs" else "none"

    def channels(self, attention: Attention) -> int:
        """Return how many channels a model gets.

        Args:
            attention: ``none`` leaves the masks of pairs out; ``auto`` is ``channel`` for pairs, else ``none``.

        Raises:
            OptionError: there are no masks for the attention.
        """
        if self.kind == "images":
            if attention not in ("auto", "none"):
                raise OptionError(
                    f"--attention {attention} needs masks, and {self.data_yaml} lists plain images",
                    "make pairs of image and mask with mvtk dataset convert-mask-attention",
                )
            return self.stored_channels
        return _RGB if attention == "none" else RGB_AND_MASK


def find_source(data: Path, wanted: Sequence[str]) -> YoloSource:
    """Return the dataset that ``data`` stands for.

    Args:
        data: a data YAML, or a folder with one.
        wanted: the splits that are needed; others are left out.

    Raises:
        InputProblemsError: splits are missing or empty, or their images are of two kinds; all of it.
        MvtkError: there is no data YAML, or it is not valid.
    """
    data_yaml = _data_yaml(data)
    problems: list[str] = []
    splits: dict[str, tuple[str, ...]] = {}
    for split in wanted:
        entries = data_yaml.splits.get(split)
        if not entries:
            problems.append(f"no split {split!r}; it has {', '.join(data_yaml.splits) or 'none'}")
            continue
        with collected(problems):
            splits[split] = _images(data_yaml, split, entries)
    kind = _kind(splits, problems)
    if problems:
        raise InputProblemsError(str(data_yaml.path), problems, _HINT)
    names = {class_id: data_yaml.names.get(class_id, f"class_{class_id}") for class_id in range(data_yaml.class_count)}
    return YoloSource(data_yaml.path, names, splits, kind, RGB_AND_MASK if kind == "pairs" else data_yaml.channels)


def require_apart(output: Path, source: YoloSource) -> None:
    """Check that results do not go where a dataset's images are looked for.

    Raises:
        OptionError: the folder is one of those that hold images, or lies in one.
    """
    resolved = output.resolve()
    folders = {os.path.dirname(image) for images in source.splits.values() for image in images}  # noqa: PTH120 - a million
    for folder in (resolved, *resolved.parents):
        if str(folder) in folders:
            raise OptionError(f"--output {output} lies among the images in {folder}", "give a folder elsewhere")


def label_path_of(image: str) -> str:
    """Return an image's label file: the last folder ``images`` in its path becomes ``labels``, its suffix ``.txt``.

    Source: ``img2label_paths`` in ``ultralytics/data/utils.py`` (8.4).
    """
    before, folder, after = image.rpartition(f"{os.sep}images{os.sep}")
    path = f"{before}{os.sep}labels{os.sep}{after}" if folder else image
    return f"{path.rpartition('.')[0]}.txt"


def _data_yaml(data: Path) -> DataYaml:
    if data.is_dir():
        found = find_data_yaml(data)
        if found is None:
            raise MvtkError(f"{data}: no data YAML: the class names and splits are not known", _HINT)
        return load_data_yaml(found)
    if not data.exists():
        raise MvtkError(f"{data}: no such file or folder", "give a dataset's folder or its data YAML")
    if data.suffix.lower() not in _YAML_SUFFIXES:
        raise MvtkError(f"{data}: not a data YAML", "give a dataset's folder or its data YAML")
    return load_data_yaml(data)


def _images(data_yaml: DataYaml, split: str, entries: Sequence[str]) -> tuple[str, ...]:
    """Return the absolute paths of a split's images, sorted, each once.

    Raises:
        MvtkError: a path does not exist, or there are no images.
    """
    root = _root(data_yaml)
    found: set[str] = set()
    for entry in entries:
        path = _resolved(root, entry)
        if path is None:
            raise MvtkError(f"{split}: {root / entry} does not exist")
        if path.is_dir():
            found.update(os.path.join(path, name) for name in list_files(path, _SUFFIXES))  # noqa: PTH118 - a million
        elif path.suffix.lower() == _LIST_SUFFIX:
            found.update(_listed(path))
        else:
            found.add(str(path))
    if not found:
        raise MvtkError(f"{split}: no images in {', '.join(str(root / entry) for entry in entries)}")
    return tuple(sorted(found))


def _root(data_yaml: DataYaml) -> Path:
    """Return what the paths of splits are relative to: the key ``path``, itself relative to the file or to here."""
    folder = data_yaml.path.absolute().parent
    given = data_yaml.raw.get("path")
    if not isinstance(given, str) or not given:
        return folder
    beside = folder / given
    here = Path(given).absolute()
    return here if here.exists() and not beside.exists() else beside


def _resolved(root: Path, entry: str) -> Path | None:
    """Return an entry's path; Roboflow's exports write ``../train/images`` for ``train/images``."""
    for candidate in (entry, entry.removeprefix("../")):
        path = root / candidate
        if path.exists():
            return path.resolve()
    return None


def _listed(path: Path) -> list[str]:
    """Return the images that a text file lists, a line each; ``./`` stands for its own folder."""
    lines = [line.strip() for line in decode_text(read_bytes(path), str(path)).splitlines()]
    images = [
        str((path.parent / line).absolute() if line.startswith("./") else Path(line).absolute())
        for line in lines
        if line
    ]
    return [image for image in images if Path(image).suffix.lower() in _SUFFIXES]


def _kind(splits: Mapping[str, Sequence[str]], problems: list[str]) -> Kind:
    counts = {
        split: (pairs := sum(image.lower().endswith(PAIR_SUFFIX) for image in images), len(images) - pairs)
        for split, images in splits.items()
    }
    pairs, plain = (sum(column) for column in zip(*counts.values(), strict=True)) if counts else (0, 0)
    if pairs and plain:
        found = ", ".join(f"{split} has {npz} NPZ files and {images} images" for split, (npz, images) in counts.items())
        problems.append(f"pairs of image and mask and plain images together: {found}")
    return "pairs" if pairs else "images"
