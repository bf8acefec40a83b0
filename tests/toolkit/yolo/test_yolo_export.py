"""ONNX files give what the model gives, with all of its channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets import tree_hash, written
from tests.yolo_models import save_tiny_checkpoint
from toolkit.core.errors import MvtkError, OptionError
from toolkit.yolo.export import ExportYoloOptions, export_yolo


def export(model: Path, output: Path, **changes: Any) -> Any:
    return export_yolo(ExportYoloOptions(model=model, output=output, **changes))


@pytest.mark.parametrize(("channels", "guided", "dynamic"), [(3, False, False), (4, False, True), (4, True, False)])
def test_the_file_gives_what_the_model_gives(tmp_path: Path, channels: int, guided: bool, dynamic: bool) -> None:
    import onnxruntime
    import torch

    from toolkit.yolo.containment import contained_ultralytics

    (tmp_path / "weights").mkdir()
    model = save_tiny_checkpoint(tmp_path / "weights/best.pt", channels=channels, guided=guided, eager=True)
    before = tree_hash(tmp_path / "weights")
    shape, size_bytes = export(model, tmp_path / "model.onnx", dynamic=dynamic)
    assert tree_hash(tmp_path / "weights") == before
    assert written(tmp_path) == ["model.onnx", "weights/best.pt"]
    assert (shape, size_bytes) == ((1, channels, 64, 64), (tmp_path / "model.onnx").stat().st_size)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1] == channels
    assert session.get_modelmeta().custom_metadata_map["channels"] == str(channels)
    shape = (2, channels, 96, 64) if dynamic else (1, channels, 64, 64)
    images = np.random.default_rng(0).random(shape, np.float32)
    with contained_ultralytics(quiet=True):
        from toolkit.yolo.engine.weights import load_weights

        with torch.no_grad():
            expected = load_weights(model).model(torch.from_numpy(images))[0].numpy()
    np.testing.assert_allclose(session.run(None, {"images": images})[0], expected, rtol=1e-4, atol=1e-3)


def test_what_exists_is_kept(tmp_path: Path) -> None:
    model = save_tiny_checkpoint(tmp_path / "best.pt")
    (tmp_path / "model.onnx").write_bytes(b"mine")
    with pytest.raises(MvtkError, match=r"model\.onnx exists already; use --overwrite"):
        export(model, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == b"mine"
    export(model, tmp_path / "model.onnx", overwrite=True)
    assert (tmp_path / "model.onnx").stat().st_size > 1000


def test_what_cannot_be_written_is_said_first(tmp_path: Path) -> None:
    model = save_tiny_checkpoint(tmp_path / "best.pt")
    with pytest.raises(OptionError, match=r"name a file with the suffix \.onnx"):
        export(model, tmp_path / "model.pt")
    with pytest.raises(OptionError, match="no multiple of the model's stride; give one of 32"):
        export(model, tmp_path / "model.onnx", imgsz=50)
    with pytest.raises(MvtkError, match=r"absent\.pt: no such file"):
        export(tmp_path / "absent.pt", tmp_path / "model.onnx")
    with pytest.raises(MvtkError, match="absent"):
        export(model, tmp_path / "absent/model.onnx")
