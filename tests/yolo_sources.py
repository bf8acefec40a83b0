"""Folders of images with YOLO labels, as people have them, that are to become a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toolkit.core.driver import run_to_end
from toolkit.core.report import Report
from toolkit.yolo.preparation.job import PrepareJob, PrepareOptions

BOX = "0 0.5 0.5 0.2 0.2\n"
POLYGON = "1 0.1 0.1 0.5 0.1 0.5 0.9\n"
NAMES = "names: [cat, dog]\n"


def add(root: Path, image: str, label: str | None = BOX, *, content: bytes | None = None) -> Path:
    """Write ``images/…`` (or ``<split>/images/…``) with its label file beside it; None: without one."""
    path = root / image
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(f"pixels of {image}".encode(errors="surrogateescape") if content is None else content)
    if label is not None:
        head, _, tail = image.rpartition("images/")
        label_path = root / f"{head}labels/{tail.rpartition('.')[0]}.txt"
        label_path.parent.mkdir(parents=True, exist_ok=True)
        label_path.write_text(label)
    return path


def many(root: Path, count: int = 20, names: str = NAMES) -> Path:
    """A flat source of ``count`` images; returns its folder."""
    for number in range(count):
        add(root, f"images/frame_{number:03}.jpg")
    (root / "data.yaml").write_text(names)
    return root


def options(root: Path, **changes: Any) -> PrepareOptions:
    return PrepareOptions(**{"source": root, "output": root.parent / "out", **changes})


def prepare(root: Path, **changes: Any) -> Report:
    return run_to_end(PrepareJob(options(root, **changes)))


def images_in(output: Path) -> dict[str, str]:
    """The split of each image, by its path below the split's folder."""
    found = sorted(path.relative_to(output / "images").as_posix() for path in (output / "images").rglob("*.*"))
    return {path.partition("/")[2]: path.partition("/")[0] for path in found}
