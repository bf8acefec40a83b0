"""Training runs: resumed ones equal undisturbed ones, the cache changes nothing, and trouble leaves checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.builders import write_image
from tests.sam_datasets import make_dataset
from tests.sam_models import save_tiny_sam
from toolkit.core.errors import InputProblemsError, MvtkError, OptionError
from toolkit.sam.checkpoints import load_checkpoint
from toolkit.sam.data_loading import ImageSource, TrainingSample
from toolkit.sam.decoder_training import DecoderTraining, DivergedError, choose_precision
from toolkit.sam.embedding import Embedding
from toolkit.sam.embedding_cache import DEFAULT_FOLDER, EmbeddingCache, EmbeddingKey, hash_image
from toolkit.sam.layout import read_layout
from toolkit.sam.losses import dice_ce_losses
from toolkit.sam.model import Decoded, TrainableSam, load_trainable_sam
from toolkit.sam.processes import Processes
from toolkit.sam.samples import SamSamples
from toolkit.sam.schedule import Schedule
from toolkit.sam.split_file import Split, save_split
from toolkit.sam.train_options import TrainOptions
from toolkit.sam.training import SamTraining
from toolkit.sam.training_data import choose_images, prepare_sources
from toolkit.sam.training_events import EncodingProgress, EpochReport, Notice, RunReport, TrainingEvent

LEARNING_RATE = 2e-3
NEVER = 99.0
"""A min_delta that no epoch is better by."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six images to train on and two to validate on."""
    root = make_dataset(tmp_path / "data", [2, 1, 3, 1, 2, 4, 2, 1])
    save_split(root / "split.json", Split(tuple(f"image_{k}" for k in range(6)), ("image_6", "image_7")))
    return root


def _options(data: Path, model: Path, run: str = "run", **values: Any) -> TrainOptions:
    settings = {"epochs": 3, "batch_size": 2, "learning_rate": LEARNING_RATE, "panels": 0, "export": False}
    return TrainOptions(data=data, output=data.parent / run, model=str(model), device="cpu", **settings | values)


def _epochs(events: Sequence[TrainingEvent]) -> list[tuple[float, ...]]:
    """The figures of each epoch that do not depend on the clock."""
    return [
        (
            event.epoch,
            event.step,
            event.learning_rate,
            event.train_loss if event.epoch else 0.0,
            event.val_loss,
            event.val_iou,
        )
        for event in events
        if isinstance(event, EpochReport)
    ]


def _notices(events: Sequence[TrainingEvent]) -> str:
    return "\n".join(event.text for event in events if isinstance(event, Notice))


def test_a_run_learns_and_leaves_all_its_files(data: Path, sam_folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*.png")}
    options = _options(data, sam_folder, panels=2, export=True)
    events = list(SamTraining(options).run())
    report = events[-1]
    assert isinstance(report, RunReport)
    assert report.best.val_loss < report.start.val_loss - 0.2
    assert report.epochs == 3
    names = {path.relative_to(options.output).as_posix() for path in options.output.rglob("*") if path.is_file()}
    assert names == {
        "config.yaml", "metrics.csv", "loss.png", "iou.png", "learning_rate.png",
        "checkpoints/last.safetensors", "checkpoints/best.safetensors",
        "model/config.json", "model/model.safetensors", "model/preprocessor_config.json",
        *(f"panels/epoch_000{epoch}.png" for epoch in range(4)),
    }  # fmt: skip
    assert "cached path: the encoder runs once for each of 8 embeddings" in _notices(events)
    best = load_checkpoint(options.output / "checkpoints/best.safetensors").decoder
    tuned = load_trainable_sam(options.output / "model").decoder_state()
    assert all(torch.equal(best[name], tensor) for name, tensor in tuned.items())
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    "values", [{"cache_variants": "flips", "augment": ("boxes",)}, {"lora": True, "lora_dropout": 0.2}]
)
def test_a_resumed_run_equals_an_undisturbed_one_bit_for_bit(
    data: Path, sam_folder: Path, values: dict[str, Any]
) -> None:
    whole = list(SamTraining(_options(data, sam_folder, "whole", **values)).run())

    first = []
    running = SamTraining(_options(data, sam_folder, "parts", **values)).run()
    for event in running:
        first.append(event)
        if isinstance(event, EpochReport) and event.epoch == 1:
            next(running)  # epoch 2 has begun
            break
    running.close()
    torch.manual_seed(99)
    second = list(SamTraining(_options(data, sam_folder, "parts", resume=True, **values)).run())

    assert _epochs(first) + _epochs(second) == _epochs(whole)
    ends = [load_checkpoint(data.parent / run / "checkpoints/last.safetensors") for run in ("whole", "parts")]
    for name, tensor in ends[0].decoder.items():
        assert torch.equal(tensor, ends[1].decoder[name])
    for index, moments in ends[0].optimizer.items():
        assert all(torch.equal(moment, ends[1].optimizer[index][name]) for name, moment in moments.items())
    tables = [(data.parent / run / "metrics.csv").read_text().splitlines() for run in ("whole", "parts")]
    assert len(tables[0]) == len(tables[1]) == 5


def test_the_cache_changes_nothing(data: Path, sam_folder: Path) -> None:
    cached = list(SamTraining(_options(data, sam_folder, "cached")).run())
    full = list(SamTraining(_options(data, sam_folder, "full", cache=False)).run())
    assert "full path, as the cache is switched off" in _notices(full)
    for mine, other in zip(_epochs(cached), _epochs(full), strict=True):
        assert mine == pytest.approx(other, abs=1e-4)
    assert cached[-1].best.epoch == full[-1].best.epoch  # type: ignore[union-attr]  # the last is the RunReport


def test_augmentation_that_changes_images_takes_the_full_path(data: Path, sam_folder: Path) -> None:
    options = _options(data, sam_folder, augment=("colour", "rotation", "crop"), cache_variants="dihedral", epochs=1)
    events = list(SamTraining(options).run())
    assert "full path, as --augment colour,rotation,crop changes images" in _notices(events)
    assert "0 of 2 embeddings are in" in _notices(events)
    assert len(_epochs(events)) == 2


def test_a_second_run_computes_no_embedding(data: Path, sam_folder: Path) -> None:
    list(SamTraining(_options(data, sam_folder, "one", epochs=1)).run())
    assert "8 of 8 embeddings are in" in _notices(list(SamTraining(_options(data, sam_folder, "two", epochs=1)).run()))


def test_two_runs_at_once_share_the_encoding(data: Path, sam_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode, encoded = TrainableSam.encode, []

    def counted(self: TrainableSam, pixel_values: torch.Tensor) -> Embedding:
        encoded.append(len(pixel_values))
        return encode(self, pixel_values)

    monkeypatch.setattr(TrainableSam, "encode", counted)
    options = _options(data, sam_folder, batch_size=1, threads=1, cache_variants="dihedral")
    first, second = (
        prepare_sources(options, choose_images(options), load_trainable_sam(sam_folder), Processes("cpu"))
        for _ in range(2)
    )
    begun = next(event for event in first if isinstance(event, EncodingProgress))
    assert begun.total == 6 * 8 + 2
    assert "came from" not in _notices(list(second))
    rest = _notices(list(first))
    assert "came from another run" in rest
    assert sum(encoded) < begun.total + 8  # those that the first had prepared are done twice


def test_the_best_weights_are_a_snapshot(data: Path, sam_folder: Path) -> None:
    options = _options(data, sam_folder, epochs=2, min_delta=NEVER)
    events = list(SamTraining(options).run())
    assert "the best checkpoint is the untrained model" in _notices(events)
    best = load_checkpoint(options.output / "checkpoints/best.safetensors").decoder
    untrained = load_trainable_sam(sam_folder).decoder_state()
    assert all(torch.equal(best[name], tensor) for name, tensor in untrained.items())


def test_training_stops_when_nothing_gets_better(data: Path, sam_folder: Path) -> None:
    options = _options(data, sam_folder, epochs=50, min_delta=NEVER, patience=2)
    events = list(SamTraining(options).run())
    assert isinstance(events[-1], RunReport)
    assert events[-1].reason == "no epoch after 0 was better (patience 2)"
    assert events[-1].epochs == 2


def test_a_loss_that_is_no_number_names_the_sample_and_keeps_the_checkpoint(data: Path, sam_folder: Path) -> None:
    options = _options(data, sam_folder)
    with pytest.raises(DivergedError, match=r"the loss of sample image_3 is nan in step [789]; the last good check"):
        _run_spoiling(data, "image_3", options, sam_folder)
    last = load_checkpoint(options.output / "checkpoints/last.safetensors")
    assert last.facts.epoch == 2
    assert all(tensor.isfinite().all() for tensor in last.decoder.values())


def test_all_that_is_wrong_with_masks_and_boxes_is_told_before_an_image_is_encoded(
    data: Path, sam_folder: Path
) -> None:
    write_image(data / "masks" / "image_2_1.png", np.zeros((5, 5), np.uint8))
    (data / "boxes" / "image_7.txt").write_text("0 0.5 0.5 0 0.1\n")
    with pytest.raises(InputProblemsError) as caught:
        list(SamTraining(_options(data, sam_folder)).run())
    wrong_size, no_width = caught.value.problems
    assert wrong_size.startswith("sample image_2: masks/image_2_1.png: 5 x 5 pixels")
    assert no_width == "sample image_7: boxes/image_7.txt:1: width 0 is not above 0"
    assert not (data / DEFAULT_FOLDER).exists()


def _run_spoiling(data: Path, sample_id: str, options: TrainOptions, sam_folder: Path) -> None:
    """Train, and put NaN into the cached embedding of a sample after two epochs."""
    cache = EmbeddingCache(data / DEFAULT_FOLDER, load_trainable_sam(sam_folder).model_hash, options.cache_dtype)
    path = cache.path(EmbeddingKey(hash_image(data / "images" / f"{sample_id}.png")))
    for event in SamTraining(options).run():
        if isinstance(event, EpochReport) and event.epoch == 2:
            save_file({name: tensor * torch.nan for name, tensor in load_file(path).items()}, path)


def test_a_checkpoint_of_another_model_is_refused(data: Path, sam_folder: Path, tmp_path: Path) -> None:
    list(SamTraining(_options(data, sam_folder, epochs=1)).run())
    other = save_tiny_sam(tmp_path / "other", seed=1)
    with pytest.raises(MvtkError, match="belongs to another model"):
        list(SamTraining(_options(data, other, resume=True)).run())
    with pytest.raises(OptionError, match="cannot resume with other options: batch_size 2 is now 4"):
        list(SamTraining(_options(data, sam_folder, resume=True, batch_size=4)).run())


def test_running_out_of_memory_changes_no_figure(data: Path, sam_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = list(SamTraining(_options(data, sam_folder, "plain", batch_size=4, epochs=2)).run())
    decode = TrainableSam.decode

    def scarce(self: TrainableSam, embedding: Embedding, boxes: Sequence[torch.Tensor]) -> Decoded:
        if sum(map(len, boxes)) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(self, embedding, boxes)

    monkeypatch.setattr(TrainableSam, "decode", scarce)
    halved = list(SamTraining(_options(data, sam_folder, "halved", batch_size=4, epochs=2)).run())
    assert "out of memory: 1 images at once from now on" in _notices(halved)
    assert "instances at once from now on" in _notices(halved)
    for mine, other in zip(_epochs(halved), _epochs(plain), strict=True):
        assert mine == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize("batches", [[[0, 1, 2, 3]], [[0], [1], [2], [3]], [[3, 0], [2, 1]]])
def test_the_step_does_not_depend_on_the_batches(data: Path, sam: TrainableSam, batches: list[list[int]]) -> None:
    source = ImageSource(SamSamples(read_layout(data)), sam.geometry)
    samples = [source.load(position, 0) for position in range(4)]
    expected = _reference_gradients(sam, samples)
    training = DecoderTraining(sam, Schedule(1e-9, 0, 1, 1.0), batch_size=4, processes=Processes("cpu"))
    for batch in batches:
        training.add([samples[index] for index in batch])
    gradients: list[torch.Tensor | None] = []
    training.optimizer.register_step_pre_hook(
        lambda *_: gradients.extend(parameter.grad for parameter in sam.trainable_parameters())
    )
    figures = training.finish_step()
    assert figures.instances == 7
    for mine, other in zip(gradients, expected, strict=True):
        assert mine is not None
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def _reference_gradients(sam: TrainableSam, samples: Sequence[TrainingSample]) -> tuple[torch.Tensor, ...]:
    """Gradients of the mean loss of all instances, one instance at a time, without the padding."""
    losses = []
    for sample in samples:
        assert sample.pixel_values is not None
        embedding = sam.encode(sample.pixel_values[None])
        height, width = sample.targets.shape[1:]
        for box, target in zip(sample.boxes_xyxy, sample.targets, strict=True):
            logits = sam.decode(embedding, [box[None]]).logits[0][None, :, :height, :width]
            losses.append(dice_ce_losses(logits[0], target[None]))
    return torch.autograd.grad(torch.cat(losses).mean(), sam.trainable_parameters())


def test_images_without_instances_are_left_out_and_a_side_of_them_is_an_error(tmp_path: Path, sam_folder: Path) -> None:
    data = make_dataset(tmp_path / "data", {"a": 2, "b": 0, "c": 1, "d": 0})
    save_split(data / "split.json", Split(("a", "b"), ("c", "d")))
    events = list(SamTraining(_options(data, sam_folder, epochs=1)).run())
    assert "images without instances are left out: 2" in _notices(events)
    save_split(data / "split.json", Split(("a", "c"), ("b", "d")), overwrite=True)
    with pytest.raises(MvtkError, match="no validation image has instances; see mvtk sam verify"):
        list(SamTraining(_options(data, sam_folder, "other")).run())


def test_half_precision_is_for_gpus() -> None:
    assert choose_precision("auto", "cpu") == "fp32"
    assert choose_precision("bf16", "cpu") == "bf16"
    with pytest.raises(MvtkError, match="--precision fp16 is for GPUs, and the device is cpu"):
        choose_precision("fp16", "cpu")


def test_bfloat16_trains_on_the_cpu(data: Path, sam_folder: Path) -> None:
    report = list(SamTraining(_options(data, sam_folder, precision="bf16", epochs=2)).run())[-1]
    assert isinstance(report, RunReport)
    assert report.best.val_loss < report.start.val_loss
