"""Trees of features files with their annotations, as an SA-1B extraction leaves them, but small."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.documented_edges import EdgeMaps, annotation_json, documented_edges, encoded

HEIGHT, WIDTH = 300, 400


def masks_of(seed: int, count: int = 4, height: int = HEIGHT, width: int = WIDTH) -> list[NDArray[np.uint8]]:
    """Overlapping rectangles and ellipses, different for each seed."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    masks = []
    for number in range(count):
        centre_y, centre_x = generator.uniform(0, height), generator.uniform(0, width)
        half_h, half_w = generator.uniform(3, height / 2), generator.uniform(3, width / 2)
        dy, dx = np.abs(y - centre_y) / half_h, np.abs(x - centre_x) / half_w
        masks.append(((dy**2 + dx**2 < 1) if number % 2 else (np.maximum(dy, dx) < 1)).astype(np.uint8))
    return masks


def features(image_id: str, *, with_256: bool = True, **more: Any) -> dict[str, Any]:
    """The arrays of a features file with stale edge maps."""
    generator = np.random.default_rng(len(image_id))
    arrays: dict[str, Any] = {
        "P4_S16": generator.standard_normal((1, 4, 8, 8), dtype=np.float32),
        "edge_64x64": np.full((64, 64), 1, np.uint8),
        "image_id": np.array(image_id),
        "image_shape": np.array([HEIGHT, WIDTH, 3]),
        "edge_32x32": np.zeros((32, 32), np.uint8),
        "feature_flag": np.array(1),
        "bboxes": np.zeros((0, 4), np.float32),
    }
    if with_256:
        arrays["edge_256x256"] = np.zeros((256, 256), np.uint8)
    return arrays | more


@dataclass
class FeatureTree:
    """``npz/`` with features files and ``json/`` with annotations, below one folder."""

    root: Path

    def __post_init__(self) -> None:
        self.npz_dir.mkdir(parents=True, exist_ok=True)
        self.json_dir.mkdir(parents=True, exist_ok=True)

    @property
    def npz_dir(self) -> Path:
        return self.root / "npz"

    @property
    def json_dir(self) -> Path:
        return self.root / "json"

    def add(
        self, image_id: str, *, seed: int = 0, folder: str = "", suffix: str = "_features.npz", **arrays: Any
    ) -> Path:
        """Write one image's features file and annotation; return the features file."""
        self.add_json(image_id, masks_of(seed))
        return self.add_npz(f"{folder}/{image_id}{suffix}", features(image_id, **arrays))

    def add_json(self, image_id: str, masks: list[NDArray[np.uint8]], folder: str = "") -> Path:
        path = self.json_dir / folder / f"{image_id}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(annotation_json([encoded(mask) for mask in masks], HEIGHT, WIDTH, image_id)))
        return path

    def add_npz(self, name: str, arrays: dict[str, Any]) -> Path:
        path = self.npz_dir / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **arrays)
        return path

    def arguments(self, command: str = "update", *more: str) -> list[str]:
        """The command-line arguments of ``edges update`` or ``edges verify``."""
        return ["edges", command, "--npz-dir", str(self.npz_dir), "--json-dir", str(self.json_dir), *more]


def expected_maps(seed: int, kernel_size: int = 3) -> EdgeMaps:
    """What the documented algorithm makes of an image that was added with ``seed``."""
    return documented_edges(masks_of(seed), HEIGHT, WIDTH, kernel_size)


def raw_members(path: Path) -> dict[str, bytes]:
    """The bytes of each member as they lie in the file, local header and data, by name."""
    content = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
        ends = [*(info.header_offset for info in infos[1:]), archive.start_dir]
        return {info.filename: content[info.header_offset : end] for info, end in zip(infos, ends, strict=True)}
