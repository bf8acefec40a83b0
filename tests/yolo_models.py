"""A detection model of a few thousand weights, made from a YAML of its own with seeded random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TINY_YAML = """\
nc: 80
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
head:
  - [-1, 1, nn.Upsample, [None, 2, "nearest"]]
  - [[-1, 3], 1, Concat, [1]]
  - [-1, 1, Conv, [32, 1, 1]]
  - [[2, 7, 4], 1, Detect, [nc]]
"""


def write_tiny_yaml(folder: Path) -> str:
    """Write the model's YAML; return its path."""
    path = folder / "tiny.yaml"
    path.write_text(TINY_YAML)
    return str(path)


def save_tiny_checkpoint(
    path: Path,
    *,
    channels: int = 3,
    names: dict[int, str] | None = None,
    guided: bool = False,
    eager: bool = False,
    seed: int = 0,
) -> Path:
    """Write a checkpoint of the model as Ultralytics writes one, its statistics off their start; return its path.

    Args:
        path: the file.
        channels: of its input.
        names: class names by id.
        guided: with attention guided by the mask, whose weights are random, too.
        eager: it finds something in every image.
        seed: of the weights.
    """
    import torch
    import yaml

    from toolkit.yolo.containment import contained_ultralytics

    names = names or {0: "marked disc"}
    with contained_ultralytics(quiet=True):
        from ultralytics.nn.tasks import DetectionModel

        from toolkit.yolo.engine.models import MaskGuidedDetectionModel

        torch.manual_seed(seed)
        model_class: Any = MaskGuidedDetectionModel if guided else DetectionModel
        model = model_class(yaml.safe_load(TINY_YAML), ch=channels, nc=len(names), verbose=False)
        model.train()
        with torch.no_grad():
            model(torch.rand(4, channels, 64, 64))
            if guided:
                for block in model.mask_attention.values():
                    block.place_weights.weight.normal_()
            if eager:
                for level in model.model[-1].cv3:
                    level[-1].bias.fill_(0.0)
                    level[-1].weight.normal_(std=0.5)
        model.names = names
        model.args = {"task": "detect", "imgsz": 64}
        model.task = "detect"
        torch.save(
            {"model": model.eval().half(), "ema": None, "epoch": -1, "optimizer": None, "train_args": {"imgsz": 64}},
            path,
        )
    return path
