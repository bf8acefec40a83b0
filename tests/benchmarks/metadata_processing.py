"""``dataset process``: one large COCO file against bare JSON parsing, and against parsing it again for every image."""

from __future__ import annotations

import functools
import json
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from tests.benchmarks.measuring import Figure, peak_memory_mib
from toolkit.metadata.processor import DataProcessor
from toolkit.metadata.reading import open_metadata

IMAGES = 100_000
BOXES = 200_000
ROUNDS = 3
PARSED_AGAIN = 20
SIDE_PX = 640


def measure(folder: Path) -> Iterator[Figure]:
    """Process a Roboflow-like export; its images are empty files, as nothing opens them."""
    raw = folder / "raw"
    annotations = _write_export(raw)
    json_s, ours_s, ratio = _best_in_turn(
        lambda: orjson.loads(annotations.read_bytes()), lambda: _process(raw, folder / "out")
    )
    name = f"COCO file of {IMAGES} images and {BOXES} boxes"
    yield Figure(f"{name}, size", annotations.stat().st_size / 1e6, " MB")
    yield Figure(f"{name}, orjson.loads, best of {ROUNDS}", json_s, " s")
    yield Figure(f"{name}, process_all, best of {ROUNDS}", ours_s, " s")
    yield Figure(f"{name}, process_all over orjson.loads", ratio, "x", at_most=3)
    again_s = _parse_for_each(annotations) * IMAGES
    yield Figure(f"{name}, parsed again for each image (of {PARSED_AGAIN}, extrapolated)", again_s, " s")
    yield Figure(f"{name}, parsed again over process_all", again_s / ours_s, "x", at_least=1000)
    yield Figure(f"{name}, peak memory of process_all", _peak_mib(raw, folder / "out"), " MiB")
    files = sorted((folder / "out").glob("*.npy"))
    size_over_content = sum(path.stat().st_size for path in files) / sum(map(_content_bytes, files))
    yield Figure("files, size over their numbers and paths", size_over_content, "x", at_most=1.2)
    largest = max(path.stat().st_size / _content_bytes(path) for path in files)
    yield Figure("files, the largest of these ratios", largest, "x", at_most=1.2)


def _write_export(raw: Path) -> Path:
    """Write the annotations and the empty images; return the path of the annotations."""
    chance = random.Random(0)
    images = [
        {
            "id": number,
            "license": 1,
            "file_name": f"image-{number:06}_png.rf.{chance.getrandbits(128):032x}.jpg",
            "height": SIDE_PX,
            "width": SIDE_PX,
            "date_captured": "2025-01-30T10:18:23+00:00",
        }
        for number in range(IMAGES)
    ]
    annotations = [
        {
            "id": number,
            "image_id": chance.randrange(IMAGES),
            "category_id": chance.randrange(1, 5),
            "bbox": [
                *(chance.randrange(300), round(chance.random() * 300, 3)),
                *(round(chance.random() * 200 + 1, 3), 16.25),
            ],
            "area": 325,
            "segmentation": [],
            "iscrowd": 0,
        }
        for number in range(BOXES)
    ]
    categories = [{"id": number, "name": f"class {number}", "supercategory": "none"} for number in range(5)]
    folder = raw / "detector/export_coco/train"
    folder.mkdir(parents=True)
    path = folder / "_annotations.coco.json"
    content = {"info": {}, "licenses": [], "categories": categories, "images": images, "annotations": annotations}
    path.write_text(json.dumps(content))
    for image in images:
        (folder / str(image["file_name"])).touch()
    return path


def _process(raw: Path, output: Path) -> None:
    shutil.rmtree(output, ignore_errors=True)
    DataProcessor(raw, output, num_workers=0).process_all()


def _best_in_turn(one: Callable[[], object], other: Callable[[], object]) -> tuple[float, float, float]:
    """Run both in turn; return the best seconds of each, and their ratio other / one."""
    pairs = [(_seconds(one), _seconds(other)) for _ in range(ROUNDS)]
    best_one, best_other = (min(side) for side in zip(*pairs, strict=True))
    return best_one, best_other, best_other / best_one


def _seconds(action: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    action()
    return time.perf_counter() - start_s


def _parse_for_each(annotations: Path) -> float:
    """Return the mean seconds that one image takes where the file is parsed for each, as the pipeline did before."""
    content = json.loads(annotations.read_bytes())
    names = [image["file_name"] for image in content["images"][:: IMAGES // PARSED_AGAIN]][:PARSED_AGAIN]
    return _seconds(lambda: [_boxes_of(annotations, name) for name in names]) / PARSED_AGAIN


def _boxes_of(annotations: Path, name: str) -> list[Any]:
    with annotations.open() as stream:
        content = json.load(stream)
    image_id = next(image["id"] for image in content["images"] if image["file_name"] == name)
    return [box["bbox"] for box in content["annotations"] if box["image_id"] == image_id]


def _peak_mib(raw: Path, output: Path) -> float:
    """Return the peak memory of a process of its own that does nothing else."""
    shutil.rmtree(output)
    program = "import sys; from toolkit.dataset import DataProcessor; "
    program += "DataProcessor(sys.argv[1], sys.argv[2], num_workers=0).process_all()"
    return peak_memory_mib([sys.executable, "-c", program, str(raw), str(output)])


def _content_bytes(path: Path) -> int:
    """Return the bytes of a file's numbers, without offsets and names of fields, and of its relative paths."""
    file = open_metadata(path)
    arrays: list[np.ndarray[Any, Any]] = [file.rows, file.class_ids, file.image_sizes_wh, file.path_bytes]
    return functools.reduce(lambda total, array: total + array.nbytes, arrays, 0)
