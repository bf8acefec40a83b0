from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.sam_datasets import make_dataset
from toolkit.core.driver import JobRun, run_to_end
from toolkit.core.errors import MvtkError
from toolkit.core.report import Report
from toolkit.sam.embedding_cache import DEFAULT_FOLDER, EmbeddingCache, EmbeddingKey, hash_image
from toolkit.sam.evaluation import EvaluateSamJob, EvaluateSamOptions
from toolkit.sam.evaluation_plots import draw_evaluation
from toolkit.sam.evaluation_step import NO_INSTANCES, EvaluationItem, ReadSample
from toolkit.sam.evaluation_tables import InstanceRow, InstanceScores, group_rows
from toolkit.sam.inference import embed, predict_masks, prompted_image
from toolkit.sam.layout import read_layout
from toolkit.sam.metrics import score_masks
from toolkit.sam.model import load_trainable_sam
from toolkit.sam.run_models import tuned_model, untuned_model
from toolkit.sam.samples import SamSamples
from toolkit.sam.trainable_sam import TrainableSam


@pytest.fixture(scope="session")
def run_folder(sam_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training run that changed the decoder."""
    folder = tmp_path_factory.mktemp("run")
    sam = load_trainable_sam(sam_folder)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in sam.trainable_parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    sam.save_pretrained(folder / "model")
    (folder / "config.yaml").write_text(f"model: {json.dumps(str(sam_folder))}\n")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "data", {"a": 2, "b": 30, "c": 1, "none": 0})


@pytest.fixture
def options(data: Path, tmp_path: Path, run_folder: Path) -> dict[str, Any]:
    return {"data": data, "output": tmp_path / "out", "model": str(run_folder), "workers": 0, "device": "cpu"}


def run(options: dict[str, Any], **changes: Any) -> Report:
    return run_to_end(EvaluateSamJob(EvaluateSamOptions(**{**options, **changes})))


def rows_in(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def ious_of(sam: TrainableSam, data: Path) -> dict[tuple[str, int], float]:
    """The IoU of every instance, one sample at a time."""
    ious = {}
    for sample in SamSamples(read_layout(data)):
        prompted = prompted_image(sam, sample.image_hwc, sample.boxes_xyxy)
        [predicted] = predict_masks(sam, embed(sam, [prompted]), [prompted])
        for number, iou in enumerate(score_masks(predicted.masks_nhw, sample.masks_nhw).iou):
            ious[sample.id, number] = float(iou)
    return ious


def test_every_instance_is_scored_with_both_models(
    options: dict[str, Any], data: Path, tmp_path: Path, run_folder: Path, sam: TrainableSam
) -> None:
    report = run(options)
    assert (report.figures.done, report.figures.skip_reasons) == (3, {NO_INSTANCES: 1})
    rows = rows_in(tmp_path / "out" / "instances.csv")
    assert [(row["sample"], row["instance"]) for row in rows][:3] == [("a", "0"), ("a", "1"), ("b", "0")]
    assert len(rows) == 33
    for column, model in (("iou", load_trainable_sam(run_folder / "model")), ("baseline_iou", sam)):
        expected = ious_of(model, data)
        found = {(row["sample"], int(row["instance"])): float(row[column]) for row in rows}
        assert found.keys() == expected.keys()
        assert all(abs(found[key] - expected[key]) < 2e-3 for key in found)
    assert {row["class_name"] for row in rows} == {"disc", "rectangle"}


def test_a_batch_is_scored_as_its_samples_alone(options: dict[str, Any]) -> None:
    job = EvaluateSamJob(EvaluateSamOptions(**options))
    step = job.step()
    step.setup("cpu")
    items = [entry for entry in job.plan() if isinstance(entry, EvaluationItem) and entry.source != "none"]
    read = [step.prepare(item) for item in items]
    together = [publish() for publish in step.process_batch([each for each in read if isinstance(each, ReadSample)])]
    for item, outcome in zip(items, together, strict=True):
        publish = step.process_one(item)
        assert callable(publish)
        alone = publish()
        assert outcome.details["mean_iou"] == pytest.approx(alone.details["mean_iou"], abs=2e-3)
        assert outcome.details["instances"] == alone.details["instances"]


def test_tables_plots_and_panels_agree(options: dict[str, Any], tmp_path: Path) -> None:
    report = run(options, panels=2)
    rows = rows_in(tmp_path / "out" / "instances.csv")
    groups = rows_in(tmp_path / "out" / "summary.csv")
    assert groups[0]["group"] == "all"
    assert sum(int(group["instances"]) for group in groups if group["group"] == "class") == 33
    assert sum(int(group["instances"]) for group in groups if group["group"] == "size") == 33
    ious = [float(row["iou"]) for row in rows]
    assert float(groups[0]["iou"]) == pytest.approx(np.mean(ious), abs=1e-5)
    assert report.stats["groups"][0]["means"]["iou"] == pytest.approx(np.mean(ious), abs=1e-5)
    assert "; better IoU in " in report.stats["remarks"][0]
    assert (tmp_path / "out" / "evaluation.png").stat().st_size > 1000
    means = {name: np.mean([float(row["iou"]) for row in rows if row["sample"] == name]) for name in "abc"}
    worst = sorted(means, key=means.__getitem__)[:2]
    assert sorted(path.stem for path in (tmp_path / "out" / "panels").iterdir()) == sorted(worst)


def test_scores_and_masks_do_not_fill_the_log(options: dict[str, Any]) -> None:
    outcomes = list(JobRun(EvaluateSamJob(EvaluateSamOptions(**options))).outcomes())
    done = [outcome.details for outcome in outcomes if outcome.status == "done"]
    assert {frozenset(details) for details in done} == {frozenset({"instances", "mean_iou"})}


def test_cached_embeddings_are_used(
    options: dict[str, Any], data: Path, sam: TrainableSam, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run(options)
    before = (tmp_path / "out" / "summary.csv").read_text()
    cache = EmbeddingCache(data / DEFAULT_FOLDER, sam.model_hash)
    samples = SamSamples(read_layout(data))
    for index, sample in enumerate(samples):
        prompted = prompted_image(sam, sample.image_hwc, sample.boxes_xyxy)
        cache.put(EmbeddingKey(hash_image(samples.files(index).image)), embed(sam, [prompted])[0])
    monkeypatch.setattr(TrainableSam, "encode", lambda *_: pytest.fail("the encoder ran"))
    run(options, output=tmp_path / "again")
    assert (tmp_path / "again" / "summary.csv").read_text() == before


def test_another_encoder_makes_its_own_embeddings(
    options: dict[str, Any], data: Path, tmp_path: Path, sam2_folder: Path, sam2: TrainableSam
) -> None:
    run(options, baseline=str(sam2_folder))
    rows = rows_in(tmp_path / "out" / "instances.csv")
    expected = ious_of(sam2, data)
    assert all(abs(float(row["baseline_iou"]) - expected[row["sample"], int(row["instance"])]) < 2e-3 for row in rows)


def test_the_validation_part_is_evaluated_where_there_is_a_split(
    options: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    (data / "split.json").write_text(json.dumps({"train": ["b", "c"], "val": ["a", "none"]}))
    for part, expected in (("auto", {"a"}), ("val", {"a"}), ("train", {"b", "c"}), ("all", {"a", "b", "c"})):
        run(options, part=part, output=tmp_path / part, baseline="none", panels=0)
        rows = rows_in(tmp_path / part / "instances.csv")
        assert {row["sample"] for row in rows} == expected
        assert "baseline_iou" not in rows[0]
        assert not (tmp_path / part / "panels").exists()


def test_a_wrong_sample_fails_and_the_others_are_evaluated(options: dict[str, Any], data: Path, tmp_path: Path) -> None:
    (data / "boxes" / "b.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    report = run(options)
    assert (report.figures.done, report.figures.failed) == (2, 1)
    assert {row["sample"] for row in rows_in(tmp_path / "out" / "instances.csv")} == {"a", "c"}


def test_results_are_not_overwritten_unasked(options: dict[str, Any]) -> None:
    run(options)
    with pytest.raises(MvtkError, match=r"instances\.csv exists already; use --overwrite to replace it"):
        EvaluateSamJob(EvaluateSamOptions(**options))  # before the work, not after it
    assert run(options, overwrite=True).figures.done == 3


def test_a_split_that_is_not_there_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(MvtkError, match=r"split\.json: cannot read: No such file"):
        run(options, part="val")


def test_the_models_of_a_run_are_found(run_folder: Path, sam_folder: Path, tmp_path: Path) -> None:
    assert tuned_model(str(run_folder)) == str(run_folder / "model")
    assert tuned_model(str(sam_folder)) == str(sam_folder)
    assert untuned_model(str(run_folder)) == untuned_model(str(run_folder / "model")) == str(sam_folder)
    assert untuned_model(str(sam_folder)) is None
    (tmp_path / "config.yaml").write_text("model: x\n")
    with pytest.raises(MvtkError, match="the training run has written no model"):
        tuned_model(str(tmp_path))
    (tmp_path / "model").mkdir()
    (tmp_path / "config.yaml").write_text("epochs: 3\n")
    with pytest.raises(MvtkError, match=r"config\.yaml: names no model; name the un-tuned model with --baseline"):
        untuned_model(str(tmp_path))


def row(sample: str, iou: float, baseline: float | None = None, class_id: int = 0, area_px: int = 50) -> InstanceRow:
    def scores(value: float) -> InstanceScores:
        return InstanceScores(value, value, value, value)

    return InstanceRow(sample, 0, class_id, area_px, scores(iou), None if baseline is None else scores(baseline))


def test_groups_are_means_over_instances() -> None:
    rows = [row("a", 0.5, 0.25), row("a", 1.0, 1.0, class_id=7, area_px=2000), row("b", 0.0, 0.5)]
    groups = {(group.kind, group.name): group for group in group_rows(rows, ["disc"])}
    assert list(groups) == [("all", "all"), ("class", "disc"), ("class", "7"), ("size", "small"), ("size", "medium")]
    everything = groups["all", "all"]
    assert (everything.instances, everything.images) == (3, 2)
    assert everything.means["iou"] == pytest.approx(0.5)
    assert everything.baseline is not None
    assert everything.baseline["iou"] == pytest.approx(1.75 / 3)
    assert everything.improved == pytest.approx(1 / 3, abs=1e-6)
    assert groups["size", "medium"].means["iou"] == 1
    assert group_rows([], []) == []


def test_rows_survive_json() -> None:
    for each in (row("a", 0.5, 0.25), row("b", 1 / 3)):
        assert InstanceRow.from_json(each.sample, json.loads(json.dumps(each.to_json()))) == each


@pytest.mark.parametrize("baseline", [None, 0.4])
def test_an_evaluation_is_drawn_with_and_without_the_un_tuned_model(baseline: float | None) -> None:
    rows = [row("a", 0.5, baseline), row("b", 0.7, baseline, class_id=1)]
    picture = draw_evaluation(rows, group_rows(rows, []), "title")
    assert picture.dtype == np.uint8
    assert math.prod(picture.shape) > 0
