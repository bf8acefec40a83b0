"""A tiny SAM with seeded random weights, so that the ``mvtk sam`` commands can be tried without a download.

``python -m toolkit.sam.demo_model OUT`` writes into the new or empty folder OUT a model of transformers with 0.3
million parameters, whose input is 128 pixels square. It knows nothing, and learns in a minute on a CPU that the object
is in the box: training it shows how the commands work.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toolkit.core.extras import require_extra
from toolkit.dataset.demo import require_empty, run_demo

_INPUT_SIZE = 128
_PATCH_SIZE = 8
"""Logits have four pixels a patch: 64 pixels, on which small objects keep their shape."""
_WIDTH = 64
"""The mask is a product of as many channels as an eighth of it; with four, no box's inside can be told."""
_FREQUENCY_STD = 0.5
"""Standard deviation of the position encoding's frequencies: SAM's 1 is for 64 patches a side, and this one has 16."""


def write_demo_model(output: Path) -> int:
    """Write the model into ``output`` and return how many there are: 1.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        MvtkError: ``output`` is not an empty folder, or cannot be written.
    """
    require_empty(output)
    torch = require_extra("torch", "sam")
    require_extra("transformers", "sam")
    from transformers import SamConfig, SamMaskDecoderConfig, SamModel, SamPromptEncoderConfig, SamVisionConfig

    from toolkit.sam.trainable_sam import TrainableSam

    vision = SamVisionConfig(
        hidden_size=_WIDTH,
        output_channels=_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        window_size=4,
        global_attn_indexes=[1],
        mlp_dim=2 * _WIDTH,
        num_pos_feats=_WIDTH // 2,
        image_size=_INPUT_SIZE,
        patch_size=_PATCH_SIZE,
    )
    prompts = SamPromptEncoderConfig(hidden_size=_WIDTH, image_size=_INPUT_SIZE, patch_size=_PATCH_SIZE)
    config = SamConfig(
        vision_config=vision.to_dict(),
        prompt_encoder_config=prompts.to_dict(),
        mask_decoder_config=SamMaskDecoderConfig(
            hidden_size=_WIDTH, mlp_dim=2 * _WIDTH, num_attention_heads=2, iou_head_hidden_dim=_WIDTH
        ).to_dict(),
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = SamModel(config)
        spread_weights(model)
    TrainableSam(model).save_pretrained(output)
    return 1


def spread_weights(model: Any) -> None:
    """Give a model weights that let images and boxes through: as built, SAM's encoder is of the order of 1e-10."""
    import torch

    for part in (model.vision_encoder, model.mask_decoder):
        for parameter in part.parameters():
            if parameter.ndim > 1:
                fan_in = parameter[0].numel() if parameter.ndim in {2, 4} else parameter.shape[-1]
                parameter.normal_(std=fan_in**-0.5)
            else:
                parameter.add_(0.02 * torch.randn_like(parameter))
    model.shared_image_embedding.positional_embedding.normal_(std=_FREQUENCY_STD)
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(model.shared_image_embedding.positional_embedding)


def main(arguments: Sequence[str]) -> int:
    """Write the model into the folder that the command line names; return the exit code."""
    return run_demo(arguments, "toolkit.sam.demo_model", write_demo_model, "model with random weights")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
