"""The functions of the yolo-sam-training package, called as its README does, on a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import toolkit.sam
from tests.sam_datasets import make_dataset
from toolkit.core.errors import MvtkError
from toolkit.images import load_image
from toolkit.sam.augmentation import augment
from toolkit.sam.documented_data import (
    ProcessedSamples,
    SamBatch,
    SAMDataset,
    collate_samples,
    create_dataloaders,
    load_dataset_from_summary,
    process_dataset_with_sam,
    split_dataset,
)
from toolkit.sam.documented_steps import (
    BatchShapeError,
    compute_batch_loss,
    save_prediction_visualization,
    train_one_epoch,
    validate_batch_shapes,
    validate_one_epoch,
    validate_pred_masks,
)
from toolkit.sam.documented_training import train_sam_model
from toolkit.sam.losses import dice_ce_losses
from toolkit.sam.model import TrainableSam, load_trainable_sam

INPUT, LOW = 128, 32
"""Of the tiny model."""


@pytest.fixture
def processed(tmp_path: Path) -> ProcessedSamples:
    root = make_dataset(tmp_path / "data", [1, 2, 3, 1, 2, 3, 1, 2, 3, 4])
    dataset = load_dataset_from_summary(root / "summary.json")
    return process_dataset_with_sam(dataset=dataset, input_size=INPUT, low_resolution=LOW)


@pytest.fixture
def batch(processed: ProcessedSamples) -> SamBatch:
    return collate_samples([processed[0], processed[2]])


def test_the_readme_s_example_trains_and_saves_a_model(
    processed: ProcessedSamples, sam_folder: Path, tmp_path: Path
) -> None:
    train_dataset, test_dataset = split_dataset(dataset=processed, test_size=0.2, stratify_by_box_count=True)
    assert (len(train_dataset), len(test_dataset)) == (8, 2)
    train_loader, test_loader = create_dataloaders(train_dataset=train_dataset, test_dataset=test_dataset, batch_size=4)
    reports = []
    best_model_state, loss_plot = train_sam_model(
        train_loader=train_loader,
        val_loader=test_loader,
        model_save_path=tmp_path / "models/sam_fine_tuned",
        visualization_dir=tmp_path / "pictures",
        num_epochs=3,
        learning_rate=2e-3,
        device="cpu",
        model=sam_folder,
        on_epoch=reports.append,
    )
    assert [report.epoch for report in reports] == [1, 2, 3]
    assert reports[-1].val_loss < reports[0].val_loss
    saved = load_trainable_sam(tmp_path / "models/sam_fine_tuned").plain_state()
    assert all(torch.equal(saved[name], tensor) for name, tensor in best_model_state.items() if name in saved)
    assert len(list((tmp_path / "models/sam_fine_tuned/.mvtk-embeddings").rglob("*.safetensors"))) == 10
    loss_plot.savefig(tmp_path / "loss.png")
    assert load_image(tmp_path / "loss.png").pixels.shape == (420, 720, 3)
    assert sorted(path.parent.name for path in (tmp_path / "pictures").rglob("*.png")) == [
        "epoch_1",
        "epoch_2",
        "epoch_3",
    ]


def test_samples_are_padded_and_their_padding_is_known(batch: SamBatch) -> None:
    validate_batch_shapes(batch, 0)
    assert batch["pixel_values"].shape == (2, 3, INPUT, INPUT)
    assert batch["input_boxes"].shape == (2, 3, 4)
    assert batch["labels"].shape == (2, 3, LOW, LOW)
    assert batch["num_masks_per_sample"].tolist() == [1, 3]
    assert batch["valid_sizes"].tolist() == [[21, 32], [21, 32]]
    assert batch["dataset_keys"] == ["image_0", "image_2"]
    assert not batch["labels"][0, 1:].any()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("labels", None, "batch 7: labels is missing"),
        ("input_boxes", lambda t: t[..., :3], r"input_boxes has the shape \(2, 3, 3\): 3, where SAM has 4"),
        ("labels", lambda t: t[:, :2], r"labels has the shape \(2, 2, 32, 32\): 2, where input_boxes has 3"),
        ("pixel_values", lambda t: t[0], r"pixel_values has the shape \(3, 128, 128\), expected are 4 axes"),
        ("num_masks_per_sample", lambda t: t + 1, "num_masks_per_sample is larger than the 3 boxes there are"),
    ],
)
def test_wrong_shapes_are_named(batch: Any, name: str, change: Any, message: str) -> None:
    if change is None:
        del batch[name]
    else:
        batch[name] = change(batch[name])
    with pytest.raises(BatchShapeError, match=message):
        validate_batch_shapes(batch, 7)


def test_predicted_masks_lose_their_axis_of_one() -> None:
    assert validate_pred_masks(torch.zeros(2, 3, 1, 8, 8), (2, 3, 8, 8)).shape == (2, 3, 8, 8)
    with pytest.raises(BatchShapeError, match=r"shape \(2, 3, 3, 8, 8\), expected is \(B, M, 8, 8\)"):
        validate_pred_masks(torch.zeros(2, 3, 3, 8, 8), (8, 8))


def test_the_loss_counts_every_instance_once_and_no_padding(batch: SamBatch) -> None:
    logits = torch.randn(batch["labels"].shape, generator=torch.Generator().manual_seed(0))
    expected = torch.cat(
        [
            dice_ce_losses(logits[index, :count, :21], batch["labels"][index, :count, :21])
            for index, count in ((0, 1), (1, 3))
        ]
    ).mean()
    arguments = logits, batch["labels"], batch["num_masks_per_sample"]
    assert compute_batch_loss(*arguments, valid_sizes=batch["valid_sizes"]) == pytest.approx(float(expected))
    by_instance = compute_batch_loss(
        *arguments, lambda one, true: dice_ce_losses(one[0], true[0]).mean(), valid_sizes=batch["valid_sizes"]
    )
    assert by_instance == pytest.approx(float(expected))
    assert compute_batch_loss(*arguments) != pytest.approx(float(expected), abs=1e-3)
    assert compute_batch_loss(logits, batch["labels"], torch.zeros(2, dtype=torch.long)) == 0


def test_a_loop_of_one_s_own(sam: TrainableSam, processed: ProcessedSamples, tmp_path: Path) -> None:
    loader, _ = create_dataloaders(processed, processed, batch_size=4)
    optimizer = torch.optim.AdamW(sam.trainable_parameters(), lr=2e-3)
    before = validate_one_epoch(sam.model, loader)
    for epoch in range(2):
        losses = train_one_epoch(sam, loader, optimizer, epoch=epoch, visualization_dir=tmp_path)
        assert len(losses) == 3
    assert np.mean(validate_one_epoch(sam, loader)) < np.mean(before) - 0.1
    assert (tmp_path / "epoch_1" / "batch_0.png").is_file()


def test_a_loss_that_is_no_number_names_the_samples(sam: TrainableSam, batch: SamBatch) -> None:
    batch["pixel_values"] = batch["pixel_values"] * torch.nan
    with pytest.raises(MvtkError, match=r"the loss of batch 0 is nan \(samples image_0, image_2\)"):
        validate_one_epoch(sam, [batch])


def test_a_transform_changes_samples(processed: ProcessedSamples) -> None:
    def cropped(sample: Any) -> Any:
        return augment(sample, ["crop"], np.random.default_rng(0))

    changed, plain = SAMDataset(processed, "train", transform=cropped)[3], SAMDataset(processed)[3]
    assert changed["dataset_key"] == "train_image_3"
    assert changed["original_size"] < plain["original_size"]


def test_visualizations_are_drawn_when_asked_for(processed: ProcessedSamples, tmp_path: Path) -> None:
    process_dataset_with_sam(processed.samples[:2], tmp_path / "out", save_visualizations=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["image_0.png", "image_1.png"]
    path = save_prediction_visualization(
        torch.randn(1, 3, 64, 64), torch.randn(1, 2, 16, 16), torch.ones(1, 2, 16, 16), 3, 1, tmp_path
    )
    assert path == tmp_path / "epoch_1" / "batch_3.png"
    assert path.is_file()


def test_a_summary_is_asked_for_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(MvtkError, match=r"other\.json: a dataset's summary is named summary\.json"):
        load_dataset_from_summary(tmp_path / "other.json")


def test_the_package_has_the_documented_names() -> None:
    assert toolkit.sam.train_sam_model is train_sam_model
    assert all(callable(getattr(toolkit.sam, name)) for name in toolkit.sam.__all__)
