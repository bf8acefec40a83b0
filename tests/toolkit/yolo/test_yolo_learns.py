"""It learns: what only the mask can tell, and the real samples by heart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from commands.main import run
from tests.yolo_datasets import write_guided_dataset
from toolkit.yolo.options import TrainYoloOptions
from toolkit.yolo.training import TrainingResult, train_yolo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

BY_HEART = (
    "nbs=1",
    "mosaic=0",
    "scale=0",
    "translate=0",
    "fliplr=0",
    "hsv_h=0",
    "hsv_s=0",
    "hsv_v=0",
    "warmup_epochs=1",
)


def train(data: Path, output: Path, **changes: Any) -> TrainingResult:
    values: dict[str, Any] = {"batch": 8, "device": "cpu", **changes}
    return train_yolo(TrainYoloOptions(data=data, output=output, **values), quiet=True)


def map50(result: TrainingResult) -> float:
    assert result.final is not None
    return result.final.overall.map50


@pytest.fixture(scope="module")
def marked_discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Equal discs, of which the mask covers those that count."""
    return write_guided_dataset(tmp_path_factory.mktemp("discs") / "data", train=160, val=48, side_px=96)


@pytest.mark.parametrize(
    ("attention", "low", "high"), [("none", 0.2, 0.7), ("channel", 0.95, 1), ("mask-cbam", 0.95, 1)]
)
def test_the_mask_alone_tells_object_from_distractor(
    marked_discs: Path, tmp_path: Path, attention: str, low: float, high: float, record_property: Any
) -> None:
    result = train(
        marked_discs,
        tmp_path / "run",
        attention=attention,
        epochs=16,
        imgsz=96,
        batch=16,
        settings=("warmup_epochs=1", "mosaic=0", "plots=false"),
    )
    record_property("map50", map50(result))
    assert low <= map50(result) <= high


def test_coronary_angiograms_are_learnt_by_heart(shared_data: Path, tmp_path: Path) -> None:
    arcade = shared_data / "coronary/arcade_stenosis_nnunet"
    for split in ("train", "val"):
        for folder in ("images", "labels"):
            (tmp_path / "source" / folder / split).mkdir(parents=True)
    mapping = {}
    for mask in sorted((arcade / "labelsTr").glob("*.png")):
        image = f"images/train/{mask.name}"
        (tmp_path / "source" / image).symlink_to(arcade / f"imagesTr/{mask.stem}_0000.png")
        (tmp_path / f"source/labels/train/{mask.stem}.txt").symlink_to(arcade / f"labels_yolo_derived/{mask.stem}.txt")
        mapping[mask.name] = mask.name
    (tmp_path / "source/data.yaml").write_text("names: [stenosis]\n")
    (tmp_path / "mapping.json").write_text(json.dumps(mapping))
    source, data = str(tmp_path / "source"), tmp_path / "pairs"
    assert run([
        "dataset", "convert-mask-attention", "--images-dataset-root", source, "--labels-dataset-root", source,
        "--mask-folder", str(arcade / "labelsTr"), "--mask-suffix", "", "--splits", "train",
        "--mapping-json", str(tmp_path / "mapping.json"), "--output-root", str(data), "-q",
    ]) == 0  # fmt: skip
    (data / "data.yaml").write_text("train: images/train\nval: images/train\nchannels: 4\nnames: [stenosis]\n")
    result = train(data, tmp_path / "run", epochs=140, imgsz=256, batch=1, lr0=0.002, settings=BY_HEART)
    assert map50(result) > 0.7  # one of the five is 6 pixels high at this size
    assert (tmp_path / "run/confusion_matrix.png").is_file()


def test_wildlife_is_learnt_by_heart(shared_data: Path, tmp_path: Path) -> None:
    wildlife = shared_data / "roboflow_yolo/wildlife"
    data = tmp_path / "data.yaml"
    names = (wildlife / "data.yaml").read_text().partition("names:")[2]
    data.write_text(f"path: {wildlife}\ntrain: test/images\nval: test/images\nnames:{names}")
    result = train(data, tmp_path / "run", epochs=100, imgsz=256, batch=1, lr0=0.002, settings=BY_HEART)
    assert map50(result) > 0.8
