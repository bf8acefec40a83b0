"""Kill the repair of features at any moment: every file is its old or its new self, and a rerun finishes the work."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands.main import run
from tests.builders import write_image
from tests.conftest import PROJECT
from tests.datasets import tree_hash
from tests.feature_images import ImageTree, features, use_fake_encoder
from tests.sam2_checkpoints import MINI, save_checkpoint, saved_weights
from toolkit.core.driver import run_to_end
from toolkit.features import MODELS, FeatureSource, Weights
from toolkit.features.bulk_fix import BulkFixJob
from toolkit.features.options import BulkFixOptions
from toolkit.images import load_image
from toolkit.npz import check_npz, read_npz

FILES = 8
DEADLINE_S = 90.0
MVTK_WITH_MINI = f"""
from commands.main import main
from toolkit.features.sam2_models import MODELS, Sam2Model
MODELS[{MINI.name!r}] = {MINI!r}
main()
"""
"""A program: ``mvtk`` that knows the small model. Its workers get the model with the weights."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weights]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(MODELS, MINI.name, MINI)
        yield saved_weights(tmp_path_factory.mktemp("mini"), MINI)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> ImageTree:
    """Features files of real size with a pickled member each, nothing repaired."""
    tree = ImageTree(tmp_path_factory.mktemp("original"))
    for number in range(FILES):
        tree.add(f"sa_{number:02}", seed=number, folder=f"part_{number % 3}", masks=np.array([{"id": number}]))
    return tree


@pytest.fixture(scope="module")
def repaired(original: ImageTree, weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> str:
    tree = copy_of(original, tmp_path_factory.mktemp("repaired") / "tree")
    finish(tree, weights)
    return tree_hash(tree.root)


def copy_of(tree: ImageTree, folder: Path) -> ImageTree:
    shutil.copytree(tree.root, folder)
    return ImageTree(folder)


def finish(tree: ImageTree, weights: Weights) -> None:
    """Run the command to its end, in this process."""
    assert run([*arguments(tree, weights), "--workers", "0"]) == 0


def arguments(tree: ImageTree, weights: Weights) -> list[str]:
    encoder = ["--weights", str(weights.path), "--model", weights.model.name, "--device", "cpu", "--quiet"]
    return ["features", "bulk-fix", "--root", str(tree.root), *encoder]


def start(tree: ImageTree, weights: Weights, *more: str) -> subprocess.Popen[bytes]:
    """Start the command with one worker, which reads and writes in threads beside the encoder."""
    command = [sys.executable, "-c", MVTK_WITH_MINI, *arguments(tree, weights), "--workers", "2", "--batch-size", "2"]
    return subprocess.Popen([*command, *more], cwd=PROJECT)


def changed(tree: ImageTree, original: ImageTree) -> list[Path]:
    """The features files that have been replaced."""
    files = (path.relative_to(original.root) for path in original.root.rglob("*.npz"))
    return [path for path in files if (tree.root / path).stat().st_size != (original.root / path).stat().st_size]


def wait_until_changed(tree: ImageTree, original: ImageTree, count: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while process.poll() is None and len(changed(tree, original)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def assert_whole(tree: ImageTree, original: ImageTree, weights: Weights) -> None:
    """Every features file is as it was, or sound and marked."""
    for path in original.root.rglob("*.npz"):
        now = tree.root / path.relative_to(original.root)
        if now.read_bytes() != path.read_bytes():
            assert check_npz(now, "features").problems == ()
            source = FeatureSource.parse(read_npz(now, ("feature_source",))["feature_source"].item())
            assert source == FeatureSource.of(weights, "float32")


def worker_of(process: subprocess.Popen[bytes]) -> int:
    worker, *_ = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(worker)


@pytest.mark.parametrize("done_before", [3, *(pytest.param(count, marks=pytest.mark.slow) for count in (0, 1, 5))])
def test_kill_9_of_the_driver(
    original: ImageTree, weights: Weights, repaired: str, tmp_path: Path, done_before: int
) -> None:
    tree = copy_of(original, tmp_path / "tree")
    process = start(tree, weights)
    wait_until_changed(tree, original, done_before, process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    time.sleep(0.3)  # the worker ends when it notices
    assert_whole(tree, original, weights)
    finish(tree, weights)
    assert tree_hash(tree.root) == repaired


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to find the worker")
def test_kill_9_of_the_worker_is_mended_within_the_run(
    original: ImageTree, weights: Weights, repaired: str, tmp_path: Path
) -> None:
    tree = copy_of(original, tmp_path / "tree")
    process = start(tree, weights)
    wait_until_changed(tree, original, 3, process)
    os.kill(worker_of(process), signal.SIGKILL)
    assert process.wait(DEADLINE_S) == 0
    assert tree_hash(tree.root) == repaired


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_leaves_nothing_half_written(
    original: ImageTree, weights: Weights, repaired: str, tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    tree, report = copy_of(original, tmp_path / "tree"), tmp_path / "report.json"
    process = start(tree, weights, "--report", str(report))
    wait_until_changed(tree, original, 2, process)
    process.send_signal(signum)
    assert process.wait(DEADLINE_S) == code
    assert '"interrupted": true' in report.read_text()
    assert_whole(tree, original, weights)
    assert len(changed(tree, original)) >= 2
    assert not list(tree.root.rglob(".*"))
    finish(tree, weights)
    assert tree_hash(tree.root) == repaired


@pytest.mark.slow
@pytest.mark.parametrize("round_number", range(6))
def test_kill_9_at_any_moment(
    original: ImageTree, weights: Weights, repaired: str, tmp_path: Path, round_number: int
) -> None:
    tree = copy_of(original, tmp_path / "tree")
    for attempt in range(3):
        process = start(tree, weights)
        wait_until_changed(tree, original, 1 + len(changed(tree, original)), process)
        time.sleep(0.031 * round_number + 0.017 * attempt)
        if process.poll() is None:
            for pid in (worker_of(process), process.pid)[attempt % 2 :]:
                os.kill(pid, signal.SIGKILL)
        process.wait()
        time.sleep(0.3)
        assert_whole(tree, original, weights)
    finish(tree, weights)
    assert tree_hash(tree.root) == repaired


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_a_full_disk_at_any_call_leaves_every_file_whole(
    original: ImageTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Of the calls that write, the k-th fails, for every k."""
    use_fake_encoder(monkeypatch)
    tree = ImageTree(tmp_path / "tree")
    for number in range(2):
        tree.add(f"sa_{number}")
    old = {path: path.read_bytes() for path in tree.root.rglob("*.npz")}
    real = getattr(os, call)
    for k in range(100):
        for path, content in old.items():
            path.write_bytes(content)
        calls = 0

        def failing(*values: Any, limit: int = k, **options: Any) -> Any:
            nonlocal calls
            writes = call != "open" or bool(values[1] & os.O_CREAT)
            calls += writes
            if writes and calls == limit + 1:
                raise OSError(28, "No space left on device")
            return real(*values, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing)
            code = run(["features", "bulk-fix", "--root", str(tree.root), "--weights", "random:0", "--quiet",
                        "--model", "sam2.1_hiera_tiny", "--device", "cpu", "--workers", "0"])  # fmt: skip
        assert not list(tree.root.rglob(".mvtk-*"))
        for path, content in old.items():
            assert path.read_bytes() == content or check_npz(path, "features").problems == ()
        if calls <= k:
            assert code == 0
            break
        assert code == 3
    assert 0 < calls <= k


@pytest.mark.slow
def test_real_photographs_with_a_base_plus_checkpoint_and_kill_9_in_the_middle(
    shared_data: Path, tmp_path: Path
) -> None:
    model = MODELS["sam2.1_hiera_base_plus"]
    checkpoint = save_checkpoint(tmp_path, model, seed=3)
    tree = ImageTree(tmp_path / "tree")
    photographs = sorted((shared_data / "sa1b").rglob("*.jpg"))[:3]
    for photograph in photographs:
        image_hwc = load_image(photograph).pixels
        write_image(tree.root / photograph.name, image_hwc)
        tree.add_npz(
            f"extracted/{photograph.stem}_features.npz",
            features(photograph.stem, image_shape=np.array(image_hwc.shape), masks=np.array([None])),
        )
    original = copy_of(tree, tmp_path / "original")
    command = [sys.executable, "-m", "commands.main", "features", "bulk-fix", "--root", str(tree.root), "--quiet",
               "--weights", str(checkpoint), "--device", "cpu"]  # fmt: skip
    process = subprocess.Popen(command, cwd=PROJECT)
    wait_until_changed(tree, original, 1, process)
    process.kill()
    process.wait()
    assert subprocess.run(command, cwd=PROJECT, check=False).returncode == 0
    values: dict[str, Any] = {"root": tree.root, "weights": str(checkpoint), "workers": 0, "device": "cpu"}
    assert run_to_end(BulkFixJob(BulkFixOptions(**values))).figures.skip_reasons == {"already processed": 3}
    assert run(["features", "verify", str(tree.root), "--recompute", "1", "--weights", str(checkpoint),
                "--device", "cpu", "--workers", "0"]) == 0  # fmt: skip
    assert not list(tree.root.rglob(".*"))
