"""What ``mvtk embryo`` says on a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands.main import run
from tests.embryo_trees import MiniatureEmbryos
from toolkit.embryo.planes import FocalPlane


@pytest.fixture
def root(tmp_path: Path) -> Path:
    embryos = MiniatureEmbryos(tmp_path / "data", (FocalPlane.F_00,))
    for number in range(4):
        embryos.add_video(f"AA{number}-1")
    embryos.tree.phases_path("AA3-1").unlink()
    return embryos.root


def test_ground_truth_warns_of_videos_without_phases(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = root.parent / "truth.csv"
    assert run(["embryo", "ground-truth", str(root), str(output)]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "warning: 1 video without a phases table, and so without labels: AA3-1",
        f"{output}: 30 rows",
    ]


@pytest.mark.parametrize(("columns", "has_frames"), [("40", False), ("80", True)])
def test_the_table_of_a_split_fits(
    root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: str,
    has_frames: bool,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert run(["embryo", "split", str(root), str(root.parent / "split.json")]) == 0
    said = capsys.readouterr()
    rows = [line.split() for line in said.out.splitlines()]
    assert ["all", *(["2", "2.4", "24", "1", "0.8", "12", "1", "0.8", "12"] if has_frames else ["2", "1", "1"])] in rows
    assert ("frames" in said.out.split("tPB2")[0]) == has_frames
    assert "warning: 1 video without a phases table" in said.err


def test_inspect_speaks_in_words(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["embryo", "inspect", str(root)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "the contents of the frames were not looked at: --check-files does that" in said
    assert "frames without a phase: 18" in said
    assert "problems in 1 video: mvtk embryo verify names them" in said
    assert not any("_" in line.partition(":")[0] for line in said)
    assert run(["embryo", "inspect", str(root), "--check-files"]) == 0
    assert "frames whose ends were looked at: 48" in capsys.readouterr().out.splitlines()


def test_verify_tells_of_which_video_it_warns(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["embryo", "verify", str(root), "--verbose", "--workers", "0"]) == 1
    said = capsys.readouterr()
    assert "AA0-1: sound; to know: the phases end at frame 14, 2 past the last frame 12" in said.err
    assert "the items are the videos, and the parts with tables: embryo_dataset_annotations, " in said.out
