"""The lazy dataset: samples against what was written, images against other readings, and every way it can go wrong."""

from __future__ import annotations

import copy
import json
import math
import multiprocessing
import operator
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.builders import gradient, write_image, write_oriented, write_png16
from tests.metadata_files import write_samples
from toolkit.core.errors import MvtkError, OptionError
from toolkit.images import ImageError
from toolkit.metadata import lazy
from toolkit.metadata.collating import Sample
from toolkit.metadata.columns import Kind
from toolkit.metadata.errors import LegacyLayoutError, MetadataError
from toolkit.metadata.image_loading import IMAGE_LOADERS, ImageLoader
from toolkit.metadata.lazy import LazyNPYDataset, crop_to_box
from toolkit.metadata.record import MetadataInfo

RGB = gradient()
HEIGHT, WIDTH = RGB.shape[:2]
BOXES = [[1.5, 2, 3, 4], [5, 6, 7, 8.25]]
POINTS = [[1.5, 2, 2], [0, 0, 0], [30, 20, 1]]
LOADERS: list[ImageLoader] = ["pil", "cv2"]


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    """A file of three samples, whose images are PNGs beside it: two boxes, none, one."""
    write_image(tmp_path / "a.png", RGB)
    write_image(tmp_path / "b.png", RGB[::-1])
    write_image(tmp_path / "sub folder/ü.png", RGB[:12])
    samples = [("a.png", BOXES), ("b.png", []), ("sub folder/ü.png", BOXES[:1])]
    return write_samples(tmp_path / "detector.npy", "detector", samples, class_ids=[3, 1, -1])


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A file of three samples of one image; the last box leaves the image."""
    write_image(tmp_path / "a.png", RGB)
    samples = [("a.png", [1, 2, 3, 4]), ("a.png", [5.5, 6.5, 1, 1]), ("a.png", [WIDTH - 2, -3, 10, 5])]
    return write_samples(tmp_path / "teacher.npy", "teacher", samples, class_ids=[0, 7, -1])


class TestSamples:
    def test_detector(self, detector: Path) -> None:
        dataset = LazyNPYDataset(detector)
        assert len(dataset) == 3
        sample = dataset[0]
        assert list(sample) == ["image", "bboxes", "image_path"]
        np.testing.assert_array_equal(sample["image"], RGB)
        np.testing.assert_array_equal(sample["bboxes"], BOXES)
        assert (sample["image"].dtype, sample["bboxes"].dtype) == (np.uint8, np.float32)
        assert sample["image_path"] == str(detector.parent / "a.png")
        assert dataset[1]["bboxes"].shape == (0, 4)
        assert dataset[2]["image_path"] == str(detector.parent / "sub folder/ü.png")

    def test_landmarker(self, tmp_path: Path) -> None:
        write_image(tmp_path / "a.png", RGB)
        path = write_samples(tmp_path / "l.npy", "landmarker", [("a.png", POINTS), ("a.png", [])], class_ids=[5, -1])
        sample = LazyNPYDataset(path)[0]
        assert list(sample) == ["image", "keypoints", "image_path"]
        np.testing.assert_array_equal(sample["keypoints"], np.array(POINTS, np.float32))
        assert sample["keypoints"].dtype == np.float32
        assert [sample["class_id"] for sample in LazyNPYDataset(path, with_classes=True)] == [5, -1]

    def test_teacher(self, teacher: Path) -> None:
        first, second, third = LazyNPYDataset(teacher)
        assert list(first) == ["image", "bbox", "image_path"]
        np.testing.assert_array_equal(first["bbox"], np.array([1, 2, 3, 4], np.float32))
        assert first["bbox"].dtype == np.float32
        np.testing.assert_array_equal(first["image"], RGB[2:6, 1:4])
        np.testing.assert_array_equal(second["image"], RGB[6:8, 5:7])
        np.testing.assert_array_equal(third["image"], RGB[:2, WIDTH - 2 :])
        np.testing.assert_array_equal(third["bbox"], [WIDTH - 2, -3, 10, 5])
        assert all(sample["image"].flags.c_contiguous and sample["image"].base is None for sample in (first, third))
        assert [sample["class_id"] for sample in LazyNPYDataset(teacher, with_classes=True)] == [0, 7, -1]

    def test_classes_are_added_on_request(self, detector: Path) -> None:
        samples = list(LazyNPYDataset(detector, with_classes=True))
        assert set(samples[0]) == {"image", "bboxes", "class_ids", "image_path"}
        assert [sample["class_ids"].tolist() for sample in samples] == [[3, 1], [], [-1]]
        assert samples[0]["class_ids"].dtype == np.int64

    def test_metadata_needs_no_image(self, detector: Path) -> None:
        for image in detector.parent.rglob("*.png"):
            image.unlink()
        metadata = LazyNPYDataset(detector, transform=pytest.fail).get_metadata(-3)
        assert list(metadata) == ["image_path", "bboxes"]
        assert metadata["image_path"] == str(detector.parent / "a.png")
        np.testing.assert_array_equal(metadata["bboxes"], BOXES)

    @pytest.mark.parametrize("limits", [{}, {"cache_size": 2}, {"cache_bytes": 10**6}])
    def test_samples_are_the_callers_own(self, detector: Path, teacher: Path, limits: dict[str, int]) -> None:
        for path in (detector, teacher):
            dataset = LazyNPYDataset(path, with_classes=True, **limits)
            before = copy.deepcopy(dataset[0])
            for value in dataset[0].values():
                if isinstance(value, np.ndarray):
                    value += 1
            for name, value in dataset[0].items():
                np.testing.assert_array_equal(value, before[name])

    def test_a_transform_gets_and_gives_whole_samples(self, detector: Path) -> None:
        def mirror(sample: Sample) -> Sample:
            sample["image"] = sample["image"][:, ::-1]
            sample["bboxes"][:, 0] = WIDTH - sample["bboxes"][:, 0] - sample["bboxes"][:, 2]
            return sample | {"mirrored": True}

        sample = LazyNPYDataset(detector, transform=mirror)[0]
        np.testing.assert_array_equal(sample["image"], RGB[:, ::-1])
        np.testing.assert_array_equal(sample["bboxes"][:, 0], [WIDTH - 4.5, WIDTH - 12])
        assert sample["mirrored"] is True
        assert list(LazyNPYDataset(detector, transform=operator.itemgetter("image_path")))[1].endswith("b.png")

    def test_repr(self, detector: Path) -> None:
        start = f"LazyNPYDataset(detector, 3 samples, '{detector}', cache: "
        assert repr(LazyNPYDataset(detector)) == f"{start}none)"
        assert repr(LazyNPYDataset(detector, cache_size=9)) == f"{start}9 images)"
        assert repr(LazyNPYDataset(detector, 9, cache_bytes=64)) == f"{start}9 images and 64 bytes)"


class TestIndexing:
    @given(index=st.integers(-6, 6) | st.integers(-6, 6).map(np.int64) | st.sampled_from([0.0, None, "0", True]))
    def test_indexing_is_that_of_a_list(self, tmp_path_factory: pytest.TempPathFactory, index: Any) -> None:
        path = tmp_path_factory.getbasetemp() / "indexing.npy"
        rows = [[[float(number), 0, 1, 1]] * number for number in range(4)]
        if not path.exists():
            write_samples(path, "detector", [(f"{number}.png", rows[number]) for number in range(4)])
        dataset = LazyNPYDataset(path)
        expected = outcome(lambda: operator.getitem(rows, index))
        found = outcome(lambda: dataset.get_metadata(index))
        assert (found["bboxes"].tolist() if isinstance(found, dict) else found) == expected

    def test_iteration_ends(self, detector: Path) -> None:
        assert [Path(sample["image_path"]).name for sample in LazyNPYDataset(detector)] == ["a.png", "b.png", "ü.png"]

    @pytest.mark.parametrize("index", [3, -4])
    def test_out_of_range(self, detector: Path, index: int) -> None:
        with pytest.raises(IndexError, match=rf"^no sample {index}: LazyNPYDataset\(.*\) has 3$"):
            LazyNPYDataset(detector)[index]

    def test_a_slice_is_told_of_get_batch(self, detector: Path) -> None:
        text = r"^a sample's index is an integer, not slice; for several samples: get_batch\(range\(32\)\)$"
        with pytest.raises(TypeError, match=text):
            operator.getitem(LazyNPYDataset(detector), slice(0, 2))

    def test_no_samples(self, tmp_path: Path) -> None:
        dataset = LazyNPYDataset(write_samples(tmp_path / "none.npy", "detector", []))
        assert (len(dataset), list(dataset), dataset.get_batch([])) == (0, [], {})

    def test_get_batch(self, detector: Path) -> None:
        batch = LazyNPYDataset(detector, with_classes=True).get_batch(iter([np.int64(1), -3]))
        assert set(batch) == {"image", "bboxes", "class_ids", "image_path"}
        np.testing.assert_array_equal(batch["image"], np.stack([RGB[::-1], RGB]))
        assert [boxes.tolist() for boxes in batch["bboxes"]] == [[], BOXES]
        assert batch["image_path"] == [str(detector.parent / name) for name in ("b.png", "a.png")]

    def test_get_batch_checks_indices_before_it_reads(self, detector: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(LazyNPYDataset, "_sample_at", pytest.fail)
        with pytest.raises(IndexError, match="no sample 3"):
            LazyNPYDataset(detector).get_batch([0, 3])


def outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except (IndexError, TypeError) as error:
        return type(error)


class TestCropping:
    @given(
        box=st.tuples(*[st.integers(-60, 160).map(lambda number: number / 4)] * 2).flatmap(
            lambda corner: st.tuples(
                st.just(corner[0]),
                st.just(corner[1]),
                *[st.integers(-8, 200).map(lambda number: number / 4)] * 2,
            )
        )
    )
    def test_pixels_are_those_that_the_box_touches(self, box: tuple[float, float, float, float]) -> None:
        x, y, width, height = box
        columns = [pixel for pixel in range(WIDTH) if math.floor(x) <= pixel < math.ceil(x + width)]
        rows = [pixel for pixel in range(HEIGHT) if math.floor(y) <= pixel < math.ceil(y + height)]
        part_hwc = crop_to_box(RGB, np.array(box, np.float32))
        assert part_hwc.size == len(rows) * len(columns) * 3
        if part_hwc.size:
            np.testing.assert_array_equal(part_hwc, RGB[np.ix_(rows, columns)])
        assert part_hwc.flags.c_contiguous
        assert not np.shares_memory(part_hwc, RGB)

    def test_rounding_of_float32_adds_no_pixel(self) -> None:
        assert crop_to_box(RGB, np.array([10.3, 0, 20.7, 1], np.float32)).shape == (1, 21, 3)

    def test_huge_boxes_are_clipped(self) -> None:
        np.testing.assert_array_equal(crop_to_box(RGB, np.array([-3e38, -1e30, 3.4e38, 3e38], np.float32)), RGB)

    @pytest.mark.parametrize(
        "box", [[math.nan, 0, 1, 1], [0, 0, math.nan, 1], [0, 0, math.inf, 1], [-math.inf, 0, math.inf, 9]]
    )
    def test_boxes_that_are_not_finite_hold_nothing(self, box: list[float]) -> None:
        assert crop_to_box(RGB, np.array(box, np.float32)).size == 0

    @pytest.mark.parametrize(
        ("box", "text"),
        [
            ([WIDTH, 0, 5, 5], "(32, 0, 5, 5)"),
            ([3, -9, 5, 9], "(3, -9, 5, 9)"),
            ([3, 3, 0, 5], "(3, 3, 0, 5)"),
            ([3, math.nan, 5, 5], "(3, nan, 5, 5)"),
        ],
    )
    def test_an_empty_crop_names_file_and_sample(self, tmp_path: Path, box: list[float], text: str) -> None:
        write_image(tmp_path / "a.png", RGB)
        path = write_samples(tmp_path / "t.npy", "teacher", [("a.png", [0, 0, 1, 1]), ("a.png", box)])
        assert error_of(MetadataError, lambda: LazyNPYDataset(path)[1]) == (
            f"{path}: sample 1: its box {text} holds no pixel of its image, 32 x 24;"
            " see that the boxes are pixels of this very image"
        )


def error_of(kind: type[MvtkError], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


class TestLoaders:
    @pytest.mark.parametrize("name", ["grey.png", "rgb.png", "rgba.png", "palette.png", "grey.jpg", "rgb.bmp"])
    def test_both_give_the_same_pixels(self, tmp_path: Path, name: str) -> None:
        mode = {"grey": "L", "rgb": "RGB", "rgba": "RGBA", "palette": "P"}[name.partition(".")[0]]
        path = write_image(tmp_path / name, RGB, mode)
        by_pil, by_cv2 = (IMAGE_LOADERS[loader](str(path)) for loader in LOADERS)
        assert by_pil.shape == by_cv2.shape == RGB.shape
        assert by_pil.dtype == by_cv2.dtype == np.uint8
        np.testing.assert_allclose(by_pil.astype(int), by_cv2, atol=1 if name.endswith("jpg") else 0)

    def test_colour_jpegs_are_close(self, tmp_path: Path) -> None:
        path = write_image(tmp_path / "a.jpg", RGB, quality=95)
        by_pil, by_cv2 = (IMAGE_LOADERS[loader](str(path)).astype(int) for loader in LOADERS)
        assert np.abs(by_pil - RGB).max() < 25
        np.testing.assert_allclose(by_pil, by_cv2, atol=8)

    @pytest.mark.parametrize("loader", LOADERS)
    def test_stored_pixels_whatever_exif_asks_for(self, tmp_path: Path, loader: ImageLoader) -> None:
        path = write_oriented(tmp_path / "a.jpg", RGB, 6)
        assert IMAGE_LOADERS[loader](str(path)).shape == RGB.shape

    @pytest.mark.parametrize("loader", LOADERS)
    def test_16_bits_become_8(self, tmp_path: Path, loader: ImageLoader) -> None:
        write_png16(tmp_path / "a.png", RGB.astype(np.uint16) * 257)
        write_samples(tmp_path / "d.npy", "detector", [("a.png", BOXES)])
        np.testing.assert_array_equal(LazyNPYDataset(tmp_path / "d.npy", image_loader=loader)[0]["image"], RGB)

    @pytest.mark.parametrize("loader", LOADERS)
    @pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp"])
    def test_damaged_images_are_named(self, tmp_path: Path, loader: ImageLoader, name: str) -> None:
        path = write_image(tmp_path / name, RGB)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        write_samples(tmp_path / "d.npy", "detector", [(name, BOXES)])
        dataset = LazyNPYDataset(tmp_path / "d.npy", image_loader=loader)
        assert error_of(ImageError, lambda: dataset[0]).startswith(f"{path}: ")
        path.write_bytes(b"no image at all")
        assert error_of(ImageError, lambda: dataset[0]).startswith(f"{path}: ")

    @pytest.mark.parametrize("loader", LOADERS)
    def test_damage_that_decoders_let_pass_is_named(self, tmp_path: Path, loader: ImageLoader) -> None:
        jpeg, png = write_image(tmp_path / "a.jpg", RGB), write_image(tmp_path / "a.png", RGB)
        jpeg.write_bytes(jpeg.read_bytes()[:-2])
        content = bytearray(png.read_bytes())
        content[content.index(b"IDAT") - 8] ^= 1  # the header's checksum
        png.write_bytes(content)
        assert error_of(ImageError, lambda: IMAGE_LOADERS[loader](str(jpeg))).endswith("(no JPEG end marker)")
        assert "wrong checksum in its IHDR chunk" in error_of(ImageError, lambda: IMAGE_LOADERS[loader](str(png)))

    def test_unknown_loader(self, detector: Path) -> None:
        loader: Any = "opencv"
        text = error_of(OptionError, lambda: LazyNPYDataset(detector, image_loader=loader))
        assert text == 'image_loader=\'opencv\': no such loader; give "pil" or "cv2"'


class TestPaths:
    def test_a_missing_image_names_path_file_and_sample(self, detector: Path) -> None:
        (detector.parent / "b.png").unlink()
        assert error_of(ImageError, lambda: LazyNPYDataset(detector)[-2]) == (
            f"{detector.parent / 'b.png'}: no such image, for sample 1 of {detector};"
            " put it back, or make the metadata file again"
        )

    @pytest.mark.parametrize("loader", LOADERS)
    def test_a_missing_root_says_how_to_give_one(self, tmp_path: Path, loader: ImageLoader) -> None:
        path = write_samples(tmp_path / "d.npy", "detector", [("a.png", [])], info=MetadataInfo("images"))
        assert error_of(ImageError, lambda: LazyNPYDataset(path, image_loader=loader)[0]) == (
            f"{tmp_path}/images/a.png: no such image, for sample 0 of {path}; the root folder {tmp_path}/images itself"
            " is missing; say where the images are with root_dir="
        )
        write_image(tmp_path / "elsewhere/a.png", RGB)
        for root_dir in (tmp_path / "elsewhere", f"{tmp_path}/elsewhere/"):
            sample = LazyNPYDataset(path, image_loader=loader, root_dir=root_dir)[0]
            assert sample["image_path"] == f"{tmp_path}/elsewhere/a.png"

    def test_a_root_beside_the_file_is_written_without_detours(self, tmp_path: Path) -> None:
        write_image(tmp_path / "raw/a.png", RGB)
        (tmp_path / "out").mkdir()
        path = write_samples(tmp_path / "out/d.npy", "detector", [("a.png", [])], info=MetadataInfo("../raw"))
        assert LazyNPYDataset(path)[0]["image_path"] == str(tmp_path / "raw/a.png")

    def test_relative_paths_outlive_a_change_of_the_working_folder(
        self, detector: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(detector.parent)
        dataset = LazyNPYDataset(detector.name, root_dir=".")
        monkeypatch.chdir("/")
        assert dataset[0]["image_path"] == str(detector.parent / "a.png")
        assert pickle.loads(pickle.dumps(dataset)).get_metadata(0)["image_path"] == str(detector.parent / "a.png")

    @pytest.mark.parametrize("stored", ["/etc/passwd", "../a.png", "sub/../../a.png", ".."])
    def test_paths_that_leave_the_root_are_refused(self, tmp_path: Path, stored: str) -> None:
        path = write_samples(tmp_path / "d.npy", "detector", [("a.png", []), (stored, [])])
        dataset = LazyNPYDataset(path)
        for call in (dataset.__getitem__, dataset.get_metadata):
            assert error_of(MetadataError, lambda call=call: call(1)) == (
                f"{path}: sample 1: the image path '{stored}' leads out of the root folder;"
                " make the file again with paths below its root"
            )

    def test_dots_in_names_are_no_detours(self, tmp_path: Path) -> None:
        write_image(tmp_path / "a..b/..c.png", RGB)
        path = write_samples(tmp_path / "d.npy", "detector", [("a..b/..c.png", [])])
        np.testing.assert_array_equal(LazyNPYDataset(path)[0]["image"], RGB)

    def test_a_name_that_is_not_utf8(self, tmp_path: Path) -> None:
        name = os.fsdecode(b"\xff.png")
        write_image(tmp_path / name, RGB)
        sample = LazyNPYDataset(write_samples(tmp_path / "d.npy", "detector", [(name, [])]))[0]
        assert os.fsencode(sample["image_path"]).endswith(b"/\xff.png")

    def test_pickled_layout_is_refused(self, tmp_path: Path) -> None:
        np.save(tmp_path / "old.npy", np.array({"image_paths": []}, object), allow_pickle=True)
        text = error_of(LegacyLayoutError, lambda: LazyNPYDataset(tmp_path / "old.npy"))
        assert "mvtk dataset migrate" in text


class TestCaching:
    @pytest.mark.parametrize("limits", [{"cache_size": 1}, {"cache_bytes": RGB.nbytes}])
    def test_samples_of_one_image_decode_it_once(
        self, teacher: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int]
    ) -> None:
        loads = count_loads(monkeypatch)
        dataset = LazyNPYDataset(teacher, **limits)
        first, *_, again = [*dataset, *dataset, dataset[0]]
        assert loads == [str(teacher.parent / "a.png")]
        np.testing.assert_array_equal(first["image"], again["image"])

    def test_without_a_cache_nothing_is_kept(self, teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        loads = count_loads(monkeypatch)
        list(LazyNPYDataset(teacher))
        assert len(loads) == 3


def count_loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list to which the loader "pil" adds each path that it decodes."""
    loads: list[str] = []

    def load(path: str) -> Any:
        loads.append(path)
        return np.array(Image.open(path))

    monkeypatch.setattr(lazy, "IMAGE_LOADERS", {"pil": load})
    return loads


class TestPickling:
    def test_the_copy_has_all_options(self, teacher: Path) -> None:
        dataset = LazyNPYDataset(teacher, 5, "cv2", teacher.parent, dict, cache_bytes=10**6, with_classes=True)
        twin = pickle.loads(pickle.dumps(dataset))
        assert repr(twin) == repr(dataset)
        assert (twin.transform, twin.image_loader, twin.kind) == (dict, "cv2", "teacher")
        for ours, theirs in zip(dataset, twin, strict=True):
            assert ours.keys() == theirs.keys() == {"image", "bbox", "class_id", "image_path"}
            np.testing.assert_array_equal(ours["image"], theirs["image"])

    def test_neither_the_file_nor_the_cache_is_in_the_pickle(self, tmp_path: Path) -> None:
        write_image(tmp_path / "a.png", gradient(200, 200))
        path = write_samples(tmp_path / "d.npy", "detector", [("a.png", [[0, 0, 1, 1]] * 10_000)])
        dataset = LazyNPYDataset(path, cache_size=10)
        assert dataset[0]["image"].size == 120_000
        assert len(pickle.dumps(dataset)) < 2000

    def test_a_file_that_was_replaced_is_refused(self, detector: Path) -> None:
        pickled = pickle.dumps(LazyNPYDataset(detector))
        write_samples(detector, "detector", [("a.png", BOXES)], overwrite=True)
        assert error_of(MetadataError, lambda: pickle.loads(pickled)) == (
            f"{detector}: changed since the dataset was opened; open the dataset again"
        )

    def test_an_open_dataset_survives_the_replacement_of_its_file(self, detector: Path) -> None:
        dataset = LazyNPYDataset(detector)
        write_samples(detector, "teacher", [("b.png", BOXES[0])], overwrite=True)
        np.testing.assert_array_equal(dataset[0]["bboxes"], BOXES)

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_other_processes_read_the_same(self, detector: Path, method: str) -> None:
        with multiprocessing.get_context(method).Pool(1) as pool:
            [boxes] = pool.map(operator.itemgetter("bboxes"), [LazyNPYDataset(detector)[0]])
            found = pool.apply(operator.getitem, (LazyNPYDataset(detector, cache_size=1), -1))
        np.testing.assert_array_equal(boxes, BOXES)
        np.testing.assert_array_equal(found["image"], RGB[:12])


def test_neither_torch_nor_pydantic_is_imported(detector: Path) -> None:
    program = (
        "import json, sys; from toolkit.metadata.combined import CombinedLazyDataset;"
        " from toolkit.metadata.lazy import LazyNPYDataset;"
        " CombinedLazyDataset([LazyNPYDataset(sys.argv[1])]).get_batch([0, 1]);"
        " print(json.dumps(sorted({'torch', 'pydantic', 'typer', 'rich'} & set(sys.modules))))"
    )
    output = subprocess.check_output([sys.executable, "-c", program, str(detector)], text=True)
    assert json.loads(output) == []


@pytest.mark.parametrize("kind", ["detector", "landmarker", "teacher"])
def test_kinds_are_detected(tmp_path: Path, kind: Kind) -> None:
    rows = [[1, 2, 2]] if kind == "landmarker" else [[1, 2, 3, 4]]
    path = write_samples(tmp_path / "x.npy", kind, [("a.png", rows)], info=MetadataInfo(".", class_names=("ear",)))
    dataset = LazyNPYDataset(path)
    assert (dataset.kind, dataset.class_names, dataset.path) == (kind, ("ear",), path)
