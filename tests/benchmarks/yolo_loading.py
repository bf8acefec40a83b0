"""Reading pairs of image and mask for training against Ultralytics' own dataset on the same images as PNG files."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.conversion import ANGIOGRAMS, _angiograms, _command, _photographs, _write_inputs
from tests.benchmarks.measuring import Figure, in_turn, run_command

IMAGES = 96
IMGSZ = 640
ROUNDS = 5


def measure(folder: Path) -> Iterator[Figure]:
    """Read real photographs and, where the sample data are, real angiograms."""
    sources = {"photographs": _photographs()}
    if ANGIOGRAMS.is_dir():
        sources["angiograms"] = _angiograms()
    for name, pictures in sources.items():
        inputs, pairs = folder / name, folder / f"{name}-pairs"
        _write_inputs(inputs, pictures, IMAGES)
        run_command(_command(inputs, pairs))
        (pairs / "data.yaml").write_text("train: images/train\nval: images/train\nchannels: 4\nnames: [object]\n")
        yield from _measure_loading(inputs, pairs, folder / f"{name}-scratch", name)


def _measure_loading(inputs: Path, pairs: Path, scratch: Path, name: str) -> Iterator[Figure]:
    from toolkit.yolo.containment import contained_ultralytics

    scratch.mkdir()
    with contained_ultralytics(quiet=True):
        for mode in ("validation", "training"):
            ours = _ours(pairs, scratch, is_training=mode == "training")
            theirs = _theirs(inputs, is_training=mode == "training")
            our_s, their_s, ratio = in_turn(lambda: _read(ours), lambda: _read(theirs), rounds=ROUNDS)  # noqa: B023 - at once
            yield Figure(f"{name} of 512x512 for {mode}, pairs a second", IMAGES / our_s, "")
            yield Figure(f"{name} of 512x512 for {mode}, Ultralytics, PNG files a second", IMAGES / their_s, "")
            yield Figure(f"{name} of 512x512 for {mode}, speed over Ultralytics", ratio, "x", at_least=1.0)


def _read(dataset: Any) -> None:
    """Read every sample once, with the same random numbers each time."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - Ultralytics draws from it
    for index in range(len(dataset)):
        dataset[index]


def _settings() -> Any:
    from ultralytics.cfg import get_cfg

    return get_cfg(overrides={"imgsz": IMGSZ})


def _ours(pairs: Path, scratch: Path, *, is_training: bool) -> Any:
    from ultralytics.data.utils import check_det_dataset

    from toolkit.yolo.engine.trainer import build_contained_dataset
    from toolkit.yolo.run_data import RunData
    from toolkit.yolo.source import find_source

    source = find_source(pairs, ("train", "val"))
    run_data = RunData(source.data_yaml, source.kind, "channel", scratch / "cache", 1)
    data = check_det_dataset(str(run_data.save(scratch, source, 4)))
    dataset = build_contained_dataset(_settings(), data, data["train"], "train" if is_training else "val", 16, 32)
    dataset.rect = False
    return dataset


def _theirs(inputs: Path, *, is_training: bool) -> Any:
    from ultralytics.data.dataset import YOLODataset

    return YOLODataset(
        img_path=str(inputs / "images/train"),
        data={"names": {0: "object"}, "channels": 3},
        imgsz=IMGSZ,
        augment=is_training,
        hyp=_settings(),
        batch_size=16,
        stride=32,
    )
