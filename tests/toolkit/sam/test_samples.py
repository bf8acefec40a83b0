"""Samples of SAM training data: the arrays that the files hold, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.builders import gradient, write_image
from tests.sam_datasets import bounding_box, make_dataset, write_instances
from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.sam.layout import SampleFiles, read_layout
from toolkit.sam.samples import SamSamples, load_instances, load_sample


def only_sample(root: Path) -> SampleFiles:
    [files] = read_layout(root).samples
    return files


def problems_of(root: Path, class_count: int | None = 2) -> tuple[str, ...]:
    with pytest.raises(InputProblemsError) as caught:
        load_sample(only_sample(root), class_count)
    assert caught.value.message == "sample a"
    return caught.value.problems


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A dataset with one image of two instances."""
    return make_dataset(tmp_path / "data", {"a": 2})


def test_a_sample_is_what_its_files_hold(root: Path) -> None:
    sample = load_sample(only_sample(root), 2)
    assert sample.id == "a"
    assert np.array_equal(sample.image_hwc, np.asarray(Image.open(root / "images/a.png")))
    masks = [np.asarray(Image.open(root / f"masks/a_{number}.png")) == 255 for number in range(2)]
    assert np.array_equal(sample.masks_nhw, masks)
    assert (sample.image_hwc.dtype, sample.masks_nhw.dtype) == (np.uint8, np.bool_)
    assert sample.class_ids.tolist() == [0, 1]
    assert (sample.class_ids.dtype, sample.boxes_xyxy.dtype) == (np.int64, np.float32)
    rows, columns = np.nonzero(masks[1])
    tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert sample.boxes_xyxy[1] == pytest.approx(tight, abs=1e-3)


def test_instances_are_those_of_the_sample(root: Path) -> None:
    sample, instances = load_sample(only_sample(root)), load_instances(only_sample(root))
    assert instances.id == sample.id
    for name in ("boxes_xyxy", "masks_nhw", "class_ids"):
        assert np.array_equal(getattr(instances, name), getattr(sample, name))


@settings(max_examples=30, deadline=None)
@given(top=st.integers(0, 20), left=st.integers(0, 30), height=st.integers(1, 12), width=st.integers(1, 10))
def test_a_box_written_as_fractions_comes_back_in_pixels(
    top: int, left: int, height: int, width: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = make_dataset(tmp_path_factory.mktemp("data"), {"a": 0}, size_hw=(32, 40))
    mask_hw = np.zeros((32, 40), np.bool_)
    mask_hw[top : top + height, left : left + width] = True
    write_instances(root, "a", [mask_hw])
    [box] = load_sample(only_sample(root)).boxes_xyxy
    assert box == pytest.approx([left, top, left + width, top + height], abs=1e-3)


def test_an_image_without_instances_has_empty_arrays(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", {"a": 0}, size_hw=(20, 30))
    sample = load_sample(only_sample(root))
    assert sample.masks_nhw.shape == (0, 20, 30)
    assert sample.boxes_xyxy.shape == (0, 4)
    assert sample.class_ids.shape == (0,)
    (root / "boxes/a.txt").unlink()
    assert len(load_sample(only_sample(root)).boxes_xyxy) == 0


def test_many_instances_stay_in_order_with_their_boxes(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", {"a": 30})
    sample = load_sample(only_sample(root))
    for mask_hw, box_xyxy in zip(sample.masks_nhw, sample.boxes_xyxy, strict=True):
        box = bounding_box(mask_hw)
        assert (box_xyxy[0] + box_xyxy[2]) / 2 / 96 == pytest.approx(box.x_center, abs=1e-5)


def test_grey_16_bit_and_alpha_images_become_rgb(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", {"a": 1}, size_hw=(24, 32))
    grey_hw = gradient()[..., 0]
    write_image(root / "images/a.png", grey_hw.astype(np.uint16) * 257)
    assert np.array_equal(load_sample(only_sample(root)).image_hwc, np.stack([grey_hw] * 3, axis=-1))


def test_masks_of_any_two_values_count_and_their_higher_one_is_the_instance(root: Path) -> None:
    expected = load_sample(only_sample(root)).masks_nhw
    for high in (1, 128):
        write_image(root / "masks/a_0.png", expected[0].astype(np.uint8) * np.uint8(high))
        assert np.array_equal(load_sample(only_sample(root)).masks_nhw, expected)


def test_boxes_that_reach_a_little_beyond_the_image_are_clipped(root: Path) -> None:
    (root / "boxes/a.txt").write_text("0 0.5 0.5 1.01 1.01\n1 0.5 0.5 0.5 0.5\n")
    assert load_sample(only_sample(root)).boxes_xyxy[0].tolist() == [0, 0, 96, 64]


def test_equal_boxes_are_two_instances(root: Path) -> None:
    (root / "boxes/a.txt").write_text("0 0.5 0.5 0.5 0.5\n\n0 0.5 0.5 0.5 0.5\n")
    assert len(load_sample(only_sample(root)).boxes_xyxy) == 2


def test_masks_and_boxes_that_differ_in_number_are_refused(root: Path) -> None:
    with (root / "boxes/a.txt").open("a") as file:
        file.write("0 0.5 0.5 0.5 0.5\n")
    assert problems_of(root) == ("2 masks and 3 boxes: each mask needs one box",)


def test_everything_wrong_with_a_sample_is_said_at_once(root: Path) -> None:
    (root / "boxes/a.txt").write_text("0 0.5 0.5 0 0.5\n2 1.5 0.5 0.1 0.1\nx\n1 0.1 0.1 0.2 0.1 0.2 0.2\n")
    mask_hw = np.arange(64 * 96, dtype=np.uint8).reshape(64, 96) % 3 * np.uint8(100)
    write_image(root / "masks/a_0.png", mask_hw)
    write_image(root / "masks/a_1.png", np.zeros((64, 95), np.uint8))
    assert problems_of(root) == (
        "boxes/a.txt:1: width 0 is not above 0",
        "boxes/a.txt:2: class '2' is beyond the 2 names",
        "boxes/a.txt:2: x_center 1.5 is outside [0, 1]",
        (
            "boxes/a.txt:3: 1 fields: a box has 5 (class x_center y_center width height), "
            "a polygon 1 + 2 a point, 3 or more"
        ),
        "boxes/a.txt:4: a polygon, where a box is needed",
        "2 masks and 4 boxes: each mask needs one box",
        "masks/a_0.png: 3 different values, and a mask has two",
        "masks/a_1.png: 95 x 64 pixels (width x height), and the image has 96 x 64",
    )


def test_an_empty_mask_is_refused(root: Path) -> None:
    write_image(root / "masks/a_1.png", np.zeros((64, 96), np.uint8))
    assert problems_of(root) == ("masks/a_1.png: the mask is empty",)


def test_a_box_wholly_within_the_tolerance_outside_is_refused(root: Path) -> None:
    (root / "boxes/a.txt").write_text("0 1.005 0.5 0.008 0.2\n0 0.5 0.5 0.1 0.1\n")
    assert problems_of(root) == ("boxes/a.txt:1: the box lies outside the image",)


def test_unreadable_files_are_named_with_the_sample(root: Path) -> None:
    (root / "masks/a_0.png").write_bytes(b"no image")
    assert problems_of(root) == (f"{root / 'masks/a_0.png'}: not a readable image",)
    (root / "images/a.png").write_bytes(b"")
    for load in (load_sample, load_instances):
        with pytest.raises(MvtkError, match=r"^sample a: .*images/a\.png: the file is empty"):
            load(only_sample(root))


def test_samples_are_read_when_asked_for(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", (1, 2, 3))
    samples = SamSamples(read_layout(root))
    (root / "images/image_1.png").write_bytes(b"")
    assert len(samples) == 3
    assert samples.ids == ("image_0", "image_1", "image_2")
    assert samples[-1].id == "image_2"
    assert samples.files(1).mask_names == ("image_1_0.png", "image_1_1.png")
    assert len(samples.instances(2).masks_nhw) == 3
    with pytest.raises(MvtkError, match=r"^sample image_1: "):
        samples[1]
    with pytest.raises(IndexError):
        samples[3]


def test_samples_can_be_chosen_sliced_and_sent_to_a_worker(tmp_path: Path) -> None:
    layout = read_layout(make_dataset(tmp_path / "data", (1, 2, 3)))
    chosen = SamSamples(layout, ["image_2", "image_0"])
    assert [len(sample.masks_nhw) for sample in chosen] == [3, 1]
    assert chosen[:1].ids == ("image_2",)
    assert pickle.loads(pickle.dumps(chosen)).ids == chosen.ids
    with pytest.raises(MvtkError, match="no sample 'x' in it"):
        SamSamples(layout, ["x"])


def test_classes_are_checked_where_their_number_is_known(root: Path) -> None:
    (root / "boxes/a.txt").write_text("0 0.5 0.5 0.5 0.5\n7 0.5 0.5 0.2 0.2\n")
    assert problems_of(root) == ("boxes/a.txt:2: class '7' is beyond the 2 names",)
    assert load_sample(only_sample(root)).class_ids.tolist() == [0, 7]
