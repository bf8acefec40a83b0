"""What training and validation read: pairs as four channels, scaled, padded and cached as they should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.datasets import tree_hash
from tests.yolo_datasets import write_guided_dataset, write_plain_dataset
from toolkit.core.errors import MvtkError
from toolkit.npz import preprocess_npz_array, save_npz
from toolkit.yolo.run_data import RunData
from toolkit.yolo.source import find_source

pytestmark = pytest.mark.usefixtures("contained")


def dataset(
    root: Path, scratch: Path, *, split: str = "val", mode: str = "val", attention: Any = "auto", **settings: Any
) -> Any:
    """Return a dataset as the trainer makes it."""
    from ultralytics.cfg import get_cfg

    from toolkit.yolo.engine.trainer import build_contained_dataset

    source = find_source(root, ("train", "val"))
    scratch.mkdir(exist_ok=True)
    run_data = RunData(source.data_yaml, source.kind, source.attention(attention), scratch / "cache", 1)
    from ultralytics.data.utils import check_det_dataset

    data = check_det_dataset(str(run_data.save(scratch, source, source.channels(attention))))
    cfg = get_cfg(overrides={"imgsz": 64, **settings})
    return build_contained_dataset(cfg, data, data[split], mode, 2, 32)


def without_rect(made: Any) -> Any:
    made.rect = False
    return made


@pytest.mark.parametrize(
    ("height", "width", "dtype"),
    [
        (64, 64, np.uint8),
        (50, 90, np.uint8),
        (90, 50, np.uint8),
        (33, 64, np.uint8),
        (7, 200, np.uint8),
        (200, 131, bool),
    ],
)
def test_validation_feeds_what_npz_preprocess_makes_to_the_bit(
    tmp_path: Path, height: int, width: int, dtype: str
) -> None:
    root = write_guided_dataset(tmp_path / "data", train=1, val=1)
    random = np.random.default_rng(height)
    path = root / "images/val/0000.npz"
    mask = random.integers(0, 2, (height, width)) * (255 if dtype == "uint8" else 1)
    save_npz(
        path,
        {"image": random.integers(0, 256, (height, width, 3), np.uint8), "mask": mask.astype(dtype)},
        overwrite=True,
    )
    fed = without_rect(dataset(root, tmp_path / "scratch"))[0]["img"].numpy()
    expected = preprocess_npz_array(path, 64)[0]
    assert fed.shape == expected.shape == (4, 64, 64)
    np.testing.assert_array_equal(fed.astype(np.float32) / 255, expected)


def test_boxes_lie_on_the_padded_image_and_back(tmp_path: Path) -> None:
    root = write_guided_dataset(tmp_path / "data", train=1, val=1)
    image = np.zeros((40, 100, 3), np.uint8)
    image[10:30, 50:75] = 200
    save_npz(root / "images/val/0000.npz", {"image": image, "mask": image[..., 0]}, overwrite=True)
    (root / "labels/val/0000.txt").write_text("0 0.625 0.5 0.25 0.5\n")
    sample = without_rect(dataset(root, tmp_path / "scratch"))[0]
    x, y, width, height = (sample["bboxes"][0].numpy() * 64).tolist()
    rows, columns = np.nonzero(sample["img"][3].numpy())
    assert (columns.min(), columns.max() + 1) == pytest.approx((x - width / 2, x + width / 2), abs=1)
    assert (rows.min(), rows.max() + 1) == pytest.approx((y - height / 2, y + height / 2), abs=1)
    (gain_h, gain_w), (left, top) = sample["ratio_pad"]
    assert ((x - left) / gain_w, (y - top) / gain_h) == pytest.approx((62.5, 20), abs=0.01)


def test_batches_of_their_own_shape_are_padded_with_grey_and_no_mask(tmp_path: Path) -> None:
    root = write_guided_dataset(tmp_path / "data", train=1, val=1)
    full = np.full((40, 100), 255, np.uint8)
    save_npz(root / "images/val/0000.npz", {"image": np.dstack([full] * 3), "mask": full}, overwrite=True)
    made = dataset(root, tmp_path / "scratch")
    image = made[0]["img"].numpy()
    assert image.shape == (4, *made.batch_shapes[0])
    inside = np.zeros(image.shape[1:], bool)
    top, left = (image.shape[1] - 26) // 2, (image.shape[2] - 64) // 2
    inside[top : top + 26, left : left + 64] = True
    assert (image[:, inside] == 255).all()
    assert (image[:3, ~inside] == 114).all()
    assert (image[3, ~inside] == 0).all()


def test_without_attention_the_image_alone_is_fed_as_ultralytics_feeds_it(tmp_path: Path) -> None:
    root = write_guided_dataset(tmp_path / "data")
    plain = write_plain_dataset(tmp_path / "plain")
    fed = without_rect(dataset(root, tmp_path / "scratch", attention="none"))
    stock = without_rect(dataset(plain, tmp_path / "other"))
    for number in range(2):
        assert fed[number]["img"].shape == (3, 64, 64)
        np.testing.assert_array_equal(fed[number]["img"].numpy(), stock[number]["img"].numpy())
        np.testing.assert_array_equal(fed[number]["bboxes"].numpy(), stock[number]["bboxes"].numpy())


def test_plain_images_are_fed_as_ultralytics_own_dataset_feeds_them(tmp_path: Path) -> None:
    from ultralytics.cfg import get_cfg
    from ultralytics.data.dataset import YOLODataset

    root = write_plain_dataset(tmp_path / "data", side_px=50)
    ours = dataset(root, tmp_path / "scratch")
    stock = YOLODataset(
        img_path=str(root / "images/val"),
        data={"names": {0: "a"}, "channels": 3},
        imgsz=64,
        augment=False,
        hyp=get_cfg(),
        rect=True,
        batch_size=2,
        stride=32,
    )
    for number in range(2):
        for key in ("img", "bboxes", "cls"):
            np.testing.assert_array_equal(ours[number][key].numpy(), stock[number][key].numpy())
        assert ours[number]["ratio_pad"] == stock[number]["ratio_pad"]


@pytest.mark.parametrize("cache", ["ram", "disk"])
@pytest.mark.parametrize("plain", [False, True])
def test_caches_change_nothing_and_stay_out_of_the_data(tmp_path: Path, cache: str, plain: bool) -> None:
    root = (write_plain_dataset if plain else write_guided_dataset)(tmp_path / "data")
    suffix = "png" if plain else "npz"
    # What Ultralytics takes for the cache of an image.
    np.save(root / "images/val/0000.npy", np.zeros((64, 64, 3), np.uint8))
    before = tree_hash(root)
    uncached = [sample["img"].numpy() for sample in dataset(root, tmp_path / "scratch")]
    made = dataset(root, tmp_path / "scratch", cache=cache, deterministic=False)
    for number, expected in enumerate(uncached):
        np.testing.assert_array_equal(made[number]["img"].numpy(), expected)
        assert expected[:3].any(), suffix
    assert tree_hash(root) == before
    files = sorted((tmp_path / "scratch/cache").glob("*.npy"))
    assert len(files) == (2 if cache == "disk" else 0)
    if cache == "disk":
        files[0].write_bytes(b"damaged")
        again = [sample["img"].numpy() for sample in dataset(root, tmp_path / "scratch", cache=cache)]
        for image, expected in zip(again, uncached, strict=True):
            np.testing.assert_array_equal(image, expected)


def test_a_cached_image_is_not_taken_for_its_successor(tmp_path: Path) -> None:
    root = write_guided_dataset(tmp_path / "data", val=1)
    dataset(root, tmp_path / "scratch", cache="disk")
    save_npz(
        root / "images/val/0000.npz",
        {"image": np.full((64, 64, 3), 7, np.uint8), "mask": np.zeros((64, 64), np.uint8)},
        overwrite=True,
    )
    made = without_rect(dataset(root, tmp_path / "scratch", cache="disk"))
    assert (made[0]["img"][:3].numpy() == 7).all()


def test_a_damaged_pair_is_named_when_it_is_read(tmp_path: Path) -> None:
    root = write_guided_dataset(tmp_path / "data", val=1)
    path = root / "images/val/0000.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(content)
    made = dataset(root, tmp_path / "scratch")
    with pytest.raises(MvtkError, match=r"0000.npz"):
        made[0]


def test_channels_that_the_yaml_does_not_have(tmp_path: Path) -> None:
    root = write_plain_dataset(tmp_path / "data", val=1)
    (root / "data.yaml").write_text((root / "data.yaml").read_text().replace("channels: 3", "channels: 4"))
    made = dataset(root, tmp_path / "scratch")
    with pytest.raises(MvtkError, match=r"0000.png: 3 channels where the data YAML says 4"):
        made[0]
    four = np.random.default_rng(0).integers(0, 255, (64, 64, 4), np.uint8)
    cv2.imwrite(str(root / "images/val/0000.png"), four)
    np.testing.assert_array_equal(without_rect(made)[0]["img"].numpy(), four.transpose(2, 0, 1))


def test_the_import_leaves_pillow_as_it_was() -> None:
    from PIL import Image

    assert Image.open.__module__ == "PIL.Image"


def test_fraction_takes_the_first_images(tmp_path: Path) -> None:
    root = write_guided_dataset(tmp_path / "data", train=4)
    assert len(dataset(root, tmp_path / "scratch", split="train", mode="train", fraction=0.5)) == 2


def test_names_with_line_breaks_are_read(tmp_path: Path) -> None:
    root = write_guided_dataset(tmp_path / "data", val=1)
    odd = "a\nb é\udcff"
    (root / "images/val/0000.npz").rename(root / f"images/val/{odd}.npz")
    (root / "labels/val/0000.txt").rename(root / f"labels/val/{odd}.txt")
    made = dataset(root, tmp_path / "scratch")
    assert made.im_files == [str(root / f"images/val/{odd}.npz")]
    assert made[0]["bboxes"].shape == (2, 4)
