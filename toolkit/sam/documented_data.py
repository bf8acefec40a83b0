"""The data functions of the yolo-sam-training package, with its names and arguments, on lazy samples.

Nothing is held in memory: a dataset is a sequence whose samples are read and prepared when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, SupportsIndex, TypedDict, overload

from toolkit.core.errors import MvtkError
from toolkit.core.extras import require_extra
from toolkit.core.files import make_folder
from toolkit.preview import draw_boxes, save_png
from toolkit.sam.geometry import ResizeGeometry
from toolkit.sam.layout import SUMMARY, read_layout
from toolkit.sam.panels import paint_instances
from toolkit.sam.preprocessing import prepare_boxes, prepare_image, prepare_targets
from toolkit.sam.samples import SamSample, SamSamples
from toolkit.sam.split_file import split_samples

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import DataLoader

INPUT_SIZE: Final = 1024
LOW_RESOLUTION: Final = 256
"""Of the published SAM models."""
_VISUALIZATIONS: Final = Path("visualization_output")


class ProcessedSample(TypedDict):
    """A sample as SAM takes it.

    ``pixel_values`` (3, S, S) float32; ``input_boxes`` (N, 4) float32 in pixels of that input; ``labels`` (N, L, L)
    float32 0 and 1, padded with zeros; ``valid_size`` (h, w) of the part of the labels that is no padding;
    ``original_size`` (H, W) of the image; ``dataset_key``, the sample's id.
    """

    pixel_values: Tensor
    input_boxes: Tensor
    labels: Tensor
    valid_size: tuple[int, int]
    original_size: tuple[int, int]
    dataset_key: str


class SamBatch(TypedDict):
    """Samples put together; those with fewer instances than the largest are padded with zeros.

    ``pixel_values`` (B, 3, S, S); ``input_boxes`` (B, M, 4); ``labels`` (B, M, L, L); ``num_masks_per_sample`` (B,)
    int64, how many of M are real; ``valid_sizes`` (B, 2) int64 and ``dataset_keys`` as in :class:`ProcessedSample`.
    """

    pixel_values: Tensor
    input_boxes: Tensor
    labels: Tensor
    num_masks_per_sample: Tensor
    valid_sizes: Tensor
    dataset_keys: list[str]


class ProcessedSamples(Sequence[ProcessedSample]):
    """Samples prepared for SAM one by one, when they are asked for.

    Args:
        samples: those to prepare.
        input_size: side of the model's input in pixels.
        low_resolution: side of the model's logits.
    """

    def __init__(self, samples: SamSamples, input_size: int = INPUT_SIZE, low_resolution: int = LOW_RESOLUTION) -> None:
        self.samples = samples
        self.input_size = input_size
        self.low_resolution = low_resolution

    def chosen(self, ids: Sequence[str]) -> ProcessedSamples:
        """Return some of the samples."""
        return ProcessedSamples(SamSamples(self.samples.layout, ids), self.input_size, self.low_resolution)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: Any) -> Any:
        """Return one sample, or those of a slice, still unprepared."""
        if isinstance(index, slice):
            return self.chosen(self.samples.ids[index])
        return self.processed(self.samples[index])

    def __iter__(self) -> Iterator[ProcessedSample]:
        return (self.processed(sample) for sample in self.samples)

    def processed(self, sample: SamSample) -> ProcessedSample:
        """Return a sample, which may have been changed, as SAM takes it."""
        from torch.nn.functional import pad

        height, width = sample.image_hwc.shape[:2]
        geometry = ResizeGeometry(height, width, self.input_size, self.low_resolution)
        targets = prepare_targets(sample.masks_nhw, geometry).float()
        valid_h, valid_w = geometry.valid_low_hw
        return ProcessedSample(
            pixel_values=prepare_image(sample.image_hwc, geometry),
            input_boxes=prepare_boxes(sample.boxes_xyxy, geometry),
            labels=pad(targets, (0, self.low_resolution - valid_w, 0, self.low_resolution - valid_h)),
            valid_size=(valid_h, valid_w),
            original_size=(height, width),
            dataset_key=sample.id,
        )


class SAMDataset:
    """A map-style dataset for ``torch.utils.data.DataLoader``.

    Args:
        dataset: from :func:`process_dataset_with_sam`.
        prefix: put before the samples' ids in ``dataset_key``, with an underscore.
        transform: changes each sample before it is prepared, such as a partial of
            :func:`toolkit.sam.augmentation.augment`; image, masks and boxes must stay together.
    """

    def __init__(
        self,
        dataset: ProcessedSamples,
        prefix: str = "",
        transform: Callable[[SamSample], SamSample] | None = None,
    ) -> None:
        self.dataset = dataset
        self.prefix = prefix
        self.transform = transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: SupportsIndex) -> ProcessedSample:
        """Return a prepared sample.

        Raises:
            MvtkError: its files cannot be used; the line names it.
        """
        sample = self.dataset.samples[index]
        processed = self.dataset.processed(sample if self.transform is None else self.transform(sample))
        if self.prefix:
            processed["dataset_key"] = f"{self.prefix}_{sample.id}"
        return processed


def load_dataset_from_summary(summary_path: str | Path) -> SamSamples:
    """Return the samples that a ``summary.json`` lists, each read when it is asked for.

    Raises:
        MvtkError: the file or the folder around it cannot be used; the line lists all problems.
    """
    path = Path(summary_path)
    if path.name != SUMMARY:
        raise MvtkError(f"{path}: a dataset's summary is named {SUMMARY}", f"give the path of {SUMMARY}")
    return SamSamples(read_layout(path.parent))


def process_dataset_with_sam(
    dataset: SamSamples,
    output_dir: str | Path | None = None,
    save_visualizations: bool = False,
    *,
    input_size: int = INPUT_SIZE,
    low_resolution: int = LOW_RESOLUTION,
) -> ProcessedSamples:
    """Return samples as SAM takes them; each is prepared when it is asked for.

    Args:
        dataset: from :func:`load_dataset_from_summary`.
        output_dir: of the pictures; None: ``visualization_output``.
        save_visualizations: draw every sample's masks and boxes, which reads all of them now.
        input_size: side of the model's input in pixels.
        low_resolution: side of the model's logits.

    Raises:
        MvtkError: a sample cannot be read, or a picture cannot be written.
    """
    if save_visualizations:
        folder = Path(output_dir or _VISUALIZATIONS)
        make_folder(folder)
        for sample in dataset:
            painted_hwc = paint_instances(sample.image_hwc, sample.masks_nhw)
            classes = sample.class_ids.tolist()
            picture_hwc = draw_boxes(painted_hwc, sample.boxes_xyxy, [str(name) for name in classes], classes)
            save_png(folder / f"{sample.id}.png", picture_hwc, overwrite=True)
    return ProcessedSamples(dataset, input_size, low_resolution)


@overload
def split_dataset(
    dataset: SamSamples, test_size: float = ..., random_seed: int = ..., stratify_by_box_count: bool = ...
) -> tuple[SamSamples, SamSamples]: ...
@overload
def split_dataset(
    dataset: ProcessedSamples, test_size: float = ..., random_seed: int = ..., stratify_by_box_count: bool = ...
) -> tuple[ProcessedSamples, ProcessedSamples]: ...
def split_dataset(
    dataset: SamSamples | ProcessedSamples,
    test_size: float = 0.2,
    random_seed: int = 42,
    stratify_by_box_count: bool = True,
) -> tuple[SamSamples, SamSamples] | tuple[ProcessedSamples, ProcessedSamples]:
    """Return two parts of a dataset, for training and for testing.

    Args:
        dataset: raw or processed samples.
        test_size: the part for testing, between 0 and 1.
        random_seed: another one gives another split.
        stratify_by_box_count: whether both sides get images of few and of many instances alike.

    Raises:
        MvtkError: there are fewer than two samples, or ``test_size`` cannot be used.
    """
    samples = dataset if isinstance(dataset, SamSamples) else dataset.samples
    counts = {files.id: len(files.mask_names) for files in map(samples.files, range(len(samples)))}
    groups = samples.layout.groups
    split = split_samples(
        counts, test_size, stratify_by_box_count=stratify_by_box_count, seed=random_seed, groups=groups
    )
    if isinstance(dataset, ProcessedSamples):
        return dataset.chosen(split.train), dataset.chosen(split.val)
    return SamSamples(samples.layout, split.train), SamSamples(samples.layout, split.val)


def create_dataloaders(
    train_dataset: ProcessedSamples,
    test_dataset: ProcessedSamples,
    batch_size: int = 4,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> tuple[DataLoader[SamBatch], DataLoader[SamBatch]]:
    """Return loaders of batches (:class:`SamBatch`): shuffled for training, in order for testing.

    Args:
        train_dataset: processed samples to train on.
        test_dataset: processed samples to validate on.
        batch_size: samples a batch; the last one may have fewer.
        num_workers: processes that read ahead.
        pin_memory: for faster copies to a GPU.

    Raises:
        MissingExtraError: torch is not installed.
    """
    data = require_extra("torch.utils.data", "sam")
    common = {
        "batch_size": batch_size,
        "num_workers": num_workers,
        "pin_memory": pin_memory,
        "collate_fn": collate_samples,
    }
    return (
        data.DataLoader(SAMDataset(train_dataset), shuffle=True, **common),
        data.DataLoader(SAMDataset(test_dataset), shuffle=False, **common),
    )


def collate_samples(samples: Sequence[ProcessedSample]) -> SamBatch:
    """Put samples with different numbers of instances together; see :class:`SamBatch`."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    return SamBatch(
        pixel_values=torch.stack([sample["pixel_values"] for sample in samples]),
        input_boxes=pad_sequence([sample["input_boxes"] for sample in samples], batch_first=True),
        labels=pad_sequence([sample["labels"] for sample in samples], batch_first=True),
        num_masks_per_sample=torch.tensor([len(sample["input_boxes"]) for sample in samples]),
        valid_sizes=torch.tensor([sample["valid_size"] for sample in samples]),
        dataset_keys=[sample["dataset_key"] for sample in samples],
    )
