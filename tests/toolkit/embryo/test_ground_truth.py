"""The table of phases: a row for each frame that has one, in order, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.embryo_trees import MiniatureEmbryos, frame_name, published_oddities
from toolkit.core.errors import OptionError
from toolkit.core.files import TargetExistsError
from toolkit.embryo.ground_truth import GroundTruth, save_ground_truth
from toolkit.embryo.phases import PHASES, phase_of, read_phase_ranges
from toolkit.embryo.planes import FocalPlane


def test_rows_of_the_published_oddities(tmp_path: Path) -> None:
    embryos = published_oddities(tmp_path / "data")
    output = tmp_path / "truth.csv"
    assert save_ground_truth(embryos.root, output) == GroundTruth(7 + 10 + 10, ())
    lines = output.read_text().splitlines()
    assert lines[0] == "identifier,phase,phase_index"
    assert lines[1:8] == [
        *(f"F+00_AA83-7_{number},tPB2,0" for number in (2, 4)),
        *(f"F+00_AA83-7_{number},t2,3" for number in (5, 6, 9)),
        *(f"F+00_AA83-7_{number},tM,11" for number in (11, 12)),
    ]
    assert lines[8] == "F+00_DML271-2_2,tPB2,0"
    for line in lines[1:]:
        identifier, label, index = line.split(",")
        video, _, number = identifier.removeprefix("F+00_").rpartition("_")
        phase = phase_of(read_phase_ranges(embryos.tree.phases_path(video)), int(number))
        assert phase is PHASES[int(index)]
        assert phase.label == label


def test_planes_come_in_their_order_and_once(tmp_path: Path) -> None:
    embryos = MiniatureEmbryos(tmp_path / "data", (FocalPlane.F_MINUS_15, FocalPlane.F_00))
    embryos.add_video("A,1", frames=[2])
    output = tmp_path / "truth.csv"
    planes = (FocalPlane.F_00, FocalPlane.F_MINUS_15, FocalPlane.F_00)
    assert save_ground_truth(embryos.root, output, planes=planes).rows == 2
    assert output.read_text().splitlines()[1:] == ['"F-15_A,1_2",tPB2,0', '"F+00_A,1_2",tPB2,0']
    with pytest.raises(OptionError, match=r"no videos of focal plane F-45; it has F-15, F\+00"):
        save_ground_truth(embryos.root, output, planes=[FocalPlane.F_MINUS_45], overwrite=True)
    with pytest.raises(TargetExistsError, match=r"truth\.csv exists already; use --overwrite"):
        save_ground_truth(embryos.root, output)


def test_videos_without_phases_are_told(tmp_path: Path) -> None:
    embryos = MiniatureEmbryos(tmp_path / "data", (FocalPlane.F_00,))
    for number in range(7):
        embryos.add_video(f"A-{number}", frames=[2])
        if number:
            embryos.tree.phases_path(f"A-{number}").unlink()
    truth = save_ground_truth(embryos.root, tmp_path / "truth.csv")
    assert truth == GroundTruth(
        1, ("6 videos without a phases table, and so without labels: A-1, A-2, A-3, A-4, A-5, …",)
    )


def test_frames_that_went_are_noticed(tmp_path: Path) -> None:
    embryos = MiniatureEmbryos(tmp_path / "data", (FocalPlane.F_00,))
    embryos.add_video("A-1", frames=[2, 3])
    time.sleep(0.12)  # an index of a folder that has just changed is not relied on
    assert save_ground_truth(embryos.root, tmp_path / "truth.csv").rows == 2
    (embryos.folder(FocalPlane.F_00, "A-1") / frame_name(3)).unlink()
    assert save_ground_truth(embryos.root, tmp_path / "truth.csv", overwrite=True).rows == 1
