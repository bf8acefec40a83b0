"""The demonstration input: the commands find nothing wrong with it, and its exports give the same dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.core.batch import Job
from toolkit.core.driver import run_to_end
from toolkit.core.errors import MvtkError
from toolkit.sam.coco_import import ImportCocoJob, ImportCocoOptions
from toolkit.sam.demo import CLASS_NAMES, main, pieces, write_demo
from toolkit.sam.label_studio_import import ImportLabelStudioJob, ImportLabelStudioOptions
from toolkit.sam.layout import read_layout
from toolkit.sam.samples import SamSamples
from toolkit.sam.split_file import load_split, make_split
from toolkit.sam.verification import VerifySamJob, VerifySamOptions


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("demo") / "out"
    assert write_demo(output) == 70
    return output


def test_nothing_is_wrong_with_it(demo: Path) -> None:
    report = run_to_end(VerifySamJob(VerifySamOptions(root=demo, workers=0)))
    assert (report.figures.done, report.figures.failed, report.figures.skipped) == (70, 0, 0)
    assert report.figures.warnings == {}
    assert report.stats["classes"].keys() == set(CLASS_NAMES)
    assert report.stats["lowest_box_ious"][0]["iou"] == 1.0


def test_pieces_of_one_photograph_stay_on_one_side(demo: Path, tmp_path: Path) -> None:
    make_split(demo, tmp_path / "split.json")
    split = load_split(tmp_path / "split.json")
    sides = [{sample_id.partition("-")[0] for sample_id in ids} for ids in (split.train, split.val)]
    assert not sides[0] & sides[1]


def test_it_is_the_same_every_time() -> None:
    for first, second in zip(pieces(), pieces(), strict=True):
        assert first.id == second.id
        assert np.array_equal(first.image, second.image)
        assert np.array_equal(first.masks_nhw, second.masks_nhw)


def import_job(kind: str, demo: Path, output: Path) -> Job[Any]:
    shared: dict[str, Any] = {"images": demo / "images", "output": output, "workers": 0}
    if kind == "coco":
        return ImportCocoJob(ImportCocoOptions(annotations=demo / "coco.json", **shared))
    return ImportLabelStudioJob(ImportLabelStudioOptions(export=demo / "label-studio.json", **shared))


@pytest.mark.parametrize("kind", ["coco", "label-studio"])
def test_its_exports_are_the_same_dataset(demo: Path, tmp_path: Path, kind: str) -> None:
    report = run_to_end(import_job(kind, demo, tmp_path / "data"))
    assert report.figures.failed == 0
    original, imported = read_layout(demo), read_layout(tmp_path / "data")
    ids = json.loads((demo / "summary.json").read_text())["task_ids"]
    new_ids = ids if kind == "coco" else list(map(str, range(1, len(ids) + 1)))  # tasks are called by their number
    for one, other in zip(SamSamples(original, ids), SamSamples(imported, new_ids), strict=True):
        assert np.array_equal(one.image_hwc, other.image_hwc)
        assert np.array_equal(one.masks_nhw, other.masks_nhw)
        assert np.allclose(one.boxes_xyxy, other.boxes_xyxy, atol=1e-3)
        new_names = [imported.class_names[class_id] for class_id in other.class_ids]
        assert new_names == [original.class_names[class_id] for class_id in one.class_ids]


def test_a_folder_with_something_in_it_is_refused(demo: Path) -> None:
    with pytest.raises(MvtkError, match="not empty; give a new or an empty folder"):
        write_demo(demo)


def test_it_is_written_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().err == "usage: python -m toolkit.sam.demo OUT\n"
