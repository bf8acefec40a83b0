"""Makers of raw data folders, as people download and export them, for tests of ``dataset process``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.builders import gradient, write_image
from tests.file_trees import make_files
from toolkit.metadata.columns import Kind
from toolkit.metadata.reading import open_metadata

SIZE_WH = (64, 48)
"""Width and height of every image, in pixels."""

Box = Sequence[float]
Boxes = Mapping[str, Sequence[Box]]
"""The boxes of each image, by its name: left, top, width and height."""

Sample = tuple[str, list[list[float]], list[str]]
"""What a metadata file says of a sample: image path, rows, and class names, "" for none."""


@dataclass(frozen=True)
class RawTree:
    """A raw data folder, and the folder for what is made of it beside it."""

    root: Path

    @property
    def raw(self) -> Path:
        return self.root / "raw"

    @property
    def output(self) -> Path:
        return self.root / "preprocessed"

    def arguments(self, *more: str, workers: int = 0) -> list[str]:
        """The command line of a quiet run."""
        folders = ["--raw-data-dir", str(self.raw), "--output-dir", str(self.output)]
        return ["dataset", "process", *folders, "--workers", str(workers), "--quiet", *more]

    def write(self, path: str, data: str | bytes) -> Path:
        target = self.raw / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data if isinstance(data, bytes) else data.encode())
        return target

    def add_images(self, folder: str, *names: str, size_wh: tuple[int, int] = SIZE_WH) -> None:
        """Write images that can be read; their suffixes tell their formats."""
        for name in names:
            write_image(self.raw / folder / name, gradient(size_wh[1], size_wh[0]))

    def add_coco(
        self, folder: str, boxes: Boxes, *, name: str = "_annotations.coco.json", **more: Any
    ) -> dict[str, Any]:
        """Write a COCO file and its images, which are empty files: nothing may open them. See :func:`coco_content`."""
        content = coco_content(boxes, **more)
        self.write(f"{folder}/{name}", json.dumps(content))
        make_files(self.raw / folder, *boxes)
        return content

    def add_csv(self, folder: str, boxes: Boxes, *, label: str = "deer") -> None:
        """Write a CSV file as TensorFlow's tools do, and its images, which are empty files."""
        rows = [
            f"{name},{SIZE_WH[0]},{SIZE_WH[1]},{label},{left},{top},{left + width},{top + height}\n"
            for name, own in boxes.items()
            for left, top, width, height in own
        ]
        rows += [f"{name},{SIZE_WH[0]},{SIZE_WH[1]},,,,,\n" for name, own in boxes.items() if not own]
        self.write(f"{folder}/_annotations.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\n" + "".join(rows))
        make_files(self.raw / folder, *boxes)

    def add_pts(self, folder: str, points: Mapping[str, Sequence[tuple[float, float]]]) -> None:
        """Write PTS files and their images, which have a size to be read."""
        for stem, own in points.items():
            rows = "".join(f"{x} {y}\n" for x, y in own)
            self.write(f"{folder}/{stem}.pts", f"version: 1\nn_points: {len(own)}\n{{\n{rows}}}")
            self.add_images(folder, f"{stem}.png")

    def add_yolo(self, folder: str, labels: Mapping[str, str], names: Sequence[str] = ()) -> None:
        """Write a YOLO dataset; ``labels`` has the text of each label file by its path below labels/."""
        for stem, text in labels.items():
            self.write(f"{folder}/labels/{stem}.txt", text)
            self.add_images(f"{folder}/images", f"{stem}.png")
        if names:
            self.write(f"{folder}/data.yaml", f"train: images\nval: images\nnames: {list(names)}\n")

    def samples(self, name: str) -> list[Sample]:
        """Return the samples of the metadata file ``name``, such as train_detector."""
        return read_samples(self.output / f"{name}.npy")

    def all_samples(self, kind: Kind) -> list[Sample]:
        """Return the samples of one kind of all splits, sorted."""
        return sorted(sample for path in self.output.glob(f"*_{kind}*.npy") for sample in read_samples(path))

    def files(self) -> dict[str, bytes]:
        """Return what the output folder holds, by name."""
        return {path.name: path.read_bytes() for path in sorted(self.output.iterdir()) if path.is_file()}


def coco_content(
    boxes: Boxes,
    *,
    classes: Sequence[str] = ("ear",),
    size_wh: tuple[int, int] = SIZE_WH,
    keypoints: Mapping[str, Sequence[Sequence[float]]] | None = None,
) -> dict[str, Any]:
    """Return the content of a COCO file; boxes take the classes in turn.

    Args:
        boxes: by image.
        classes: their names.
        size_wh: of every image.
        keypoints: x, y, v, … of objects without a box, by image.
    """
    places = {name: place for place, name in enumerate(boxes)}
    found = [(name, {"bbox": list(box)}) for name, own in boxes.items() for box in own]
    found += [(name, {"keypoints": list(points)}) for name, own in (keypoints or {}).items() for points in own]
    annotations = [
        {"id": number, "image_id": places[name], "category_id": 1 + number % len(classes), **what}
        for number, (name, what) in enumerate(found)
    ]
    width, height = size_wh
    return {
        "images": [{"id": n, "file_name": name, "width": width, "height": height} for name, n in places.items()],
        "annotations": annotations,
        "categories": [{"id": 1 + place, "name": name} for place, name in enumerate(classes)],
    }


def numbered_boxes(count: int, *, start: int = 0, prefix: str = "image") -> dict[str, list[list[float]]]:
    """Return 0 to 3 different boxes for each of ``count`` images."""
    return {
        f"{prefix}-{number:04}.jpg": [[number % 20, place + 0.25, 10.5 + place, 8] for place in range(number % 4)]
        for number in range(start, start + count)
    }


def mixed_tree(root: Path, images: int = 12) -> RawTree:
    """Return a raw data folder with every format: COCO, CSV, YOLO, PTS and COCO keypoints."""
    tree = RawTree(root)
    for split, start in (("train", 0), ("valid", images), ("test", 2 * images)):
        tree.add_coco(f"detector/ears_coco/{split}", numbered_boxes(images, start=start), classes=("ear", "nose"))
    tree.add_csv("detector/deer/train", numbered_boxes(images, prefix="deer"))
    labels = {f"train/road-{n}": f"{n % 2} 0.5 0.5 0.25 0.5\n" for n in range(images // 2)}
    tree.add_yolo("detector/roads", labels, ["car", "bike"])
    faces = {f"face-{n}": [(10.5 + n, 10), (30, 20.25), (20, 40)] for n in range(images // 2)}
    tree.add_pts("landmarker/collectionA", faces)
    people = {f"person-{n}.jpg": [[10, 10, 2, 30 + n, 20, 1, 0, 0, 0]] for n in range(images // 2)}
    tree.add_coco("landmarker/people_coco/train", {name: [] for name in people}, keypoints=people, classes=("person",))
    return tree


def read_samples(path: Path) -> list[Sample]:
    """Return the samples of a metadata file."""
    file = open_metadata(path)
    names = [*file.info.class_names, ""]
    samples = []
    for index in range(len(file)):
        rows = file.rows_of(index)
        ids = file.class_ids[index : index + 1] if file.kind == "landmarker" else file.class_ids[rows]
        samples.append((file.image_path(index), file.rows[rows].tolist(), [names[each] for each in ids.tolist()]))
    return samples
