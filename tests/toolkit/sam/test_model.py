"""Finding and loading models: real folders work, and all others are refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.sam_models import INPUT_SIZE, LOW_RESOLUTION
from toolkit.core.errors import MvtkError
from toolkit.sam.model import load_trainable_sam


@pytest.fixture
def folder(tmp_path: Path, sam_folder: Path) -> Path:
    """A copy of the tiny SAM that may be damaged."""
    return Path(shutil.copytree(sam_folder, tmp_path / "model"))


def _change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_both_kinds_are_loaded_by_the_same_call(sam_folder: Path, sam2_folder: Path) -> None:
    sam, sam2 = load_trainable_sam(sam_folder), load_trainable_sam(str(sam2_folder), "cpu")

    assert (sam.is_sam2, sam2.is_sam2) == (False, True)
    assert (sam.input_size, sam.low_resolution) == (INPUT_SIZE, LOW_RESOLUTION)
    assert (sam2.input_size, sam2.low_resolution) == (INPUT_SIZE, LOW_RESOLUTION)


def test_sam2s_repositories_call_it_a_video_model(tmp_path: Path, sam2_folder: Path) -> None:
    folder = Path(shutil.copytree(sam2_folder, tmp_path / "model"))
    _change_json(folder / "config.json", model_type="sam2_video")

    sam = load_trainable_sam(folder)

    assert sam.is_sam2
    assert sam.model_hash == load_trainable_sam(sam2_folder).model_hash


def test_loading_prints_nothing(sam_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_trainable_sam(sam_folder)

    assert capfd.readouterr() == ("", "")


def test_a_name_that_is_neither_folder_nor_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        MvtkError, match=r"none: no such folder, and no Hugging Face id; give a folder with config.json"
    ):
        load_trainable_sam(tmp_path / "none")


def test_an_id_that_cannot_be_fetched_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(repo_id: str, **options: Any) -> str:
        raise ConnectionError("cannot connect\nand more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", no_network)

    with pytest.raises(
        MvtkError,
        match=r"org/sam: no such folder here, and no such model can be .* \(ConnectionError: cannot connect\);",
    ):
        load_trainable_sam("org/sam")


def test_an_id_is_fetched_without_pickled_weights(sam_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def fetch(repo_id: str, **options: Any) -> str:
        asked.update(options, repo_id=repo_id)
        return str(sam_folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)

    assert load_trainable_sam("org/sam").input_size == INPUT_SIZE
    assert asked["repo_id"] == "org/sam"
    assert not any(pattern.endswith((".bin", ".pt", "*")) for pattern in asked["allow_patterns"])


def test_another_kind_of_model_is_refused(folder: Path) -> None:
    _change_json(folder / "config.json", model_type="bert")

    with pytest.raises(MvtkError, match=r"config.json: model_type is 'bert', not one of sam, sam2, sam2_video; only"):
        load_trainable_sam(folder)


def test_a_configuration_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{")

    with pytest.raises(MvtkError, match=r"config.json: not valid JSON .*; get the model again"):
        load_trainable_sam(folder)


def test_a_missing_configuration_is_named(folder: Path) -> None:
    (folder / "config.json").unlink()

    with pytest.raises(MvtkError, match=r"config.json: cannot read: No such file or directory"):
        load_trainable_sam(folder)


def test_pickled_weights_are_not_loaded(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()

    with pytest.raises(MvtkError, match=r"holds no \*.safetensors; pickled weights .* are not loaded"):
        load_trainable_sam(folder)


def test_missing_weights_are_not_made_up(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["mask_decoder.iou_token.weight"], weights["vision_encoder.patch_embed.projection.bias"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(MvtkError, match=r"2 weights are missing, such as mask_decoder.iou_token.weight; get the model"):
        load_trainable_sam(folder)


def test_weights_of_other_shapes_are_refused_in_one_line(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["mask_decoder.iou_token.weight"] = torch.zeros(1, 7)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(MvtkError, match=r"cannot be loaded as SamModel") as caught:
        load_trainable_sam(folder)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)

    with pytest.raises(MvtkError, match=r"cannot be loaded as SamModel \("):
        load_trainable_sam(folder)


def test_another_normalisation_is_refused(folder: Path) -> None:
    _change_json(folder / "preprocessor_config.json", image_mean=[0.5, 0.5, 0.5])

    with pytest.raises(MvtkError, match=r"preprocessor_config.json: image_mean is \[0.5, 0.5, 0.5\], not ImageNet's"):
        load_trainable_sam(folder)
