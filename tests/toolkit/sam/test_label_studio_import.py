"""Imports from Label Studio: the folder that is made, runs that end early, and exports that are odd."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.builders import gradient, write_image, write_oriented
from tests.datasets import tree_hash, written
from tests.label_studio_exports import (
    ANNOTATOR,
    HEIGHT,
    WIDTH,
    Reply,
    annotation,
    brush,
    polygon,
    rectangle,
    result,
    serving,
    task,
    write_export,
)
from toolkit.core.driver import run_to_end
from toolkit.core.errors import InputProblemsError, MvtkError, OptionError, StopRunError
from toolkit.core.options import Shard
from toolkit.core.report import Report
from toolkit.sam.import_writing import ImportFolder
from toolkit.sam.label_studio_import import ImportLabelStudioJob, ImportLabelStudioOptions
from toolkit.sam.layout import read_layout
from toolkit.sam.samples import SamSample, SamSamples

SQUARE = rectangle(25, 20, 50, 40, "cell")
SQUARE_XYXY = [10, 6, 30, 18]
CORNER = polygon([[0, 0], [50, 0], [50, 50], [0, 50]], "debris")
ALPHA_HW = np.zeros((HEIGHT, WIDTH), np.uint8)
ALPHA_HW[5:9, 30:40] = 255


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "c.png"):
        write_image(tmp_path / "images" / name, gradient(HEIGHT, WIDTH))
    return tmp_path / "images"


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return write_export(
        tmp_path / "export.json",
        task(7, "/data/upload/1/0a1b2c3d-a.png", annotation(SQUARE, CORNER)),
        task(8, "/data/local-files/?d=some/b.png", annotation(brush(ALPHA_HW, "cell"))),
        task(9, "s3://bucket/c.png", annotation(was_cancelled=True)),
    )


def options(export: Path, **changes: Any) -> ImportLabelStudioOptions:
    given = {"export": export, "output": export.parent / "out", "images": export.parent / "images", "workers": 0}
    return ImportLabelStudioOptions(**{**given, **changes})


def make(export: Path, **changes: Any) -> Report:
    return run_to_end(ImportLabelStudioJob(options(export, **changes)))


def samples(folder: Path) -> Sequence[SamSample]:
    return SamSamples(read_layout(folder))


def reasons(report: Report) -> list[str]:
    return [f"{failure['source']}: {failure['reason']}" for failure in report.failed]


def test_the_folder_that_is_made(export: Path, images: Path) -> None:
    before = tree_hash(images)
    report = make(export)
    out = export.parent / "out"
    assert (report.figures.done, report.figures.skip_reasons) == (2, {"not annotated": 1})
    assert report.stats["classes"] == ["cell", "debris"]
    visible = [name for name in written(out) if not name.startswith(".mvtk")]
    assert visible == [
        "boxes/7.txt",
        "boxes/8.txt",
        "images/7.png",
        "images/8.png",
        "masks/7_0.png",
        "masks/7_1.png",
        "masks/8_0.png",
        "summary.json",
    ]
    assert json.loads((out / "summary.json").read_bytes()) == {
        "task_ids": ["7", "8"],
        "class_names": ["cell", "debris"],
    }
    assert (
        out / "boxes/7.txt"
    ).read_text() == "0 0.500000 0.400000 0.500000 0.400000\n1 0.250000 0.250000 0.500000 0.500000\n"
    assert (out / "images/7.png").read_bytes() == (images / "a.png").read_bytes()
    first, second = samples(out)
    assert first.boxes_xyxy[0].tolist() == SQUARE_XYXY
    assert np.count_nonzero(first.masks_nhw[0]) == 240
    assert np.array_equal(second.masks_nhw[0], ALPHA_HW > 0)
    assert tree_hash(images) == before


def test_nothing_of_who_made_it_is_carried_over(export: Path, images: Path) -> None:
    report = make(export)
    content = b"".join(path.read_bytes() for path in (export.parent / "out").rglob("*") if path.is_file())
    content += report.as_json().encode()
    for word in (ANNOTATOR["email"], ANNOTATOR["first_name"], ANNOTATOR["last_name"]):
        assert str(word).encode() not in content


def test_what_is_done_is_not_done_again(export: Path, images: Path) -> None:
    make(export)
    before = tree_hash(export.parent / "out")
    report = make(export)
    assert report.figures.done == 0
    assert report.figures.skip_reasons == {"imported already": 2, "not annotated": 1}
    assert tree_hash(export.parent / "out") == before


def test_what_is_missing_or_cut_short_is_made_again(export: Path, images: Path) -> None:
    make(export)
    out = export.parent / "out"
    before = tree_hash(out)
    (out / "masks/7_1.png").write_bytes(b"")
    (out / "boxes/8.txt").unlink()
    assert make(export).figures.done == 2
    assert tree_hash(out) == before


@pytest.mark.parametrize("last", ["mask1", "boxes", "image", "record"])
def test_a_run_that_is_killed_is_gone_on_with(
    export: Path, images: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    make(export, output=export.parent / "undisturbed")
    real = ImportFolder._publish

    def killed(self: ImportFolder, sample_id: str, staged: dict[str, Path], digest: str) -> None:
        names = list(staged)
        kept = {"mask1": 1, "boxes": 2, "image": 3, "record": 4}[last]
        if sample_id == "7":
            real(self, sample_id, {name: staged[name] for name in names[:kept]}, "")
            raise KeyboardInterrupt
        real(self, sample_id, staged, digest)

    with monkeypatch.context() as patched:
        patched.setattr(ImportFolder, "_publish", killed)
        with pytest.raises(KeyboardInterrupt):
            make(export)
    out = export.parent / "out"
    assert not (out / "summary.json").exists()
    assert make(export).figures.done == 2
    assert tree_hash(out) == tree_hash(export.parent / "undisturbed")


def test_a_full_disk_stops_the_run_and_leaves_nothing_half_written(
    export: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "full", str(self))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(StopRunError, match="No space left on device; free some space and run the command again"):
            make(export)
    assert written(export.parent / "out") == []
    assert make(export).figures.done == 2


def test_another_annotation_needs_overwriting(export: Path, images: Path) -> None:
    make(export)
    out = export.parent / "out"
    again = write_export(export, task(7, "a.png", annotation(SQUARE)), task(8, "b.png", annotation(CORNER)))
    report = make(again)
    assert report.figures.failure_kinds == {"exists with other content": 2}
    assert make(again, overwrite=True).figures.done == 2
    assert [len(sample.masks_nhw) for sample in samples(out)] == [1, 1]
    assert not (out / "masks/7_1.png").exists()


def test_samples_of_another_import_are_not_mixed_in(export: Path, images: Path) -> None:
    make(export)
    other = write_export(export, task(8, "b.png", annotation(SQUARE)))
    with pytest.raises(MvtkError, match="holds samples that this import has not: '7' and 0 more"):
        make(other)
    make(other, overwrite=True)
    assert [sample.id for sample in samples(export.parent / "out")] == ["8"]
    assert not list((export.parent / "out").rglob("7*"))


def test_a_folder_that_is_somebody_elses_is_left_alone(export: Path, images: Path) -> None:
    with pytest.raises(MvtkError, match="not empty, and no import of mvtk"):
        make(export, output=images)
    with pytest.raises(MvtkError, match="not a folder"):
        make(export, output=export)


def test_shards_fill_one_folder(export: Path, images: Path) -> None:
    make(export, output=export.parent / "whole")
    for index in range(3):
        report = make(export, shard=Shard(index, 3))
        assert report.stats["remarks"] == [
            "summary.json is not written yet: run the command again, without --shard and --max-files, to write it"
        ]
    assert make(export).figures.done == 0
    assert tree_hash(export.parent / "out") == tree_hash(export.parent / "whole")
    with pytest.raises(OptionError, match="--overwrite with --shard"):
        make(export, shard=Shard(0, 2), overwrite=True)


def test_a_dry_run_writes_nothing(export: Path, images: Path) -> None:
    assert make(export, dry_run=True).figures.done == 2
    assert not (export.parent / "out").exists()


def test_workers_do_the_same(export: Path, images: Path) -> None:
    make(export, output=export.parent / "inline")
    make(export, workers=1)
    assert tree_hash(export.parent / "out") == tree_hash(export.parent / "inline")


def test_every_task_that_fails_says_why_and_the_others_are_done(tmp_path: Path, images: Path) -> None:
    (images / "cut.png").write_bytes((images / "a.png").read_bytes()[:-20])
    write_image(images / "small.png", gradient(10, 10))
    turned = {**SQUARE, "image_rotation": 180}
    wide = task(6, "a.png", annotation(SQUARE, {**CORNER, "to_name": "other"}))
    export = write_export(
        tmp_path / "export.json",
        task(1, "a.png", annotation(SQUARE)),
        task(2, "gone.png", annotation(SQUARE)),
        task(3, "cut.png", annotation(SQUARE)),
        task(4, "small.png", annotation(SQUARE)),
        task(5, "a.png", annotation(turned)),
        wide,
        task(1, "b.png", annotation(SQUARE)),
        task("../9", "a.png", annotation(SQUARE)),
        task(10, "../../etc/passwd", annotation(SQUARE)),
        task(11, "", annotation(SQUARE), data={"text": "x", "more": 3}),
        {"id": 12},
    )
    report = make(export)
    assert report.figures.done == 1
    found = dict(reason.split(": ", 1) for reason in reasons(report))
    expected = {
        "2": "image not found: 'gone.png' is not below",
        "3": f"{images}/cut.png: the file is truncated",
        "4": "was drawn in an image of 30x40, and this one has 10x10",
        "5": "the image was turned by 180 degrees in Label Studio",
        "6": "the regions are drawn in several images: 'image', 'other'; choose one with --to-name",
        "1": "there is another sample '1'; two tasks have it",
        "task ../9": "'../9' cannot be the name of a sample's files",
        "10": "would lead out of the folder of the images",
        "task 11": "its data has no text 'image'; name the one with the image with --image-key; those that are texts:",
        "tasks[10] (id 12)": "Object missing required field `data`",
    }
    assert found.keys() == expected.keys()
    for source, reason in expected.items():
        assert reason in found[source], source
    assert [sample.id for sample in samples(tmp_path / "out")] == ["1"]
    make(export, to_name="image", output=tmp_path / "image")
    assert [(sample.id, len(sample.masks_nhw)) for sample in samples(tmp_path / "image")] == [("1", 1), ("6", 1)]


def test_classes_in_a_given_order_and_others(export: Path, images: Path) -> None:
    make(export, classes=("debris", "cell"))
    first, _ = samples(export.parent / "out")
    assert first.class_ids.tolist() == [1, 0]
    with pytest.raises(InputProblemsError) as caught:
        make(export, classes=("cell",), output=export.parent / "fewer")
    assert caught.value.problems == ("'debris'",)
    report = make(export, classes=("cell",), other_labels="skip", output=export.parent / "fewer")
    assert report.figures.warnings["objects of other classes are left out"] == 1
    assert [len(sample.masks_nhw) for sample in samples(export.parent / "fewer")] == [1, 1]
    with pytest.raises(OptionError, match="names a class twice"):
        make(export, classes=("cell", "cell"))


def test_odd_objects_are_counted(tmp_path: Path, images: Path) -> None:
    point = result("keypoint", {"x": 1, "y": 2}, "nose")
    odd = [
        SQUARE,
        SQUARE,
        rectangle(0, 0, 0, 0, "cell"),
        rectangle(0, 0, 50, 50),
        polygon([[0, 0], [9, 0], [0, 90]], "a", "b"),
        point,
    ]
    export = write_export(
        tmp_path / "export.json", task(1, "a.png", annotation(*odd)), task(2, "b.png", annotation(point))
    )
    report = make(export)
    assert report.figures.warnings == {
        "keypointlabels are left out": 1,
        "rectangles are filled: their masks are no outlines of objects": 1,
        "an object without pixels is left out": 1,
        "regions without a label are of the class 'object'": 1,
        "of several labels of a region the first one counts": 1,
    }
    assert report.figures.skip_reasons == {"no objects": 1}
    [sample] = samples(tmp_path / "out")
    assert [report.stats["classes"][class_id] for class_id in sample.class_ids] == ["cell", "object", "a"]


def test_several_annotations_and_predictions(tmp_path: Path, images: Path) -> None:
    both = task(
        1, "a.png", annotation(SQUARE), annotation(CORNER, id=2), predictions=[annotation(brush(ALPHA_HW, "cell"))]
    )
    export = write_export(tmp_path / "export.json", both, task(2, "b.png", predictions=[annotation(SQUARE)]))
    counts = {}
    for name, choice in {
        "default": {},
        "all": {"annotations": "all"},
        "fallback": {"predictions": "fallback"},
        "only": {"predictions": "only", "shapes": ("brush",)},
    }.items():
        make(export, output=tmp_path / name, **choice)
        counts[name] = {sample.id: len(sample.masks_nhw) for sample in samples(tmp_path / name)}
    assert counts == {"default": {"1": 1}, "all": {"1": 2}, "fallback": {"1": 1, "2": 1}, "only": {"1": 1}}


def test_samples_may_be_called_by_their_images(tmp_path: Path, images: Path) -> None:
    export = write_export(
        tmp_path / "export.json",
        task(1, "x/a.png", annotation(SQUARE)),
        task(2, "y/a.png", annotation(SQUARE)),
        task(3, "x/a.png", annotation(SQUARE)),
    )
    report = make(export, ids="image")
    assert reasons(report) == ["a: there is another sample 'a'; use --ids task"] * 2
    make(export, output=tmp_path / "tasks")
    assert read_layout(tmp_path / "tasks").groups == {"1": "1", "3": "1"}


@pytest.mark.parametrize("orientation", [3, 6])
def test_an_image_that_exif_data_turn_is_saved_as_it_was_seen(tmp_path: Path, images: Path, orientation: int) -> None:
    stored = gradient(WIDTH, HEIGHT) if orientation == 6 else gradient(HEIGHT, WIDTH)
    write_oriented(images / "a.png", stored, orientation)
    export = write_export(tmp_path / "export.json", task(1, "a.png", annotation(SQUARE)))
    report = make(export)
    [sample] = samples(tmp_path / "out")
    assert np.array_equal(sample.image_hwc, np.rot90(stored, {3: 2, 6: -1}[orientation]))
    assert report.figures.warnings["saved as PNG, as EXIF data turn it"] == 1
    refused = make(export, exif="ignore", output=tmp_path / "stored")
    if orientation == 6:
        assert "one that EXIF data turn" in refused.failed[0]["reason"]
    else:
        assert np.array_equal(samples(tmp_path / "stored")[0].image_hwc, stored)


def test_images_are_downloaded_where_they_are_not_below_the_folder(
    export: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    content = (images / "a.png").read_bytes()
    (images / "a.png").unlink()
    with serving({"/data/upload/1/0a1b2c3d-a.png": Reply(content)}) as server:
        report = make(export, url=server.url, token="secret-token")
        assert server.asked == [("/data/upload/1/0a1b2c3d-a.png", "Token secret-token")]
    assert report.figures.done == 2
    assert "secret-token" not in report.as_json()
    assert (export.parent / "out/images/7.png").read_bytes() == content
    with serving() as server:
        failed = make(export, images=None, url=server.url, output=export.parent / "none")
    assert "the server answered 404" in failed.failed[0]["reason"]


def test_a_server_that_refuses_the_token_stops_the_run(
    export: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with (
        serving({"/data/upload/1/0a1b2c3d-a.png": Reply(status=401)}) as server,
        pytest.raises(StopRunError, match="401 Unauthorized; check --token"),
    ):
        make(export, images=None, url=server.url, token="wrong")


def test_options_that_contradict_each_other(export: Path, images: Path) -> None:
    with pytest.raises(OptionError, match="neither a folder with images nor a server"):
        make(export, images=None)
    with pytest.raises(OptionError, match="--token without --url"):
        make(export, token="secret")
    with pytest.raises(MvtkError, match="no such folder"):
        make(export, images=export.parent / "gone")
    with pytest.raises(MvtkError, match="it has no tasks"):
        make(write_export(export))


def test_real_exports(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "label_studio"
    for name in ("image1.png", "image2.png"):
        write_image(tmp_path / "images" / name, np.zeros((2800, 2800, 3), np.uint8))
    write_image(tmp_path / "images/000000000025.jpg", gradient(426, 640))
    make(folder / "test_export_yolo/data.json", images=tmp_path / "images", output=tmp_path / "boxes")
    first, second = samples(tmp_path / "boxes")
    # The later annotation of task 1: x 37.887 %, y 71.767 %, 3.825 % by 4.554 % of 2800 pixels.
    assert first.boxes_xyxy[0] == pytest.approx([1060.8, 2009.5, 1167.9, 2137.0], abs=1)
    assert (len(first.masks_nhw), len(second.masks_nhw)) == (2, 2)
    make(folder / "test_export_yolo/data_polygons.json", images=tmp_path / "images", output=tmp_path / "polygons")
    assert read_layout(tmp_path / "polygons").class_names == ("Airplane",)
    predictions = json.loads((folder / "brush/test_brush_labels.json").read_bytes())
    export = write_export(tmp_path / "brush.json", task(5, "/data/upload/1/0a1b2c3d-car.jpg", predictions=predictions))
    make(export, images=folder, output=tmp_path / "brush", predictions="only")
    [car] = samples(tmp_path / "brush")
    assert car.masks_nhw.sum(axis=(1, 2)).tolist() == [12104, 5716, 11709]
