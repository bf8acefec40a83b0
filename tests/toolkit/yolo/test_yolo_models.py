"""Models of image and mask: they begin as the model they come from, and checkpoints execute nothing."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.yolo_models import TINY_YAML, save_tiny_checkpoint
from toolkit.core.errors import MvtkError

pytestmark = pytest.mark.usefixtures("contained")


def output(model: Any, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(images)[0]


@pytest.mark.parametrize("guided", [False, True])
def test_a_widened_model_gives_what_it_comes_from_gives(tmp_path: Path, guided: bool) -> None:
    from ultralytics.nn.tasks import DetectionModel

    from toolkit.yolo.engine.models import MaskGuidedDetectionModel
    from toolkit.yolo.engine.weights import load_into, load_weights

    pretrained = load_weights(save_tiny_checkpoint(tmp_path / "tiny.pt")).model
    model_class = MaskGuidedDetectionModel if guided else DetectionModel
    widened = model_class(yaml.safe_load(TINY_YAML), ch=4, nc=1, verbose=False)
    widened.names = {0: "marked disc"}
    load_into(widened, pretrained)
    images, masks = torch.rand(2, 3, 64, 64), torch.rand(2, 1, 64, 64)
    expected = output(pretrained, images)
    assert expected.abs().max() > 1
    torch.testing.assert_close(output(widened, torch.cat((images, masks), 1)), expected, rtol=1e-5, atol=1e-5)
    assert (widened.state_dict()["model.0.conv.weight"][:, 3] == 0).all()


def test_a_model_of_four_channels_keeps_its_fourth(tmp_path: Path) -> None:
    from ultralytics.nn.tasks import DetectionModel

    from toolkit.yolo.engine.weights import load_into, load_weights

    weights = load_weights(save_tiny_checkpoint(tmp_path / "tiny.pt", channels=4)).model
    model = DetectionModel(yaml.safe_load(TINY_YAML), ch=4, nc=1, verbose=False)
    model.names = {0: "marked disc"}
    load_into(model, weights)
    assert (model.state_dict()["model.0.conv.weight"][:, 3] != 0).any()
    images = torch.rand(2, 4, 64, 64)
    torch.testing.assert_close(output(model, images), output(weights, images))


def test_guided_attention_learns_from_the_mask() -> None:
    from toolkit.yolo.engine.models import MaskGuidedAttention

    torch.manual_seed(0)
    block = MaskGuidedAttention(16, 8)
    features = torch.rand(2, 16, 8, 8)
    mask = torch.zeros(2, 1, 64, 64)
    mask[0, :, :32] = 1
    torch.testing.assert_close(block(features, mask), features)
    block(features, mask).square().sum().backward()
    assert block.place_weights.weight.grad[:, 2].abs().max() > 0
    assert block.channel_weights[-1].weight.grad.abs().max() > 0
    with torch.no_grad():
        block.place_weights.weight.fill_(1.0)
        block.channel_weights[-1].weight.normal_()
    weighted = block(features, mask)
    assert ((weighted >= 0) & (weighted <= 4 * features)).all()
    assert not torch.allclose(block(features, torch.zeros_like(mask))[0], weighted[0])
    torch.testing.assert_close(block(features, torch.zeros_like(mask))[1], weighted[1])


def test_a_guided_model_sees_the_mask_twice(tmp_path: Path) -> None:
    from toolkit.yolo.engine.weights import load_weights

    checkpoint = load_weights(save_tiny_checkpoint(tmp_path / "tiny.pt", channels=4, guided=True))
    assert (checkpoint.channels, checkpoint.attention) == (4, "mask-cbam")
    model = checkpoint.model
    images = torch.rand(1, 4, 64, 64)
    other = images.clone()
    other[:, 3] = 0
    model.model[0].conv.weight.data[:, 3] = 0  # all that is left is attention
    assert not torch.allclose(output(model, images), output(model, other))


def test_what_a_checkpoint_says_of_itself(tmp_path: Path) -> None:
    from toolkit.yolo.engine.weights import load_weights

    checkpoint = load_weights(save_tiny_checkpoint(tmp_path / "tiny.pt", channels=4, names={0: "a", 1: "b"}))
    assert (checkpoint.channels, checkpoint.attention) == (4, "channel")
    assert checkpoint.class_names == {0: "a", 1: "b"}


class Hostile:
    """Touches a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize("place", ["model", "train_args", "beside the model"])
def test_a_hostile_checkpoint_executes_nothing(tmp_path: Path, place: str) -> None:
    from toolkit.yolo.engine.weights import load_weights

    canary, path = tmp_path / "canary", tmp_path / "hostile.pt"
    if place == "beside the model":
        save_tiny_checkpoint(path)
        content = torch.load(path, weights_only=False)
        torch.save({**content, "date": Hostile(canary)}, path)
    else:
        torch.save({"model": None, "train_args": {}, place: Hostile(canary)}, path)
    with pytest.raises(MvtkError, match=r"hostile\.pt: names classes or functions that a model does not need"):
        load_weights(path)
    assert not canary.exists()
    torch.load(path, weights_only=False)  # the canary works
    assert canary.exists()


def test_a_bare_hostile_pickle_executes_nothing(tmp_path: Path) -> None:
    from toolkit.yolo.engine.weights import load_weights

    canary, path = tmp_path / "canary", tmp_path / "hostile.pt"
    path.write_bytes(pickle.dumps(Hostile(canary)))
    with pytest.raises(MvtkError, match=r"hostile\.pt: "):
        load_weights(path)
    assert not canary.exists()


def test_a_checkpoint_of_a_missing_module_installs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    from toolkit.yolo.engine.weights import load_weights

    started: list[Any] = []
    monkeypatch.setattr(subprocess, "run", lambda *call, **_: started.append(call))
    monkeypatch.setattr(subprocess, "check_output", lambda *call, **_: started.append(call))
    path = tmp_path / "odd.pt"
    torch.save({"model": 1}, path)
    data = path.read_bytes()
    assert b"train_args" not in data
    torch.save({"model": None, "x": Missing()}, path)
    with pytest.raises(MvtkError, match=r"odd\.pt: "):
        load_weights(path)
    assert started == []


class Missing:
    """Pickled as a class of a module that is not there."""

    def __reduce__(self) -> Any:
        return _missing_module_class(), ()


def _missing_module_class() -> Any:
    import sys
    import types

    module = types.ModuleType("module_that_is_not_there")
    kept = type("Kept", (), {"__module__": "module_that_is_not_there", "__qualname__": "Kept"})
    module.Kept = kept  # type: ignore[attr-defined]
    sys.modules["module_that_is_not_there"] = module
    return kept


@pytest.fixture(autouse=True)
def _forget_module() -> Any:
    import sys

    yield
    sys.modules.pop("module_that_is_not_there", None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; weights are not downloaded: give a file, or a model's YAML such as yolo11n.yaml"),
        (b"", "damaged, cut short, or no checkpoint at all"),
        (b"PK\x03\x04 not a checkpoint", "damaged, cut short, or no checkpoint at all"),
        (b"hi\n", "damaged, cut short, or no checkpoint at all"),
        (b"cut", "damaged, cut short, or no checkpoint at all"),
    ],
)
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes | None, message: str) -> None:
    from toolkit.yolo.engine.weights import load_weights

    path = tmp_path / "best.pt"
    if content == b"cut":
        whole = save_tiny_checkpoint(path).read_bytes()
        content = whole[: len(whole) // 2]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MvtkError) as caught:
        load_weights(path)
    assert message in str(caught.value)


def test_a_state_dict_alone_and_other_suffixes(tmp_path: Path) -> None:
    from toolkit.yolo.engine.weights import load_weights

    torch.save({"weight": torch.zeros(1)}, tmp_path / "state.pt")
    with pytest.raises(MvtkError, match=r"state\.pt: "):
        load_weights(tmp_path / "state.pt")
    (tmp_path / "a.onnx").touch()
    with pytest.raises(MvtkError, match=r"not a checkpoint \(\.pt\)"):
        load_weights(tmp_path / "a.onnx")
