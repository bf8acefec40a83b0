"""Which checkpoint is meant, what is read of it, and every way in which it can be the wrong one."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled
from safetensors.torch import save_file

from tests.sam2_checkpoints import MINI, checkpoint_state, reference_encoder, save_checkpoint
from toolkit.core.errors import MvtkError, OptionError
from toolkit.features import MODELS, Weights, resolve_weights
from toolkit.features.sam2_encoder import build_encoder
from toolkit.features.weights import read_encoder_state

TINY = MODELS["sam2.1_hiera_tiny"]


def written(path: Path, content: bytes = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_file_whose_name_says_which_model_it_is(tmp_path: Path) -> None:
    path = written(tmp_path / "my_sam2.1_hiera_tiny.pt")
    assert resolve_weights(str(path)) == Weights(TINY, path, hashlib.sha256(b"weights").hexdigest())


def test_a_model_that_is_given_counts_more_than_the_name(tmp_path: Path) -> None:
    path = written(tmp_path / "sam2.1_hiera_tiny.pt")
    assert resolve_weights(str(path), "sam2_hiera_large").model is MODELS["sam2_hiera_large"]


def test_a_model_that_cannot_be_inferred_must_be_given(tmp_path: Path) -> None:
    path = written(tmp_path / "last.pt")
    with pytest.raises(
        OptionError, match=r"last\.pt: the name does not say .*; use --model, one of sam2\.1_hiera_tiny, "
    ):
        resolve_weights(str(path))
    assert resolve_weights(str(path), TINY.name).model is TINY


def test_an_unknown_model(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no SAM2 model 'sam2_hiera_tny'; did you mean sam2_hiera_tiny"):
        resolve_weights(str(tmp_path / "sam2_hiera_tiny.pt"), "sam2_hiera_tny")


@pytest.mark.parametrize("folder", ["", "weights/", "./", "a/b/"])
def test_a_missing_file_is_told_where_the_official_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        MvtkError, match=r"sam2\.1_hiera_tiny\.pt: no such file.*https://dl\.\S+/092824/sam2\.1_hiera_tiny"
    ):
        resolve_weights(f"{folder}sam2.1_hiera_tiny.pt")
    with pytest.raises(MvtkError, match=r"x\.safetensors: no such file; .*github\.com/facebookresearch/sam2"):
        resolve_weights(f"{folder}x.safetensors")


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(MvtkError, match=rf"{re.escape(str(tmp_path))}: cannot read the weights: Is a directory"):
        resolve_weights(str(tmp_path), TINY.name)


def test_random_weights_only_when_asked_for_by_name(tmp_path: Path) -> None:
    assert resolve_weights("random:7", TINY.name) == Weights(TINY, None, "random:7", 7)
    with pytest.raises(OptionError, match=r"--weights random:7: .*--model"):
        resolve_weights("random:7")
    with pytest.raises(MvtkError, match="random: no such file"):
        resolve_weights("random", TINY.name)
    for text in ("", "random:", "random:x", "random:01", "random:-1"):
        with pytest.raises(OptionError, match=f"--weights '{text}'"):
            resolve_weights(text, TINY.name)


class FakeHub:
    """A Hugging Face hub in a folder: ``<org>/<name>/<file>``; a repository that is not there cannot be reached."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cache: set[str] = set()
        self.fetched: list[str] = []

    def list_repo_files(self, repo_id: str) -> list[str]:
        folder = self.root / repo_id
        if not folder.is_dir():
            raise OfflineModeIsEnabled("Cannot reach the hub: offline mode is enabled.\nMore of it.")
        return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]

    def hf_hub_download(self, repo_id: str, filename: str, *, local_files_only: bool = False) -> str:
        if local_files_only and f"{repo_id}/{filename}" not in self.cache:
            raise LocalEntryNotFoundError("not in the cache")
        self.fetched.append(filename)
        return str(self.root / "cache" / filename if local_files_only else self.root / repo_id / filename)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "list_repo_files", fake.list_repo_files)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fake.hf_hub_download)
    monkeypatch.chdir(tmp_path)
    return fake


def test_the_checkpoint_of_a_repository(hub: FakeHub) -> None:
    repository = hub.root / "facebook" / "sam2.1-hiera-tiny"
    path = written(repository / "sam2.1_hiera_tiny.pt")
    written(repository / "model.safetensors")
    written(repository / "other.pt")
    assert resolve_weights("facebook/sam2.1-hiera-tiny") == Weights(TINY, path, hashlib.sha256(b"weights").hexdigest())
    assert hub.fetched == ["sam2.1_hiera_tiny.pt"]


def test_the_model_from_the_name_of_a_repositorys_checkpoint(hub: FakeHub) -> None:
    written(hub.root / "someone" / "cells" / "best" / "sam2.1_hiera_tiny_cells.pt")
    assert resolve_weights("someone/cells").model is TINY


def test_of_several_checkpoints_the_one_of_the_model(hub: FakeHub) -> None:
    for size in ("tiny", "small"):
        written(hub.root / "someone" / "all" / f"sam2_hiera_{size}.pt")
    assert resolve_weights("someone/all", "sam2_hiera_small").path == hub.root / "someone/all/sam2_hiera_small.pt"
    with pytest.raises(
        MvtkError, match=r"someone/all: .* one sam2\*\.pt; it has sam2_hiera_small\.pt, sam2_hiera_tiny\.pt;"
    ):
        resolve_weights("someone/all")


def test_a_repository_without_a_checkpoint(hub: FakeHub) -> None:
    written(hub.root / "someone" / "else" / "model.safetensors")
    with pytest.raises(MvtkError, match=r"someone/else: .* one sam2\*\.pt; it has model\.safetensors"):
        resolve_weights("someone/else", TINY.name)


def test_a_path_that_exists_wins_over_a_repository(hub: FakeHub, tmp_path: Path) -> None:
    written(hub.root / "facebook" / "sam2.1-hiera-tiny" / "sam2.1_hiera_tiny.pt")
    local = written(tmp_path / "facebook" / "sam2.1-hiera-tiny", b"local")
    assert resolve_weights("facebook/sam2.1-hiera-tiny").identity == hashlib.sha256(b"local").hexdigest()
    assert local.exists()
    assert hub.fetched == []


def test_offline_and_not_in_the_cache(hub: FakeHub) -> None:
    with pytest.raises(
        MvtkError,
        match=r"^facebook/sam2-hiera-large: no such file here, .* \(OfflineModeIsEnabled: Cannot reach the hub: "
        r"offline mode is enabled\.\); the official checkpoint is at https://dl",
    ):
        resolve_weights("facebook/sam2-hiera-large")
    with pytest.raises(MvtkError, match="someone/cells: no such file here"):
        resolve_weights("someone/cells")


def test_offline_the_cached_official_checkpoint_will_do(hub: FakeHub) -> None:
    hub.cache.add("facebook/sam2.1-hiera-tiny/sam2.1_hiera_tiny.pt")
    path = written(hub.root / "cache" / "sam2.1_hiera_tiny.pt")
    assert resolve_weights("facebook/sam2.1-hiera-tiny").path == path


def test_a_download_that_fails(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(repo_id: str, filename: str) -> str:
        raise ConnectionResetError("connection reset")

    written(hub.root / "facebook" / "sam2.1-hiera-tiny" / "sam2.1_hiera_tiny.pt")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(
        MvtkError, match=r"hiera-tiny: cannot fetch sam2\.1_hiera_tiny\.pt \(ConnectionResetError: connection"
    ):
        resolve_weights("facebook/sam2.1-hiera-tiny")


@pytest.fixture(scope="module")
def mini_state() -> dict[str, torch.Tensor]:
    return checkpoint_state(reference_encoder(MINI))


def weights_of(path: Path) -> Weights:
    return Weights(MINI, path, "")


def save_in_a_model_key(state: dict[str, torch.Tensor], path: Path) -> None:
    torch.save({"model": state, "optimizer": {"lr": 0.1}}, path)


def save_bare(state: dict[str, torch.Tensor], path: Path) -> None:
    torch.save(state, path)


def save_in_the_old_format(state: dict[str, torch.Tensor], path: Path) -> None:
    torch.save({"model": state}, path, _use_new_zipfile_serialization=False)


def save_the_encoder_only(state: dict[str, torch.Tensor], path: Path) -> None:
    torch.save({key: tensor for key, tensor in state.items() if key.startswith("image_encoder.")}, path)


def save_as_safetensors(state: dict[str, torch.Tensor], path: Path) -> None:
    save_file(state, path)


@pytest.mark.parametrize(
    ("save", "name"),
    [
        (save_in_a_model_key, "w.pt"),
        (save_bare, "w.pth"),
        (save_in_the_old_format, "w.pt"),
        (save_the_encoder_only, "w.pt"),
        (save_as_safetensors, "w.safetensors"),
    ],
)
def test_every_format_gives_the_same_weights(
    tmp_path: Path, mini_state: dict[str, torch.Tensor], save: Callable[[Any, Path], None], name: str
) -> None:
    path = tmp_path / name
    save(mini_state, path)
    encoder = build_encoder(weights_of(path))
    loaded = encoder.state_dict()
    assert {f"image_encoder.{key}" for key in loaded} == {key for key in mini_state if key.startswith("image_encoder.")}
    assert all(torch.equal(tensor, mini_state[f"image_encoder.{key}"]) for key, tensor in loaded.items())
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


class Canary:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_does_not_run(tmp_path: Path, mini_state: dict[str, torch.Tensor], zipped: bool) -> None:
    path, canary = tmp_path / "w.pt", tmp_path / "canary"
    torch.save({"model": mini_state, "x": Canary(canary)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        MvtkError, match=r"w\.pt: holds more than weights \(\w+\.mkdir\) and is not loaded: .*can run code"
    ):
        read_encoder_state(weights_of(path))
    assert not canary.exists()


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.999])
@pytest.mark.parametrize("save", [save_in_a_model_key, save_in_the_old_format, save_as_safetensors])
def test_a_checkpoint_cut_short(
    tmp_path: Path, mini_state: dict[str, torch.Tensor], save: Callable[[Any, Path], None], kept: float
) -> None:
    path = tmp_path / ("w.safetensors" if save is save_as_safetensors else "w.pt")
    save(mini_state, path)
    data = path.read_bytes()
    path.write_bytes(data[: kept if isinstance(kept, int) else int(len(data) * kept)])
    with pytest.raises(
        MvtkError, match=rf"{path.name}: cannot be read as a checkpoint; it is damaged.*; expected is a \.pt"
    ):
        read_encoder_state(weights_of(path))


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html>\n<html>", b"\x00" * 64, pickle.dumps([1, 2]), b"version https://git"]
)
def test_what_is_no_checkpoint_at_all(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(MvtkError, match=rf"{name}: (cannot be read as a checkpoint|holds no state dict)"):
        read_encoder_state(weights_of(written(tmp_path / name, content)))


@pytest.mark.parametrize("content", [[1, 2], {"model": [1]}, {"epoch": 3}, {"model": {"a": 1}}, torch.zeros(3)])
def test_a_file_without_a_state_dict(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(MvtkError, match=r'w\.pt: holds no state dict; expected is \{"model": weights\}'):
        read_encoder_state(weights_of(tmp_path / "w.pt"))


@pytest.mark.parametrize("state", [{}, {"vision_encoder.backbone.a": torch.zeros(1)}])
def test_weights_under_other_names(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    save_bare(state, tmp_path / "w.pt")
    with pytest.raises(
        MvtkError, match=rf"none of its {len(state)} weights is named image_encoder\.\*.*for transformers"
    ):
        read_encoder_state(weights_of(tmp_path / "w.pt"))


def outline_of(name: str) -> dict[str, torch.Tensor]:
    """Return a state dict with just the names and shapes that tell a stock model from the others."""
    model = MODELS[name]
    state = {f"image_encoder.trunk.blocks.{block}.norm1.weight": torch.zeros(1) for block in range(model.blocks)}
    state["image_encoder.trunk.patch_embed.proj.weight"] = torch.zeros(model.embed_dim, 1)
    state["no_mem_embed"] = torch.zeros(1)
    return state | ({"no_obj_embed_spatial": torch.zeros(1)} if model.is_2_1 else {})


@pytest.mark.parametrize("actual", MODELS)
@pytest.mark.parametrize("expected", ["sam2.1_hiera_base_plus", "sam2_hiera_tiny"])
def test_the_checkpoint_of_another_model_is_named(tmp_path: Path, actual: str, expected: str) -> None:
    path = tmp_path / "w.pt"
    save_bare(outline_of(actual), path)
    weights = Weights(MODELS[expected], path, "")
    if actual == expected:
        assert len(read_encoder_state(weights)) == MODELS[actual].blocks + 1
        return
    with pytest.raises(MvtkError) as caught:
        read_encoder_state(weights)
    assert caught.value.message == f"{path}: is a checkpoint of {actual}, expected {expected}"
    assert caught.value.hint.startswith(
        f"use --model {actual}, or the right file: the official checkpoint is at https:"
    )


def test_an_encoder_alone_is_taken_for_the_release_that_is_expected(tmp_path: Path) -> None:
    state = {key: tensor for key, tensor in outline_of("sam2_hiera_tiny").items() if key.startswith("image_encoder.")}
    save_bare(state, tmp_path / "w.pt")
    assert read_encoder_state(Weights(TINY, tmp_path / "w.pt", ""))
    with pytest.raises(MvtkError, match=r"is a checkpoint of sam2\.1_hiera_tiny, expected sam2\.1_hiera_large"):
        read_encoder_state(Weights(MODELS["sam2.1_hiera_large"], tmp_path / "w.pt", ""))


def test_all_mismatches_in_one_line(tmp_path: Path, mini_state: dict[str, torch.Tensor]) -> None:
    state = dict(mini_state)
    for block in range(4):
        del state[f"image_encoder.trunk.blocks.{block}.norm1.weight"]
    state["image_encoder.extra"] = torch.zeros(1)
    state["image_encoder.neck.convs.0.conv.bias"] = torch.zeros(7)
    save_bare(state, tmp_path / "w.pt")
    with pytest.raises(MvtkError) as caught:
        build_encoder(weights_of(tmp_path / "w.pt"))
    assert caught.value.message == (
        f"{tmp_path / 'w.pt'}: does not fit sam2.1_hiera_mini: of its {len(mini_state) - 2} encoder weights "
        "4 missing (trunk.blocks.0.norm1.weight, trunk.blocks.1.norm1.weight, trunk.blocks.2.norm1.weight, ...); "
        "1 unknown (extra); 1 of another shape (neck.convs.0.conv.bias (7,) instead of (256,))"
    )
    assert "https://example.org/sam2.1_hiera_mini.pt" in caught.value.hint


def test_weights_that_are_gone_when_they_are_read(tmp_path: Path) -> None:
    with pytest.raises(MvtkError, match=r"w\.pt: cannot read the weights: No such file"):
        read_encoder_state(weights_of(tmp_path / "w.pt"))


def test_an_old_torch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_checkpoint(tmp_path, MINI)
    monkeypatch.setattr(torch, "__version__", "2.9.1+cu128")
    with pytest.raises(
        MvtkError, match=r"torch 2\.9\.1\+cu128 is too old .*weights_only; install torch 2\.10 or newer"
    ):
        build_encoder(weights_of(path))
    monkeypatch.setattr(torch, "__version__", "2.10.0")
    assert build_encoder(weights_of(path))
