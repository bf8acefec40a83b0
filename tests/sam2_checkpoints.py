"""Seeded SAM2 checkpoints, and what sam2's own code makes of an image with them: the reference of the tests."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sam2
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from toolkit.features.sam2_models import Sam2Model
from toolkit.features.weights import Weights, resolve_weights

MINI = Sam2Model(
    name="sam2.1_hiera_mini",
    config=str(Path(__file__).parent / "toolkit" / "features" / "sam2_hiera_mini.yaml"),
    repo_id="facebook/sam2.1-hiera-mini",
    url="https://example.org/sam2.1_hiera_mini.pt",
    embed_dim=8,
    blocks=5,
)
"""A model whose forward pass takes a tenth of a second. It is no stock model: register it in ``MODELS`` for a test."""


def reference_encoder(model: Sam2Model, seed: int = 0) -> torch.nn.Module:
    """Return sam2's image encoder of the stock configuration, all its parameters random."""
    config = OmegaConf.load(Path(sam2.__path__[0]) / model.config)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        encoder: torch.nn.Module = instantiate(config.model.image_encoder)
        # As built, position embeddings and biases of norms are zero: whether they are loaded would not be seen.
        for parameter in encoder.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return encoder.eval()


def checkpoint_state(encoder: torch.nn.Module, *, is_2_1: bool = True) -> dict[str, torch.Tensor]:
    """Return the encoder's weights under a checkpoint's names, and a few of the parts an encoder does not need."""
    state = {f"image_encoder.{key}": tensor for key, tensor in encoder.state_dict().items()}
    state["no_mem_embed"] = torch.zeros(1, 1, 256)
    if is_2_1:
        state["no_obj_embed_spatial"] = torch.zeros(1, 64)
    return state


def save_checkpoint(folder: Path, model: Sam2Model, seed: int = 0) -> Path:
    """Write a checkpoint as sam2's authors do, under the official file name, and return its path."""
    path = folder / model.checkpoint
    torch.save({"model": checkpoint_state(reference_encoder(model, seed), is_2_1=model.is_2_1)}, path)
    return path


def saved_weights(folder: Path, model: Sam2Model, seed: int = 0) -> Weights:
    """Write a checkpoint and return it as weights; the model must be registered in ``MODELS``."""
    return resolve_weights(str(save_checkpoint(folder, model, seed)), model.name)


@functools.cache
def _sam2_transforms() -> Any:
    with warnings.catch_warnings():
        # torchvision and SAM2Transforms use torch.jit.script, which later versions of torch deprecate.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        from sam2.utils.transforms import SAM2Transforms

        return SAM2Transforms(resolution=1024, mask_threshold=0.0)


def reference_input(image_hwc: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Return what sam2's ``SAM2Transforms`` makes of an image: (3, 1024, 1024) float32."""
    prepared: torch.Tensor = _sam2_transforms()(image_hwc)
    return prepared


def reference_features(
    encoder: torch.nn.Module, image_hwc: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return P4 and P5 of one image by sam2's own code: (1, 256, 64, 64) and (1, 256, 32, 32)."""
    parts: Any = encoder
    with torch.no_grad():
        levels = parts.neck(parts.trunk(reference_input(image_hwc)[None]))[0]
    return levels[2].numpy(), levels[3].numpy()
