"""Kill the update of edge maps at any moment: every file is its old or its new self, and a rerun finishes the work."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from commands.main import run
from tests.datasets import tree_hash
from tests.documented_edges import documented_extract
from tests.feature_trees import FeatureTree, features
from toolkit.npz import check_npz, read_npz

PROJECT = Path(__file__).resolve().parents[2]
FILES = 40
DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> FeatureTree:
    """Features files of a few hundred kilobytes, nothing processed."""
    tree = FeatureTree(tmp_path_factory.mktemp("original"))
    for number in range(FILES):
        p4 = np.full((1, 32, 64, 64), number, np.float32)
        tree.add(f"sa_{number:02}", seed=number, folder=f"part_{number % 3}", P4_S16=p4)
    return tree


def copy_of(tree: FeatureTree, folder: Path) -> FeatureTree:
    shutil.copytree(tree.root, folder)
    return FeatureTree(folder)


@pytest.fixture(scope="module")
def updated(original: FeatureTree, tmp_path_factory: pytest.TempPathFactory) -> str:
    tree = copy_of(original, tmp_path_factory.mktemp("updated") / "tree")
    assert run(tree.arguments("update", "--workers", "0", "--quiet")) == 0
    return tree_hash(tree.root)


def start(tree: FeatureTree, *more: str) -> subprocess.Popen[bytes]:
    arguments = tree.arguments("update", "--workers", "2", "--quiet", *more)
    return subprocess.Popen([sys.executable, "-m", "commands.main", *arguments], cwd=PROJECT)


def done(tree: FeatureTree, original: FeatureTree) -> int:
    """How many files have been replaced."""
    old = {path.relative_to(original.root): path.stat().st_size for path in original.npz_dir.rglob("*.npz")}
    return sum((tree.root / path).stat().st_size != size for path, size in old.items())


def wait_until_done(tree: FeatureTree, original: FeatureTree, count: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while process.poll() is None and done(tree, original) < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def assert_whole(tree: FeatureTree, original: FeatureTree) -> None:
    """Every features file is as it was, or sound and marked."""
    for path in tree.npz_dir.rglob("*.npz"):
        old = original.root / path.relative_to(tree.root)
        if path.read_bytes() != old.read_bytes():
            assert check_npz(path, "any").problems == ()
            assert read_npz(path)["edge_version"].item() == "B_v1"


@pytest.mark.parametrize("done_before", [0, 1, 13, 30])
def test_kill_9_of_the_driver(original: FeatureTree, updated: str, tmp_path: Path, done_before: int) -> None:
    tree = copy_of(original, tmp_path / "tree")
    process = start(tree)
    wait_until_done(tree, original, done_before, process)
    process.kill()
    process.wait()
    time.sleep(0.1)  # the workers end when they notice
    assert_whole(tree, original)
    assert start(tree).wait(DEADLINE_S) == 0
    assert tree_hash(tree.root) == updated


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to find the workers")
def test_kill_9_of_a_worker_is_mended_within_the_run(original: FeatureTree, updated: str, tmp_path: Path) -> None:
    tree = copy_of(original, tmp_path / "tree")
    process = start(tree)
    wait_until_done(tree, original, 5, process)
    if process.poll() is None:
        worker, *_ = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(worker), signal.SIGKILL)
    assert process.wait(DEADLINE_S) == 0
    assert start(tree).wait(DEADLINE_S) == 0
    assert tree_hash(tree.root) == updated


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_nothing_half_written(
    original: FeatureTree, updated: str, tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    tree, report = copy_of(original, tmp_path / "tree"), tmp_path / "report.json"
    process = start(tree, "--report", str(report))
    wait_until_done(tree, original, 3, process)
    process.send_signal(signum)
    assert process.wait(DEADLINE_S) == code
    assert '"interrupted": true' in report.read_text()
    assert_whole(tree, original)
    assert not list(tree.root.rglob(".*"))
    assert start(tree).wait(DEADLINE_S) == 0
    assert tree_hash(tree.root) == updated


def test_real_records_with_kill_9_in_the_middle(shared_data: Path, tmp_path: Path) -> None:
    """Copies of the real records of SA-1B, under many ids."""
    records = sorted((shared_data / "sa1b").rglob("*.json"))
    tree = FeatureTree(tmp_path)
    expected = {}
    for number in range(24):
        record = records[number % len(records)]
        shutil.copyfile(record, tree.json_dir / f"sa_{number}.json")
        p4 = np.full((1, 256, 64, 64), number, np.float32)
        expected[tree.add_npz(f"sa_{number}_features.npz", features(f"sa_{number}", P4_S16=p4))] = record
    process = start(tree)
    deadline = time.monotonic() + DEADLINE_S
    while process.poll() is None and not any("edge_flag" in read_npz(path) for path in list(expected)[:3]):
        assert time.monotonic() < deadline
    process.kill()
    process.wait()
    assert start(tree).wait(DEADLINE_S) == 0
    for path, record in expected.items():
        arrays, maps = read_npz(path), documented_extract(record)
        assert all((arrays[f"edge_{side}x{side}"] == maps[side]).all() for side in (256, 64, 32))
        assert int(path.stem.removeprefix("sa_").removesuffix("_features")) == arrays["P4_S16"].flat[0]
    assert run(tree.arguments("verify", "--workers", "0", "--quiet")) == 0
    assert not list(tree.root.rglob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("round_number", range(12))
def test_kill_9_at_any_moment(original: FeatureTree, updated: str, tmp_path: Path, round_number: int) -> None:
    tree = copy_of(original, tmp_path / "tree")
    for attempt in range(8):
        process = start(tree)
        time.sleep(0.2 + 0.037 * round_number + 0.05 * attempt)
        if process.poll() is None:
            workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            for pid in (*map(int, workers[: attempt % 2]), process.pid):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        assert_whole(tree, original)
    assert start(tree).wait(DEADLINE_S) == 0
    assert tree_hash(tree.root) == updated
