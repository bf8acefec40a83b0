"""The encoder against sam2's own code: preprocessing bit for bit, features, reduced arithmetic, trouble."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from sam2.modeling.position_encoding import PositionEmbeddingSine

from tests.sam2_checkpoints import MINI, reference_encoder, reference_features, reference_input, saved_weights
from toolkit.core.errors import MvtkError
from toolkit.features import MODELS, OutOfMemoryError, Sam2Encoder, Weights, resolve_weights
from toolkit.features.sam2_encoder import EncoderDtype, _exact_float32, build_encoder


def photograph(height_px: int, width_px: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return an image with slow and fast changes, (H, W, 3)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height_px, :width_px]
    waves_hwc = np.stack([127 + 90 * np.sin((rows * k + columns) / (7 * k)) for k in (1, 2, 5)], axis=2)
    noisy_hwc: npt.NDArray[np.uint8] = (waves_hwc + rng.normal(0, 15, waves_hwc.shape)).clip(0, 255).astype(np.uint8)
    return noisy_hwc


def cosine(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float:
    a, b = first.ravel().astype(np.float64), second.ravel().astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(MODELS, MINI.name, MINI)
        return saved_weights(tmp_path_factory.mktemp("mini"), MINI)


@pytest.fixture(scope="module")
def encoder(weights: Weights) -> Sam2Encoder:
    return Sam2Encoder(weights, "cpu")


@pytest.mark.parametrize(
    ("height_px", "width_px"),
    [(1, 1), (1, 9), (3, 2), (1024, 1024), (1024, 700), (700, 1024), (750, 1125), (3000, 13), (1025, 1023)],
)
def test_preprocessing_equals_sam2s_bit_for_bit(encoder: Sam2Encoder, height_px: int, width_px: int) -> None:
    image_hwc = photograph(height_px, width_px)
    original_hwc = image_hwc.copy()
    prepared = encoder.prepare(image_hwc)
    assert prepared.dtype == torch.float32
    assert torch.equal(prepared, reference_input(image_hwc))
    assert np.array_equal(image_hwc, original_hwc)


def test_images_that_are_views(encoder: Sam2Encoder) -> None:
    image_hwc = photograph(40, 30)
    read_only_hwc = image_hwc.copy()
    read_only_hwc.flags.writeable = False
    assert torch.equal(encoder.prepare(read_only_hwc), reference_input(image_hwc))
    flipped_hwc = image_hwc[:, ::-1, ::-1]
    assert torch.equal(encoder.prepare(flipped_hwc), reference_input(flipped_hwc.copy()))
    grey_hwc = np.broadcast_to(image_hwc[:, :, :1], image_hwc.shape)
    assert torch.equal(encoder.prepare(grey_hwc), reference_input(grey_hwc.copy()))


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4), "u1"), np.zeros((4, 4, 4), "u1"), np.zeros((4, 4, 3), "f4"), np.zeros((0, 4, 3), "u1")]
)
def test_only_rgb_bytes_are_prepared(encoder: Sam2Encoder, wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"an image is \(H, W, 3\) uint8, not \("):
        encoder.prepare(wrong)


def test_several_threads_prepare_at_once(encoder: Sam2Encoder) -> None:
    images = [photograph(60 + 31 * k, 200 - 17 * k, seed=k) for k in range(8)]
    expected = [encoder.prepare(image_hwc) for image_hwc in images]
    with ThreadPoolExecutor(4) as pool:
        for prepared, alone in zip(pool.map(encoder.prepare, images * 3), expected * 3, strict=True):
            assert torch.equal(prepared, alone)


def test_features_equal_those_of_sam2(encoder: Sam2Encoder) -> None:
    images = [photograph(75, 110), photograph(1, 1), photograph(1024, 300)]
    p4, p5 = encoder.encode([encoder.prepare(image_hwc) for image_hwc in images])
    for array, shape in ((p4, (3, 256, 64, 64)), (p5, (3, 256, 32, 32))):
        assert array.shape == shape
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
    reference = reference_encoder(MINI)
    for index, image_hwc in enumerate(images):
        expected_p4, expected_p5 = reference_features(reference, image_hwc)
        np.testing.assert_allclose(p4[index : index + 1], expected_p4, rtol=0, atol=1e-5)
        np.testing.assert_allclose(p5[index : index + 1], expected_p5, rtol=0, atol=1e-5)
    assert np.abs(p4).max() > 1  # an error of 1e-5 is then small


@pytest.mark.slow
@pytest.mark.parametrize("size", ["tiny", "small", "base_plus", "large"])
def test_features_of_every_size_equal_those_of_sam2(tmp_path: Path, size: str) -> None:
    model = MODELS[f"sam2.1_hiera_{size}"]
    encoder = Sam2Encoder(saved_weights(tmp_path, model, seed=5), "cpu")
    image_hwc = photograph(300, 451)
    p4, p5 = encoder.encode([encoder.prepare(image_hwc)])
    expected_p4, expected_p5 = reference_features(reference_encoder(model, seed=5), image_hwc)
    np.testing.assert_allclose(p4, expected_p4, rtol=0, atol=1e-5)
    np.testing.assert_allclose(p5, expected_p5, rtol=0, atol=1e-5)


def test_the_same_batch_gives_the_same_bits(encoder: Sam2Encoder, weights: Weights) -> None:
    batch = [encoder.prepare(photograph(50, 60, seed)) for seed in range(2)]
    first = encoder.encode(batch)
    for again in (encoder.encode(batch), Sam2Encoder(weights, "cpu").encode(batch)):
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_reduced_arithmetic_is_close(encoder: Sam2Encoder, weights: Weights, dtype: EncoderDtype) -> None:
    prepared = encoder.prepare(photograph(90, 70))
    exact = encoder.encode([prepared])
    reduced = Sam2Encoder(weights, "cpu", dtype=dtype).encode([prepared])
    for array, reference in zip(reduced, exact, strict=True):
        assert array.dtype == np.float32
        assert 0.999 <= cosine(array, reference) < 1
        assert not np.array_equal(array, reference)


def test_random_weights_come_from_their_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, MINI.name, MINI)
    torch.manual_seed(99)
    drawn = torch.rand(3)
    torch.manual_seed(99)
    first, again, other = (build_encoder(resolve_weights(f"random:{seed}", MINI.name)) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), drawn)
    weight = "trunk.patch_embed.proj.weight"
    assert torch.equal(first.state_dict()[weight], again.state_dict()[weight])
    assert not torch.equal(first.state_dict()[weight], other.state_dict()[weight])


def test_building_needs_no_hydra_state_no_folder_and_no_gpu(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("sam2's position encoding takes memory of the first GPU")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(PositionEmbeddingSine, "__init__", refuse)
    hydra = GlobalHydra.instance()
    monkeypatch.setattr(hydra, "hydra", None)
    build_encoder(weights)
    assert not hydra.is_initialized()
    assert Path.cwd() == tmp_path


def test_out_of_memory_frees_the_batch_first(encoder: Sam2Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[weakref.ref[torch.Tensor]] = []
    freed_first: list[bool] = []

    def exhaust(images_bchw: torch.Tensor) -> None:
        taken.append(weakref.ref(images_bchw))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    prepared = encoder.prepare(photograph(5, 5))
    with monkeypatch.context() as patch:
        patch.setattr(encoder, "_levels", exhaust)
        patch.setattr(torch.cuda, "empty_cache", lambda: freed_first.append(taken[0]() is None))
        with pytest.raises(
            OutOfMemoryError, match="memory on cpu to encode a batch of 2; use a smaller --batch"
        ) as caught:
            encoder.encode([prepared, prepared])
    assert freed_first == [True]
    assert caught.value.__context__ is None
    assert encoder.encode([prepared])[0].shape == (1, 256, 64, 64)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_every_kind_of_memory_error_is_told(
    encoder: Sam2Encoder, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(encoder, "_levels", raising(error))
    with pytest.raises(OutOfMemoryError):
        encoder.encode([encoder.prepare(photograph(5, 5))])


def test_other_errors_stay_as_they_are(encoder: Sam2Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "_levels", raising(RuntimeError("CUDA error: device-side assert triggered")))
    with pytest.raises(RuntimeError, match="device-side assert"):
        encoder.encode([encoder.prepare(photograph(5, 5))])


def raising(error: Exception) -> Any:
    def fail(*_arguments: object) -> None:
        raise error

    return fail


def test_a_model_that_does_not_fit_the_device(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.Module, "to", raising(torch.OutOfMemoryError("CUDA out of memory.")))
    with pytest.raises(OutOfMemoryError, match=r"sam2\.1_hiera_mini does not fit the memory of cpu"):
        Sam2Encoder(weights, "cpu")


def test_an_encoder_that_cannot_be_compiled(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import TorchDynamoException

    monkeypatch.setattr(torch, "compile", lambda _function: raising(TorchDynamoException("no C++ compiler\nfound")))
    encoder = Sam2Encoder(weights, "cpu", compiled=True)
    with pytest.raises(MvtkError, match=r"cannot be compiled here \(no C\+\+ compiler found\); leave out --compile"):
        encoder.encode([encoder.prepare(photograph(5, 5))])


@pytest.mark.slow
def test_a_compiled_encoder_gives_the_same_features(encoder: Sam2Encoder, weights: Weights) -> None:
    compiled = Sam2Encoder(weights, "cpu", compiled=True)
    batch: Sequence[Any] = [encoder.prepare(photograph(50, 60, seed)) for seed in range(2)]
    for count in (2, 1):
        for array, reference in zip(compiled.encode(batch[:count]), encoder.encode(batch[:count]), strict=True):
            np.testing.assert_allclose(array, reference, rtol=0, atol=1e-4)


def test_float32_on_a_gpu_is_not_rounded_to_tf32() -> None:
    conv: Any = torch.backends.cudnn.conv
    before = conv.fp32_precision
    assert before != "ieee"
    with _exact_float32(torch.device("cuda"), "float32"):
        assert conv.fp32_precision == torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert conv.fp32_precision == before
    for device, dtype in (("cuda", "bfloat16"), ("cpu", "float32")):
        with _exact_float32(torch.device(device), dtype):
            assert conv.fp32_precision == before


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_gpu_gives_the_features_of_the_cpu(encoder: Sam2Encoder, weights: Weights, dtype: EncoderDtype) -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    on_gpu = Sam2Encoder(weights, "cuda:0", dtype=dtype)
    images = [photograph(150, 110), photograph(1, 1)]
    expected = encoder.encode([encoder.prepare(image_hwc) for image_hwc in images])
    for array, reference in zip(on_gpu.encode([on_gpu.prepare(image) for image in images]), expected, strict=True):
        assert cosine(array, reference) >= (0.99999 if dtype == "float32" else 0.999)
