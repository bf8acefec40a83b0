"""Checkpoints: what is written is read back, bit for bit, and other files are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from toolkit.core.errors import MvtkError, StopRunError
from toolkit.sam.checkpoints import (
    Checkpoint,
    CheckpointFacts,
    load_checkpoint,
    require_same_model,
    save_checkpoint,
)


def _checkpoint() -> Checkpoint:
    facts = CheckpointFacts(
        model_hash="0123456789abcdef",
        epoch=3,
        step=12,
        options={"model": "tiny", "augment": ["boxes"]},
        history=[{"epoch": 0, "val_loss": 0.1 + 0.2, "train_loss": None}],
        threads=2,
        limits=(4, 7),
        scaler={"scale": 65536.0},
    )
    return Checkpoint(
        facts,
        {"mask_decoder.a": torch.randn(3, 4), "mask_decoder.b.c": torch.randn(2)},
        {0: {"exp_avg": torch.randn(3, 4), "step": torch.tensor(12.0)}, 11: {"exp_avg": torch.randn(2)}},
        {"cpu": torch.get_rng_state()},
    )


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path, checkpoint = tmp_path / "last.safetensors", _checkpoint()
    save_checkpoint(path, checkpoint)
    read = load_checkpoint(path)
    assert read.facts == checkpoint.facts
    assert read.decoder.keys() == checkpoint.decoder.keys()
    assert all(torch.equal(tensor, checkpoint.decoder[name]) for name, tensor in read.decoder.items())
    assert read.optimizer.keys() == {0, 11}
    assert torch.equal(read.optimizer[0]["step"], torch.tensor(12.0))
    assert torch.equal(read.optimizer[11]["exp_avg"], checkpoint.optimizer[11]["exp_avg"])
    assert torch.equal(read.rng["cpu"], checkpoint.rng["cpu"])


def test_other_files_are_refused(tmp_path: Path) -> None:
    plain, damaged = tmp_path / "plain.safetensors", tmp_path / "damaged.safetensors"
    save_file({"a": torch.zeros(1)}, plain)
    damaged.write_bytes(b"not a checkpoint")
    with pytest.raises(MvtkError, match=r"plain\.safetensors: no checkpoint of a SAM training run"):
        load_checkpoint(plain)
    with pytest.raises(MvtkError, match=r"damaged\.safetensors: damaged, or no safetensors file"):
        load_checkpoint(damaged)
    with pytest.raises(MvtkError, match=r"gone\.safetensors: cannot read the checkpoint"):
        load_checkpoint(tmp_path / "gone.safetensors")


def test_another_model_is_named(tmp_path: Path) -> None:
    checkpoint = _checkpoint()
    require_same_model(tmp_path, checkpoint, "0123456789abcdef")
    with pytest.raises(MvtkError, match="belongs to another model: tiny with the encoder 0123456789ab, not fedcba98"):
        require_same_model(tmp_path, checkpoint, "fedcba9876543210")


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, _checkpoint())
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StopRunError, match="No space left on device"):
        save_checkpoint(path, _checkpoint())
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
