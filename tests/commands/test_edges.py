"""``mvtk edges`` as a script sees it: exit codes, report, log, lines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from commands.main import run
from tests.datasets import tree_hash
from tests.feature_trees import FeatureTree, expected_maps, features
from toolkit.npz import read_npz


@pytest.fixture
def tree(tmp_path: Path) -> FeatureTree:
    return FeatureTree(tmp_path / "tree")


def test_update_verify_and_their_reports(tree: FeatureTree, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        tree.add(f"sa_{number}", seed=number)
    tree.add_npz("sa_9_features.npz", features("sa_9"))
    report, log = tmp_path / "report.json", tmp_path / "run.log"
    assert run(tree.arguments("update", "--workers", "2", "--report", str(report), "--log", str(log))) == 1
    content = json.loads(report.read_text())
    assert content["command"] == "edges update"
    assert content["counts"] == {"total": 4, "done": 3, "skipped": 0, "failed": 1}
    assert content["stats"]["edge_version"] == "B_v1"
    assert content["options"]["sort_by"] == "mtime"
    assert content["failed"][0]["source"] == "sa_9_features.npz"
    lines = log.read_text().splitlines()
    assert len(lines) == 4
    assert sum(line.startswith("[OK]") and "masks=4" in line and "maps=" in line for line in lines) == 3
    assert "annotation JSON not found" in capsys.readouterr().err

    (tree.npz_dir / "sa_9_features.npz").unlink()
    assert run(tree.arguments("verify", "--workers", "0", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["stats"]["marked"] == 3
    assert run(tree.arguments("update", "--workers", "0")) == 0
    assert "already processed" in capsys.readouterr().out


def test_verify_exits_1_and_names_the_file(tree: FeatureTree, capsys: pytest.CaptureFixture[str]) -> None:
    tree.add("sa_1")
    assert run(tree.arguments("verify", "--workers", "0", "-q")) == 1
    assert "sa_1_features.npz: edge_256x256 differs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--kernel-size", "0"], "--kernel-size"),
        (["--kernel-size", "2.5"], "valid integer"),
        (["--sort-by", "size"], "size"),
        (["--only-mtime-after", "nan"], "--only-mtime-after"),
        (["--shard", "3/3"], "--shard"),
    ],
)
def test_wrong_usage(tree: FeatureTree, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str) -> None:
    tree.add("sa_1")
    assert run(tree.arguments("update", *arguments)) == 2
    assert text in capsys.readouterr().err


def test_missing_folders_and_files_could_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = ["--npz-dir", str(tmp_path / "no_npz"), "--json-dir", str(tmp_path / "no_json")]
    for command in ("update", "verify"):
        assert run(["edges", command, *folders]) == 3
        err = capsys.readouterr().err
        assert "no_npz" in err
        assert "no_json" in err
    assert run(["edges", "extract", str(tmp_path / "no.json"), "--output", str(tmp_path / "out")]) == 3
    assert "no.json" in capsys.readouterr().err
    assert run(["edges", "preview", str(tmp_path / "no.json"), "--output", str(tmp_path / "out.png")]) == 3
    assert "no.json" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_configuration_file(tree: FeatureTree, tmp_path: Path) -> None:
    path = tree.add("sa_1", seed=4)
    config = tmp_path / "edges.yaml"
    config.write_text(
        f"npz-dir: {tree.npz_dir}\njson-dir: {tree.json_dir}\nkernel-size: 5\nset-edge-flag: true\nworkers: 0\n"
    )
    assert run(["edges", "update", "--config", str(config)]) == 0
    assert read_npz(path)["edge_version"].item() == "B_v1_k5"
    config.write_text(config.read_text() + "skip-if-processed: false\n")
    assert run(["edges", "update", "--config", str(config), "--kernel-size", "3", "--add-256"]) == 0
    np.testing.assert_array_equal(read_npz(path)["edge_32x32"], expected_maps(4)[32])


def test_a_dry_run_says_what_and_why(tree: FeatureTree, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree.add("sa_1")
    before, log = tree_hash(tree.root), tmp_path / "run.log"
    assert run(tree.arguments("update", "--dry-run", "--log", str(log))) == 0
    assert "would do" in capsys.readouterr().out
    assert "sa_1_features.npz" in log.read_text()
    assert tree_hash(tree.root) == before


def test_extract_and_preview(tree: FeatureTree, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    npz = tree.add("sa_1", seed=5)
    output, sheet = tmp_path / "edges", tmp_path / "sheet.png"
    assert run(["edges", "extract", str(tree.json_dir), "--output", str(output), "--workers", "2"]) == 0
    np.testing.assert_array_equal(read_npz(output / "sa_1_edges.npz")["edge_original"], expected_maps(5)["original"])
    capsys.readouterr()
    files = [str(tree.json_dir / "sa_1.json"), str(npz)]
    assert run(["edges", "preview", *files, "--output", str(sheet)]) == 0
    err = capsys.readouterr().err
    assert "no image" in err
    assert "2 images" in err
    assert sheet.stat().st_size
    assert run(["edges", "preview", *files, "--output", str(sheet)]) == 3
    assert "--overwrite" in capsys.readouterr().err
    assert run(["edges", "preview", *files, "--output", files[0], "--overwrite"]) == 2
