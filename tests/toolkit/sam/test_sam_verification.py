"""The verification of SAM training data: every problem is found, and valid data have none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import write_image
from tests.sam_datasets import make_dataset, make_nuclei_dataset, write_instances
from toolkit.core.batch import Outcome
from toolkit.core.driver import JobRun
from toolkit.core.errors import MvtkError
from toolkit.core.report import Report
from toolkit.sam.inspection import box_ious
from toolkit.sam.split_file import make_split
from toolkit.sam.verification import VerifySamJob, VerifySamOptions


def verify(root: Path, **options: object) -> tuple[dict[str, Outcome], Report]:
    run = JobRun(VerifySamJob(VerifySamOptions.model_validate({"root": root, "workers": 0, **options})))
    return {outcome.source: outcome for outcome in run.outcomes()}, run.report


def write_split(root: Path, train: list[str], val: list[str]) -> None:
    (root / "split.json").write_text(json.dumps({"train": train, "val": val}))


def disc(size_hw: tuple[int, int], centre_yx: tuple[int, int], radius: int) -> np.ndarray:
    y, x = np.mgrid[0 : size_hw[0], 0 : size_hw[1]]
    return np.asarray((y - centre_yx[0]) ** 2 + (x - centre_yx[1]) ** 2 <= radius**2)


def test_valid_data_have_no_problem(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", (1, 2, 30))
    write_split(root, ["image_0", "image_1"], ["image_2"])
    outcomes, report = verify(root)
    assert {outcome.status for outcome in outcomes.values()} == {"done"}
    details = outcomes["images/image_1.png"].details
    assert details["instances"] == 2
    assert details["classes"] == "0:1,1:1"
    assert [float(iou) for iou in str(details["box_ious"]).split(",")] == [1.0, 1.0]
    assert report.stats == {
        "complete": True,
        "samples": 3,
        "instances": 33,
        "instances_an_image": {"least": 1, "median": 2, "most": 30},
        "classes": {"disc": 17, "rectangle": 16},
        "lowest_box_ious": [{"sample": f"image_{number}", "iou": 1.0} for number in range(3)],
        "split": {"train": 2, "val": 1},
        "remarks": [],
    }


def test_problems_of_all_kinds_are_found_together(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", {"fine": 2, "gap": 3, "gone": 1, "short": 2, "unboxed": 1})
    (root / "masks/gap_1.png").unlink()
    (root / "images/gone.png").unlink()
    (root / "masks/short_1.png").unlink()
    (root / "boxes/unboxed.txt").unlink()
    (root / "masks/nobody_0.png").write_bytes(b"")
    outcomes, report = verify(root)
    failed = {source: outcome.reason for source, outcome in outcomes.items() if outcome.status == "failed"}
    assert failed == {
        "masks/nobody_0.png": "there is no image 'nobody'",
        "images/gone": "no such image, and task_ids lists it",
        "images/gap.png": "masks/gap_0.png: the masks are numbered 0, 2, not from 0 on without a gap; "
        "2 masks and 3 boxes: each mask needs one box",
        "images/short.png": "1 masks and 2 boxes: each mask needs one box",
        "images/unboxed.png": f"{root / 'boxes/unboxed.txt'}: cannot read: No such file or directory",
    }
    assert report.figures.failure_kinds == {
        "belongs to no image": 1,
        "no image": 1,
        "several problems": 1,
        "masks and boxes differ in number": 1,
        "unreadable file": 1,
    }
    assert "there is no split.json" in str(report.stats["remarks"])


def test_a_box_that_is_not_that_of_its_mask_is_named_with_its_iou(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", {"a": 0}, size_hw=(60, 100))
    masks = [disc((60, 100), (30, 20), 10), disc((60, 100), (30, 70), 10)]
    write_instances(root, "a", masks)
    boxes = root / "boxes/a.txt"
    first, second = boxes.read_text().splitlines()
    boxes.write_text(f"{first}\n0 0.705 0.508333 0.105 0.35\n")
    outcomes, report = verify(root)
    assert outcomes["images/a.png"].reason == "boxes/a.txt: IoU of box and mask below 0.5: a_1.png 0.50"
    assert outcomes["images/a.png"].kind == "box is not that of its mask"
    assert report.stats["remarks"][0] == "lowest IoU of a box and its mask: a 0.50"
    assert verify(root, min_iou=0.45)[0]["images/a.png"].status == "done"
    boxes.write_text(f"{second}\n{first}\n")
    [reason] = [outcome.reason for outcome in verify(root)[0].values() if outcome.status == "failed"]
    assert reason == (
        "boxes/a.txt: IoU of box and mask below 0.5: a_0.png 0.00, a_1.png 0.00; "
        "the boxes are in another order than the masks"
    )


def test_a_tiny_box_one_pixel_off_is_right(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", {"a": 0}, size_hw=(100, 100))
    mask_hw = np.zeros((100, 100), np.bool_)
    mask_hw[50:52, 50:52] = True
    write_instances(root, "a", [mask_hw])
    (root / "boxes/a.txt").write_text("0 0.52 0.52 0.02 0.02\n")
    outcome = verify(root)[0]["images/a.png"]
    assert outcome.status == "done"
    assert outcome.details["lowest_iou"] == pytest.approx(1 / 7, abs=1e-3)


def test_repeated_and_odd_masks(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", {"full": 0, "ring": 0, "thin": 0, "twice": 1, "wide": 0}, size_hw=(80, 600))
    shutil.copy(root / "masks/twice_0.png", root / "masks/twice_1.png")
    (root / "boxes/twice.txt").write_text((root / "boxes/twice.txt").read_text() * 2)
    write_instances(root, "full", [np.ones((80, 600), np.bool_)])
    full = disc((80, 600), (40, 300), 20)
    write_instances(root, "ring", [full, full & ~disc((80, 600), (40, 300), 10)])
    line = np.zeros((80, 600), np.bool_)
    line[10:70, 300:302] = True
    write_instances(root, "thin", [line])
    line = line.copy()
    line[10:70, 302] = True  # 3 pixels of 600 are more than one of 256
    write_instances(root, "wide", [line])
    outcomes, _ = verify(root)
    assert outcomes["images/twice.png"].reason == "masks/twice_1.png: the same mask as twice_0.png"
    assert outcomes["images/full.png"].warnings == ("mask covers the whole image",)
    assert outcomes["images/ring.png"].warnings == ("same box twice, with different masks",)
    assert outcomes["images/wide.png"].warnings == ()
    assert outcomes["images/thin.png"].warnings == ("instance thinner than a pixel of the mask decoder's output",)


def test_an_image_without_instances_is_odd_and_no_problem(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", {"a": 0, "b": 1})
    outcomes, _ = verify(root)
    assert outcomes["images/a.png"].status == "done"
    assert outcomes["images/a.png"].warnings == ("image without instances",)


def test_a_damaged_image_is_a_problem(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", {"a": 1})
    data = (root / "images/a.png").read_bytes()
    (root / "images/a.png").write_bytes(data[: len(data) // 2])
    outcome = verify(root)[0]["images/a.png"]
    assert outcome.kind == "unreadable file"
    assert str(root / "images/a.png") in outcome.reason


def test_the_same_picture_on_both_sides_is_a_leak(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", {"a": 1, "b": 1, "c": 1})
    pixels = np.full((64, 96, 3), 50, np.uint8)
    write_image(root / "images/a.png", pixels)
    write_image(root / "images/c.png", pixels, compress_level=1)  # other bytes, same pixels
    outcomes, _ = verify(root)
    assert outcomes["images/c.png"].warnings == ("same picture as another sample",)
    write_split(root, ["a", "b"], ["c"])
    outcomes, report = verify(root)
    assert outcomes["images/c.png"].reason == (
        "the same picture as images/a.png, and one is for training, the other for validation"
    )
    assert report.figures.failure_kinds == {"leak between training and validation": 1}


def test_a_split_that_leaks_or_names_nobody_is_a_problem(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", {"a": 1, "b": 1, "c": 1}, groups={"a": "p", "b": "p"})
    write_split(root, ["a"], ["b"])
    outcomes, report = verify(root)
    assert outcomes["split.json"].reason == "group 'p' is in train and val"
    assert report.stats["remarks"] == ["split.json leaves 1 samples out"]
    write_split(root, ["a", "x"], ["a"])
    assert verify(root)[0]["split.json"].reason == "'a' is in train and val; 'x' is not in the dataset"
    (root / "split.json").write_text("{")
    assert "cut short or no JSON" in verify(root)[0]["split.json"].reason
    other = tmp_path / "other.json"
    other.write_text('{"train": ["a", "b"], "val": ["c"]}')
    assert verify(root, split=other)[0][str(other)].status == "done"


def test_images_that_are_not_listed_are_skipped(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", {"a": 1, "b": 1})
    (root / "summary.json").write_text('{"task_ids": ["a"]}')
    outcomes, _ = verify(root)
    assert (outcomes["images/b.png"].status, outcomes["images/b.png"].reason) == ("skipped", "not in summary.json")


def test_shards_share_the_samples_out(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", [1] * 9)
    sources = [source for part in range(3) for source in verify(root, shard=f"{part}/3")[0]]
    assert sorted(sources) == sorted(f"images/image_{number}.png" for number in range(9))


def test_a_dataset_without_samples_is_no_dataset(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", {})
    with pytest.raises(MvtkError, match=r"summary\.json lists no samples"):
        verify(root)


def test_nothing_is_wrong_with_real_nuclei(shared_data: Path, tmp_path: Path) -> None:
    root = make_nuclei_dataset(shared_data, tmp_path / "nuclei")
    make_split(root)
    outcomes, report = verify(root)
    assert {outcome.status for outcome in outcomes.values()} == {"done"}
    assert report.stats["instances"] > 80
    assert report.stats["lowest_box_ious"][0]["iou"] > 0.999
    assert report.stats["split"].keys() == {"train", "val"}


CORNERS = st.tuples(*[st.integers(0, 12)] * 4)


@given(st.lists(CORNERS, max_size=4), st.lists(CORNERS, max_size=4))
def test_box_ious_are_those_of_painted_boxes(first: list[tuple[int, ...]], second: list[tuple[int, ...]]) -> None:
    def paint(corners: tuple[int, ...]) -> np.ndarray:
        mask_hw = np.zeros((12, 12), np.bool_)
        mask_hw[corners[1] : corners[3], corners[0] : corners[2]] = True
        return mask_hw

    ious = box_ious(*(np.array(boxes, np.float32).reshape(-1, 4) for boxes in (first, second)))
    assert ious.shape == (len(first), len(second))
    for row, one in zip(ious, first, strict=True):
        for iou, other in zip(row, second, strict=True):
            a, b = paint(one), paint(other)
            assert iou == pytest.approx((a & b).sum() / max((a | b).sum(), 1))
