"""Training runs of a tiny model: what they write, refuse, stop at and go on with."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.datasets import tree_hash, written
from tests.yolo_datasets import write_guided_dataset
from tests.yolo_models import save_tiny_checkpoint
from toolkit.core.errors import InputProblemsError, MvtkError, OptionError, StopRunError
from toolkit.core.signals import StopRequest
from toolkit.yolo.options import TrainYoloOptions
from toolkit.yolo.results import read_history
from toolkit.yolo.training import TrainingResult, train_yolo

FAST = ("plots=false", "warmup_epochs=0", "mosaic=0.5")


def options(data: Path, output: Path, model: str, **changes: Any) -> TrainYoloOptions:
    values: dict[str, Any] = {"epochs": 1, "imgsz": 64, "batch": 2, "device": "cpu", "settings": FAST, **changes}
    return TrainYoloOptions(data=data, output=output, model=model, **values)


def train(data: Path, output: Path, model: str, **changes: Any) -> TrainingResult:
    return train_yolo(options(data, output, model, **changes), quiet=True)


@dataclass
class StopAfter(StopRequest):
    """Asks to stop when it was looked at so many times."""

    looks: int = 0

    @property
    def requested(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def checkpoint(path: Path) -> Any:
    from toolkit.yolo.containment import contained_ultralytics

    with contained_ultralytics(quiet=True):
        from toolkit.yolo.engine.weights import load_weights

        return load_weights(path)


@pytest.mark.parametrize(
    ("attention", "channels", "kept"),
    [("auto", 4, "channel"), ("none", 3, "none"), ("mask-cbam", 4, "mask-cbam")],
)
def test_a_run_and_its_files(
    guided_data: Path, tiny_yaml: str, tmp_path: Path, attention: str, channels: int, kept: str
) -> None:
    before = tree_hash(guided_data)
    result = train(guided_data, tmp_path / "run", tiny_yaml, attention=attention, epochs=2)
    assert (result.epochs, result.trained, result.interrupted) == (2, 2, False)
    assert result.final is not None
    assert result.final.instances == {"marked disc": 4}
    assert tree_hash(guided_data) == before
    files = ["args.yaml", "config.yaml", "results.csv", "weights/best.pt", "weights/last.pt"]
    assert written(tmp_path / "run") == files
    best = checkpoint(result.best_weights)
    assert (best.channels, best.attention) == (channels, kept)
    assert best.class_names == {0: "marked disc"}
    assert best.content["train_args"]["data"] == str(guided_data / "data.yaml")
    again = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert (again["attention"], again["set"], again["epochs"]) == (attention, list(FAST), 2)


def test_a_model_begins_with_the_weights_it_is_given(guided_data: Path, tmp_path: Path) -> None:
    weights = save_tiny_checkpoint(tmp_path / "tiny.pt")
    before = tree_hash(tmp_path)
    result = train(guided_data, tmp_path / "run", str(weights), lr0=1e-9)
    start, end = checkpoint(weights).model.state_dict(), checkpoint(result.best_weights).model.state_dict()
    first = "model.0.conv.weight"
    torch.testing.assert_close(end[first][:, :3], start[first], rtol=2e-3, atol=2e-3)
    assert end[first][:, 3].abs().max() < 1e-4
    torch.testing.assert_close(end["model.4.conv.weight"], start["model.4.conv.weight"], rtol=2e-3, atol=2e-3)
    (tmp_path / "run").rename(tmp_path.parent / f"{tmp_path.name}-run")
    assert tree_hash(tmp_path) == before


@pytest.mark.parametrize(
    ("given", "settings", "optimizer", "rate"),
    [
        (0.0007, (), "AdamW", 0.0007),
        (0.0007, ("optimizer=SGD",), "SGD", 0.0007),
        (None, (), "AdamW", 0.002),  # Ultralytics' own choice for one class
        (None, ("optimizer=Adam",), "Adam", 0.01),
    ],
)
def test_the_learning_rate_is_obeyed(
    guided_data: Path,
    tiny_yaml: str,
    tmp_path: Path,
    given: float | None,
    settings: tuple[str, ...],
    optimizer: str,
    rate: float,
) -> None:
    train(guided_data, tmp_path / "run", tiny_yaml, lr0=given, settings=(*FAST, "lrf=1.0", *settings))
    [row] = read_history(tmp_path / "run/results.csv")
    assert row["lr/pg0"] == pytest.approx(rate, rel=1e-3)
    arguments = checkpoint(tmp_path / "run/weights/best.pt").content["train_args"]
    assert (arguments["optimizer"], arguments["lr0"]) == (optimizer, pytest.approx(rate))


def test_a_stopped_run_goes_on_where_it_was(guided_data: Path, tiny_yaml: str, tmp_path: Path) -> None:
    given = options(guided_data, tmp_path / "run", tiny_yaml, epochs=3)
    looks_an_epoch = 2 + 1  # training and validation batches
    stopped = train_yolo(given, StopAfter(looks=looks_an_epoch + 1), quiet=True)
    assert (stopped.interrupted, stopped.epochs, stopped.trained) == (True, 1, 1)
    with pytest.raises(MvtkError, match="holds a training run; go on with it with --resume, or name another folder"):
        train_yolo(given, quiet=True)
    with pytest.raises(OptionError, match="cannot resume with other options: epochs 3 is now 4"):
        train(guided_data, tmp_path / "run", tiny_yaml, epochs=4, resume=True)
    resumed = train(guided_data, tmp_path / "run", tiny_yaml, epochs=3, resume=True)
    assert (resumed.interrupted, resumed.epochs, resumed.trained) == (False, 3, 2)
    assert [row["epoch"] for row in read_history(tmp_path / "run/results.csv")] == [1, 2, 3]
    over = train(guided_data, tmp_path / "run", tiny_yaml, epochs=3, resume=True)
    assert (over.epochs, over.trained, over.interrupted) == (3, 0, False)


def test_a_run_stopped_before_its_first_epoch_ended(guided_data: Path, tiny_yaml: str, tmp_path: Path) -> None:
    given = options(guided_data, tmp_path / "run", tiny_yaml)
    stopped = train_yolo(given, StopAfter(looks=1), quiet=True)
    assert (stopped.interrupted, stopped.epochs, stopped.best) == (True, 0, None)
    resumed = train(guided_data, tmp_path / "run", tiny_yaml, resume=True)
    assert (resumed.trained, resumed.remarks) == (1, ("no epoch of the run was finished: it begins anew",))
    with pytest.raises(MvtkError, match="there is no run to resume; leave out --resume to begin one"):
        train(guided_data, tmp_path / "none", tiny_yaml, resume=True)


def test_a_full_disk_leaves_the_last_checkpoint_whole(
    guided_data: Path, tiny_yaml: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, names = Path.write_bytes, list[str]()

    def scarce(path: Path, data: bytes) -> int:
        if path.suffix == ".tmp" and len(data) > 10_000:
            names.append(path.name)
            if len(names) > 2:  # best and last of the first epoch
                write(path, data[: len(data) // 2])
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", scarce)
    with pytest.raises(StopRunError, match=r"No space left on device; free some space"):
        train(guided_data, tmp_path / "run", tiny_yaml, epochs=3)
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "run/weights").iterdir()) == ["best.pt", "last.pt"]
    assert checkpoint(tmp_path / "run/weights/last.pt").content["epoch"] == 0
    assert len(read_history(tmp_path / "run/results.csv")) == 2  # the epoch whose checkpoint is lost has its row
    assert train(guided_data, tmp_path / "run", tiny_yaml, epochs=3, resume=True).trained == 2
    assert [row["epoch"] for row in read_history(tmp_path / "run/results.csv")] == [1, 2, 3]


def test_all_that_is_wrong_with_a_dataset_is_said_before_the_first_epoch(tiny_yaml: str, tmp_path: Path) -> None:
    root = write_guided_dataset(tmp_path / "data")
    (root / "labels/train/0000.txt").write_text("7 0.5 0.5 0.1 0.1\n")
    (root / "labels/val/0001.txt").write_text("0 0.5 0.5 0.1\n")
    (root / "images/val/0000.npz").write_bytes(b"")
    with pytest.raises(InputProblemsError) as caught:
        train(root, tmp_path / "run", tiny_yaml)
    problems = "\n".join(caught.value.problems)
    assert re.search(r"train/0000\.txt:1: class '7' is beyond the 1 name", problems)
    assert re.search(r"val/0001\.txt:1: 4 fields", problems)
    assert re.search(r"val/0000\.npz: ", problems)
    assert not (tmp_path / "run").exists()


def test_a_pair_that_breaks_while_training_is_named(tiny_yaml: str, tmp_path: Path) -> None:
    root = write_guided_dataset(tmp_path / "data")
    path = root / "images/train/0002.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(content)
    with pytest.raises(MvtkError, match=r"^.*0002\.npz: .*CRC"):
        train(root, tmp_path / "run", tiny_yaml)


def test_masks_without_a_pixel_and_grey_images_are_trained_on(tiny_yaml: str, tmp_path: Path) -> None:
    import numpy as np

    from toolkit.npz import save_npz

    root = write_guided_dataset(tmp_path / "data")
    grey, empty = np.full((64, 64), 90, np.uint8), np.zeros((64, 64), np.uint8)
    save_npz(root / "images/train/0000.npz", {"image": grey, "mask": empty}, overwrite=True)
    save_npz(root / "images/train/0001.npz", {"image": grey[..., None], "mask": empty[..., None]}, overwrite=True)
    assert train(root, tmp_path / "run", tiny_yaml, attention="mask-cbam").trained == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "absent.pt"}, "absent.pt: no such file; weights are not downloaded"),
        ({"model": "yolo99z.yaml"}, "yolo99z.yaml: no such model; give a YAML such as yolo11n.yaml"),
        ({"model": "yolo11n-seg.yaml"}, "a model for segment; give a detection model"),
        ({"attention": "none", "model": "four.pt"}, "takes 4 channels, and the dataset gives 3"),
        ({"device": "cuda:99"}, "there is no device cuda:99"),
        (
            {"settings": ("mosiac=0", "lr0=1", "flipud=7", "x", "project=a", "epochs=1", "degrees=much")},
            "mosiac: no setting of Ultralytics; did you mean mosaic?; lr0: there is an option of its own, --lr0;",
        ),
    ],
)
def test_what_cannot_be_run_is_said_first(
    guided_data: Path, tiny_yaml: str, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    save_tiny_checkpoint(tmp_path / "four.pt", channels=4)
    if str(changes.get("model", "")).endswith("four.pt"):
        changes = {**changes, "model": str(tmp_path / "four.pt")}
    with pytest.raises(MvtkError) as caught:
        train(guided_data, tmp_path / "run", changes.pop("model", tiny_yaml), **changes)
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_optimizer_that_there_is_not(guided_data: Path, tiny_yaml: str, tmp_path: Path) -> None:
    with pytest.raises(MvtkError, match=r"Ultralytics: Optimizer 'Foo' not found.*change the setting that it names"):
        train(guided_data, tmp_path / "run", tiny_yaml, settings=("optimizer=Foo",))


def test_settings_that_change_classes_sizes_and_numbers(tiny_yaml: str, tmp_path: Path) -> None:
    root = write_guided_dataset(tmp_path / "data")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a, b]\n")
    for path in (root / "labels").rglob("*.txt"):
        path.write_text(path.read_text().replace("0 ", "1 ", 1))
    settings = (*FAST, "single_cls=true", "multi_scale=0.5", "fraction=[0.5, 1.0]", "rect=true")
    result = train(root, tmp_path / "run", tiny_yaml, settings=settings)
    assert result.final is not None
    assert result.final.instances == {"item": 4}


def test_the_mask_of_a_batch_is_scaled_to_the_nearest_pixel(guided_data: Path, tiny_yaml: str, tmp_path: Path) -> None:
    from toolkit.yolo.containment import contained_ultralytics

    with contained_ultralytics(quiet=True):
        from toolkit.yolo.engine.trainer import ContainedTraining
    from types import SimpleNamespace

    trainer = ContainedTraining.__new__(ContainedTraining)
    trainer.device, trainer.stride = torch.device("cpu"), 32
    trainer.args = SimpleNamespace(multi_scale=0.5, imgsz=128)
    sizes = set()
    for _ in range(20):
        images = torch.randint(0, 256, (2, 4, 128, 128), dtype=torch.uint8)
        images[:, 3] = (images[:, 3] > 127) * 255
        made = trainer.preprocess_batch({"img": images})["img"]
        sizes.add(made.shape[-1])
        assert set(made[:, 3].unique().tolist()) == {0, 1}
        assert len(made[:, 0].unique()) > 2
    assert len(sizes) > 1


@pytest.mark.parametrize(
    ("epochs", "settings", "remarks"),
    [
        (30, {}, ["batches: 60 in all, and the statistics", "optimiser steps: about 1 in all, as each gathers 64"]),
        (30, {"nbs": 2}, ["batches: 60 in all, and the statistics of batch normalisation take some 300 to settle"]),
        (150, {"nbs": 2}, []),
        (10, {}, []),  # a trial
        (1000, {}, []),
    ],
)
def test_too_few_steps_are_said(guided_data: Path, epochs: int, settings: dict[str, Any], remarks: list[str]) -> None:
    from toolkit.yolo.source import find_source
    from toolkit.yolo.training import _few_steps

    source = find_source(guided_data, ("train", "val"))
    given = TrainYoloOptions(data=guided_data, output=guided_data, epochs=epochs, batch=2, device="cpu")
    found = list(_few_steps(given, source, settings))
    assert [text[: len(start)] for text, start in zip(found, remarks, strict=True)] == remarks


def test_a_folder_with_other_files_is_left_alone(guided_data: Path, tiny_yaml: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.tex").touch()
    with pytest.raises(MvtkError, match="is not empty, and holds no training run; name another folder"):
        train(guided_data, tmp_path / "run", tiny_yaml)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_cached_images_of_a_run_go_with_it(guided_data: Path, tiny_yaml: str, tmp_path: Path) -> None:
    train(guided_data, tmp_path / "run", tiny_yaml, cache="disk")
    assert not (tmp_path / "run/.mvtk-images").exists()
    train(guided_data, tmp_path / "other", tiny_yaml, cache="disk", cache_dir=tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 6


@pytest.mark.parametrize("batch", [0, -2, 2.5, -0.5])
def test_batches_that_are_none(tmp_path: Path, batch: float) -> None:
    with pytest.raises(ValueError, match="give a whole number of images, a part of the GPU's memory between 0 and 1"):
        TrainYoloOptions(data=tmp_path, output=tmp_path, batch=batch)
    assert TrainYoloOptions(data=tmp_path, output=tmp_path, batch=0.5).images_a_step == 0.5
    assert TrainYoloOptions(data=tmp_path, output=tmp_path, batch=8).images_a_step == 8
