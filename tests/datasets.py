"""Small YOLO datasets on disk, as a user's folders hold them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.builders import blob_mask, gradient, write_image
from toolkit.dataset.mask_attention import MaskAttentionOptions

LABEL = "0 0.500000 0.500000 0.250000 0.250000\n"


@dataclass
class Inputs:
    """The inputs of a conversion below one folder: ``images``, ``labels``, ``masks`` and, if mapped, a mapping."""

    root: Path
    mapping: dict[str, str] | None = None
    names: list[str] = field(default_factory=lambda: ["stenosis", "t9+"])

    def __post_init__(self) -> None:
        for folder in (self.images, self.labels, self.masks):
            folder.mkdir(parents=True, exist_ok=True)
        if self.names:
            (self.labels / "data.yaml").write_text(f"names: {json.dumps(self.names)}\n")

    @property
    def images(self) -> Path:
        return self.root / "images_root"

    @property
    def labels(self) -> Path:
        return self.root / "labels_root"

    @property
    def masks(self) -> Path:
        return self.root / "masks"

    @property
    def output(self) -> Path:
        return self.root / "out"

    def add(
        self,
        name: str = "a.png",
        split: str = "train",
        *,
        image: NDArray[Any] | None = None,
        mask: NDArray[Any] | None = None,
        label: str | None = LABEL,
        label_split: str = "",
        label_name: str = "",
    ) -> None:
        """Write one image with its mask and label; ``label=None`` writes no label."""
        stem = Path(name).with_suffix("")
        pixels = gradient() if image is None else image
        write_image(self.images / "images" / split / name, pixels)
        write_image(self.masks / f"{stem}_seg.png", blob_mask(*pixels.shape[:2]) if mask is None else mask)
        if label is not None:
            path = self.labels / "labels" / (label_split or split) / f"{label_name or stem}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(label)

    def write_mapping(self, content: object) -> Path:
        path = self.root / "mapping.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def options(self, **changes: Any) -> MaskAttentionOptions:
        """The options that convert these inputs, in this process."""
        return MaskAttentionOptions(
            **{
                "images_dataset_root": self.images,
                "labels_dataset_root": self.labels,
                "mask_folder": self.masks,
                "output_root": self.output,
                "workers": 0,
                **changes,
            }
        )

    def arguments(self, *more: str) -> list[str]:
        """The same as command-line arguments."""
        return [
            "dataset", "convert-mask-attention", "--images-dataset-root", str(self.images), "--labels-dataset-root",
            str(self.labels), "--mask-folder", str(self.masks), "--output-root", str(self.output), *more,
        ]  # fmt: skip


def many(inputs: Inputs, count: int, *, side: int = 32) -> None:
    """Add ``count`` different pairs, spread over train and val."""
    for index in range(count):
        image = np.roll(gradient(side, side), index, axis=1)
        inputs.add(f"frame_{index:04}.png", "val" if index % 4 == 3 else "train", image=image)


def tree_hash(root: Path) -> str:
    """A hash of every path and every file's content below ``root``."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(root.rglob("*")):
        digest.update(path.relative_to(root).as_posix().encode())
        if path.is_file():
            digest.update(hashlib.blake2b(path.read_bytes()).digest())
    return digest.hexdigest()


def written(root: Path) -> list[str]:
    """The files below ``root``, as relative paths."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
