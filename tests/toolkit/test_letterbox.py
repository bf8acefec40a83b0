"""The letterbox: its geometry, its pixels, and that Ultralytics' validation gives the same to the bit."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import gradient
from toolkit.images import letterbox, letterbox_geometry

# height, width, imgsz -> scaled height, scaled width, top, left; taken from Ultralytics 8.4
GOLDEN = [
    ((512, 512, 640), (640, 640, 0, 0)),
    ((640, 640, 640), (640, 640, 0, 0)),
    ((480, 640, 640), (480, 640, 80, 0)),
    ((427, 640, 640), (427, 640, 106, 0)),
    ((855, 854, 640), (640, 640, 0, 0)),
    ((1080, 1920, 640), (360, 640, 140, 0)),
    ((333, 500, 640), (427, 640, 106, 0)),
    ((500, 333, 640), (640, 427, 0, 106)),
    ((1, 3000, 640), (1, 640, 319, 0)),
    ((3000, 1, 640), (640, 1, 0, 319)),
    ((1, 1, 5), (5, 5, 0, 0)),
    ((49, 98, 49), (25, 49, 12, 0)),
    ((7, 200, 1), (1, 1, 0, 0)),
]

COMPARE_WITH_ULTRALYTICS = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
import cv2
import numpy as np
from ultralytics.data.augment import LetterBox
from ultralytics.data.base import BaseDataset
from toolkit.images import letterbox

random = np.random.default_rng(0)
sizes = [(h, w, s) for h in (1, 2, 3, 31, 200) for w in (1, 2, 3, 32, 200) for s in (1, 2, 32, 33, 160)]
sizes += [tuple(map(int, random.integers(1, 201, 3))) for _ in range(400)]
path = Path("image.png")
different = []
for height, width, imgsz in sizes:
    channels = int(random.choice([3, 4]))
    image = random.integers(0, 256, (height, width, channels), dtype=np.uint8)
    cv2.imwrite(str(path), image)
    dataset = SimpleNamespace(
        ims=[None], im_files=[str(path)], npy_files=[path.with_suffix(".npy")], cache=None, imgsz=imgsz, prefix="",
        channels=channels, augment=False, cv2_flag=cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_UNCHANGED,
    )
    resized, _, _ = BaseDataset.load_image(dataset, 0, rect_mode=True)
    expected = LetterBox(new_shape=(imgsz, imgsz), scaleup=False)(image=resized)
    if not np.array_equal(letterbox(image, imgsz, interpolation="bilinear", fill=114), expected):
        different.append((height, width, imgsz, channels))
print(json.dumps({"compared": len(sizes), "different": different}))
"""


@pytest.mark.parametrize(("size", "expected"), GOLDEN)
def test_golden_geometry(size: tuple[int, int, int], expected: tuple[int, int, int, int]) -> None:
    geometry = letterbox_geometry(*size)
    assert (geometry.height, geometry.width, geometry.top, geometry.left) == expected
    assert geometry.ratio == size[2] / max(size[:2])


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 2000))
def test_the_image_fills_one_side_and_is_centred(height: int, width: int, imgsz: int) -> None:
    geometry = letterbox_geometry(height, width, imgsz)
    assert max(geometry.height, geometry.width) == imgsz
    assert min(geometry.height, geometry.width) >= 1
    below, right = imgsz - geometry.top - geometry.height, imgsz - geometry.left - geometry.width
    assert below - geometry.top in (0, 1)
    assert right - geometry.left in (0, 1)


@pytest.mark.parametrize("size", [(0, 5, 5), (5, 0, 5), (5, 5, 0)])
def test_a_side_of_nothing(size: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="every side must be at least 1"):
        letterbox_geometry(*size)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [None, 1, 2, 3, 5, 130])
def test_every_channel_is_scaled_alike_and_padded(dtype: type, channels: int | None) -> None:
    plane = gradient(30, 20)[..., 2].astype(dtype)
    image = plane if channels is None else np.repeat(plane[..., None], channels, axis=2)
    boxed = letterbox(image, 64, interpolation="bilinear", fill=114)
    assert boxed.dtype == dtype
    assert boxed.flags.c_contiguous
    assert boxed.shape == (64, 64, *image.shape[2:])
    scaled = cv2.resize(plane, (43, 64), interpolation=cv2.INTER_LINEAR)
    for one in [boxed] if channels is None else boxed.transpose(2, 0, 1):
        np.testing.assert_allclose(one[:, 10:53], scaled, rtol=1e-6)  # floats: summed in another order
        assert (one[:, :10] == 114).all()
        assert (one[:, 53:] == 114).all()


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.uint16, np.float32])
def test_a_nearest_mask_has_no_new_values_and_stays_on_its_image(dtype: type) -> None:
    for step in (np.arange(37) > 11, np.arange(51)[:, None] > 30):
        mask_hw = np.broadcast_to(step, (51, 37))
        boxed = letterbox(mask_hw.astype(dtype), 160, interpolation="nearest", fill=0)
        assert boxed.dtype == dtype
        assert set(np.unique(boxed).tolist()) == {0, 1}
        # An image's edge lies where bilinear scaling crosses one half: the mask's must lie there too.
        soft = letterbox(mask_hw.astype(np.float32), 160, interpolation="bilinear", fill=0)
        assert (boxed[soft > 0.501] == 1).all()
        assert (boxed[soft < 0.499] == 0).all()


def test_the_right_size_is_copied() -> None:
    image = gradient(16, 16)
    boxed = letterbox(image, 16, interpolation="bilinear", fill=0)
    np.testing.assert_array_equal(boxed, image)
    assert not np.shares_memory(boxed, image)


@pytest.mark.slow
def test_ultralytics_gives_the_same_bits(tmp_path: Path) -> None:
    if importlib.util.find_spec("ultralytics") is None:
        pytest.skip("ultralytics is not installed")
    # A process of its own: ultralytics patches other packages and writes settings when it is imported.
    project = Path(__file__).resolve().parents[2]
    environment = {
        **os.environ,
        "PYTHONPATH": str(project),
        "YOLO_CONFIG_DIR": str(tmp_path),
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
    }
    run = subprocess.run(
        [sys.executable, "-c", COMPARE_WITH_ULTRALYTICS],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(run.stdout.splitlines()[-1])
    assert result["compared"] > 500
    assert result["different"] == []
