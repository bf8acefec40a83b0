"""A small input for ``mvtk dataset process``, made from real photographs.

``python -m toolkit.metadata.demo OUT`` writes into the new or empty folder OUT:

- ``raw/detector/sky_coco/{train,valid}/``: COCO boxes, named as Roboflow names its exports;
- ``raw/detector/print/_annotations.csv``: CSV boxes;
- ``raw/detector/coins/``: YOLO labels with a data YAML;
- ``raw/landmarker/collectionA/``: PTS files;
- ``raw/landmarker/coins_coco/``: COCO keypoints;
- ``old_detector.npy``: the boxes of the coins in the old pickled layout.

Boxes are those of :mod:`toolkit.dataset.demo`. The keypoints of an object are its extreme points: leftmost, topmost,
rightmost and bottommost, as in Zhou, Zhuo and Krähenbühl, "Bottom-up Object Detection by Grouping Extreme and Center
Points" (2019).
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.annotations.pts import format_pts
from toolkit.annotations.yolo import format_labels
from toolkit.annotations.yolo_data_yaml import format_data_yaml
from toolkit.core.files import make_folder, write_bytes
from toolkit.dataset.demo import CLASS_NAMES, BoxXyxy, Scene, encode_image, require_empty, run_demo, scenes

_VISIBLE = 2
_ENDS = ((np.min, 0), (np.min, 1), (np.max, 0), (np.max, 1))
_EXTREME_POINTS = ("left", "top", "right", "bottom")


def write_demo(output: Path) -> int:
    """Write the demonstration input into ``output`` and return how many photographs it has.

    Raises:
        MissingExtraError: scikit-image is not installed.
        MvtkError: ``output`` is not an empty folder, or cannot be written.
    """
    require_empty(output)
    by_stem = {scene.stem: scene for _, scene in scenes()}
    detector, landmarker = output / "raw" / "detector", output / "raw" / "landmarker"
    sky, coins = detector / "sky_coco", [by_stem["coins_1"], by_stem["coins_2"]]
    _write_coco(sky / "train", [by_stem[f"deep_field_{number}"] for number in (1, 2, 3)], keypoints=False)
    _write_coco(sky / "valid", [by_stem["deep_field_4"], by_stem["grass"]], keypoints=False)
    _write_csv(detector / "print", [by_stem["page"], by_stem["motorcycle"]])
    _write_yolo(detector / "coins", coins)
    _write_pts(landmarker / "collectionA", [by_stem[stem] for stem in ("cell", "motorcycle", "retina")])
    _write_coco(landmarker / "coins_coco", coins, keypoints=True)
    _write_old_layout(output / "old_detector.npy", detector / "coins" / "images", coins)
    return sum(1 for path in output.rglob("*") if path.suffix in {".jpg", ".png"})


def _write_coco(folder: Path, chosen: Sequence[Scene], *, keypoints: bool) -> None:
    """Write photographs and their COCO file; category 0 is the unused super-category that Roboflow writes."""
    make_folder(folder)
    names = sorted({scene.class_name for scene in chosen if scene.class_name})
    categories: list[dict[str, Any]] = [{"id": 0, "name": "things", "supercategory": "none"}]
    categories += [{"id": number, "name": name, "supercategory": "things"} for number, name in enumerate(names, 1)]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, scene in enumerate(chosen):
        data = encode_image(scene.image, scene.suffix)
        copy = hashlib.blake2b(data, digest_size=16).hexdigest()
        name = f"{scene.stem}_{scene.suffix[1:]}.rf.{copy}{scene.suffix}"
        write_bytes(folder / name, data)
        height, width = scene.mask_hw.shape
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for box in scene.boxes_xyxy:
            left, top, right, bottom = box
            annotation: dict[str, Any] = {
                "id": len(annotations),
                "image_id": image_id,
                "category_id": names.index(scene.class_name) + 1,
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
                "segmentation": [],
                "iscrowd": 0,
            }
            if keypoints:
                points = [[float(x), float(y), _VISIBLE] for x, y in _extreme_points(scene, box)]
                annotation["keypoints"] = [number for point in points for number in point]
                annotation["num_keypoints"] = len(points)
            annotations.append(annotation)
    if keypoints:
        categories[1] |= {"keypoints": list(_EXTREME_POINTS), "skeleton": []}
    _write_json(
        folder / "_annotations.coco.json", {"categories": categories, "images": images, "annotations": annotations}
    )


def _write_csv(folder: Path, chosen: Sequence[Scene]) -> None:
    make_folder(folder)
    rows = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
    for scene in chosen:
        name = scene.stem + scene.suffix
        write_bytes(folder / name, encode_image(scene.image, scene.suffix))
        height, width = scene.mask_hw.shape
        rows += [f"{name},{width},{height},{scene.class_name},{','.join(map(str, box))}" for box in scene.boxes_xyxy]
    write_bytes(folder / "_annotations.csv", ("\n".join(rows) + "\n").encode())


def _write_yolo(folder: Path, chosen: Sequence[Scene]) -> None:
    make_folder(folder / "images")
    make_folder(folder / "labels")
    for scene in chosen:
        write_bytes(folder / "images" / f"{scene.stem}{scene.suffix}", encode_image(scene.image, scene.suffix))
        write_bytes(folder / "labels" / f"{scene.stem}.txt", format_labels(scene.labels()).encode())
    write_bytes(folder / "data.yaml", format_data_yaml(dict(enumerate(CLASS_NAMES)), ["train"], channels=3).encode())


def _write_pts(folder: Path, chosen: Sequence[Scene]) -> None:
    """Write the extreme points of each photograph's only object; PTS files count from 1."""
    make_folder(folder)
    for scene in chosen:
        write_bytes(folder / f"{scene.stem}{scene.suffix}", encode_image(scene.image, scene.suffix))
        points_xy = _extreme_points(scene, scene.boxes_xyxy[0])
        write_bytes(folder / f"{scene.stem}.pts", format_pts(points_xy + 1).encode())


def _write_old_layout(path: Path, image_folder: Path, chosen: Sequence[Scene]) -> None:
    """Write what the scripts wrote before there were metadata files: a pickled dict of lists."""
    content: Mapping[str, Any] = {
        "image_paths": [str((image_folder / f"{scene.stem}{scene.suffix}").resolve()) for scene in chosen],
        "bboxes": [
            [[left, top, right - left, bottom - top] for left, top, right, bottom in scene.boxes_xyxy]
            for scene in chosen
        ],
    }
    stream = io.BytesIO()
    np.save(stream, np.array(content, dtype=object), allow_pickle=True)
    write_bytes(path, stream.getvalue())


def _extreme_points(scene: Scene, box: BoxXyxy) -> NDArray[np.float64]:
    """Return the object's leftmost, topmost, rightmost and bottommost pixel, (4, 2) x and y, in the middle of a run."""
    left, top, right, bottom = box
    y, x = np.nonzero(scene.mask_hw[top:bottom, left:right])
    places = np.stack((x, y), axis=1)
    points = [np.median(places[places[:, axis] == end(places[:, axis])], axis=0) for end, axis in _ENDS]
    return np.add(points, (left, top), dtype=np.float64)


def _write_json(path: Path, content: object) -> None:
    write_bytes(path, json.dumps(content).encode())


def main(arguments: Sequence[str]) -> int:
    """Write the demonstration into the folder that the command line names; return the exit code."""
    return run_demo(arguments, "toolkit.metadata.demo", write_demo, "photographs with raw annotations")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
