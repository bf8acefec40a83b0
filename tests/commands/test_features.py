"""``mvtk features`` as a script sees it: exit codes, report, log, lines."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands.main import run
from tests.datasets import tree_hash
from tests.feature_images import ImageTree, features, number_of, picture, use_fake_encoder
from toolkit.core import devices
from toolkit.core.devices import Gpus
from toolkit.npz import read_npz

ENCODER = ["--weights", "random:0", "--model", "sam2.1_hiera_tiny", "--device", "cpu", "--workers", "0"]
GPUS = Gpus(("NVIDIA A", "NVIDIA B", "NVIDIA C"))


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_encoder(monkeypatch)
    monkeypatch.setattr("toolkit.features.jobs.seconds_an_image", lambda *_: 36.0)


@pytest.fixture
def tree(tmp_path: Path) -> ImageTree:
    (tmp_path / "tree").mkdir()
    return ImageTree(tmp_path / "tree")


def bulk_fix(tree: ImageTree, *more: str) -> int:
    return run(["features", "bulk-fix", "--root", str(tree.root), *ENCODER, *more])


def stats_of(report: Path) -> Any:
    return json.loads(report.read_text())["stats"]


def test_bulk_fix_its_report_and_its_log(tree: ImageTree, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2):
        tree.add(f"sa_{number}", seed=number)
    tree.add_npz("sa_9_features.npz", features("sa_9"))
    report, log = tmp_path / "report.json", tmp_path / "run.log"
    assert bulk_fix(tree, "--report", str(report), "--log", str(log)) == 1
    content = json.loads(report.read_text())
    assert content["command"] == "features bulk-fix"
    assert content["counts"] == {"total": 3, "done": 2, "skipped": 0, "failed": 1}
    assert content["failed"][0]["source"] == "sa_9_features.npz"
    assert content["exit_code"] == 1
    assert content["stats"]["feature_source"]["model"] == "sam2.1_hiera_tiny"
    assert content["stats"]["devices"] == ["cpu"]
    lines = log.read_text().splitlines()
    assert len(lines) == 3
    assert [bool(re.match(rf"\[OK\] {n + 1}/\S+ sa_{n}_features\.npz .*bytes=\d+", lines[n])) for n in (0, 1)] == [
        True
    ] * 2
    assert lines[2].startswith("[ERR] 3/")
    output = capsys.readouterr()
    assert "image not found: sa_9" in output.err
    assert "the weights are random" in output.out

    (tree.root / "sa_9_features.npz").unlink()
    assert bulk_fix(tree, "--json") == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == {"already processed": 2}


def test_stale_files_are_counted_and_refreshed_on_request(
    tree: ImageTree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, report = tree.add("sa_1"), tmp_path / "report.json"
    assert bulk_fix(tree, "--dtype", "bfloat16") == 0
    assert bulk_fix(tree, "--report", str(report)) == 0
    assert stats_of(report)["stale"] == 1
    assert "stale: made by another model" in " ".join(capsys.readouterr().out.split())
    assert bulk_fix(tree, "--refresh-stale", "--report", str(report)) == 0
    assert stats_of(report)["stale"] == 0
    assert json.loads(read_npz(path)["feature_source"].item())["dtype"] == "float32"


def test_a_dry_run_says_hours_and_bytes(tree: ImageTree, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(100):
        tree.add_npz(f"sa_{number}_features.npz", {"x": np.zeros(1)})
        tree.add_image(f"sa_{number}.png")
    before = tree_hash(tree.root)
    assert bulk_fix(tree, "--dry-run") == 0
    output = " ".join(capsys.readouterr().out.split())
    assert re.search(r"would do 100 ", output)
    assert re.search(r"estimate: 1\.0 hours on cpu \(36 s an image, .*\), \S+ GB to write", output)
    assert tree_hash(tree.root) == before


@pytest.mark.parametrize("limit", ["--max-images", "--max-files"])
def test_fix_inplace_and_both_names_of_its_limit(tree: ImageTree, tmp_path: Path, limit: str) -> None:
    scattered = [ImageTree(tmp_path).add_npz(f"{folder}/{folder}_features.npz", features("x")) for folder in "ab"]
    images = [tree.add_image(f"{folder}.png", seed) for seed, folder in enumerate("ab")]
    samples = tmp_path / "samples.txt"
    samples.write_text("\n".join(map(str, images)))
    folders = ",".join(str(path.parent) for path in scattered)
    command = ["features", "fix-inplace", "--samples", str(samples), "--npz-dirs", folders, *ENCODER]
    assert run([*command, limit, "1"]) == 0
    assert ["IMAGE_EMB_S16" in read_npz(path) for path in scattered] == [True, False]
    assert run([*command, "--set-flag"]) == 0
    assert ["feature_flag" in read_npz(path) for path in scattered] == [False, True]
    assert (read_npz(scattered[1])["IMAGE_EMB_S16"] == number_of(picture(1))).all()
    assert run(["features", "fix-inplace", "--samples", str(samples), "--refresh-stale", *ENCODER]) == 2


def test_fix_splits(tree: ImageTree) -> None:
    paths = []
    for split in ("train", "test"):
        tree.add_image(f"{split}/sa_1.jpg")
        paths.append(tree.add_npz(f"{split}/extracted/sa_1_features.npz", features("sa_1")))
    folders = ",".join(str(path.parent) for path in paths)
    assert run(["features", "fix-splits", "--extracted-dirs", folders, *ENCODER]) == 0
    assert [read_npz(path)["feature_flag"].item() for path in paths] == [1, 1]


def test_extract_verify_recompute_and_preview(
    tree: ImageTree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.add_image("sa_1.png")
    assert run(["features", "extract", "--images", str(tree.root), "--output", str(tree.root), *ENCODER]) == 0
    capsys.readouterr()
    assert run(["features", "verify", str(tree.root), "--workers", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stats"]["models"] == {"sam2.1_hiera_tiny": 1}
    assert run(["features", "verify", str(tree.root), "--recompute", "5", *ENCODER, "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)["stats"]
    assert (stats["min_cosine"], stats["max_error"]) == (pytest.approx(1.0), 0.0)
    path, sheet = tree.root / "sa_1_features.npz", tmp_path / "sheet.png"
    assert run(["features", "preview", str(path), "--output", str(sheet)]) == 0
    assert f"{sheet}: 1 file" in "".join(capsys.readouterr().err.splitlines())
    assert run(["features", "preview", str(path), "--output", str(sheet)]) == 3
    assert run(["features", "preview", str(path), "--output", str(path), "--overwrite"]) == 2

    tree.add_npz("sa_2_features.npz", features("sa_2"))
    capsys.readouterr()
    assert run(["features", "verify", str(tree.root), "--workers", "0", "-q"]) == 1
    assert "sa_2_features.npz: feature_flag is not 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--batch-size", "0"], "--batch-size: '0' is neither a whole number of at least 1 nor auto"),
        (["--batch-size", "2.5"], "--batch-size"),
        (["--dtype", "float64"], "float64"),
        (["--store", "bfloat16"], "bfloat16"),
        (["--device", "gpu"], "--device"),
        (["--shard", "2/2"], "--shard"),
        (["--model", "sam2.1_hiera_smal"], "did you mean sam2.1_hiera_small?"),
        (["--model", "", "--weights", "random:0"], "there is no SAM2 model ''"),
    ],
)
def test_wrong_usage(tree: ImageTree, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str) -> None:
    tree.add("sa_1")
    before = tree_hash(tree.root)
    assert bulk_fix(tree, *arguments) == 2
    assert text in " ".join(capsys.readouterr().err.split())
    assert tree_hash(tree.root) == before


def test_recompute_and_weights_belong_together(tree: ImageTree, capsys: pytest.CaptureFixture[str]) -> None:
    tree.add("sa_1")
    assert run(["features", "verify", str(tree.root), "--recompute", "1"]) == 2
    assert "--recompute needs --weights" in capsys.readouterr().err
    assert run(["features", "verify", str(tree.root), "--weights", "random:0"]) == 2
    assert "--weights is for --recompute N" in capsys.readouterr().err
    assert run(["features", "verify", str(tree.root), "--recompute", "-1", *ENCODER]) == 2
    assert "--recompute" in capsys.readouterr().err


def test_a_name_that_does_not_say_the_model_needs_it(tree: ImageTree, capsys: pytest.CaptureFixture[str]) -> None:
    tree.add("sa_1")
    assert run(["features", "bulk-fix", "--root", str(tree.root), "--weights", "random:0", "--device", "cpu"]) == 2
    assert "the name does not say which model it is; use --model, one of" in " ".join(capsys.readouterr().err.split())


def test_missing_inputs_could_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = str(tmp_path / "gone")
    commands = {
        "bulk-fix": ["--root", gone, *ENCODER],
        "fix-inplace": ["--samples", gone, *ENCODER],
        "fix-splits": ["--extracted-dirs", gone, *ENCODER],
        "extract": ["--images", gone, "--output", str(tmp_path / "out"), *ENCODER],
        "verify": [gone],
        "preview": [gone, "--output", str(tmp_path / "out.png")],
    }
    for command, arguments in commands.items():
        assert run(["features", command, *arguments]) == 3, command
        assert "gone" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_missing_and_damaged_weights_could_not_run(
    tree: ImageTree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.add("sa_1")
    command = ["features", "bulk-fix", "--root", str(tree.root), "--device", "cpu", "--weights"]
    assert run([*command, str(tmp_path / "sam2.1_hiera_large.pt")]) == 3
    error = "".join(capsys.readouterr().err.split())
    assert "sam2.1_hiera_large.pt:nosuchfile" in error
    assert "https://dl.fbaipublicfiles.com/segment_anything_2/092824/sam2.1_hiera_large.pt" in error


# Devices


def test_a_gpu_that_does_not_exist_could_not_run(
    tree: ImageTree, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.add("sa_1")
    monkeypatch.setattr(devices, "find_gpus", lambda: GPUS)
    before = tree_hash(tree.root)
    command = ["features", "bulk-fix", "--root", str(tree.root), *ENCODER[:4], "--device"]
    assert run([*command, "cuda:7"]) == 3
    error = " ".join(capsys.readouterr().err.split())
    assert "there is no device cuda:7; --device takes cuda:0 (NVIDIA A), cuda:1 (NVIDIA B), cuda:2" in error
    monkeypatch.setattr(devices, "find_gpus", Gpus)
    assert run([*command, "cuda"]) == 3
    assert "--device takes cpu here" in " ".join(capsys.readouterr().err.split())
    assert tree_hash(tree.root) == before


def test_the_policy_of_a_server_is_two_lines_of_a_configuration_file(
    tree: ImageTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree.add("sa_1")
    monkeypatch.setattr(devices, "find_gpus", lambda: GPUS)
    config, report = tmp_path / "features.yaml", tmp_path / "report.json"
    config.write_text(
        f"root: {tree.root}\nweights: random:0\nmodel: sam2.1_hiera_tiny\ndry-run: true\n"
        "devices:\n  exclude: [0, 1]\n  prefer: [1, 2]\n"
    )
    command = ["features", "bulk-fix", "--config", str(config), "--report", str(report)]
    assert run(command) == 0
    assert stats_of(report)["devices"] == ["cuda:2"]
    assert run([*command, "--device", "cuda:0"]) == 3
    error = " ".join(capsys.readouterr().err.split())
    assert "device cuda:0 (NVIDIA A) is excluded by devices.exclude; --device takes cuda:2 (NVIDIA C), cpu" in error
    assert run([*command, "--devices-exclude", "0"]) == 0
    assert stats_of(report)["devices"] == ["cuda:1"]
    assert run([*command, "--devices-exclude", "0", "--device", "cuda:1,cuda:2"]) == 0
    assert stats_of(report)["devices"] == ["cuda:1", "cuda:2"]
    # 36 s, by two GPUs.
    assert "estimate: 0.3 minutes on 2 x cuda:1 (36 s an image" in " ".join(capsys.readouterr().out.split())


def test_an_unknown_key_of_a_configuration_file(
    tree: ImageTree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "features.yaml"
    config.write_text(f"root: {tree.root}\nweights: random:0\nrefresh-stal: true\n")
    assert run(["features", "bulk-fix", "--config", str(config)]) == 2
    assert "refresh-stale" in capsys.readouterr().err


def test_a_full_disk_could_not_go_on(
    tree: ImageTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        tree.add(f"sa_{number}")
    before, log = tree_hash(tree.root), tmp_path / "run.log"

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert bulk_fix(tree, "--log", str(log)) == 3
    assert "cannot write: No space left on device; free some space" in " ".join(capsys.readouterr().err.split())
    assert len(log.read_text().splitlines()) == 1
    assert tree_hash(tree.root) == before
    assert bulk_fix(tree) == 0
