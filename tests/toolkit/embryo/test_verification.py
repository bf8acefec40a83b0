"""Verifying a dataset as a batch job."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.builders import encoded
from tests.embryo_trees import MiniatureEmbryos, frame_bytes, published_oddities
from toolkit.core.driver import JobRun, run_to_end
from toolkit.core.errors import MvtkError
from toolkit.core.report import Report
from toolkit.embryo.inspection import BAD_TABLE, DAMAGED_FRAME, NESTED_COPY, NO_TABLE, NO_VIDEO, PAST_THE_END
from toolkit.embryo.jpeg_warnings import jpeg_data_problem
from toolkit.embryo.planes import FocalPlane
from toolkit.embryo.verification import VerifyEmbryoJob, VerifyEmbryoOptions


@pytest.fixture
def embryos(tmp_path: Path) -> MiniatureEmbryos:
    return published_oddities(tmp_path)


def verify(embryos: MiniatureEmbryos, **changes: Any) -> Report:
    return run_to_end(VerifyEmbryoJob(VerifyEmbryoOptions(**{"root": embryos.root, "workers": 0, **changes})))


@pytest.mark.parametrize("decode", [False, True])
def test_the_published_oddities_pass(embryos: MiniatureEmbryos, decode: bool) -> None:
    report = verify(embryos, decode=decode)
    assert (report.figures.done, report.figures.failed) == (6, 0)  # three videos, three parts with tables
    assert report.figures.warnings[NESTED_COPY] == 1
    assert report.figures.warnings[PAST_THE_END] == 3
    assert (report.stats["frames"], report.stats["missing_parts"], len(report.stats["remarks"])) == (231, [], 1)
    assert report.stats["remarks"][0].startswith("the items are the videos, and the parts with tables: embryo_data")


def test_a_truncated_frame_fails_its_video(embryos: MiniatureEmbryos) -> None:
    embryos.add_frame(FocalPlane.F_00, "AA83-7", 4, content=frame_bytes(4)[:-2])
    report = verify(embryos)
    assert report.figures.failure_kinds == {DAMAGED_FRAME: 1}
    [failure] = report.failed
    assert failure["source"] == "AA83-7"
    assert failure["reason"] == "F+00: D2013.01.28_S0717_I132_WELL7_RUN4.jpeg is cut short (no JPEG end marker)"
    assert report.stats["frames"] == 231


def test_only_decoding_finds_damage_inside(embryos: MiniatureEmbryos) -> None:
    content = bytearray(frame_bytes(4))
    start = content.find(b"\xff\xc0")  # the frame header, whose height becomes 0
    content[start + 5 : start + 7] = b"\0\0"
    embryos.add_frame(FocalPlane.F_00, "AA83-7", 4, content=bytes(content))
    assert verify(embryos).figures.failed == 0
    [failure] = verify(embryos, decode=True).failed
    assert failure["reason"].startswith("F+00: D2013.01.28_S0717_I132_WELL7_RUN4.jpeg ")
    assert str(embryos.root) not in failure["reason"]


def with_noise(content: bytes) -> bytes:
    """A JPEG file in which some bytes of the image data are others."""
    start, damaged = content.find(b"\xff\xda") + 12, bytearray(content)
    damaged[start + 200 : start + 400] = bytes(200)
    return bytes(damaged)


@pytest.fixture
def photograph() -> bytes:
    """A JPEG file of which much is image data."""
    return encoded(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8), "JPEG")


@pytest.mark.parametrize("workers", [0, 1])
def test_decoding_finds_damaged_image_data(embryos: MiniatureEmbryos, photograph: bytes, workers: int) -> None:
    embryos.add_frame(FocalPlane.F_00, "AA83-7", 4, content=photograph)
    assert verify(embryos, decode=True, workers=workers).figures.failed == 0
    embryos.add_frame(FocalPlane.F_00, "AA83-7", 4, content=with_noise(photograph))
    assert verify(embryos, workers=workers).figures.failed == 0
    [failure] = verify(embryos, decode=True, workers=workers).failed
    assert "RUN4.jpeg has damaged image data (" in failure["reason"]


def test_what_others_write_to_standard_error_meanwhile_is_passed_on(
    tmp_path: Path, photograph: bytes, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.jpeg"
    path.write_bytes(with_noise(photograph))
    decode = cv2.imdecode

    def talking(content: NDArray[np.uint8], flags: int) -> object:
        os.write(2, b"progress 1\n")
        image = decode(content, flags)
        os.write(2, b"progress 2\n")
        return image

    monkeypatch.setattr(cv2, "imdecode", talking)
    assert "data" in jpeg_data_problem(str(path)) or "bytes" in jpeg_data_problem(str(path))
    assert set(capfd.readouterr().err.splitlines()) == {"progress 1", "progress 2"}


def test_what_is_odd_is_told_of_its_video(embryos: MiniatureEmbryos) -> None:
    job = VerifyEmbryoJob(VerifyEmbryoOptions(root=embryos.root, workers=0))
    outcomes = {outcome.source: outcome for outcome in JobRun(job).outcomes()}
    assert outcomes["DML271-2"].status == "done"
    assert outcomes["DML271-2"].reason.startswith("sound; to know: F+00 has a nested F0 folder")
    assert outcomes["embryo_dataset_grades.csv"].reason == ""


def test_all_problems_of_a_video_are_one_failure(embryos: MiniatureEmbryos) -> None:
    embryos.add_frame(FocalPlane.F_00, "AA83-7", 4, content=b"\xff\xd8")
    embryos.tree.times_path("AA83-7").unlink()
    embryos.tree.times_path("DML271-2").unlink()
    report = verify(embryos)
    assert report.figures.failure_kinds == {"several problems": 1, NO_TABLE: 1}
    assert "is cut short" in report.failed[0]["reason"]
    assert "AA83-7_timeElapsed.csv is missing" in report.failed[0]["reason"]


def test_tables_of_their_own(embryos: MiniatureEmbryos) -> None:
    embryos.write_phases("B-1", {"t2": (1, 2)})
    embryos.tree.grades_path.write_text("video_name,TE,ICM\nA-1,A\n")
    report = verify(embryos)
    assert report.figures.warnings[NO_VIDEO] == 1
    assert report.figures.failure_kinds == {BAD_TABLE: 1}
    [failure] = report.failed
    assert failure["source"] == "embryo_dataset_grades.csv"
    assert "line 2: 2 fields, not 3 as in the header" in failure["reason"]


def test_a_part_of_a_dataset(tmp_path: Path) -> None:
    embryos = MiniatureEmbryos(tmp_path, [FocalPlane.F_00])
    embryos.add_video("A-1")
    report = verify(embryos)
    assert report.figures.failed == 0
    remark, _ = report.stats["remarks"]
    assert remark.startswith("not there, and not verified: embryo_dataset_F-45, embryo_dataset_F-30")


def test_a_dataset_without_videos(tmp_path: Path) -> None:
    MiniatureEmbryos(tmp_path)
    with pytest.raises(MvtkError, match="no videos in it; give the folder that mvtk embryo extract made"):
        VerifyEmbryoJob(VerifyEmbryoOptions(root=tmp_path))


def test_shards_share_out_the_items(embryos: MiniatureEmbryos) -> None:
    sizes = [VerifyEmbryoJob(VerifyEmbryoOptions(root=embryos.root, shard=f"{part}/3")).size for part in range(3)]
    assert sum(sizes) == 6
    assert max(sizes) < 6


def test_in_workers(embryos: MiniatureEmbryos) -> None:
    embryos.add_frame(FocalPlane.F_00, "AA83-7", 4, content=b"\xff\xd8")
    report = run_to_end(VerifyEmbryoJob(VerifyEmbryoOptions(root=embryos.root, workers=1)))
    assert (report.figures.done, report.figures.failed) == (5, 1)
