"""Batches of samples: what is stacked, what stays a list; and epochs of real loaders under every start method."""

from __future__ import annotations

import copy
import importlib
import pickle
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.builders import gradient, write_image
from tests.metadata_files import write_samples
from toolkit.core.errors import MissingExtraError
from toolkit.metadata.batch_memory import BatchMemory
from toolkit.metadata.collating import GatheredSamples, Sample, collate_arrays, collate_samples, make_dataloader
from toolkit.metadata.combined import CombinedLazyDataset
from toolkit.metadata.lazy import LazyNPYDataset

torch = pytest.importorskip("torch")

RGB = gradient()


def detector_sample(boxes: int = 1, image_hwc: NDArray[np.uint8] = RGB, name: str = "a.png") -> Sample:
    boxes_xywh = np.arange(boxes * 4, dtype=np.float32).reshape(boxes, 4)
    return {"image": image_hwc, "bboxes": boxes_xywh, "class_ids": np.arange(boxes), "image_path": name}


class TestColumns:
    def test_images_of_one_size_are_stacked(self) -> None:
        batch = collate_samples([detector_sample(), detector_sample(image_hwc=RGB[::-1])])
        assert (batch["image"].shape, batch["image"].dtype) == ((2, 24, 32, 3), torch.uint8)
        np.testing.assert_array_equal(batch["image"][1], RGB[::-1])

    def test_images_of_other_sizes_are_a_list(self) -> None:
        batch = collate_samples([detector_sample(), detector_sample(image_hwc=RGB[:9])])
        assert [tuple(image.shape) for image in batch["image"]] == [(24, 32, 3), (9, 32, 3)]

    @given(st.lists(st.integers(0, 3), min_size=1, max_size=5))
    def test_boxes_are_always_a_list(self, counts: list[int]) -> None:
        batch = collate_samples([detector_sample(count) for count in counts])
        assert isinstance(batch["bboxes"], list)
        assert [tuple(boxes.shape) for boxes in batch["bboxes"]] == [(count, 4) for count in counts]
        assert [ids.tolist() for ids in batch["class_ids"]] == [list(range(count)) for count in counts]
        assert {boxes.dtype for boxes in batch["bboxes"]} == {torch.float32}
        assert {ids.dtype for ids in batch["class_ids"]} == {torch.int64}

    def test_keypoints_are_stacked_where_they_agree(self) -> None:
        five, six = ({"keypoints": np.ones((count, 3), np.float32)} for count in (5, 6))
        assert collate_samples([five, five])["keypoints"].shape == (2, 5, 3)
        assert [len(points) for points in collate_samples([five, six])["keypoints"]] == [5, 6]

    def test_teacher_columns(self) -> None:
        samples = [{"bbox": np.full(4, number, np.float32), "class_id": number} for number in range(3)]
        batch = collate_samples(samples)
        assert batch["bbox"].tolist() == [[number] * 4 for number in range(3)]
        assert (batch["class_id"].tolist(), batch["class_id"].dtype) == ([0, 1, 2], torch.int64)

    def test_paths_are_strings(self) -> None:
        batch = collate_samples([detector_sample(name="a.png"), detector_sample(name="ü.png")])
        assert batch["image_path"] == ["a.png", "ü.png"]

    def test_what_a_transform_adds(self) -> None:
        samples = [
            {
                "mirrored": number == 1,
                "scale": number / 2,
                "level": np.float32(number),
                "mask": torch.full((2, 3), number),
                "size": np.array([number, 1]),
                "weights": np.ones(number),
                "mixed": np.ones(2, np.float32 if number else np.float64),
                "texts": np.array(["a", "b"]),
                "view": {"angle": number},
                "nothing": None,
            }
            for number in range(2)
        ]
        batch = collate_samples(samples)
        assert (batch["mirrored"].tolist(), batch["mirrored"].dtype) == ([False, True], torch.bool)
        assert (batch["scale"].tolist(), batch["scale"].dtype) == ([0.0, 0.5], torch.float64)
        assert (batch["level"].tolist(), batch["level"].dtype) == ([0.0, 1.0], torch.float32)
        assert batch["mask"].tolist() == [[[0] * 3] * 2, [[1] * 3] * 2]
        assert batch["size"].tolist() == [[0, 1], [1, 1]]
        assert [tensor.tolist() for tensor in batch["weights"]] == [[], [1.0]]
        assert [tensor.dtype for tensor in batch["mixed"]] == [torch.float64, torch.float32]
        assert [texts.tolist() for texts in batch["texts"]] == [["a", "b"]] * 2
        assert batch["view"] == [{"angle": 0}, {"angle": 1}]
        assert batch["nothing"] == [None, None]

    def test_samples_of_different_kinds(self) -> None:
        batch = collate_samples([detector_sample(2), {"image": RGB, "bbox": np.ones(4, np.float32), "class_id": 3}])
        assert batch["image"].shape == (2, 24, 32, 3)
        assert batch["bboxes"][0].shape == (2, 4)
        assert (batch["bboxes"][1], batch["bbox"][0]) == (None, None)
        assert batch["bbox"][1].tolist() == [1, 1, 1, 1]
        assert batch["class_id"] == [None, 3]

    def test_flipped_and_read_only_arrays_are_taken(self) -> None:
        frozen_hwc = np.broadcast_to(np.uint8(7), RGB.shape)
        images = [RGB[:, ::-1], frozen_hwc]
        batch = collate_samples([detector_sample(image_hwc=image) for image in images])
        np.testing.assert_array_equal(batch["image"], np.stack(images))
        ragged = collate_samples([detector_sample(image_hwc=image[:height]) for height, image in enumerate(images, 1)])
        np.testing.assert_array_equal(ragged["image"][0], RGB[:1, ::-1])

    def test_stacking_copies(self) -> None:
        image_hwc = RGB.copy()
        batch = collate_samples([detector_sample(image_hwc=image_hwc)])
        batch["image"] += 1
        np.testing.assert_array_equal(image_hwc, RGB)

    def test_no_samples(self) -> None:
        assert collate_samples([]) == {}

    @given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([9, 24])), max_size=4))
    def test_numpy_batches_have_the_same_columns(self, traits: list[tuple[int, int]]) -> None:
        samples = [detector_sample(boxes, RGB[:height]) | {"scale": height / 2} for boxes, height in traits]
        arrays, tensors = collate_arrays(samples), collate_samples(copy.deepcopy(samples))
        assert arrays.keys() == tensors.keys()
        for name, column in arrays.items():
            assert isinstance(column, list) == isinstance(tensors[name], list)
            for ours, theirs in zip(column, tensors[name], strict=True):
                np.testing.assert_array_equal(ours, theirs)


class TestGathering:
    def gather(self, samples: list[Any]) -> GatheredSamples:
        return GatheredSamples(iter(samples), len(samples), BatchMemory())

    @given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([9, 24])), max_size=5))
    def test_batches_are_those_of_the_same_samples_in_a_list(self, traits: list[tuple[int, int]]) -> None:
        samples = [detector_sample(boxes, RGB[:height] + np.uint8(boxes)) for boxes, height in traits]
        gathered, listed = collate_samples(self.gather(samples)), collate_samples(samples)
        assert gathered.keys() == listed.keys()
        for name, column in gathered.items():
            assert type(column) is type(listed[name])
            for ours, theirs in zip(column, listed[name], strict=True):
                np.testing.assert_array_equal(ours, theirs)

    def test_images_of_one_size_are_not_copied_again(self) -> None:
        gathered = self.gather([detector_sample(), detector_sample()])
        assert np.shares_memory(collate_samples(gathered)["image"].numpy(), gathered[1]["image"])
        assert np.shares_memory(collate_arrays(gathered)["image"], gathered[1]["image"])

    def test_the_samples_that_were_given_stay_as_they_were(self) -> None:
        sample = detector_sample()
        gathered = self.gather([sample, sample])
        gathered[0]["image"] += 1
        assert sample["image"] is RGB
        np.testing.assert_array_equal(gathered[1]["image"], RGB)

    def test_later_changes_count(self) -> None:
        gathered = self.gather([detector_sample(), detector_sample(), detector_sample()])
        gathered[0]["image"] = RGB[:, ::-1]
        np.testing.assert_array_equal(collate_arrays(gathered)["image"], np.stack([RGB[:, ::-1], RGB, RGB]))
        gathered = self.gather([detector_sample(), detector_sample(image_hwc=RGB[::-1])])
        gathered.reverse()
        np.testing.assert_array_equal(collate_arrays(gathered)["image"], np.stack([RGB[::-1], RGB]))
        del gathered[0]
        np.testing.assert_array_equal(collate_arrays(gathered)["image"], RGB[None])

    @pytest.mark.parametrize("image", [torch.zeros(3, 4), None, "text"])
    def test_other_images_stay_as_they_are(self, image: Any) -> None:
        gathered = self.gather([{"image": image}, {"image": RGB}, {"image_path": "a.png"}])
        assert gathered[0]["image"] is image
        np.testing.assert_array_equal(gathered[1]["image"], RGB)
        assert list(gathered[2]) == ["image_path"]
        assert collate_samples(gathered)["image"][2] is None

    def test_samples_of_another_type_stay_as_they_are(self) -> None:
        assert self.gather(["a", 1]) == ["a", 1]

    def test_a_pickle_is_a_plain_list(self) -> None:
        twin = pickle.loads(pickle.dumps(self.gather([detector_sample()])))
        assert type(twin) is list
        np.testing.assert_array_equal(twin[0]["image"], RGB)


@pytest.fixture
def dataset(tmp_path: Path) -> CombinedLazyDataset:
    """Seven detector, six landmarker and five teacher samples; each image has its own brightness."""
    for number in range(7):
        write_image(tmp_path / f"{number}.png", np.full((10 + number % 2, 12, 3), number, np.uint8))
    detector = [(f"{number}.png", [[0, 0, 5, number]] * (number % 3)) for number in range(7)]
    landmarker = [(f"{number}.png", [[number, 1, 2]] * 4) for number in range(6)]
    teacher = [(f"{number}.png", [number, 1, 2, 3]) for number in range(5)]
    return CombinedLazyDataset(
        [
            LazyNPYDataset(write_samples(tmp_path / "d.npy", "detector", detector), cache_size=3),
            LazyNPYDataset(write_samples(tmp_path / "l.npy", "landmarker", landmarker), image_loader="cv2"),
            LazyNPYDataset(write_samples(tmp_path / "t.npy", "teacher", teacher), transform=dict, with_classes=True),
        ]
    )


def assert_epoch(dataset: CombinedLazyDataset, part: int, **options: Any) -> None:
    """Load one part, then all parts, and compare each batch with the samples by index."""
    for source in (dataset.datasets[part], dataset):
        loaded = 0
        for batch in make_dataloader(source, 4, **options):
            expected = collate_samples([source[index] for index in range(loaded, min(loaded + 4, len(source)))])
            loaded += len(batch["image_path"])
            assert batch.keys() == expected.keys()
            for name, column in batch.items():
                assert type(column) is type(expected[name])
                for found, wanted in zip(column, expected[name], strict=True):
                    assert (found is None) == (wanted is None)
                    np.testing.assert_array_equal(found, wanted)
        assert loaded == len(source)


class TestLoaders:
    @pytest.mark.parametrize("part", range(3))
    def test_an_epoch_in_this_process(self, dataset: CombinedLazyDataset, part: int) -> None:
        assert_epoch(dataset, part)

    def test_an_epoch_with_a_forked_worker(self, dataset: CombinedLazyDataset) -> None:
        assert_epoch(dataset, 0, num_workers=1, multiprocessing_context="fork")

    def test_an_epoch_with_a_spawned_worker(self, dataset: CombinedLazyDataset) -> None:
        [batch, _] = make_dataloader(dataset.datasets[0], 4, num_workers=1, multiprocessing_context="spawn")
        assert [len(boxes) for boxes in batch["bboxes"]] == [0, 1, 2, 0]
        assert [int(image[0, 0, 0]) for image in batch["image"]] == [0, 1, 2, 3]

    @pytest.mark.slow
    @pytest.mark.parametrize("part", range(3))
    @pytest.mark.parametrize("workers", [1, 2])
    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    def test_epochs_under_every_start_method(
        self, dataset: CombinedLazyDataset, method: str, workers: int, part: int
    ) -> None:
        assert_epoch(dataset, part, num_workers=workers, multiprocessing_context=method)

    @pytest.mark.slow
    def test_a_missing_image_is_told_from_a_worker(self, dataset: CombinedLazyDataset, tmp_path: Path) -> None:
        (tmp_path / "1.png").unlink()
        loader = make_dataloader(dataset.datasets[0], 7, num_workers=1, multiprocessing_context="fork")
        with pytest.raises(Exception, match=r"1\.png: no such image, for sample 1 of .*d\.npy"):
            list(loader)

    def test_options_reach_the_loader(self, dataset: CombinedLazyDataset) -> None:
        loader = make_dataloader(dataset, batch_size=5, drop_last=True, collate_fn=len)
        assert list(loader) == [5, 5, 5]
        assert make_dataloader(dataset).batch_size == 32

    def test_single_samples_and_batch_samplers(self, dataset: CombinedLazyDataset) -> None:
        sample = next(iter(make_dataloader(dataset, None)))
        assert sample["image"].shape == (10, 12, 3)
        [batch] = make_dataloader(dataset, batch_sampler=[[17, 0]])
        assert [Path(path).name for path in batch["image_path"]] == ["4.png", "0.png"]

    def test_an_epoch_that_keeps_all_batches(self, dataset: CombinedLazyDataset) -> None:
        first, second = (list(make_dataloader(dataset, 1)) for _ in range(2))
        assert len(first) == len(dataset)
        for index, (ours, theirs) in enumerate(zip(first, second, strict=True)):
            np.testing.assert_array_equal(ours["image"], theirs["image"])
            np.testing.assert_array_equal(ours["image"][0], dataset[index]["image"])

    def test_overridden_indexing_is_used(self, dataset: CombinedLazyDataset) -> None:
        class Numbered(CombinedLazyDataset):
            def __getitem__(self, index: SupportsIndex) -> Sample:
                return super().__getitem__(index) | {"number": int(index)}

        numbered = Numbered(dataset.datasets)
        assert [number for batch in make_dataloader(numbered, 4) for number in batch["number"].tolist()] == [*range(18)]
        assert numbered.get_batch([3, 1])["number"].tolist() == [3, 1]
        assert [sample["number"] for sample in numbered] == [*range(18)]

    def test_a_combined_dataset_is_pickled_after_a_batch(self, dataset: CombinedLazyDataset) -> None:
        assert len(dataset.get_batch([0, 2])["image"]) == 2
        twin = pickle.loads(pickle.dumps(dataset))
        np.testing.assert_array_equal(twin[-1]["image"], dataset[-1]["image"])

    def test_a_bare_loader_cannot_stack_boxes(self, dataset: CombinedLazyDataset) -> None:
        with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
            next(iter(torch.utils.data.DataLoader(dataset.datasets[0], batch_size=4)))


def test_without_torch_the_error_says_how_to_install_it(
    dataset: CombinedLazyDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def import_module(name: str) -> object:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", import_module)
    text = r"^torch is not installed; install it in mvtk's folder with: pip install '.\[torch\]'$"
    with pytest.raises(MissingExtraError, match=text):
        make_dataloader(dataset)
    with pytest.raises(MissingExtraError, match=text):
        collate_samples([])
    assert len(dataset.get_batch([0, 1])["image"]) == 2
