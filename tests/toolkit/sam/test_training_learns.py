"""A small SAM with random weights learns: from generated shapes, and from photographs of nuclei."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sam_datasets import make_dataset, make_nuclei_dataset
from toolkit.sam.demo_model import write_demo_model
from toolkit.sam.train_options import TrainOptions
from toolkit.sam.training import SamTraining
from toolkit.sam.training_events import RunReport

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration's SAM, whose logits are 64 pixels wide, so that small things keep their shape."""
    folder = tmp_path_factory.mktemp("model")
    write_demo_model(folder)
    return folder


def _trained(data: Path, model: Path, epochs: int) -> RunReport:
    options = TrainOptions(
        data=data,
        output=data.parent / "run",
        model=str(model),
        epochs=epochs,
        learning_rate=3e-3,
        cache_variants="dihedral",
        augment=("boxes",),
        panels=0,
        export=False,
        device="cpu",
    )
    report = list(SamTraining(options).run())[-1]
    assert isinstance(report, RunReport)
    return report


def test_it_learns_generated_shapes(tmp_path: Path, model: Path) -> None:
    """Measured: the mean IoU of the validation instances rises from 0.07 to 0.84 in half a minute."""
    data = make_dataset(tmp_path / "data", [1, 2] * 40, size_hw=(64, 64))
    report = _trained(data, model, epochs=40)
    assert report.start.val_iou < 0.15
    assert report.best.val_iou > 0.6


def test_it_learns_nuclei(tmp_path: Path, model: Path, shared_data: Path) -> None:
    """Measured: the mean IoU of nuclei in photographs never seen rises from 0.03 to 0.54 in less than a minute."""
    data = make_nuclei_dataset(shared_data, tmp_path / "data", piece_px=64, min_area_px=40)
    report = _trained(data, model, epochs=80)
    assert report.start.val_iou < 0.1
    assert report.best.val_iou > 0.35
