"""The dataset that is made: its files, its splits, its names; gone on with, and never at the cost of anyone's files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.datasets import tree_hash, written
from tests.sam_datasets import make_dataset
from tests.yolo_sources import BOX, POLYGON, add, images_in, many, options, prepare
from toolkit.annotations.marked_data_yaml import KEPT
from toolkit.core.errors import MvtkError, OptionError
from toolkit.yolo.preparation import output as output_module
from toolkit.yolo.preparation.job import PrepareJob
from toolkit.yolo.preparation.step import COPIED

STATE = ".mvtk-yolo-prepare.json"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """No run waits for whatever else the machine writes to its disks."""
    monkeypatch.setattr(os, "sync", lambda: None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return many(tmp_path / "in")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def data_yaml(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((out / "data.yaml").read_text(encoding="utf-8"))
    return content


def remarks(report: Any) -> str:
    return "\n".join(report.stats["remarks"])


def test_the_documented_files(root: Path, out: Path) -> None:
    before = tree_hash(root)
    report = prepare(root, val=0.25)
    assert tree_hash(root) == before
    splits = images_in(out)
    assert splits.keys() == {f"frame_{number:03}.jpg" for number in range(20)}
    assert set(splits.values()) == {"train", "val"}
    expected = [f"images/{split}/{name}" for name, split in splits.items()]
    expected += [f"labels/{split}/{Path(name).stem}.txt" for name, split in splits.items()]
    assert written(out) == sorted([*expected, "data.yaml", STATE])
    for name, split in splits.items():
        assert (out / "images" / split / name).samefile(root / "images" / name)
        label, copy = root / f"labels/{Path(name).stem}.txt", out / f"labels/{split}/{Path(name).stem}.txt"
        assert copy.read_bytes() == label.read_bytes()
        assert not copy.samefile(label)
    assert data_yaml(out) == {
        "train": "images/train",
        "val": "images/val",
        "channels": 3,
        "nc": 2,
        "names": {0: "cat", 1: "dog"},
    }
    assert report.figures.done == 20
    val = list(splits.values()).count("val")
    assert report.stats == {
        "complete": True,
        "splits": {
            split: {
                "images": count,
                "groups": count,
                "backgrounds": 0,
                "without_label_file": 0,
                "objects": count,
                "objects_by_class": {"0 cat": count},
            }
            for split, count in (("train", 20 - val), ("val", val))
        },
        "groups": 20,
        "channels": 3,
        "labels_without_image": 0,
        "remarks": [f"train: {20 - val} images, {20 - val} objects", f"val: {val} images, {val} objects"],
    }


@pytest.mark.parametrize(
    ("images", "targets"),
    [
        (["images/a.jpg", "images/b.PNG"], ["a.jpg", "b.PNG"]),
        (["images/train/a.jpg", "images/val2017/b.jpg"], ["a.jpg", "b.jpg"]),
        (["train/images/a.jpg", "valid/images/b.jpg", "test/images/c.jpg"], ["a.jpg", "b.jpg", "c.jpg"]),
        (["images/p1/a.jpg", "images/p2/deep/a.jpg"], ["p1/a.jpg", "p2/deep/a.jpg"]),
        (["images/train/p1/a.jpg", "images/a.b.jpg", "Test/images/é ü\n.webp"], ["a.b.jpg", "p1/a.jpg", "é ü\n.webp"]),
    ],
)
def test_every_layout_is_pooled(tmp_path: Path, out: Path, images: list[str], targets: list[str]) -> None:
    for image in images:
        add(tmp_path / "in", image)
    prepare(tmp_path / "in")
    splits = images_in(out)
    assert sorted(splits) == sorted(targets)
    for name, split in splits.items():
        assert (out / "labels" / split / f"{name.rpartition('.')[0]}.txt").read_text() == BOX


def test_sam_data_give_boxes_names_and_groups(tmp_path: Path, out: Path) -> None:
    ids = {f"image_{number}": 2 for number in range(12)}
    groups = {sample: f"patient {number // 3}" for number, sample in enumerate(ids)}
    root = make_dataset(tmp_path / "in", ids, groups=groups)
    report = prepare(root, val=0.5)
    splits = images_in(out)
    for patient in set(groups.values()):
        assert len({splits[f"{sample}.png"] for sample in ids if groups[sample] == patient}) == 1
    assert data_yaml(out)["names"] == {0: "disc", 1: "rectangle"}
    assert (report.stats["groups"], len(splits)) == (4, 12)
    split = splits["image_0.png"]
    assert (out / f"labels/{split}/image_0.txt").read_bytes() == (root / "boxes/image_0.txt").read_bytes()
    assert report.stats["splits"][split]["objects_by_class"].keys() == {"0 disc", "1 rectangle"}


def test_images_added_later_leave_the_others_where_they_are(root: Path, out: Path) -> None:
    prepare(root, val=0.3, test=0.2)
    before = images_in(out)
    assert set(before.values()) == {"train", "val", "test"}
    for number in range(30):
        add(root, f"images/later_{number}.jpg")
    report = prepare(root, val=0.3, test=0.2)
    assert (report.figures.done, report.figures.skip_reasons) == (30, {"exists already": 20})
    assert images_in(out).items() >= before.items()


def test_the_same_input_gives_the_same_tree_and_another_seed_another(root: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        prepare(root, output=tmp_path / name)
    prepare(root, output=tmp_path / "three", seed=1)
    assert tree_hash(tmp_path / "one") == tree_hash(tmp_path / "two")
    assert images_in(tmp_path / "one") != images_in(tmp_path / "three")


def test_the_split_of_this_version_is_that_of_every_version(root: Path, out: Path) -> None:
    prepare(root)
    assert [name for name, split in images_in(out).items() if split == "val"] == VAL_OF_20


VAL_OF_20 = ["frame_010.jpg", "frame_014.jpg", "frame_019.jpg"]


def test_copies_of_roboflow_stay_together(tmp_path: Path, out: Path) -> None:
    for number in range(8):
        for copy in range(3):
            add(tmp_path / "in", f"train/images/{number}_png.rf.{copy}ab.jpg")
    report = prepare(tmp_path / "in", val=0.5)
    splits = images_in(out)
    assert set(splits.values()) == {"train", "val"}
    for number in range(8):
        assert len({split for name, split in splits.items() if name.startswith(f"{number}_")}) == 1
    assert report.stats["groups"] == 8
    train = report.stats["splits"]["train"]
    assert f"train: {train['images']} images, {train['groups']} groups, {train['images']} objects" in remarks(report)


def test_group_by_looks_at_the_whole_path(tmp_path: Path, out: Path) -> None:
    for patient in range(6):
        for number in range(4):
            add(tmp_path / "in", f"images/p{patient}/eye_{number}.jpg")
    add(tmp_path / "in", "images/alone.jpg")
    report = prepare(tmp_path / "in", val=0.5, group_by=r"/p(\d)/")
    splits = images_in(out)
    for patient in range(6):
        assert len({split for name, split in splits.items() if name.startswith(f"p{patient}/")}) == 1
    assert report.stats["groups"] == 7
    assert "--group-by does not match 1 image, which are grouped as without it, such as images/alone.jpg" in remarks(
        report
    )


def test_kept_splits_stay_and_groups_follow_them(tmp_path: Path, out: Path) -> None:
    root = tmp_path / "in"
    for number in range(5):
        add(root, f"train/images/a{number}.jpg")
        add(root, f"valid/images/b{number}_png.rf.x1.jpg")
        add(root, f"test/images/c{number}.jpg")
        add(root, f"images/b{number}_png.rf.x2.jpg")
    report = prepare(root, keep_splits=True)
    expected = {"a": "train", "b": "val", "c": "test"}
    assert all(split == expected[name[0]] for name, split in images_in(out).items())
    assert data_yaml(out)["test"] == "images/test"
    assert report.stats["splits"]["val"]["groups"] == 5
    assert len(report.stats["remarks"]) == 4  # the three splits, and no class names


def test_kept_splits_that_divide_a_group_are_said(tmp_path: Path) -> None:
    root = tmp_path / "in"
    add(root, "train/images/a_png.rf.1.jpg")
    add(root, "valid/images/a_png.rf.2.jpg")
    report = prepare(root, keep_splits=True)
    assert "1 group in several splits, such as that of train/images/a_png.rf.1.jpg; leave out" in remarks(report)


def test_kept_splits_without_a_validation_are_said(tmp_path: Path, out: Path) -> None:
    add(tmp_path / "in", "images/train2017/a.jpg")
    report = prepare(tmp_path / "in", keep_splits=True)
    assert "nothing for val: Ultralytics cannot train so" in remarks(report)
    assert data_yaml(out)["val"] is None
    add(tmp_path / "flat", "images/a.jpg")
    report = prepare(tmp_path / "flat", output=tmp_path / "out2", keep_splits=True)
    assert "there are no split folders to keep: all images were shared out" in remarks(report)


@pytest.mark.parametrize("link", ["symlink", "copy"])
def test_other_ways_than_hard_links(root: Path, out: Path, link: str) -> None:
    report = prepare(root, link=link)
    for name, split in images_in(out).items():
        place = out / "images" / split / name
        assert place.is_symlink() == (link == "symlink")
        assert place.samefile(root / "images" / name) == (link == "symlink")
        assert place.read_bytes() == (root / "images" / name).read_bytes()
    assert report.figures.warnings == {}
    assert prepare(root, link=link).figures.skipped == 20


def test_where_hard_links_fail_images_are_copied_and_counted(
    root: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = os.link

    def across_disks(source: Any, target: Any, **more: Any) -> None:
        if Path(source).is_relative_to(root):
            raise OSError(18, os.strerror(18), source, None, target)
        own(source, target, **more)

    monkeypatch.setattr(os, "link", across_disks)
    report = prepare(root)
    assert report.figures.warnings == {COPIED: 20}
    assert not (out / "images/train/frame_000.jpg").samefile(root / "images/frame_000.jpg")
    assert prepare(root).figures.skipped == 20


def test_backgrounds_orphans_and_other_files_are_counted(root: Path, out: Path) -> None:
    add(root, "images/empty.jpg", "\n")
    add(root, "images/bare.jpg", None)
    add(root, "images/film.gif", "0 0.5 0.5 0.1 0.1\n")
    (root / "labels/classes.txt").write_text("cat\ndog\n")
    report = prepare(root)
    assert sum(split["backgrounds"] for split in report.stats["splits"].values()) == 2
    assert sum(split["without_label_file"] for split in report.stats["splits"].values()) == 1
    assert report.figures.skip_reasons == {"label file without an image": 1}
    assert report.stats["labels_without_image"] == 1
    assert report.stats["remarks"][2:] == [
        "1 image without a label file: background, such as images/bare.jpg",
        "1 label file without an image: left out, such as labels/film.txt",
        "1 file that Ultralytics does not read: left out, such as images/film.gif",
    ]
    assert "bare.jpg" in images_in(out)
    assert not list(out.rglob("bare.txt"))


def test_polygons_and_odd_rows_are_carried_as_they_are(root: Path, out: Path) -> None:
    odd = "0 0.9 0.5 0.4 0.2\r\n0 0.9 0.5 0.4 0.2\n0 0.5 0.5 0 0.1\n\n1 0.5 0.5 .1 .1\n1 0.5 0.5 0.1 0.1"
    add(root, "images/polygon.jpg", POLYGON)
    add(root, "images/odd.jpg", odd)
    report = prepare(root)
    splits = images_in(out)
    assert (out / f"labels/{splits['polygon.jpg']}/polygon.txt").read_text() == POLYGON
    assert (out / f"labels/{splits['odd.jpg']}/odd.txt").read_bytes() == (root / "labels/odd.txt").read_bytes()
    counts: dict[str, int] = {}
    for split in report.stats["splits"].values():
        for name, count in split["objects_by_class"].items():
            counts[name] = counts.get(name, 0) + count
    assert counts == {"0 cat": 23, "1 dog": 2}
    assert "boxes in 21 label files, polygons in 1: good for boxes only" in remarks(report)
    assert "label rows that Ultralytics drops: 1, such as labels/odd.txt:6: repeats line 5" in remarks(report)
    said = "label rows that are odd, and that Ultralytics takes: 3, such as labels/odd.txt:1: the box spans"
    assert said in remarks(report)


def test_a_run_again_does_nothing_and_writes_nothing(root: Path, out: Path) -> None:
    prepare(root)
    inodes = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.rglob("*") if path.is_file()}
    report = prepare(root)
    assert report.figures.skip_reasons == {"exists already": 20}
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in inodes} == inodes


def test_the_data_yaml_comes_last(root: Path, out: Path, tmp_path: Path) -> None:
    report = prepare(root, max_files=7)
    assert len(images_in(out)) == 7
    assert not (out / "data.yaml").exists()
    assert "data.yaml is not written yet: run the command again" in remarks(report)
    prepare(root)
    prepare(root, output=tmp_path / "whole")
    assert tree_hash(out) == tree_hash(tmp_path / "whole")


def test_a_data_yaml_never_says_that_a_dataset_is_whole_that_is_not(root: Path, out: Path) -> None:
    prepare(root, max_files=7)
    label = next((out / "labels").rglob("*.txt"))
    label.write_text("edited")
    assert prepare(root).figures.failed == 1
    assert len(images_in(out)) == 20
    assert not (out / "data.yaml").exists()
    prepare(root, overwrite=True)
    assert (out / "data.yaml").exists()
    prepare(root, overwrite=True, seed=1, max_files=7)
    assert not (out / "data.yaml").exists()


def test_a_run_that_ended_before_it_removed_anything_is_gone_on_with(
    root: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(root)

    def ended(*_: Any) -> None:
        raise MvtkError("ended")

    with monkeypatch.context() as patch:
        patch.setattr(output_module, "_remove", ended)
        with pytest.raises(MvtkError, match="ended"):
            prepare(root, seed=1, overwrite=True)
    with pytest.raises(MvtkError, match="files that it would not have now"):
        prepare(root, seed=1)
    prepare(root, seed=1, overwrite=True)
    prepare(root, seed=1, output=tmp_path / "new")
    assert tree_hash(out) == tree_hash(tmp_path / "new")


def test_a_dry_run_writes_nothing(root: Path, out: Path) -> None:
    report = prepare(root, dry_run=True)
    assert report.figures.done == 20
    assert report.stats["remarks"][0].startswith("train: ")
    assert "data.yaml" not in remarks(report)
    assert not out.exists()


def test_an_edited_data_yaml_is_kept_until_it_is_to_be_replaced(root: Path, out: Path) -> None:
    prepare(root)
    (root / "data.yaml").write_text("names: [tiger, wolf]\n")
    prepare(root)
    assert data_yaml(out)["names"] == {0: "tiger", 1: "wolf"}
    edited = (out / "data.yaml").read_text() + "# mine\n"
    (out / "data.yaml").write_text(edited)
    (root / "data.yaml").write_text("names: [lion, fox]\n")
    assert KEPT in remarks(prepare(root))
    assert (out / "data.yaml").read_text() == edited
    assert KEPT not in remarks(prepare(root, overwrite=True))
    assert data_yaml(out)["names"] == {0: "lion", 1: "fox"}


def test_a_label_that_changed_fails_until_it_is_to_be_replaced(root: Path, out: Path) -> None:
    prepare(root)
    label = root / "labels/frame_004.txt"
    label.write_text(BOX * 1 + "1 0.5 0.5 0.1 0.1\n")
    report = prepare(root)
    split = images_in(out)["frame_004.jpg"]
    place = out / f"labels/{split}/frame_004.txt"
    assert report.failed == [
        {
            "source": "images/frame_004.jpg",
            "reason": f"{place} exists with other content; use --overwrite to replace it",
        }
    ]
    assert place.read_text() == BOX
    assert prepare(root, overwrite=True).figures.done == 20
    assert place.read_text() == label.read_text()


def test_a_touched_copy_is_compared_and_left(root: Path, out: Path) -> None:
    prepare(root, link="copy")
    for path in (root / "images").iterdir():
        os.utime(path)
    assert prepare(root, link="copy").figures.skip_reasons == {"exists already": 20}
    for name, split in images_in(out).items():  # the next run need not compare them
        assert (out / "images" / split / name).stat().st_mtime_ns == (root / "images" / name).stat().st_mtime_ns
    image = root / "images/frame_000.jpg"
    image.write_bytes(b"other")
    report = prepare(root, link="copy")
    assert [failed["source"] for failed in report.failed] == ["images/frame_000.jpg"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"val": 0.4}, "was made with --val 0.2; use --overwrite to make it anew"),
        ({"seed": 3, "link": "copy"}, "was made with --seed 0, with --link hard;"),
        ({"group_by": "frame_(.)"}, "was made without --group-by;"),
        ({"keep_splits": True}, "was made without --keep-splits;"),
    ],
)
def test_a_dataset_made_otherwise_is_left_until_it_is_to_be_replaced(
    root: Path, out: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    prepare(root)
    before = tree_hash(out)
    with pytest.raises(MvtkError, match=said):
        prepare(root, **changes)
    assert tree_hash(out) == before
    prepare(root, overwrite=True, **changes)
    prepare(root, output=tmp_path / "new", **changes)
    assert tree_hash(out) == tree_hash(tmp_path / "new")


def test_what_the_source_has_no_more_is_removed_only_when_asked(root: Path, out: Path, tmp_path: Path) -> None:
    add(root, "images/deep/er/x.jpg")
    prepare(root)
    split = images_in(out)["deep/er/x.jpg"]
    mine = out / f"images/{split}/mine.jpg"
    mine.write_bytes(b"mine")
    for path in ("images/deep/er/x.jpg", "labels/deep/er/x.txt", "images/frame_003.jpg", "labels/frame_003.txt"):
        (root / path).unlink()
    with pytest.raises(MvtkError, match="has 4 files that it would not have now, such as images/"):
        prepare(root)
    report = prepare(root, overwrite=True)
    assert f"1 file in {out} that mvtk did not put there, such as images/{split}/mine.jpg" in remarks(report)
    assert mine.read_bytes() == b"mine"
    assert not (out / f"images/{split}/deep").exists()
    mine.unlink()
    prepare(root, output=tmp_path / "new")
    assert tree_hash(out) == tree_hash(tmp_path / "new")


def test_a_folder_of_somebody_else_is_left_alone(root: Path, out: Path) -> None:
    (out / "images/train").mkdir(parents=True)
    with pytest.raises(MvtkError, match="not empty, and no dataset of mvtk yolo prepare"):
        prepare(root, overwrite=True)
    assert written(out) == []
    out.rename(out.with_name("folder"))
    out.write_bytes(b"x")
    with pytest.raises(MvtkError, match="out: not a folder"):
        prepare(root)


@pytest.mark.parametrize("content", ["{", "[]", '{"options": {}}', '{"options": {}, "files": [1]}'])
def test_a_damaged_state_is_said(root: Path, out: Path, content: str) -> None:
    prepare(root)
    (out / STATE).write_text(content)
    with pytest.raises(MvtkError, match=r"\.mvtk-yolo-prepare\.json: .*; remove the folder, or give another one"):
        prepare(root, overwrite=True)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("in", "lies in the source"),
        ("in/images/out", "lies in the source"),
        (".", "lies in the output"),
        ("link", "lies in the source"),
    ],
)
def test_source_and_output_are_apart(root: Path, tmp_path: Path, output: str, said: str) -> None:
    (tmp_path / "link").symlink_to(root)
    before = tree_hash(tmp_path)
    with pytest.raises(OptionError, match=said):
        prepare(root, output=tmp_path / output, overwrite=True)
    assert tree_hash(tmp_path) == before


@pytest.mark.parametrize("place", ["images", "labels", "images/train", "labels/val"])
def test_nothing_is_written_into_the_source_through_a_link(root: Path, out: Path, place: str) -> None:
    prepare(root)
    (out / place).rename(out.with_name("aside"))
    (out / place).symlink_to(root / "images")
    before = tree_hash(root)
    with pytest.raises(OptionError, match=f"the output .*/out/{place} lies in the source"):
        prepare(root, overwrite=True, seed=1)
    assert tree_hash(root) == before


def test_names_that_are_not_utf8(tmp_path: Path, out: Path) -> None:
    name = os.fsdecode(b"images/caf\xe9.jpg")
    add(tmp_path / "in", name)
    add(tmp_path / "in", "images/b.jpg")
    prepare(tmp_path / "in")
    report = prepare(tmp_path / "in")
    assert report.figures.skipped == 2
    assert os.fsdecode(b"caf\xe9.jpg") in images_in(out)
    assert json.loads(report.as_json())["counts"]["skipped"] == 2


def test_a_folder_that_both_layouts_reach_is_taken_once(tmp_path: Path, out: Path) -> None:
    root = tmp_path / "in"
    add(root, "train/images/a.jpg")
    add(root, "train/images/b.jpg")
    for kind in ("images", "labels"):
        (root / kind).mkdir()
        (root / kind / "train").symlink_to(f"../train/{kind}")
    prepare(root)
    assert sorted(images_in(out)) == ["a.jpg", "b.jpg"]


def test_linked_folders_and_images_are_followed(root: Path, tmp_path: Path, out: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("images", "labels", "data.yaml"):
        (linked / name).symlink_to(root / name)
    (tmp_path / "other.jpg").write_bytes(b"other")
    (root / "images/through.jpg").symlink_to(tmp_path / "other.jpg")
    (root / "labels/through.txt").symlink_to(root / "labels/frame_000.txt")
    prepare(linked)
    split = images_in(out)["through.jpg"]
    assert (out / f"images/{split}/through.jpg").samefile(tmp_path / "other.jpg")
    assert not (out / f"images/{split}/through.jpg").is_symlink()
    assert not (out / f"labels/{split}/through.txt").is_symlink()


def test_worker_processes_make_the_same_tree(root: Path, tmp_path: Path) -> None:
    prepare(root, output=tmp_path / "one", link="copy")
    prepare(root, output=tmp_path / "two", link="copy", workers=2)
    assert tree_hash(tmp_path / "one") == tree_hash(tmp_path / "two")


def test_it_is_held_by_one_run(root: Path, out: Path) -> None:
    job, other = PrepareJob(options(root)), PrepareJob(options(root))
    with job.claim(), pytest.raises(MvtkError, match="is in use by mvtk yolo prepare"), other.claim():
        pass


@pytest.mark.parametrize(
    ("folder", "labels", "names", "images"),
    [
        ("roboflow_yolo/wildlife", None, None, 7),
        ("coco128_subset", None, "data_detect.yaml", 8),
        ("coco128_subset", "labels_seg", "data_seg.yaml", 8),
    ],
)
def test_real_datasets(
    shared_data: Path, tmp_path: Path, folder: str, labels: str | None, names: str | None, images: int
) -> None:
    root, out = shared_data / folder, tmp_path / "out"
    names_yaml = root / names if names else None
    if labels is not None:
        (tmp_path / "in").mkdir()
        (tmp_path / "in/images").symlink_to(root / "images")
        (tmp_path / "in/labels").symlink_to(root / labels)
        root = tmp_path / "in"
    report = prepare(root, output=out, names_yaml=names_yaml, link="copy")
    assert report.figures.done == images
    assert len(images_in(out)) == images
    assert min(split["objects"] for split in report.stats["splits"].values()) > 0
    assert prepare(root, output=out, names_yaml=names_yaml, link="copy").figures.skipped == images


CHECK = """
import json, sys
from ultralytics.data.utils import check_det_dataset, img2label_paths
from ultralytics.data.base import BaseDataset
from pathlib import Path
data = check_det_dataset(sys.argv[1], autodownload=False)
found = {}
for split in ("train", "val", "test"):
    reader = BaseDataset.__new__(BaseDataset)
    reader.prefix, reader.fraction = "", 1.0
    images = reader.get_img_files(data[split])
    labels = [Path(path).read_text() for path in img2label_paths(images) if Path(path).is_file()]
    found[split] = [len(images), len(labels)]
print(json.dumps({"names": data["names"], "channels": data["channels"], "found": found}))
"""


@pytest.mark.slow
def test_ultralytics_finds_every_image_and_label(root: Path, out: Path, tmp_path: Path) -> None:
    pytest.importorskip("ultralytics")
    add(root, "images/odd folder/a.b c.JPG")
    add(root, "images/bare.jpg", None)
    report = prepare(root, val=0.3, test=0.2)
    config = tmp_path / "config"
    config.mkdir()
    environment = {**os.environ, "YOLO_CONFIG_DIR": str(config), "YOLO_OFFLINE": "1", "MPLCONFIGDIR": str(config)}
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(out / "data.yaml")],
        env=environment,
        cwd=config,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout.splitlines()[-1])
    assert read["names"] == {"0": "cat", "1": "dog"}
    assert read["channels"] == 3
    assert read["found"] == {
        split: [figures["images"], figures["images"] - figures["without_label_file"]]
        for split, figures in report.stats["splits"].items()
    }
