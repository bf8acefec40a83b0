"""Training on GPUs: mixed precision without a check that downloads, and several GPUs in child processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.datasets import tree_hash
from tests.yolo_datasets import write_guided_dataset
from toolkit.core.devices import find_gpus
from toolkit.yolo.options import TrainYoloOptions
from toolkit.yolo.training import train_yolo

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

GPUS = len(find_gpus().names)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("attention", ["channel", "mask-cbam"])
def test_a_run_on_gpus(tmp_path: Path, count: int, attention: str) -> None:
    if count > GPUS:
        pytest.skip(f"needs {count} GPUs")
    data = write_guided_dataset(tmp_path / "data", train=16, val=8, side_px=96)
    before = tree_hash(data)
    device = ",".join(f"cuda:{number}" for number in range(count))
    options = TrainYoloOptions(
        data=data, output=tmp_path / "run", epochs=2, imgsz=96, batch=8, device=device, attention=attention, workers=2
    )
    result = train_yolo(options, quiet=True)
    assert (result.epochs, result.best is not None) == (2, True)
    assert result.best_weights.is_file()
    assert tree_hash(data) == before
