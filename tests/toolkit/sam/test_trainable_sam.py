from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.sam_models import save_tiny_sam
from toolkit.core.errors import MvtkError
from toolkit.sam.lora import LoraOptions
from toolkit.sam.model import TrainableSam, load_trainable_sam

BOXES = torch.tensor([[1.0, 2.0, 30.0, 40.0], [50.0, 60.0, 100.0, 120.0]])
KINDS = pytest.mark.parametrize("kind", ["sam", "sam2"])


@pytest.fixture
def pixel_values() -> Tensor:
    return torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model(kind: str, request: pytest.FixtureRequest) -> TrainableSam:
    """The tiny model of a kind."""
    found: TrainableSam = request.getfixturevalue(kind)
    return found


@pytest.fixture
def model_folder(kind: str, request: pytest.FixtureRequest) -> Path:
    """Where the tiny model of a kind is."""
    return Path(request.getfixturevalue(f"{kind}_folder"))


def _train_a_step(sam: TrainableSam, pixel_values: Tensor) -> None:
    optimizer = torch.optim.AdamW(sam.trainable_parameters(), lr=0.01, weight_decay=0.1)
    decoded = sam.decode(sam.encode(pixel_values), [BOXES, BOXES[:1]])
    torch.cat(decoded.logits).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def _logits(sam: TrainableSam, pixel_values: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat(sam.decode(sam.encode(pixel_values), [BOXES, BOXES[:1]]).logits)


@KINDS
def test_encoding_and_decoding_is_the_models_forward(model: TrainableSam, pixel_values: Tensor) -> None:
    module: Any = model.model
    module.eval()
    expected = module(pixel_values=pixel_values, input_boxes=BOXES[None].repeat(2, 1, 1), multimask_output=False)

    embedding = model.encode(pixel_values)
    decoded = model.decode(embedding, [BOXES, BOXES])

    assert embedding.shapes == model.embedding_shape
    torch.testing.assert_close(torch.stack(decoded.logits), expected.pred_masks[:, :, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.stack(decoded.iou), expected.iou_scores[:, :, 0], rtol=1e-4, atol=1e-5)


@KINDS
def test_numbers_of_boxes_may_differ_and_be_nothing(model: TrainableSam, pixel_values: Tensor) -> None:
    embedding = model.encode(pixel_values)

    decoded = model.decode(embedding, [BOXES[:0], BOXES])
    nothing = model.decode(embedding, [BOXES[:0], BOXES[:0]])

    assert [logits.shape for logits in decoded.logits] == [(0, 32, 32), (2, 32, 32)]
    assert [iou.shape for iou in nothing.iou] == [(0,), (0,)]
    torch.testing.assert_close(decoded.logits[1], model.decode(embedding[1], [BOXES]).logits[0], rtol=1e-4, atol=1e-5)


def test_boxes_of_another_number_of_images_are_a_bug(sam: TrainableSam, pixel_values: Tensor) -> None:
    with pytest.raises(ValueError, match="boxes of 1 images for embeddings of 2"):
        sam.decode(sam.encode(pixel_values), [BOXES])


@KINDS
@pytest.mark.parametrize("lora", [None, LoraOptions(rank=2)])
def test_only_what_trains_changes_and_embeddings_stay_valid(
    model_folder: Path, lora: LoraOptions | None, pixel_values: Tensor
) -> None:
    sam = load_trainable_sam(model_folder, lora=lora)
    before = {name: tensor.clone() for name, tensor in sam.model.state_dict().items()}
    embedding = sam.encode(pixel_values)
    model_hash = TrainableSam.model_hash.func(sam)

    for _ in range(2):  # LoRA's first factors have a gradient once the second ones are not zero
        _train_a_step(sam, pixel_values)

    changed = {name for name, tensor in sam.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == set(sam.decoder_state())
    assert TrainableSam.model_hash.func(sam) == model_hash
    for ours, theirs in zip(sam.encode(pixel_values).levels, embedding.levels, strict=True):
        assert torch.equal(ours, theirs)


@KINDS
def test_with_lora_only_adapters_train_and_the_start_is_the_plain_model(
    model_folder: Path, pixel_values: Tensor
) -> None:
    plain = load_trainable_sam(model_folder)
    adapted = load_trainable_sam(model_folder, lora=LoraOptions(rank=2))

    assert all(".lora_" in name for name in adapted.decoder_state())
    assert sum(tensor.numel() for tensor in adapted.trainable_parameters()) < sum(
        tensor.numel() for tensor in plain.trainable_parameters()
    )
    assert torch.equal(_logits(adapted, pixel_values), _logits(plain, pixel_values))
    assert adapted.model_hash == plain.model_hash


def test_lora_depends_on_its_own_seed_only(sam_folder: Path) -> None:
    states = []
    for torch_seed, lora_seed in [(1, 0), (2, 0), (1, 5)]:
        torch.manual_seed(torch_seed)
        states.append(load_trainable_sam(sam_folder, lora=LoraOptions(seed=lora_seed)).decoder_state())

    name = next(name for name in states[0] if "lora_A" in name)
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])


@KINDS
@pytest.mark.parametrize("lora", [None, LoraOptions(rank=2)])
def test_a_snapshot_is_no_live_reference_and_comes_back(
    model_folder: Path, lora: LoraOptions | None, pixel_values: Tensor
) -> None:
    sam = load_trainable_sam(model_folder, lora=lora)
    best, best_logits = sam.decoder_state(), _logits(sam, pixel_values)
    copies = {name: tensor.clone() for name, tensor in best.items()}

    _train_a_step(sam, pixel_values)

    assert all(torch.equal(best[name], copies[name]) for name in best)
    assert not torch.equal(_logits(sam, pixel_values), best_logits)
    sam.load_decoder_state(best)
    assert torch.equal(_logits(sam, pixel_values), best_logits)


def test_the_state_of_another_model_is_refused(sam: TrainableSam, sam2: TrainableSam, sam_folder: Path) -> None:
    wider = load_trainable_sam(sam_folder, lora=LoraOptions(rank=2))
    before = sam.decoder_state()

    with pytest.raises(MvtkError, match=r"^last.safetensors: belongs to another model: \d+ of its weights differ"):
        sam.load_decoder_state(sam2.decoder_state(), "last.safetensors")
    with pytest.raises(MvtkError, match="use the model and the LoRA options that it was made with"):
        wider.load_decoder_state(load_trainable_sam(sam_folder, lora=LoraOptions(rank=4)).decoder_state())
    assert all(torch.equal(tensor, before[name]) for name, tensor in sam.decoder_state().items())


@KINDS
@pytest.mark.parametrize("lora", [None, LoraOptions(rank=2)])
def test_a_saved_model_is_one_that_transformers_loads(
    kind: str, model_folder: Path, lora: LoraOptions | None, pixel_values: Tensor, tmp_path: Path
) -> None:
    import transformers

    sam = load_trainable_sam(model_folder, lora=lora)
    _train_a_step(sam, pixel_values)
    prefix = {"sam": "Sam", "sam2": "Sam2"}[kind]

    sam.save_pretrained(tmp_path / "new" / "saved")
    sam.save_pretrained(tmp_path / "new" / "saved")

    loaded = load_trainable_sam(tmp_path / "new" / "saved")
    torch.testing.assert_close(_logits(loaded, pixel_values), _logits(sam, pixel_values), rtol=1e-4, atol=1e-5)
    assert loaded.model_hash == sam.model_hash
    by_them = getattr(transformers, f"{prefix}Model").from_pretrained(tmp_path / "new" / "saved")
    assert {name: tuple(tensor.shape) for name, tensor in by_them.state_dict().items()} == {
        name: tuple(tensor.shape) for name, tensor in sam.plain_state().items()
    }
    processor = getattr(transformers, f"{prefix}Processor").from_pretrained(tmp_path / "new" / "saved")
    pixels = processor(images=np.zeros((50, 40, 3), np.uint8), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, sam.input_size, sam.input_size)


def test_the_hash_says_what_embeddings_depend_on(sam: TrainableSam, sam_folder: Path, tmp_path: Path) -> None:
    other_seed = load_trainable_sam(save_tiny_sam(tmp_path / "seed", seed=1))
    half = load_trainable_sam(sam_folder, encoder_dtype="bfloat16")

    assert len({sam.model_hash, other_seed.model_hash, half.model_hash}) == 3
    assert load_trainable_sam(sam_folder).model_hash == sam.model_hash
    assert len(sam.model_hash) == 32


def test_the_hash_of_a_sam2_covers_the_convolutions_in_its_decoder(sam2: TrainableSam) -> None:
    before = TrainableSam.model_hash.func(sam2)
    module: Any = sam2.model
    with torch.no_grad():
        module.mask_decoder.conv_s0.bias += 1

    assert TrainableSam.model_hash.func(sam2) != before


def test_reduced_arithmetic_gives_float32_embeddings_that_differ_a_little(
    sam: TrainableSam, sam_folder: Path, pixel_values: Tensor
) -> None:
    reduced = load_trainable_sam(sam_folder, encoder_dtype="bfloat16").encode(pixel_values).levels[0]
    full = sam.encode(pixel_values).levels[0]

    assert reduced.dtype == torch.float32
    assert not torch.equal(reduced, full)
    assert (reduced - full).abs().mean() < 0.1 * full.abs().mean()


def test_a_training_loops_mode_does_not_reach_the_encoder(sam: TrainableSam, pixel_values: Tensor) -> None:
    expected = sam.encode(pixel_values).levels[0]
    sam.model.train()
    module: Any = sam.model

    assert torch.equal(sam.encode(pixel_values).levels[0], expected)
    assert not module.vision_encoder.training
    sam.set_training(training=False)
    assert not module.mask_decoder.training


def test_sam2_predicts_in_evaluation_what_was_trained(sam2: TrainableSam, pixel_values: Tensor) -> None:
    sam2.set_training(training=True)
    trained = _logits(sam2, pixel_values)
    sam2.set_training(training=False)

    assert torch.equal(_logits(sam2, pixel_values), trained)
