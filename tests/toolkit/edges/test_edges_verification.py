"""Verifying edge maps: computed again and compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.feature_trees import FeatureTree, expected_maps, features, masks_of
from toolkit.core.driver import run_to_end
from toolkit.core.report import Report
from toolkit.edges.update import UpdateEdgesJob, UpdateEdgesOptions
from toolkit.edges.verification import VerifyEdgesJob, VerifyEdgesOptions
from toolkit.npz import open_npz
from toolkit.npz.rewriting import rewrite_npz


@pytest.fixture
def tree(tmp_path: Path) -> FeatureTree:
    return FeatureTree(tmp_path)


def update(tree: FeatureTree, **changes: Any) -> None:
    folders = {"npz_dir": tree.npz_dir, "json_dir": tree.json_dir}
    run_to_end(UpdateEdgesJob(UpdateEdgesOptions(**folders, workers=0, **changes)))


def verify(tree: FeatureTree, **changes: Any) -> Report:
    folders = {"npz_dir": tree.npz_dir, "json_dir": tree.json_dir}
    return run_to_end(VerifyEdgesJob(VerifyEdgesOptions(**folders, workers=0, **changes)))


def change(path: Path, **arrays: Any) -> None:
    with open_npz(path) as reader:
        rewrite_npz(reader, arrays)


def reason(report: Report) -> str:
    assert (report.figures.failed, report.figures.bugs) == (1, 0)
    return report.failed[0]["reason"]


def test_updated_files_are_sound_whatever_their_kernel_size(tree: FeatureTree) -> None:
    tree.add("sa_1", seed=1)
    update(tree, kernel_size=5)
    tree.add("sa_2", seed=2, with_256=False)
    update(tree, kernel_size=4, max_files=1, sort_by="name", reverse=True)
    report = verify(tree)
    assert (report.figures.done, report.figures.failed) == (2, 0)
    assert report.stats["marked"] == 2


def test_one_wrong_cell_is_found(tree: FeatureTree) -> None:
    path = tree.add("sa_1", seed=1)
    update(tree)
    for side in (256, 64, 32):
        wrong = expected_maps(1)[side].copy()
        wrong[3, 5] ^= 1
        change(path, **{f"edge_{side}x{side}": wrong})
        assert f"edge_{side}x{side} differs from the annotation in 1 of {side * side} cells" in reason(verify(tree))
        change(path, **{f"edge_{side}x{side}": expected_maps(1)[side]})
    assert verify(tree).figures.done == 1


def test_a_changed_annotation_is_found(tree: FeatureTree) -> None:
    tree.add("sa_1", seed=1)
    update(tree)
    tree.add_json("sa_1", masks_of(2))
    text = reason(verify(tree))
    assert all(f"edge_{side}x{side} differs" in text for side in (256, 64, 32))


def test_stale_and_missing_maps_are_found(tree: FeatureTree) -> None:
    tree.add("sa_1", seed=1)
    assert "edge_64x64 differs" in reason(verify(tree))
    arrays = features("sa_1")
    del arrays["edge_64x64"], arrays["edge_32x32"]
    tree.add_npz("sa_1_features.npz", arrays)
    assert "has no edge_64x64 and no edge_32x32; " in reason(verify(tree))


def test_kernel_size_and_version(tree: FeatureTree) -> None:
    path = tree.add("sa_1", seed=1)
    update(tree, kernel_size=5)
    assert verify(tree, kernel_size=5).figures.done == 1
    assert "made with kernel size 5, not 3" in reason(verify(tree, kernel_size=3))
    change(path, edge_version=np.array("A_v7"))
    assert "edge_version 'A_v7' is not one of Method B" in reason(verify(tree))


def test_maps_of_another_kind(tree: FeatureTree) -> None:
    path = tree.add("sa_1", seed=1)
    update(tree)
    change(path, edge_64x64=expected_maps(1)[64].astype(np.float32), edge_32x32=np.zeros((32, 33), np.uint8))
    text = reason(verify(tree))
    assert "edge_64x64 is float32 of shape (64, 64), not uint8 of (64, 64)" in text
    assert "edge_32x32 is uint8 of shape (32, 33)" in text


def test_a_damaged_map_and_a_missing_annotation(tree: FeatureTree) -> None:
    path = tree.add("sa_1", seed=1)
    update(tree)
    content = bytearray(path.read_bytes())
    content[content.find(b"edge_64x64.npy") + 400] ^= 1
    path.write_bytes(content)
    assert "edge_64x64" in reason(verify(tree))
    (tree.json_dir / "sa_1.json").unlink()
    assert "annotation JSON not found" in reason(verify(tree))


def test_a_sample_is_the_same_each_time_and_of_its_size(tree: FeatureTree) -> None:
    for number in range(12):
        tree.add(f"sa_{number}", seed=number)
    update(tree)
    jobs = [
        VerifyEdgesJob(VerifyEdgesOptions(npz_dir=tree.npz_dir, json_dir=tree.json_dir, sample=size, workers=0))
        for size in (5, 5, 9, 50)
    ]
    first, again, larger, all_of_them = ([entry.source for entry in job.plan()] for job in jobs)
    assert first == again
    assert len(first) == 5
    assert set(first) < set(larger)
    assert len(all_of_them) == 12
    assert verify(tree, sample=5).figures.done == 5


def test_shards_share_out_one_sample(tree: FeatureTree) -> None:
    for number in range(8):
        tree.add(f"sa_{number}", seed=number)
    folders = {"npz_dir": tree.npz_dir, "json_dir": tree.json_dir}
    parts = [VerifyEdgesJob(VerifyEdgesOptions(**folders, sample=5, shard=f"{part}/2")).size for part in range(2)]
    assert sum(parts) == 5
