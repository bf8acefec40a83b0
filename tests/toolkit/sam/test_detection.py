"""Boxes for SAM from a YOLO model, through the real path."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.sam_datasets import make_dataset
from tests.yolo_models import save_tiny_checkpoint
from toolkit.core.driver import run_to_end
from toolkit.core.errors import MvtkError
from toolkit.images import load_image
from toolkit.sam.detection import load_detector
from toolkit.sam.prediction import PredictSamJob, PredictSamOptions
from toolkit.yolo.detector import YoloDetector


def test_masks_of_the_boxes_that_a_yolo_model_finds(tmp_path: Path, sam_folder: Path) -> None:
    data = make_dataset(tmp_path / "data", {"7": 2})
    weights = save_tiny_checkpoint(tmp_path / "best.pt", names={0: "a", 1: "b"}, eager=True)
    options = PredictSamOptions(
        images=data / "images",
        output=tmp_path / "out",
        model=str(sam_folder),
        detector=weights,
        workers=0,
        device="cpu",
    )
    report = run_to_end(PredictSamJob(options))
    [found] = YoloDetector(weights).detect([load_image(data / "images/7.png").pixels])
    assert len(found) > 0
    assert report.stats["masks"] == len(found)
    results = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [result["category_id"] for result in results] == found.class_ids.tolist()


def test_boxes_are_the_detectors(tmp_path: Path) -> None:
    weights = save_tiny_checkpoint(tmp_path / "best.pt", eager=True)
    images = [np.random.default_rng(seed).integers(0, 255, (40, 60 + seed, 3), np.uint8) for seed in (0, 9)]
    prompts, found = load_detector(weights, "cpu").detect(images), YoloDetector(weights).detect(images)
    for ours, theirs in zip(prompts, found, strict=True):
        np.testing.assert_array_equal(ours.boxes_xyxy, theirs.boxes_xyxy)
        np.testing.assert_array_equal(ours.class_ids, theirs.class_ids)


def test_a_model_that_takes_a_mask_is_refused(tmp_path: Path) -> None:
    weights = save_tiny_checkpoint(tmp_path / "best.pt", channels=4)
    with pytest.raises(MvtkError, match=r"takes 4 channels, .* save its boxes with mvtk yolo predict, and give"):
        load_detector(weights, "cpu")
    with pytest.raises(MvtkError, match=r"absent\.pt: no such file"):
        load_detector(tmp_path / "absent.pt", "cpu")
