"""Detections and their files: where boxes lie, what is written, what is skipped and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets import tree_hash, written
from tests.yolo_datasets import write_guided_dataset
from tests.yolo_models import save_tiny_checkpoint
from toolkit.core.driver import run_to_end
from toolkit.core.errors import MvtkError, OptionError
from toolkit.core.report import Report
from toolkit.images import letterbox_geometry, load_image
from toolkit.npz import load_npz_data
from toolkit.prediction_job import ALREADY_PREDICTED, STALE
from toolkit.sam.prompt_files import parse_prompts
from toolkit.yolo.detections import DetectionOptions, Detections
from toolkit.yolo.detector import YoloDetector
from toolkit.yolo.prediction import NO_MASK, PredictYoloJob, PredictYoloOptions, label_text


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints that find something in every image, by what they take."""
    folder = tmp_path_factory.mktemp("weights")
    names = {0: "a", 1: "b"}
    return {
        "rgb": save_tiny_checkpoint(folder / "rgb.pt", names=names, eager=True),
        "mask": save_tiny_checkpoint(folder / "mask.pt", channels=4, names=names, eager=True, guided=True),
    }


@pytest.fixture
def options(guided_data: Path, tmp_path: Path, weights: dict[str, Path]) -> dict[str, Any]:
    return {
        "source": guided_data / "images/train",
        "output": tmp_path / "out",
        "model": weights["mask"],
        "imgsz": 64,
        "workers": 0,
        "device": "cpu",
        "batch_size": 2,
    }


def run(options: dict[str, Any], **changes: Any) -> Report:
    return run_to_end(PredictYoloJob(PredictYoloOptions(**{**options, **changes})))


def test_boxes_are_those_of_ultralytics_own_predictor(weights: dict[str, Path]) -> None:
    from toolkit.yolo.containment import contained_ultralytics

    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    [found] = YoloDetector(weights["rgb"], options=DetectionOptions(imgsz=64)).detect([image])
    with contained_ultralytics(quiet=True):
        from ultralytics import YOLO

        boxes = YOLO(str(weights["rgb"])).predict(image[..., ::-1], imgsz=64, verbose=False, device="cpu")[0].boxes
    assert 0 < len(found) < 300
    np.testing.assert_allclose(found.boxes_xyxy, boxes.xyxy.numpy(), atol=1e-3)
    np.testing.assert_allclose(found.scores, boxes.conf.numpy(), atol=1e-5)
    np.testing.assert_array_equal(found.class_ids, boxes.cls.numpy())


def test_a_batch_finds_what_its_images_alone_give(weights: dict[str, Path]) -> None:
    random = np.random.default_rng(1)
    images = [random.integers(0, 255, (h, w, 4), np.uint8) for h, w in ((64, 64), (30, 90), (200, 131))]
    detector = YoloDetector(weights["mask"], options=DetectionOptions(imgsz=64))
    for together, image in zip(detector.detect(images), images, strict=True):
        [alone] = detector.detect([image])
        np.testing.assert_allclose(together.boxes_xyxy, alone.boxes_xyxy, atol=1e-2)
        height, width = image.shape[:2]
        assert (together.boxes_xyxy >= 0).all()
        assert (together.boxes_xyxy <= [width, height, width, height]).all()


@given(st.integers(1, 500), st.integers(1, 500), st.data())
@settings(max_examples=50, deadline=None)
def test_boxes_come_back_to_where_they_lie_in_the_image(height: int, width: int, data: st.DataObject) -> None:
    from toolkit.yolo.containment import contained_ultralytics

    with contained_ultralytics(quiet=True):
        from toolkit.yolo.engine.detector import LoadedDetector

    detector = LoadedDetector.__new__(LoadedDetector)
    detector._imgsz = 64
    corners = [data.draw(st.tuples(st.floats(0, 0.4), st.floats(0.6, 1))) for _ in range(2)]
    box = np.array([corners[0][0] * width, corners[1][0] * height, corners[0][1] * width, corners[1][1] * height])
    geometry = letterbox_geometry(height, width, 64)
    factors = np.array([geometry.width / width, geometry.height / height] * 2)
    found = np.float32([[*(box * factors + [geometry.left, geometry.top] * 2), 0.5, 1]])
    returned = detector._in_image(found, (height, width))
    np.testing.assert_allclose(returned.boxes_xyxy[0], box, atol=1e-3 * max(height, width))


def test_what_is_written_for_pairs(options: dict[str, Any], guided_data: Path, tmp_path: Path) -> None:
    before = tree_hash(guided_data)
    report = run(options, save_conf=True)
    assert (report.figures.done, report.figures.failed) == (4, 0)
    assert tree_hash(guided_data) == before
    names = [f"000{number}" for number in range(4)]
    kinds = (("labels", "txt"), ("overlays", "png"), ("records", "json"))
    expected = sorted(f"{folder}/{name}.{suffix}" for folder, suffix in kinds for name in names)
    assert written(tmp_path / "out") == sorted([*expected, "predictions.json"])
    results = json.loads((tmp_path / "out/predictions.json").read_text())
    assert report.stats["objects"] == len(results) > 0
    image, mask = load_npz_data(guided_data / "images/train/0000.npz")
    [found] = YoloDetector(options["model"], options=DetectionOptions(imgsz=64)).detect([np.dstack((image, mask))])
    first = [result for result in results if result["image_id"] == 0]
    np.testing.assert_allclose(
        [result["bbox"] for result in first],
        np.hstack((found.boxes_xyxy[:, :2], found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2])),
        atol=0.02,
    )
    text = (tmp_path / "out/labels/0000.txt").read_bytes()
    prompts = parse_prompts(text, "0000.txt", 64, 64)
    np.testing.assert_allclose(prompts.boxes_xyxy, found.boxes_xyxy, atol=0.01)
    assert all(len(line.split()) == 6 for line in text.splitlines())
    assert load_image(tmp_path / "out/overlays/0000.png").pixels.shape == (64, 64, 3)


def test_images_with_masks_beside_them_give_what_their_pairs_give(
    options: dict[str, Any], guided_data: Path, tmp_path: Path
) -> None:
    run(options)
    for path in sorted((guided_data / "images/train").iterdir()):
        image, mask = load_npz_data(path)
        for folder in ("images/deep", "masks/deep"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / f"images/deep/{path.stem}.png"), image[..., ::-1])
        cv2.imwrite(str(tmp_path / f"masks/deep/{path.stem}_seg.png"), mask)
    report = run(options, source=tmp_path / "images", masks=tmp_path / "masks", output=tmp_path / "beside")
    assert report.figures.done == 4
    for path in (tmp_path / "out/labels").iterdir():
        assert (tmp_path / "beside/labels/deep" / path.name).read_bytes() == path.read_bytes()
    (tmp_path / "masks/deep/0001_seg.png").unlink()
    again = run(options, source=tmp_path / "images", masks=tmp_path / "masks", output=tmp_path / "again")
    assert again.figures.failure_kinds == {NO_MASK: 1}
    cv2.imwrite(str(tmp_path / "masks/deep/0001_seg.png"), np.zeros((32, 32), np.uint8))
    wrong = run(options, source=tmp_path / "images", masks=tmp_path / "masks", output=tmp_path / "again")
    assert "the mask is 32x32 and its image 64x64; use --resize-mask" in wrong.failed[0]["reason"]
    resized = run(
        options, source=tmp_path / "images", masks=tmp_path / "masks", output=tmp_path / "again", resize_mask=True
    )
    assert (resized.figures.done, resized.figures.skipped) == (1, 3)


def test_a_model_of_images_leaves_masks_out(options: dict[str, Any], weights: dict[str, Path], tmp_path: Path) -> None:
    assert run(options, model=weights["rgb"]).figures.done == 4
    with pytest.raises(OptionError, match="takes images alone; leave out --masks"):
        run(options, model=weights["rgb"], masks=tmp_path, output=tmp_path / "other")


def test_a_model_of_masks_without_masks(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/a.png"), np.zeros((8, 8, 3), np.uint8))
    report = run(options, source=tmp_path / "images")
    assert "the model takes a mask beside the image; give their folder with --masks" in report.failed[0]["reason"]


def test_nothing_is_done_twice_and_other_options_are_stale(options: dict[str, Any], tmp_path: Path) -> None:
    run(options)
    assert run(options).figures.skip_reasons == {ALREADY_PREDICTED: 4}
    results = (tmp_path / "out/predictions.json").read_bytes()
    stale = run(options, conf=0.9)
    assert stale.figures.skip_reasons == {STALE: 4}
    assert (tmp_path / "out/predictions.json").read_bytes() == results != b"[]\n"
    kept = "predictions.json: left as it is, all its images are of another model or other options"
    assert stale.stats["remarks"] == [kept]
    assert run(options, conf=0.9, overwrite=True).figures.done == 4
    assert json.loads((tmp_path / "out/predictions.json").read_text()) == []
    assert (tmp_path / "out/labels/0000.txt").read_bytes() == b""


def test_a_damaged_pair_fails_alone(options: dict[str, Any], tmp_path: Path) -> None:
    root = write_guided_dataset(tmp_path / "data")
    (root / "images/train/0002.npz").write_bytes(b"PK")
    report = run(options, source=root / "images/train")
    assert (report.figures.done, report.figures.failed) == (3, 1)
    assert "0002.npz" in report.failed[0]["reason"]


def test_one_file_and_some_classes(options: dict[str, Any], guided_data: Path, tmp_path: Path) -> None:
    report = run(options, source=guided_data / "images/val/0001.npz", class_ids=(1,), overlays=False)
    assert report.figures.done == 1
    results = json.loads((tmp_path / "out/predictions.json").read_text())
    assert {result["category_id"] for result in results} <= {1}
    assert not (tmp_path / "out/overlays").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": Path("/absent")}, "/absent: no such file or folder"),
        ({"model": Path("/absent.pt")}, "no such file; give a checkpoint"),
        ({"masks": Path("/absent")}, "no such folder; give the folder with the masks"),
        ({"imgsz": 50}, "no multiple of the model's stride; give one of 32"),
    ],
)
def test_what_cannot_be_run_is_said_first(options: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MvtkError, match=message):
        run(options, **changes)


def test_results_do_not_go_among_the_images(options: dict[str, Any]) -> None:
    for output in (options["source"], options["source"] / "out"):
        with pytest.raises(OptionError, match="--output"):
            run(options, output=output)


def test_a_runs_folder_stands_for_its_best_weights(options: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run/weights"
    folder.mkdir(parents=True)
    (folder / "best.pt").write_bytes(options["model"].read_bytes())
    assert run(options, model=tmp_path / "run").figures.done == 4


def test_label_lines() -> None:
    found = Detections(np.float32([[0, 10, 50, 20]]), np.float32([0.75]), np.int64([3]))
    assert label_text(found, 40, 100, save_conf=False) == "3 0.250000 0.375000 0.500000 0.250000\n"
    assert label_text(found, 40, 100, save_conf=True) == "3 0.250000 0.375000 0.500000 0.250000 0.750000\n"
