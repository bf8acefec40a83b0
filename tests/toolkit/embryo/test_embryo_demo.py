"""The demonstration of the embryo commands: the ten files in miniature, and the way from them to an image folder."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.datasets import tree_hash, written
from toolkit.core.driver import run_to_end
from toolkit.core.errors import MissingExtraError, MvtkError
from toolkit.embryo.demo import FRAME_SIDE_PX, VIDEOS, main, write_demo
from toolkit.embryo.frame_index import open_frame_index
from toolkit.embryo.image_folder import ImageFolderJob, ImageFolderOptions
from toolkit.embryo.layout import ARCHIVE_NAMES, EXTRACTED_NAMES, GRADES_NAME
from toolkit.embryo.phases import PHASES, read_phase_ranges
from toolkit.embryo.planes import PLANES, FocalPlane
from toolkit.embryo.split import load_split, save_split
from toolkit.embryo.synthetic import verify_runs
from toolkit.embryo.tables import read_grades, read_time_stamps
from toolkit.images import load_image


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("skimage")
    output = tmp_path_factory.mktemp("embryo-demo") / "new"
    assert write_demo(output) == len(VIDEOS)
    return output


@pytest.fixture(scope="module")
def extracted(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("extracted")
    for name in ARCHIVE_NAMES:
        if name == GRADES_NAME:
            (root / name).write_bytes((demo / "archives" / name).read_bytes())
        else:
            with tarfile.open(demo / "archives" / name) as archive:
                archive.extractall(root, filter="data")
    return root


def test_the_ten_files_and_nothing_else(demo: Path, extracted: Path) -> None:
    assert written(demo / "archives") == sorted(ARCHIVE_NAMES)
    assert sorted(path.name for path in extracted.iterdir()) == sorted(EXTRACTED_NAMES)
    assert sum(path.stat().st_size for path in demo.rglob("*")) < 25e6


def test_tables_have_the_published_oddities(extracted: Path) -> None:
    index = open_frame_index(extracted)
    assert index.videos == tuple(video.name for video in VIDEOS)
    assert len(index) == 7 * sum(len(video.numbers) for video in VIDEOS)
    shown = set()
    for video in VIDEOS:
        ranges = read_phase_ranges(extracted / "embryo_dataset_annotations" / f"{video.name}_phases.csv")
        assert tuple(ranges) == video.phases
        shown |= {part.phase for part in ranges}
        times = read_time_stamps(extracted / "embryo_dataset_time_elapsed" / f"{video.name}_timeElapsed.csv")
        assert not np.isnan(times.hours_of(video.numbers)).any()
    assert shown == set(PHASES)
    assert any(video.missing for video in VIDEOS)
    assert any(video.phases[-1].last > video.frames for video in VIDEOS)
    assert "NA" in {grade.te for grade in read_grades(extracted / GRADES_NAME).values()}


def test_frames_differ_in_time_and_planes_in_sharpness(extracted: Path) -> None:
    index = open_frame_index(extracted)
    sharpness = {}
    for plane in PLANES:
        frames = [index.frame(position) for position in index.positions(plane, VIDEOS[0].name)]
        first, last = (load_image(frame.path, keep_mode=True).pixels for frame in (frames[0], frames[-1]))
        assert first.shape == (FRAME_SIDE_PX, FRAME_SIDE_PX)
        assert np.abs(first.astype(int) - last).mean() > 5
        sharpness[abs(plane.offset_um)] = float(np.var(np.diff(first.astype(int), axis=1)))
    assert sharpness[0] > sharpness[15] > sharpness[30] > sharpness[45]


def test_the_way_to_an_image_folder(extracted: Path, tmp_path: Path) -> None:
    save_split(extracted, tmp_path / "split.json", weights=(0.5, 0.25, 0.25))
    split = load_split(tmp_path / "split.json", [video.name for video in VIDEOS])
    assert [len(names) for names in split.values()] == [2, 1, 1]
    options = ImageFolderOptions(
        root=extracted,
        output=tmp_path / "out",
        split_file=tmp_path / "split.json",
        set_name="train",
        focal_planes=(FocalPlane.F_00,),
        median_only=True,
        workers=0,
    )
    report = run_to_end(ImageFolderJob(options))
    phases = [len(video.phases) for video in VIDEOS if video.name in split["train"]]
    assert report.figures.done == sum(phases)
    assert report.stats["complete"]


def test_synthetic_runs_are_sound(demo: Path) -> None:
    checks = verify_runs(demo / "all-synthetic-runs")
    assert [(check.name, check.problems, check.warnings) for check in checks] == [("run1", (), ()), ("run2", (), ())]


@pytest.mark.slow
def test_it_is_the_same_every_time(demo: Path, tmp_path: Path) -> None:
    write_demo(tmp_path)
    assert tree_hash(tmp_path) == tree_hash(demo)


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(MvtkError, match=r": not empty; give a new or an empty folder"):
        write_demo(tmp_path)
    assert main([str(tmp_path)]) == 3
    assert capsys.readouterr().err == f"error: {tmp_path}: not empty; give a new or an empty folder\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_nothing_is_written_where_scikit_image_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(MissingExtraError, match=r"scikit-image is not installed; .* '\.\[demo\]'"):
        write_demo(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().err == "usage: python -m toolkit.embryo.demo OUT\n"
