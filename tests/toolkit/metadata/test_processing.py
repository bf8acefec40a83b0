"""The whole processing: the same files for any number of workers, batches and shards, one split for all kinds."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.datasets import tree_hash
from tests.raw_annotations import RawTree, mixed_tree, numbered_boxes
from tests.raw_annotations import read_samples as samples
from toolkit.core.driver import JobRun, run_to_end
from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.core.options import Shard
from toolkit.core.report import Report
from toolkit.core.signals import StopRequest
from toolkit.metadata.columns import KINDS, Kind
from toolkit.metadata.merge import merge_metadata
from toolkit.metadata.processing import ProcessJob, ProcessOptions
from toolkit.metadata.reading import FileIdentity, open_metadata
from toolkit.metadata.source_images import NO_FILE
from toolkit.metadata.verification import check_metadata

BOX = [1, 2, 3, 4]


@pytest.fixture
def tree(tmp_path: Path) -> RawTree:
    return RawTree(tmp_path)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> RawTree:
    """Every format; only read."""
    return mixed_tree(tmp_path_factory.mktemp("mixed"))


@pytest.fixture(scope="module")
def expected(mixed: RawTree) -> dict[str, bytes]:
    """The files of the mixed tree, as one process makes them in one batch."""
    process(mixed)
    return mixed.files()


def process(tree: RawTree, output: Path | None = None, **changes: Any) -> Report:
    options = ProcessOptions(
        raw_data_dir=tree.raw, output_dir=output or tree.output, **{"workers": 0, "seed": 42, **changes}
    )
    return run_to_end(ProcessJob(options))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def at_same_depth(tree: RawTree, name: str) -> Path:
    """An output folder from which the raw data has the same relative path."""
    return tree.root / name


def test_every_format_gives_its_samples(mixed: RawTree, expected: dict[str, bytes]) -> None:
    assert list(expected) == [f"{split}_{kind}.npy" for split in ("train", "val") for kind in KINDS]
    assert not list(mixed.output.glob(".*"))
    for name in expected:
        assert check_metadata(open_metadata(mixed.output / name), images=True) == []
    boxes = [tuple(box) for _, rows, _ in mixed.all_samples("detector") for box in rows]
    raw = [box for count in (36, 12) for own in numbered_boxes(count).values() for box in own]
    assert sorted(boxes) == sorted([*map(tuple, raw), *[(24, 12, 16, 24)] * 6])
    assert len(mixed.all_samples("landmarker")) == 12
    assert len(mixed.all_samples("teacher")) == len(boxes) + 12
    assert {name for _, _, names in mixed.all_samples("detector") for name in names} == {
        *("ear", "nose", "deer", "car", "bike"),
    }
    crops = {path: rows[0] for path, rows, _ in mixed.all_samples("teacher") if "collectionA" in path}
    assert crops["landmarker/collectionA/face-0.png"] == pytest.approx([8.55, 7, 23.4, 36])


@pytest.mark.parametrize(
    "changes",
    [
        {"workers": 1},
        {"workers": 2},
        {"workers": 2, "batch_size": 1},
        {"batch_size": 5, "flush_every": 3},
        {"batch_size": 7},
    ],
)
def test_workers_and_batches_do_not_change_a_byte(
    mixed: RawTree, expected: dict[str, bytes], changes: dict[str, int]
) -> None:
    output = at_same_depth(mixed, "-".join(f"{key}{value}" for key, value in changes.items()))
    process(mixed, output, **changes)
    assert files(output) == expected


def test_shards_merged_have_the_samples_of_the_whole(
    mixed: RawTree, expected: dict[str, bytes], tmp_path: Path
) -> None:
    output = at_same_depth(mixed, "shards")
    for index in range(3):
        process(mixed, output, shard=Shard(index, 3))
    parts = sorted(path for path in output.iterdir())
    assert all(re.fullmatch(r"(train|val)_\w+\.shard-[012]-of-3\.npy", path.name) for path in parts)
    for name in expected:
        own = [path for path in parts if path.name.startswith(name.removesuffix(".npy"))]
        merged = output / name
        merge_metadata(own, merged)
        one, two = open_metadata(merged), open_metadata(mixed.output / name)
        assert one.root.resolve() == two.root.resolve()
        assert sorted(one.info.sources, key=str) == sorted(two.info.sources, key=str)
        assert sorted(samples(merged)) == sorted(samples(mixed.output / name))


def test_the_kinds_share_one_split(mixed: RawTree, expected: dict[str, bytes]) -> None:
    sides = {
        split: {path for kind in KINDS for path, _, _ in mixed.samples(f"{split}_{kind}")} for split in ("train", "val")
    }
    assert not sides["train"] & sides["val"]
    for path in {os.path.dirname(path) for path in sides["train"]}:  # noqa: PTH120 - the paths are text
        source = re.sub(r"/(train|valid|test)$", "", path)
        assert any(other.startswith(source) for other in sides["val"]), source


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_alone_is_the_same_file(mixed: RawTree, expected: dict[str, bytes], kind: Kind) -> None:
    output = at_same_depth(mixed, f"only_{kind}")
    process(mixed, output, kinds=(kind,))
    made = files(output)
    assert list(made) == [f"train_{kind}.npy", f"val_{kind}.npy"]
    assert made.items() <= expected.items()


@pytest.mark.parametrize(("train_split", "empty"), [(0.0, "train"), (1.0, "val")])
def test_a_split_of_0_or_1_leaves_a_side_empty(tree: RawTree, train_split: float, empty: str) -> None:
    tree.add_csv("detector/x", numbered_boxes(9))
    report = process(tree, train_split=train_split, kinds=("detector",))
    assert report.stats["train_part"] == {"detector": train_split}
    assert tree.samples(f"{empty}_detector") == []
    assert len(tree.all_samples("detector")) == 9


@settings(max_examples=15, deadline=None)
@given(st.integers(4, 40), st.integers(1, 30), st.integers(0, 3))
def test_added_images_move_no_other_one(
    tmp_path_factory: pytest.TempPathFactory, count: int, added: int, seed: int
) -> None:
    tree = RawTree(tmp_path_factory.mktemp("grows"))
    tree.add_csv("detector/x", numbered_boxes(count))
    process(tree, kinds=("detector",), seed=seed, train_split=0.5)
    before = {path for path, _, _ in tree.samples("train_detector")}
    tree.add_csv("detector/x", numbered_boxes(count + added))
    tree.add_csv("detector/y", numbered_boxes(added))
    process(tree, kinds=("detector",), seed=seed, train_split=0.5, overwrite=True)
    after = {path for path, _, _ in tree.samples("train_detector")}
    old = {path for path, _, _ in tree.all_samples("detector") if path in before or _number(path) < count}
    moved = {path for path in old if path.startswith("detector/x") and (path in before) != (path in after)}
    assert len(moved) <= 1  # only where all were on one side, which a few images may be


def _number(path: str) -> int:
    return int(re.sub(r"\D", "", path))


def test_the_ratio_is_about_the_one_asked_for(tree: RawTree) -> None:
    tree.add_csv("detector/x", {f"{n}.jpg": [BOX] for n in range(2000)})
    report = process(tree)
    assert report.stats["train_part"] == {
        "detector": pytest.approx(0.8, abs=0.03),
        "teacher": pytest.approx(0.8, abs=0.03),
    }


def test_keep_splits_makes_test_files_too(mixed: RawTree) -> None:
    output = at_same_depth(mixed, "kept")
    report = process(mixed, output, keep_splits=True)
    assert {path.name for path in output.iterdir()} == {
        *(f"{split}_{kind}.npy" for split in ("train", "val") for kind in KINDS),
        *("test_detector.npy", "test_teacher.npy"),
    }
    coco = [path for path, _, _ in samples(output / "test_detector.npy")]
    assert coco == [f"detector/ears_coco/test/image-{number:04}.jpg" for number in range(24, 36)]
    train = [path for path, _, _ in samples(output / "train_detector.npy") if "ears_coco" in path]
    assert train == [f"detector/ears_coco/train/image-{number:04}.jpg" for number in range(12)]
    assert report.stats["files"]["test_detector.npy"]["samples"] == 12


def test_the_report_says_what_was_made_and_what_was_left_out(tree: RawTree) -> None:
    tree.add_coco("detector/x", numbered_boxes(8) | {"gone.jpg": [BOX], "odd.jpg": [[1, 1, 0, 1]]})
    (tree.raw / "detector/x/gone.jpg").unlink()
    stats = process(tree).stats
    files = stats["files"]
    assert list(files) == ["train_detector.npy", "val_detector.npy", "train_teacher.npy", "val_teacher.npy"]
    assert {entry["state"] for entry in files.values()} == {"written"}
    assert sum(files[f"{split}_detector.npy"]["samples"] for split in ("train", "val")) == 9
    assert sum(files[f"{split}_detector.npy"]["rows"] for split in ("train", "val")) == 12
    assert files["train_detector.npy"]["bytes"] == (tree.output / "train_detector.npy").stat().st_size
    assert stats["findings"] == {NO_FILE: 1, "box of no area": 1}
    assert stats["findings_listed"] == [
        {"source": "detector/x", "kind": NO_FILE, "where": "detector/x/gone.jpg"},
        {"source": "detector/x", "kind": "box of no area", "where": "detector/x/odd.jpg: [1, 1, 0, 1]"},
    ]
    assert stats["findings_omitted"] == 0
    assert stats["complete"] is True
    assert "landmarker: no samples, so no files" in stats["remarks"]
    assert f"{NO_FILE}: 1, such as detector/x/gone.jpg" in stats["remarks"]
    json.dumps(stats)


def test_what_was_made_before_is_unchanged(tree: RawTree) -> None:
    tree.add_csv("detector/x", numbered_boxes(8))
    process(tree)
    before = {path: identity(path) for path in tree.output.iterdir()}
    for overwrite in (False, True):
        stats = process(tree, overwrite=overwrite).stats
        assert {entry["state"] for entry in stats["files"].values()} == {"unchanged"}
        assert "4 of 4 files were up to date and are unchanged" in stats["remarks"]
        assert {path: identity(path) for path in tree.output.iterdir()} == before


def identity(path: Path) -> FileIdentity:
    return FileIdentity.of(path.stat())


def test_other_samples_replace_nothing_unasked(tree: RawTree) -> None:
    tree.add_csv("detector/x", numbered_boxes(8))
    process(tree)
    before = tree.files()
    tree.add_csv("detector/x", numbered_boxes(9))
    with pytest.raises(InputProblemsError) as caught:
        process(tree)
    assert "val_detector.npy" in caught.value.problems[0]
    assert str(caught.value).startswith(f"nothing was written: {tree.output}/")
    assert str(caught.value).endswith("exists with other content; use --overwrite to replace them")
    assert tree.files() == before
    process(tree, overwrite=True)
    assert len(tree.all_samples("detector")) == 9
    assert not list(tree.output.glob(".*"))


def test_a_dataset_that_fails_is_left_out_and_replaces_nothing(tree: RawTree) -> None:
    tree.add_csv("detector/good", numbered_boxes(8))
    broken = tree.write("detector/bad/_annotations.csv", "a,b\n1,2\n")
    report = process(tree)
    assert [failed["source"] for failed in report.failed] == ["detector/bad"]
    assert len(tree.all_samples("detector")) == 8
    assert "the files are partial: 1 of 2 datasets are in them" in report.stats["remarks"]
    before = tree.files()
    tree.add_csv("detector/good", numbered_boxes(9))
    with pytest.raises(InputProblemsError, match="not all datasets are done, and only a complete run replaces files"):
        process(tree, overwrite=True)
    assert tree.files() == before
    broken.unlink()
    process(tree, overwrite=True)
    assert len(tree.all_samples("detector")) == 9


def test_where_every_dataset_fails_nothing_is_made(tree: RawTree) -> None:
    tree.write("detector/bad/_annotations.csv", "a,b\n1,2\n")
    report = process(tree)
    assert report.figures.failed == 1
    assert tree.files() == {}


def test_annotations_in_two_formats_would_count_twice(tree: RawTree) -> None:
    tree.add_csv("detector/x/train", numbered_boxes(3))
    tree.add_coco("detector/x/train", numbered_boxes(3))
    report = process(tree)
    assert list(report.failed) == [
        {
            "source": "detector/x",
            "reason": "annotations in coco and csv, whose boxes would count twice; keep one format",
        }
    ]


def test_without_any_sample_the_reasons_are_said(tree: RawTree) -> None:
    tree.add_coco("detector/x", {"gone.jpg": [BOX]})
    (tree.raw / "detector/x/gone.jpg").unlink()
    with pytest.raises(MvtkError) as caught:
        process(tree)
    assert str(caught.value) == f"{tree.raw}: no samples ({NO_FILE}: 1); check the raw data"
    tree.write("detector/x/_annotations.coco.json", '{"images": [], "annotations": []}')
    with pytest.raises(MvtkError, match=r"no samples \(no images\); check the raw data"):
        process(tree)


def test_a_dry_run_and_a_stopped_run_make_nothing(mixed: RawTree, tmp_path: Path) -> None:
    report = process(mixed, tmp_path / "dry", dry_run=True)
    assert report.figures.done == 5
    assert not (tmp_path / "dry").exists()
    stop = StopRequest()
    run = JobRun(ProcessJob(ProcessOptions(raw_data_dir=mixed.raw, output_dir=tmp_path / "stopped", workers=0)), stop)
    for _ in run.outcomes():
        stop.signum = signal.SIGINT
    assert 0 < run.report.figures.done < 5
    assert run.report.interrupted
    assert files(tmp_path / "stopped") == {}
    assert run.report.stats["files"] == {}


def test_max_files_is_the_number_of_datasets(mixed: RawTree, tmp_path: Path) -> None:
    report = process(mixed, tmp_path / "out", max_files=2)
    assert report.figures.total == 2
    assert report.stats["complete"] is False
    sources = {path.rpartition("/")[0] for path, _, _ in samples(tmp_path / "out/train_detector.npy")}
    assert {source.split("/")[1] for source in sources} == {"deer", "ears_coco"}


def test_a_shard_without_datasets_makes_nothing(tree: RawTree) -> None:
    tree.add_csv("detector/x", numbered_boxes(3))
    reports = [process(tree, shard=Shard(index, 2)) for index in range(2)]
    assert sorted(report.figures.total for report in reports) == [0, 1]
    assert len(tree.all_samples("detector")) == 3


def test_leftovers_of_a_killed_run_are_removed_and_no_other_files(tree: RawTree) -> None:
    tree.add_csv("detector/x", numbered_boxes(3))
    for name in (".mvtk-parts/old.part", ".mvtk-parts-0-of-2/other.part", "mine.txt"):
        (tree.output / name).parent.mkdir(parents=True, exist_ok=True)
        (tree.output / name).write_text("x")
    process(tree)
    assert sorted(path.name for path in tree.output.glob("*")) == [
        ".mvtk-parts-0-of-2",
        "mine.txt",
        *(f"{split}_{kind}.npy" for split in ("train", "val") for kind in ("detector", "teacher")),
    ]


def test_the_raw_data_is_not_touched_and_may_be_read_only(tree: RawTree) -> None:
    tree.add_csv("detector/x", numbered_boxes(3))
    before = tree_hash(tree.raw)
    process(tree)
    assert tree_hash(tree.raw) == before


def test_the_output_may_be_in_the_raw_data_and_links_may_lead_there(tree: RawTree) -> None:
    tree.add_csv("detector/x", numbered_boxes(3))
    (tree.root / "elsewhere/deep").mkdir(parents=True)
    (tree.root / "link").symlink_to(tree.root / "elsewhere/deep")
    for output in (tree.raw / "detector/made", tree.root / "link/out"):
        process(tree, output)
        file = open_metadata(output / "train_detector.npy")
        assert file.root.resolve() == tree.raw.resolve()
        assert check_metadata(file, images=True) == []


@pytest.mark.parametrize(
    "changes",
    [{"train_split": 1.5}, {"batch_size": 0}, {"flush_every": 0}, {"kinds": ()}, {"group_by": "("}, {"boxes": "keep"}],
)
def test_options_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ProcessOptions(**changes)


@pytest.mark.parametrize("seed", range(12))
def test_a_group_that_two_datasets_have_is_on_one_side(tree: RawTree, seed: int) -> None:
    """Small datasets whose groups are all on one side give one up, but not one that another dataset has."""
    tree.add_coco("detector/x", {f"{number}.jpg": [(1, 2, 3, 4)] for number in range(6)})
    tree.add_pts("landmarker/a", {f"{number}": [(1, 2), (5, 6)] for number in (0, 1)})
    tree.add_pts("landmarker/b", {f"{number}": [(1, 2), (5, 6)] for number in (1, 7)})
    process(tree, seed=seed, workers=0)
    names = {
        split: {
            Path(path).stem
            for kind in ("detector", "landmarker", "teacher")
            for path, _, _ in samples(tree.output / f"{split}_{kind}.npy")
        }
        for split in ("train", "val")
    }
    assert not names["train"] & names["val"]
    assert names["train"] | names["val"] == {*"0123457"}


def test_wrong_label_rows_and_images_without_labels_are_findings(tree: RawTree) -> None:
    tree.add_yolo("detector/y", {"a": "0 .5 .5 .25\n0 .5 .5 .2 .2\n7 .5 .5 .1 .1", "b": "0 .5 .5 .1 .1"}, ["ear"])
    (tree.raw / "detector/y/labels/b.txt").unlink()
    report = process(tree)
    assert report.stats["findings"] == {
        "label row with a problem": 1,
        "unknown category": 1,
        "image without a label file, taken as background": 1,
    }
    assert sorted(len(boxes) for _, boxes, _ in tree.all_samples("detector")) == [0, 2]
