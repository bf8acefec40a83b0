"""Updating the edge maps of features files: what is written, carried over, skipped and refused."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tests.datasets import tree_hash
from tests.feature_trees import FeatureTree, expected_maps, features, masks_of, raw_members
from toolkit.core.batch import Outcome
from toolkit.core.driver import JobRun, run_to_end
from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.core.files import _machine
from toolkit.core.locks import hold_folder
from toolkit.core.report import Report
from toolkit.edges.pairing import AnnotatedFile
from toolkit.edges.update import UpdateEdgesJob, UpdateEdgesOptions
from toolkit.npz import open_npz, read_npz


@pytest.fixture
def tree(tmp_path: Path) -> FeatureTree:
    return FeatureTree(tmp_path)


def options(tree: FeatureTree, **changes: Any) -> UpdateEdgesOptions:
    return UpdateEdgesOptions(**{"npz_dir": tree.npz_dir, "json_dir": tree.json_dir, "workers": 0, **changes})


def update(tree: FeatureTree, **changes: Any) -> Report:
    return run_to_end(UpdateEdgesJob(options(tree, **changes)))


def planned(tree: FeatureTree, **changes: Any) -> list[str]:
    """The files that would be done, in order."""
    run = JobRun(UpdateEdgesJob(options(tree, dry_run=True, **changes)))
    return [outcome.source for outcome in run.outcomes() if outcome.status == "done"]


def failure(report: Report) -> str:
    assert (report.figures.done, report.figures.failed, report.figures.bugs) == (0, 1, 0)
    assert "\n" not in report.failed[0]["reason"]
    return report.failed[0]["reason"]


def member(path: Path, key: str) -> Any:
    with open_npz(path) as reader:
        return reader.read(key) if key in reader.members else None


def test_writes_the_documented_maps_and_marks(tree: FeatureTree) -> None:
    path = tree.add("sa_1", seed=1)
    assert update(tree).figures.done == 1
    arrays = read_npz(path)
    for side in (256, 64, 32):
        np.testing.assert_array_equal(arrays[f"edge_{side}x{side}"], expected_maps(1)[side])
    assert (arrays["edge_flag"].dtype, arrays["edge_flag"].shape, arrays["edge_flag"].item()) == (np.uint8, (), 1)
    assert (arrays["edge_version"].shape, arrays["edge_version"].item()) == ((), "B_v1")


def test_everything_else_is_carried_over_byte_for_byte(tree: FeatureTree) -> None:
    masks = np.array([{"hostile": os.system}], dtype=object)  # numpy would unpickle it
    path = tree.add("sa_1", masks=masks, edge_original=np.ones((5, 5), np.uint8))
    path.chmod(0o640)
    before = raw_members(path)
    update(tree)
    after = raw_members(path)
    new = ("edge_64x64", "edge_32x32", "edge_256x256", "edge_flag", "edge_version")
    written = {f"{key}.npy" for key in new}
    assert {name: after[name] for name in before.keys() - written} == {
        name: before[name] for name in before.keys() - written
    }
    assert list(after) == [*before, "edge_flag.npy", "edge_version.npy"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_256_only_where_the_file_has_it_or_it_is_asked_for(tree: FeatureTree) -> None:
    path = tree.add("sa_1", seed=2, with_256=False)
    update(tree)
    assert member(path, "edge_256x256") is None
    assert update(tree).figures.skip_reasons == {"already processed": 1}
    assert update(tree, add_256=True).figures.done == 1
    np.testing.assert_array_equal(member(path, "edge_256x256"), expected_maps(2)[256])
    assert update(tree, add_256=True).figures.skipped == 1


def test_both_patterns_at_any_depth(tree: FeatureTree) -> None:
    first = tree.add("sa_1", seed=1, folder="sa_000020/extracted")
    second = tree.add("sa_2", seed=2, suffix="_sam2_features.npz")
    tree.add_npz("sa_3.npz", features("sa_3"))
    assert update(tree).figures.done == 2
    np.testing.assert_array_equal(member(first, "edge_64x64"), expected_maps(1)[64])
    np.testing.assert_array_equal(member(second, "edge_64x64"), expected_maps(2)[64])


def test_a_second_run_skips_what_is_processed(tree: FeatureTree) -> None:
    path = tree.add("sa_1")
    update(tree)
    before = path.stat()
    report = update(tree)
    assert report.figures.skip_reasons == {"already processed": 1}
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert update(tree, skip_if_processed=False).figures.done == 1
    assert path.stat().st_ino != before.st_ino


def test_another_kernel_size_counts_as_not_processed(tree: FeatureTree) -> None:
    path = tree.add("sa_1", seed=3)
    update(tree)
    assert update(tree, kernel_size=5).figures.done == 1
    assert member(path, "edge_version").item() == "B_v1_k5"
    np.testing.assert_array_equal(member(path, "edge_64x64"), expected_maps(3, kernel_size=5)[64])
    assert update(tree, kernel_size=5).figures.skipped == 1
    report = update(tree)
    assert report.figures.done == 1
    assert report.stats["edge_version"] == "B_v1"
    assert member(path, "edge_version").item() == "B_v1"


def test_updating_twice_gives_the_same_bytes(tree: FeatureTree) -> None:
    path = tree.add("sa_1")
    update(tree)
    content = path.read_bytes()
    update(tree, skip_if_processed=False)
    assert path.read_bytes() == content


def test_a_mark_without_the_maps_is_not_believed(tree: FeatureTree) -> None:
    arrays = features("sa_1") | {"edge_flag": np.array(1, np.uint8), "edge_version": np.array("B_v1")}
    del arrays["edge_32x32"]
    tree.add_json("sa_1", masks_of(0))
    path = tree.add_npz("sa_1_features.npz", arrays)
    assert update(tree).figures.done == 1
    np.testing.assert_array_equal(member(path, "edge_32x32"), expected_maps(0)[32])


def test_without_setting_the_flag_no_mark_is_added_and_none_goes_wrong(tree: FeatureTree) -> None:
    path = tree.add("sa_1")
    update(tree, set_edge_flag=False)
    assert member(path, "edge_flag") is None
    assert member(path, "edge_version") is None
    assert update(tree, kernel_size=5).figures.done == 1
    assert update(tree, set_edge_flag=False).figures.done == 1
    assert (member(path, "edge_flag").item(), member(path, "edge_version").item()) == (1, "B_v1")


def test_the_json_directly_in_its_folder_wins_then_subfolders_then_beside(tree: FeatureTree) -> None:
    path = tree.add("sa_1", seed=1, folder="deep")
    (path.parent / "sa_1.json").write_text("not looked at")
    tree.add_json("sa_1", masks_of(2), folder="sa_000001")
    update(tree)
    np.testing.assert_array_equal(member(path, "edge_64x64"), expected_maps(1)[64])
    (tree.json_dir / "sa_1.json").unlink()
    update(tree, skip_if_processed=False)
    np.testing.assert_array_equal(member(path, "edge_64x64"), expected_maps(2)[64])
    (tree.json_dir / "sa_000001" / "sa_1.json").rename(path.parent / "sa_1.json")
    update(tree, skip_if_processed=False, kernel_size=1)
    assert not member(path, "edge_64x64").any()


def test_two_jsons_in_subfolders_fail_the_item_naming_both(tree: FeatureTree) -> None:
    tree.add_npz("sa_1_features.npz", features("sa_1"))
    paths = [tree.add_json("sa_1", masks_of(seed), folder=f"sa_00000{seed}") for seed in (1, 2)]
    reason = failure(update(tree))
    assert all(str(path) in reason for path in paths)


def test_a_missing_json_fails_the_item(tree: FeatureTree) -> None:
    path = tree.add_npz("sa_1_features.npz", features("sa_1"))
    before = path.read_bytes()
    report = update(tree)
    assert "sa_1" in failure(report)
    assert report.figures.failure_kinds == {"annotation JSON not found": 1}
    assert path.read_bytes() == before


def edited(change: dict[str, Any]) -> str:
    record = {"image": {"width": 400, "height": 300}, "annotations": []}
    return json.dumps({key: value for key, value in (record | change).items() if value is not None})


BAD_JSON = {
    "truncated": ('{"image": {"width": 4', "sa_1.json"),
    "no image": (edited({"image": None}), "image"),
    "no annotations": (edited({"annotations": None}), "annotations"),
    "size contradicts": (
        edited({"annotations": [{"segmentation": {"size": [300, 401], "counts": [120300]}}]}),
        "300x401",
    ),
    "counts short": (edited({"annotations": [{"segmentation": {"size": [300, 400], "counts": [7]}}]}), "sum to 7"),
    "text out of range": (
        edited({"annotations": [{"segmentation": {"size": [300, 400], "counts": "0\x7f"}}]}),
        "character 1",
    ),
    "too large": (edited({"image": {"width": 10**6, "height": 10**6}}), "limit"),
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_a_bad_annotation_fails_the_item_in_one_line(tree: FeatureTree, case: str) -> None:
    content, text = BAD_JSON[case]
    path = tree.add_npz("sa_1_features.npz", features("sa_1"))
    (tree.json_dir / "sa_1.json").write_text(content)
    before = path.read_bytes()
    reason = failure(update(tree))
    assert text in reason
    assert "sa_1.json" in reason
    assert path.read_bytes() == before


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def test_a_damaged_features_file_fails_and_stays_as_it_is(tree: FeatureTree) -> None:
    path = tree.add("sa_1")
    content = path.read_bytes()
    for damage in ("truncated", "checksum", "empty"):
        if damage == "checksum":
            path.write_bytes(content)
            flip(path, 400)  # in the data of P4_S16
        else:
            path.write_bytes(content[:-30] if damage == "truncated" else b"")
        before = path.read_bytes()
        for skip in (True, False):
            reason = failure(update(tree, skip_if_processed=skip))
            assert "sa_1_features.npz" in reason
            assert ("checksum" in reason) == (damage == "checksum")
            assert path.read_bytes() == before
    assert [name.name for name in tree.npz_dir.iterdir()] == ["sa_1_features.npz"]


def test_a_read_only_file_is_left_alone(tree: FeatureTree) -> None:
    path = tree.add("sa_1")
    path.chmod(0o444)
    before = path.read_bytes()
    assert "read-only" in failure(update(tree))
    assert path.read_bytes() == before


def test_a_file_that_vanished_meanwhile_fails(tree: FeatureTree) -> None:
    gone = tree.add("sa_1")
    tree.add("sa_2")
    job = UpdateEdgesJob(options(tree, sort_by="name"))
    gone.unlink()
    outcomes = {outcome.source: outcome for outcome in JobRun(job).outcomes()}
    assert outcomes["sa_1_features.npz"].status == "failed"
    assert "does not exist" in outcomes["sa_1_features.npz"].reason
    assert outcomes["sa_2_features.npz"].status == "done"


def test_a_file_that_another_run_has_processed_meanwhile_is_skipped(tree: FeatureTree) -> None:
    tree.add("sa_1")
    job = UpdateEdgesJob(options(tree))
    (item,) = job.plan()
    update(tree)
    outcome = job.step().process_one(item)  # type: ignore[arg-type]
    assert outcome == Outcome.skipped("sa_1_features.npz", "already processed")


def test_order_and_filters(tree: FeatureTree) -> None:
    for image_id, mtime in (("sa_1", 300), ("sa_2", 100), ("sa_3", 200)):
        os.utime(tree.add(image_id), (mtime, mtime))
    first, second, third = (f"sa_{number}_features.npz" for number in (1, 2, 3))
    assert planned(tree) == [second, third, first]
    assert planned(tree, reverse=True) == [first, third, second]
    assert planned(tree, sort_by="name") == [first, second, third]
    assert planned(tree, only_mtime_after=200) == [first]
    assert planned(tree, only_mtime_after=199.5) == [third, first]
    assert planned(tree, max_files=2) == [second, third]
    shards = [source for index in range(3) for source in planned(tree, shard=f"{index}/3")]
    assert sorted(shards) == [first, second, third]


def test_max_files_counts_only_files_that_need_work(tree: FeatureTree) -> None:
    for number in range(4):
        os.utime(tree.add(f"sa_{number}"), (number, number))
    assert update(tree, max_files=1).figures.done == 1
    report = update(tree, max_files=1, sort_by="name")
    assert (report.figures.done, report.figures.skipped) == (1, 1)
    assert report.stats["complete"] is False


def test_a_dry_run_changes_nothing(tree: FeatureTree) -> None:
    tree.add("sa_1")
    before = tree_hash(tree.root)
    assert update(tree, dry_run=True).figures.done == 1
    assert tree_hash(tree.root) == before


def test_left_overs_of_killed_runs_are_removed(tree: FeatureTree) -> None:
    tree.add("sa_1", folder="deep")
    name = f".mvtk-{_machine()}-999999999-1-0123abcd.tmp"
    (tree.npz_dir / "deep" / name).write_bytes(b"half")
    update(tree)
    assert sorted(path.name for path in tree.npz_dir.rglob("*")) == ["deep", "sa_1_features.npz"]


def test_one_run_at_a_time(tree: FeatureTree) -> None:
    tree.add("sa_1")
    with hold_folder(tree.npz_dir, "features bulk-fix"), pytest.raises(MvtkError, match="features bulk-fix"):
        update(tree)


def test_missing_folders_are_reported_together(tmp_path: Path) -> None:
    tree = FeatureTree(tmp_path)
    missing = {"npz_dir": tmp_path / "no_npz", "json_dir": tmp_path / "no_json"}
    with pytest.raises(InputProblemsError) as caught:
        update(tree, **missing)
    assert [str(path) in problem for path, problem in zip(missing.values(), caught.value.problems, strict=True)] == [
        True,
        True,
    ]
    with pytest.raises(MvtkError, match=r"no \*_features.npz"):
        update(tree)


@pytest.mark.parametrize("change", [{"kernel_size": 0}, {"only_mtime_after": float("nan")}, {"sort_by": "size"}])
def test_wrong_options(tree: FeatureTree, change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        options(tree, **change)


def test_remarks_on_an_image_of_another_size_and_on_no_masks(tree: FeatureTree) -> None:
    tree.add("sa_1", image_shape=np.array([10, 20, 3]))
    tree.add_json("sa_2", [])
    tree.add_npz("sa_2_features.npz", features("sa_2"))
    warnings = update(tree).figures.warnings
    assert warnings == {
        "image_shape is not the annotation's size": 1,
        "the annotation has no masks: the maps are empty": 1,
    }


def test_a_compressed_file_keeps_its_compressed_members(tree: FeatureTree) -> None:
    tree.add_json("sa_1", masks_of(1))
    path = tree.npz_dir / "sa_1_features.npz"
    np.savez_compressed(path, **features("sa_1"))
    before = raw_members(path)
    update(tree)
    assert raw_members(path)["P4_S16.npy"] == before["P4_S16.npy"]
    np.testing.assert_array_equal(member(path, "edge_64x64"), expected_maps(1)[64])


def test_two_names_of_one_file_are_no_trouble(tree: FeatureTree) -> None:
    path = tree.add("sa_1", seed=1)
    (tree.npz_dir / "link").mkdir()
    (tree.npz_dir / "link" / "sa_1_features.npz").symlink_to(path)
    job = UpdateEdgesJob(options(tree, skip_if_processed=False, sort_by="name"))
    items = [entry for entry in job.plan() if isinstance(entry, AnnotatedFile)]
    begun = [job.step().process_one(item) for item in items]  # both have read the file before one replaces it
    outcomes = [publish() for publish in begun if not isinstance(publish, Outcome)]
    assert [outcome.status for outcome in outcomes] == ["done", "done"]
    np.testing.assert_array_equal(member(path, "edge_64x64"), expected_maps(1)[64])


def test_what_another_program_wrote_meanwhile_is_kept(tree: FeatureTree) -> None:
    path = tree.add("sa_1", seed=1)
    job = UpdateEdgesJob(options(tree))
    (item,) = job.plan()
    publish = job.step().process_one(item)  # type: ignore[arg-type]
    tree.add_npz("sa_1_features.npz", features("sa_1", with_256=False, added=np.array(7)))
    assert not isinstance(publish, Outcome)
    assert publish().status == "done"
    assert member(path, "added").item() == 7
    assert member(path, "edge_256x256") is None
    np.testing.assert_array_equal(member(path, "edge_64x64"), expected_maps(1)[64])
