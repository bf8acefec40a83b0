from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pydantic import ValidationError

from tests.sam_datasets import make_dataset
from tests.sam_models import save_tiny_sam
from toolkit.core.driver import run_to_end
from toolkit.core.errors import MvtkError
from toolkit.core.report import Report
from toolkit.images import load_image, load_mask
from toolkit.prediction_job import ALREADY_PREDICTED, STALE, TWO_IMAGES
from toolkit.sam.detection import Prompts
from toolkit.sam.inference import embed, predict_masks, prompted_image
from toolkit.sam.prediction import (
    NO_BOXES,
    ImageItem,
    PredictSamJob,
    PredictSamOptions,
)
from toolkit.sam.prompt_files import parse_prompts
from toolkit.sam.trainable_sam import TrainableSam


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "data", {"7": 2, "12": 30, "3": 0})


@pytest.fixture
def options(data: Path, tmp_path: Path, sam_folder: Path) -> dict[str, Any]:
    return {
        "images": data / "images",
        "boxes": data / "boxes",
        "output": tmp_path / "out",
        "model": str(sam_folder),
        "workers": 0,
        "device": "cpu",
        "batch_size": 2,
    }


def run(options: dict[str, Any], **changes: Any) -> Report:
    return run_to_end(PredictSamJob(PredictSamOptions(**{**options, **changes})))


def results_in(folder: Path) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = json.loads((folder / "predictions.json").read_text())
    return results


def test_masks_results_and_overlays_are_those_of_the_model(
    options: dict[str, Any], data: Path, tmp_path: Path, sam: TrainableSam
) -> None:
    report = run(options)
    assert (report.figures.done, report.figures.failed) == (3, 0)
    assert report.stats["masks"] == 32
    image_hwc = load_image(data / "images" / "7.png").pixels
    prompts = parse_prompts((data / "boxes" / "7.txt").read_bytes(), "7.txt", *image_hwc.shape[:2])
    prompted = prompted_image(sam, image_hwc, prompts.boxes_xyxy)
    [expected] = predict_masks(sam, embed(sam, [prompted]), [prompted])
    results = [result for result in results_in(tmp_path / "out") if result["image_id"] == 7]
    for number, mask_hw in enumerate(expected.masks_nhw):
        written_hw = load_mask(tmp_path / "out" / "masks" / f"7_{number}.png", values="keep").pixels
        assert set(np.unique(written_hw)) <= {0, 255}
        assert np.mean((written_hw > 0) != mask_hw) < 1e-3
        rle = results[number]["segmentation"]
        assert int(coco_mask.area(rle)) == np.count_nonzero(written_hw) == results[number]["area"]
        assert results[number]["score"] == pytest.approx(expected.scores[number], abs=1e-4)
    assert [result["category_id"] for result in results] == prompts.class_ids.tolist()
    overlay_hwc = load_image(tmp_path / "out" / "overlays" / "7.png").pixels
    assert overlay_hwc.shape == image_hwc.shape
    assert (overlay_hwc != image_hwc).any()


def test_results_are_read_by_pycocotools(options: dict[str, Any], tmp_path: Path) -> None:
    run(options)
    truth = COCO()
    truth.dataset = {"images": [{"id": number} for number in (3, 7, 12)], "categories": [], "annotations": []}
    truth.createIndex()
    assert len(truth.loadRes(str(tmp_path / "out" / "predictions.json")).getAnnIds()) == 32


def test_what_is_done_is_skipped_until_model_or_boxes_change(
    options: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    run(options)
    assert run(options).figures.skip_reasons == {ALREADY_PREDICTED: 3}
    (data / "boxes" / "7.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    assert run(options).figures.skip_reasons == {ALREADY_PREDICTED: 2, STALE: 1}
    assert run(options, overwrite=True).figures.done == 1
    assert not (tmp_path / "out" / "masks" / "7_1.png").exists()
    other = str(save_tiny_sam(tmp_path / "other", seed=5))
    assert run(options, model=other).figures.skip_reasons == {STALE: 3}
    (data / "boxes" / "12.txt").unlink()
    report = run(options, model=other, overwrite=True)
    assert (report.figures.done, report.figures.failed) == (2, 1)
    assert {result["image_id"] for result in results_in(tmp_path / "out")} == {7}
    assert report.stats["remarks"] == ["predictions.json: 2 images; 1 of another model or other options are left out"]


def test_parts_that_were_left_out_are_made_later(options: dict[str, Any], tmp_path: Path) -> None:
    run(options, overlays=False)
    assert not (tmp_path / "out" / "overlays").exists()
    assert run(options).figures.done == 3
    assert run(options, masks=False).figures.skipped == 3


def test_low_scores_are_left_out(options: dict[str, Any], tmp_path: Path) -> None:
    run(options)
    scores = sorted(result["score"] for result in results_in(tmp_path / "out"))
    limit = max(0.0, scores[20])
    report = run(options, output=tmp_path / "few", min_score=limit)
    assert report.stats["masks"] == sum(score >= limit for score in scores) < 32
    assert len(list((tmp_path / "few" / "masks").iterdir())) == report.stats["masks"]


def test_trouble_of_an_image_fails_that_image(options: dict[str, Any], data: Path, tmp_path: Path) -> None:
    (data / "boxes" / "7.txt").write_text("0 0.5 0.5 0.5 0.5\n5 0.5 0.5 0.2 0.2\n")
    (data / "boxes" / "3.txt").unlink(missing_ok=True)
    (data / "images" / "12.jpg").write_bytes((data / "images" / "12.png").read_bytes()[:50])
    (data / "images" / "99.png").write_bytes(b"no image")
    (data / "boxes" / "99.txt").write_text("")
    job = PredictSamJob(PredictSamOptions(**{**options, "class_names": ("disc", "rectangle")}))
    report = run_to_end(job)
    assert report.figures.failed == 5
    assert report.figures.failure_kinds == {NO_BOXES: 1, TWO_IMAGES: 1, "errors": 3}
    assert results_in(tmp_path / "out") == []


def test_images_in_folders_keep_their_paths(options: dict[str, Any], data: Path, tmp_path: Path) -> None:
    for kind, suffix in (("images", "png"), ("boxes", "txt")):
        (data / kind / "left").mkdir()
        (data / kind / f"7.{suffix}").rename(data / kind / "left" / f"7.{suffix}")
    run(options)
    assert (tmp_path / "out" / "masks" / "left" / "7_1.png").exists()
    assert (tmp_path / "out" / "overlays" / "left" / "7.png").exists()


class MiddleDetector:
    """Finds one object in the middle of every image."""

    def detect(self, images_hwc: list[np.ndarray]) -> list[Prompts]:
        sizes = [image_hwc.shape[:2] for image_hwc in images_hwc]
        return [Prompts(np.array([[w / 4, h / 4, 3 * w / 4, 3 * h / 4]], np.float32), np.array([1])) for h, w in sizes]


def test_a_detector_finds_the_boxes(options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.sam.prediction.load_detector", lambda *_: MiddleDetector())
    detected = {**options, "boxes": None, "detector": tmp_path / "yolo.pt"}
    assert run(detected).stats["masks"] == 3
    assert {result["category_id"] for result in results_in(tmp_path / "out")} == {1}
    assert run(detected).figures.skip_reasons == {ALREADY_PREDICTED: 3}


def test_what_cannot_be_run_is_said_first(options: dict[str, Any], tmp_path: Path, data: Path) -> None:
    with pytest.raises(ValidationError, match="give either --boxes or --detector"):
        PredictSamOptions(**{**options, "boxes": None})
    with pytest.raises(MvtkError, match="no such folder; give the folder with a YOLO text file for each image"):
        run(options, boxes=tmp_path / "missing")
    with pytest.raises(MvtkError, match="there are no images in"):
        run(options, images=data / "boxes")
    with pytest.raises(MvtkError, match="is the folder of the images"):
        run(options, output=data / "images")
    with pytest.raises(MvtkError, match=r"lies in .*, which is searched for images"):
        run(options, output=data / "images/out")


def test_a_damaged_record_is_named(options: dict[str, Any], tmp_path: Path) -> None:
    run(options)
    (tmp_path / "out" / "records" / "7.json").write_text("{}")
    job = PredictSamJob(PredictSamOptions(**options))
    outcomes = {entry.source: entry for entry in job.plan()}
    assert "records/7.json: not the record of a prediction; remove it" in outcomes["7.png"].reason
    assert run(options, overwrite=True).figures.done == 1


def test_a_batch_is_predicted_as_its_images_alone_in_smaller_batches_where_memory_is_scarce(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(options)
    job = PredictSamJob(PredictSamOptions(**{**options, "output": tmp_path / "batch", "batch_size": 3}))
    step = job.step()
    step.setup("cpu")
    encode, encoded = TrainableSam._encode, list[int]()

    def scarce(self: TrainableSam, pixel_values: torch.Tensor) -> Any:
        encoded.append(len(pixel_values))
        if len(pixel_values) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, pixel_values)

    monkeypatch.setattr(TrainableSam, "_encode", scarce)
    items = [entry for entry in job.plan() if isinstance(entry, ImageItem)]
    for publish in step.process_batch([step.prepare(item) for item in items]):
        assert callable(publish)
        publish()
    assert encoded == [3, 1, 2]
    assert step.batch_size == 1
    for path in (tmp_path / "out" / "masks").iterdir():
        alone, together = (
            load_mask(folder / path.name).pixels for folder in (path.parent, tmp_path / "batch" / "masks")
        )
        assert np.mean(alone != together) < 1e-3


@pytest.mark.slow
def test_a_worker_process_does_the_same(options: dict[str, Any], tmp_path: Path) -> None:
    run(options)
    assert run(options, output=tmp_path / "worker", workers=2).figures.done == 3
    ours, theirs = results_in(tmp_path / "out"), results_in(tmp_path / "worker")
    assert [result["image_id"] for result in ours] == [result["image_id"] for result in theirs]
    np.testing.assert_allclose([r["score"] for r in ours], [r["score"] for r in theirs], atol=1e-4)
