"""What is done to one raw dataset: its images get their splits, its samples become a part file."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from tests.raw_annotations import Boxes, RawTree, numbered_boxes
from toolkit.core.batch import Outcome
from toolkit.core.errors import InputProblemsError
from toolkit.metadata.boxes import BoxPolicy
from toolkit.metadata.columns import KINDS
from toolkit.metadata.raw_sources import RawSource, find_sources
from toolkit.metadata.source_processing import (
    ANNOTATED_TWICE,
    MAX_FINDINGS_KEPT,
    NOT_GROUPED,
    ON_TWO_SIDES,
    OTHER_SIZE,
    UNREADABLE,
    ProcessSource,
    part_path,
)
from toolkit.metadata.spool import Part
from toolkit.splitting import SplitRule

BOX = [1, 2, 3, 4]


@pytest.fixture
def tree(tmp_path: Path) -> RawTree:
    return RawTree(tmp_path)


def step(tree: RawTree, **changes: Any) -> ProcessSource:
    """The step with the command's defaults."""
    parts = tree.root / "parts"
    parts.mkdir(exist_ok=True)
    defaults = ProcessSource(
        raw_data_dir=tree.raw,
        parts_dir=parts,
        kinds=KINDS,
        rule=SplitRule(42, 0.8),
        keep_splits=False,
        boxes="clip",
        batch_size=500,
        flush_every=1,
        check_images=False,
        shift_pts=False,
    )
    return dataclasses.replace(defaults, **changes)


def process(tree: RawTree, **changes: Any) -> tuple[Part, Outcome]:
    """Process the only dataset of the tree."""
    [source] = find_sources(tree.raw, KINDS)
    one = step(tree, **changes)
    outcome = one.process_one(source)
    return Part.open(part_path(one.parts_dir, source)), outcome


def findings(part: Part) -> list[tuple[str, str]]:
    listed = [tuple(finding) for finding in part.notes["listed"]]
    assert sum(part.notes["findings"].values()) >= len(listed)
    return listed


def splits_of(part: Part) -> dict[str, list[str]]:
    """The images of each split, with the folder of their files."""
    found: dict[str, list[str]] = {}
    for split in ("train", "val", "test"):
        for columns in part.chunks(split, "detector"):
            ends = columns.path_lengths.cumsum().tolist()
            starts = [0, *ends[:-1]]
            paths = [columns.path_bytes[start:end].tobytes().decode() for start, end in zip(starts, ends, strict=True)]
            found.setdefault(split, []).extend(path.removeprefix("detector/x/") for path in paths)
    return found


def test_split_folders_are_pooled_and_copies_of_a_photograph_stay_together(tree: RawTree) -> None:
    for split, letter in (("train", "a"), ("valid", "b"), ("test", "c")):
        tree.add_coco(f"detector/x/{split}", {f"p-{n}_png.rf.{letter}{n:03}.jpg": [BOX] for n in range(40)})
    part, outcome = process(tree)
    found = splits_of(part)
    groups = {split: {re.sub(r"\.rf.*", "", Path(path).name) for path in paths} for split, paths in found.items()}
    assert found.keys() == {"train", "val"}
    assert not groups["train"] & groups["val"]
    assert len(found["train"]) == 3 * len(groups["train"])
    assert len(groups["train"] | groups["val"]) == 40
    assert outcome.details == {
        "format": "coco",
        "train_detector": len(found["train"]),
        "train_teacher": len(found["train"]),
        "val_detector": len(found["val"]),
        "val_teacher": len(found["val"]),
        "findings": 0,
    }


def test_keep_splits_takes_the_folders_and_shares_out_what_is_in_none(tree: RawTree) -> None:
    for split in ("train", "valid", "test"):
        tree.add_coco(f"detector/x/{split}", numbered_boxes(5, prefix=split))
    tree.add_coco("detector/x", numbered_boxes(30, prefix="more"))
    part, _ = process(tree, keep_splits=True)
    found = {split: {path.partition("-")[0] for path in paths} for split, paths in splits_of(part).items()}
    assert found == {"train": {"train/train", "more"}, "val": {"valid/valid", "more"}, "test": {"test/test"}}
    assert findings(part) == []


def test_keep_splits_says_which_groups_are_on_two_sides(tree: RawTree) -> None:
    tree.add_coco("detector/x/train", {"a.rf.1.jpg": [BOX], "b.jpg": [BOX]})
    tree.add_coco("detector/x/valid", {"a.rf.2.jpg": [BOX], "c.jpg": [BOX]})
    part, _ = process(tree, keep_splits=True)
    assert findings(part) == [
        (ON_TWO_SIDES, "detector/x/valid/a.rf.2.jpg is in val, its group also in train"),
    ]


def test_group_by_keeps_a_subject_together_and_says_what_it_does_not_match(tree: RawTree) -> None:
    tree.add_coco("detector/x", {f"s{subject}-{frame}.jpg": [BOX] for subject in range(12) for frame in range(5)})
    rule = SplitRule(1, 0.5, re.compile(r"/s(\d+)-"))
    part, _ = process(tree, rule=rule)
    sides = {split: {path.partition("-")[0] for path in paths} for split, paths in splits_of(part).items()}
    assert not sides["train"] & sides["val"]
    assert len(sides["train"] | sides["val"]) == 12
    tree.add_coco("detector/x", {"s1-1.jpg": [BOX], "other.jpg": [BOX]})
    part, _ = process(tree, rule=rule)
    assert findings(part) == [(NOT_GROUPED, "detector/x/other.jpg")]


def test_an_image_that_two_files_annotate_is_said(tree: RawTree) -> None:
    tree.add_coco("detector/x_coco", {"a.jpg": [BOX], "b.jpg": [BOX]}, name="one.json")
    tree.add_coco("detector/x_coco", {"a.jpg": [BOX], "c.jpg": [BOX]}, name="two.json")
    part, _ = process(tree)
    assert findings(part) == [(ANNOTATED_TWICE, "detector/x_coco/a.jpg")]


@pytest.mark.parametrize("changes", [{"batch_size": 1}, {"batch_size": 3, "flush_every": 2}, {"batch_size": 7}])
def test_batches_do_not_change_the_samples(tree: RawTree, changes: dict[str, int]) -> None:
    boxes: Boxes = numbered_boxes(20) | {"odd.jpg": [[-5, 0, 10, 10], [1, 1, 0, 0]]}
    tree.add_coco("detector/x", boxes, classes=("a", "b", "c"))
    whole, outcome = process(tree)
    samples, found = contents(whole), sorted(findings(whole))
    part, same_outcome = process(tree, **changes)
    assert outcome == same_outcome
    assert contents(part) == samples
    assert sorted(findings(part)) == found


def contents(part: Part) -> dict[tuple[str, str], list[bytes]]:
    """The columns of each split and kind, whatever chunks they are in."""
    names = ("path_bytes", "path_lengths", "image_sizes_wh", "row_counts", "rows", "class_ids")
    return {
        (split, kind): [
            b"".join(getattr(chunk, name).tobytes() for chunk in part.chunks(split, kind)) for name in names
        ]
        for split in ("train", "val")
        for kind in KINDS
    }


def test_classes_of_several_files_are_united_by_name(tree: RawTree) -> None:
    tree.add_coco("detector/x/test", {"a.jpg": [BOX, BOX]}, classes=("ear", "nose"))
    tree.add_coco("detector/x/train", {"b.jpg": [BOX, BOX]}, classes=("eye", "ear"))
    part, _ = process(tree, rule=SplitRule(1, 1))
    assert part.notes["class_names"] == ["ear", "nose", "eye"]
    assert [columns.class_ids.tolist() for columns in part.chunks("train", "detector")] == [[0, 1], [2, 0]]


def test_classes_of_a_yolo_dataset_without_names_grow_from_batch_to_batch(tree: RawTree) -> None:
    tree.add_yolo("detector/x", {f"{n}": f"{n} 0.5 0.5 0.25 0.5\n" for n in (2, 0, 4)})
    part, _ = process(tree, batch_size=1)
    assert part.notes["class_names"] == [f"class_{n}" for n in range(5)]
    ids = sorted(c for split in ("train", "val") for k in part.chunks(split, "detector") for c in k.class_ids.tolist())
    assert ids == [0, 2, 4]


def test_images_without_a_size_in_the_annotation_are_looked_at(tree: RawTree) -> None:
    tree.add_coco("detector/x", {"a.png": [[60, 40, 10, 10]], "b.png": [BOX], "c.png": [BOX]}, size_wh=(0, 0))
    tree.add_images("detector/x", "a.png", "b.png")
    part, _ = process(tree)
    (unreadable, where), beyond = findings(part)
    assert unreadable == UNREADABLE
    assert where.startswith(f"{tree.raw}/detector/x/c.png: ")
    assert beyond == ("box beyond the image's edge", "detector/x/a.png: [60, 40, 10, 10]")
    assert sorted(path for paths in splits_of(part).values() for path in paths) == ["a.png", "b.png"]


def test_check_images_decodes_every_one(tree: RawTree) -> None:
    tree.add_coco("detector/x", {"a.png": [BOX], "b.png": [BOX], "c.png": [BOX], "cut.jpg": [BOX]})
    tree.add_images("detector/x", "a.png", "cut.jpg")
    tree.add_images("detector/x", "b.png", size_wh=(20, 10))
    cut = tree.raw / "detector/x/cut.jpg"
    cut.write_bytes(cut.read_bytes()[:-200])
    part, _ = process(tree)
    assert findings(part) == []
    part, _ = process(tree, check_images=True)
    kinds = [kind for kind, _ in findings(part)]
    assert kinds == [OTHER_SIZE, UNREADABLE, UNREADABLE]
    assert findings(part)[0][1] == "detector/x/b.png: 20x10 (width x height), annotated 64x48"
    assert sorted(path for paths in splits_of(part).values() for path in paths) == ["a.png", "b.png"]


@pytest.mark.parametrize(("policy", "kept"), [("clip", 3), ("drop", 2)])
def test_the_policy_for_boxes(tree: RawTree, policy: BoxPolicy, kept: int) -> None:
    tree.add_coco("detector/x", {"a.jpg": [BOX, [60, 1, 10, 10], [1, 1, -1, 1], BOX], "b.jpg": []})
    part, _ = process(tree, boxes=policy, rule=SplitRule(1, 1))
    assert sum(len(columns.rows) for columns in part.chunks("train", "detector")) == kept
    assert part.notes["findings"] == {"box of no area": 1, "box beyond the image's edge": 1}


def test_boxes_error_names_all_of_them_and_leaves_no_part(tree: RawTree) -> None:
    tree.add_coco("detector/x", {f"{n:02}.jpg": [[60, 1, 10, 10]] for n in range(23)})
    with pytest.raises(InputProblemsError) as caught:
        process(tree, boxes="error", batch_size=5)
    problems = caught.value.problems
    assert problems[0] == "box beyond the image's edge: detector/x/00.jpg: [60, 1, 10, 10]"
    assert len(problems) == 21
    assert problems[-1] == "and 3 more"
    assert str(caught.value).endswith("; correct them, or take --boxes clip or drop")


def test_findings_are_counted_to_the_last_and_listed_up_to_a_bound(tree: RawTree) -> None:
    count = MAX_FINDINGS_KEPT + 5
    tree.add_coco("detector/x", {"a.jpg": [BOX] + [[1, 1, 0, 1]] * count})
    part, outcome = process(tree)
    assert part.notes["findings"] == {"box of no area": count}
    assert len(part.notes["listed"]) == MAX_FINDINGS_KEPT
    assert outcome.details["findings"] == count


def test_each_dataset_has_a_part_of_its_own() -> None:
    sources = [RawSource(name, "detector", ("coco",), ()) for name in ("detector/a", "detector/b", "detector/a/b")]
    assert len({part_path(Path("p"), source) for source in sources}) == 3


def test_wrong_files_of_all_batches_are_said_together(tree: RawTree) -> None:
    tree.add_pts("landmarker/a", {f"{number:02}": [(1, 2)] for number in range(23)})
    for number in range(22):
        tree.write(f"landmarker/a/{number:02}.pts", "version: 1\nn_points: 3\n{\n1 2\n}")
    with pytest.raises(InputProblemsError) as caught:
        process(tree, batch_size=3)
    assert len(caught.value.problems) == 21
    assert caught.value.problems[20] == "and 2 more"
