"""A small input for the ``mvtk edges`` and ``mvtk features`` commands, made from real photographs.

``python -m toolkit.edges.demo OUT`` writes into the new or empty folder OUT, as SA-1B and its features files have it:

- ``sa_1.jpg``, ``sa_2.jpg``, …: photographs;
- ``sa_1.json``, …: their masks as compressed run lengths, one for each connected region of the mask that
  :mod:`toolkit.dataset.demo` computes for the photograph;
- ``extracted/sa_1_features.npz``, …: features of zeros, no encoder having been run, and edge maps that are out of date:
  empty and without a mark. Not all of them have ``edge_256x256``;
- ``samples.txt``: the photographs' names.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from toolkit.core.files import make_folder, write_bytes
from toolkit.dataset.demo import Scene, require_empty, run_demo, scenes
from toolkit.npz.writing import save_npz

PHOTOGRAPHS = ("coins_1", "deep_field_4", "motorcycle", "page")
"""The scenes that are used: those of one large object, of a dozen, and of many small ones."""

_FEATURE_SHAPES = {"P4_S16": (1, 256, 64, 64), "P5_S32": (1, 256, 32, 32)}


def write_demo(output: Path) -> int:
    """Write the demonstration input into ``output`` and return how many photographs it has.

    Raises:
        MissingExtraError: scikit-image is not installed.
        MvtkError: ``output`` is not an empty folder, or cannot be written.
    """
    require_empty(output)
    chosen = [scene for _, scene in scenes() if scene.stem in PHOTOGRAPHS]
    extracted = output / "extracted"
    make_folder(extracted)
    for number, scene in enumerate(chosen, start=1):
        name = f"sa_{number}"
        write_bytes(output / f"{name}.jpg", _jpeg(scene.image))
        write_bytes(output / f"{name}.json", json.dumps(_annotation(scene, number)).encode())
        features = _features(name, scene, has_256=number % 2 == 1)
        save_npz(extracted / f"{name}_features.npz", features, compression="none")
    samples = "".join(f"sa_{number}.jpg\n" for number in range(1, len(chosen) + 1))
    write_bytes(output / "samples.txt", samples.encode())
    return len(chosen)


def _annotation(scene: Scene, number: int) -> dict[str, Any]:
    """Return the annotation of a scene, with the keys that SA-1B has, in its order."""
    height, width = scene.mask_hw.shape
    count, regions_hw = cv2.connectedComponents(scene.mask_hw.astype(np.uint8))
    masks = [_mask_record(regions_hw == region, number * 1000 + region) for region in range(1, count)]
    image = {"image_id": number, "width": width, "height": height, "file_name": f"sa_{number}.jpg"}
    return {"image": image, "annotations": masks}


def _mask_record(mask_hw: NDArray[np.bool_], mask_id: int) -> dict[str, Any]:
    """Return one mask, as SA-1B describes it."""
    height, width = mask_hw.shape
    rows, columns = np.nonzero(mask_hw)
    left, top = int(columns.min()), int(rows.min())
    middle = len(rows) // 2
    rle = coco_mask.encode(np.asfortranarray(mask_hw.astype(np.uint8)))
    return {
        # SA-1B's width and height are maximum minus minimum: one less than the number of pixels.
        "bbox": [float(left), float(top), float(columns.max() - left), float(rows.max() - top)],
        "area": len(rows),
        "segmentation": {"size": [height, width], "counts": rle["counts"].decode()},
        "predicted_iou": 1.0,
        "point_coords": [[float(columns[middle]), float(rows[middle])]],
        "crop_box": [0.0, 0.0, float(width), float(height)],
        "id": mask_id,
        "stability_score": 1.0,
    }


def _features(image_id: str, scene: Scene, *, has_256: bool) -> dict[str, NDArray[Any]]:
    """Return the arrays of a features file whose edge maps are out of date."""
    sides = (256, 64, 32) if has_256 else (64, 32)
    return {
        **{key: np.zeros(shape, np.float32) for key, shape in _FEATURE_SHAPES.items()},
        **{f"edge_{side}x{side}": np.zeros((side, side), np.uint8) for side in sides},
        "image_id": np.array(image_id),
        "image_shape": np.array((*scene.mask_hw.shape, 3), np.int64),
        "model_type": np.array("none"),
    }


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    """Return an image (HxW or HxWx3 RGB) as an RGB JPEG file."""
    stream = io.BytesIO()
    Image.fromarray(image).convert("RGB").save(stream, "JPEG", quality=95)
    return stream.getvalue()


def main(arguments: Sequence[str]) -> int:
    """Write the demonstration input into the folder given; see :func:`toolkit.dataset.demo.run_demo`."""
    return run_demo(arguments, "toolkit.edges.demo", write_demo, "photographs with annotations and features files")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
