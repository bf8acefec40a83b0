"""Low-rank adapters on the mask decoder (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from toolkit.core.extras import require_extra

if TYPE_CHECKING:
    from torch import Tensor, nn

_PROJECTIONS: Final = r"transformer\..*\.(q_proj|k_proj|v_proj|out_proj|o_proj)"
"""The attention's projections in SAM's and SAM2's mask decoders; they name the last one differently."""
_ADAPTER: Final = "default"


class LoraOptions(BaseModel):
    """How the mask decoder is adapted instead of being trained as a whole.

    Attributes:
        rank: of the update of each attention projection.
        alpha: the update counts ``alpha / rank``.
        dropout: probability with which an input of the update is dropped in training.
        seed: of the adapters' initial weights; the update itself begins at zero.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(default=8, ge=1, le=256)
    alpha: float = Field(default=16.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)


def add_lora(mask_decoder: nn.Module, options: LoraOptions) -> None:
    """Put adapters on the attention projections of a mask decoder, in place; only they are trainable then.

    Raises:
        MissingExtraError: peft is not installed.
    """
    peft = require_extra("peft", "sam")
    import torch

    config = peft.LoraConfig(
        r=options.rank, lora_alpha=options.alpha, lora_dropout=options.dropout, target_modules=_PROJECTIONS
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        peft.inject_adapter_in_model(config, mask_decoder, adapter_name=_ADAPTER)
    for name, parameter in mask_decoder.named_parameters():
        parameter.requires_grad_("lora_" in name)


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's state with the adapters' updates added to the weights, under the names of a plain model.

    The tensors are copies on the CPU; the model stays as it is. A model without adapters gives its own state.
    """
    adapted: dict[str, Any] = {
        name: module for name, module in model.named_modules() if hasattr(module, "get_delta_weight")
    }
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if ".lora_" in name:
            continue
        owner = name.rpartition(".base_layer.")[0]
        if owner in adapted and name.endswith(".weight"):
            tensor = tensor + adapted[owner].get_delta_weight(_ADAPTER).to(tensor.dtype)
        state[name.replace(".base_layer.", ".")] = tensor.detach().to("cpu", copy=True)
    return state
