"""Tiny SAM and SAM2 models with seeded random weights, saved as transformers saves real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from toolkit.sam.demo_model import spread_weights
from toolkit.sam.trainable_sam import TrainableSam

INPUT_SIZE = 128
LOW_RESOLUTION = 32
"""Of both models: the logits' side is a quarter of the input's, as in the real ones."""


def save_tiny_sam(folder: Path, seed: int = 0, input_size: int = INPUT_SIZE, patch_size: int = 16) -> Path:
    """Save a SAM of 0.1 M parameters and return its folder.

    Args:
        folder: made if it is missing.
        seed: of the weights.
        input_size: side of the encoder's input in pixels, a multiple of ``patch_size``.
        patch_size: logits have four pixels a patch along each side.
    """
    from transformers import SamConfig, SamMaskDecoderConfig, SamModel, SamPromptEncoderConfig, SamVisionConfig

    config = SamConfig(
        vision_config=SamVisionConfig(
            hidden_size=32,
            output_channels=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=input_size,
            patch_size=patch_size,
            window_size=4,
            global_attn_indexes=[1],
            mlp_dim=64,
            num_pos_feats=16,
        ).to_dict(),
        prompt_encoder_config=SamPromptEncoderConfig(
            hidden_size=32, image_size=input_size, patch_size=patch_size
        ).to_dict(),
        mask_decoder_config=SamMaskDecoderConfig(
            hidden_size=32, mlp_dim=64, num_attention_heads=2, iou_head_hidden_dim=32
        ).to_dict(),
    )
    return _save(SamModel, config, folder, seed)


def save_tiny_sam2(folder: Path, seed: int = 0) -> Path:
    """Save a SAM2 of 0.1 M parameters, whose input is 128 pixels square, and return its folder."""
    from transformers import (
        Sam2Config,
        Sam2HieraDetConfig,
        Sam2MaskDecoderConfig,
        Sam2Model,
        Sam2PromptEncoderConfig,
        Sam2VisionConfig,
    )

    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[INPUT_SIZE, INPUT_SIZE],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[4, 4, 4, 4],
        window_positional_embedding_background_size=[4, 4],
        global_attention_blocks=[3],
    )
    config = Sam2Config(
        vision_config=Sam2VisionConfig(
            backbone_config=backbone.to_dict(),
            backbone_channel_list=[64, 32, 16, 8],
            backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
            fpn_hidden_size=32,
        ).to_dict(),
        prompt_encoder_config=Sam2PromptEncoderConfig(hidden_size=32, image_size=INPUT_SIZE, patch_size=16).to_dict(),
        mask_decoder_config=Sam2MaskDecoderConfig(
            hidden_size=32, mlp_dim=64, num_attention_heads=2, iou_head_hidden_dim=32
        ).to_dict(),
    )
    return _save(Sam2Model, config, folder, seed)


def _save(model_class: Any, config: Any, folder: Path, seed: int) -> Path:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = model_class(config)
        spread_weights(model)
    TrainableSam(model).save_pretrained(folder)
    return folder
