"""What a run of Ultralytics is told of its dataset: a data YAML of ours, in which nothing is downloaded or executed.

It is written to the scratch folder and read back by every process of the run: the keys that Ultralytics knows hold
absolute paths, and ``mvtk`` what the datasets, models and trainers of ours need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from toolkit.core.files import read_bytes, write_bytes
from toolkit.yolo.source import Attention, Kind, YoloSource

_KEY: Final = "mvtk"
_LIST_SUFFIX: Final = ".txt"


@dataclass(frozen=True, slots=True)
class RunData:
    """The dataset of a run.

    Attributes:
        data_yaml: the user's own data YAML, which checkpoints name.
        kind: pairs or plain images.
        attention: what becomes of the masks; never ``auto``.
        cache_folder: for images cached on disk.
        class_count: how many classes the labels have; ``single_cls`` hides it from Ultralytics.
        lr0: the learning rate that was asked for; None: Ultralytics' own choice.
    """

    data_yaml: Path
    kind: Kind
    attention: Attention
    cache_folder: Path
    class_count: int
    lr0: float | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> RunData:
        """Return what a data YAML of ours says, as Ultralytics has read it."""
        values = data[_KEY]
        return cls(
            Path(values["data_yaml"]),
            values["kind"],
            values["attention"],
            Path(values["cache_folder"]),
            values["class_count"],
            values["lr0"],
        )

    def images(self, listing: str | Sequence[str]) -> tuple[str, ...]:
        """Return the images that a split's key names: lists of paths, one a line."""
        files = [listing] if isinstance(listing, str) else listing
        return tuple(line for file in files for line in read_bytes(file).decode("utf-8", "surrogateescape").split("\0"))

    def save(self, folder: Path, source: YoloSource, channels: int) -> Path:
        """Write the data YAML of a run, and a list of images a split.

        Args:
            folder: where to; of this run alone.
            source: the dataset.
            channels: how many a model gets.

        Returns:
            the YAML.
        """
        splits = {}
        for split, images in source.splits.items():
            # A NUL ends a path: a line break may be part of one.
            listing = folder / f"{split}{_LIST_SUFFIX}"
            write_bytes(listing, "\0".join(images).encode("utf-8", "surrogateescape"), overwrite=True)
            splits[split] = str(listing)
        any_split = next(iter(splits.values()))
        content = {
            "path": str(folder),
            "train": splits.get("train", any_split),
            "val": splits.get("val", any_split),
            **splits,
            "channels": channels,
            "nc": len(source.names),
            "names": dict(source.names),
            _KEY: {
                "data_yaml": str(self.data_yaml),
                "kind": self.kind,
                "attention": self.attention,
                "cache_folder": str(self.cache_folder),
                "class_count": self.class_count,
                "lr0": self.lr0,
            },
        }
        path = folder / "data.yaml"
        write_bytes(path, yaml.safe_dump(content, sort_keys=False).encode(), overwrite=True)
        return path
