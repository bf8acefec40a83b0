"""Image folders: the right frames under the right numbers, loaded by others as they are, and gone on with."""

from __future__ import annotations

import csv
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.datasets import tree_hash, written
from tests.embryo_trees import MiniatureEmbryos, brightness_of, frame_bytes, frame_name
from toolkit.core.driver import run_to_end
from toolkit.core.errors import InputProblemsError, MvtkError, OptionError, StopRunError
from toolkit.core.options import Shard
from toolkit.core.report import Report
from toolkit.embryo import image_copy
from toolkit.embryo.dataset import EmbryoDataset
from toolkit.embryo.image_copy import FolderImage
from toolkit.embryo.image_folder import ImageFolderJob, ImageFolderOptions
from toolkit.embryo.phases import PHASES, Phase
from toolkit.embryo.planes import PLANES, FocalPlane
from toolkit.embryo.stratification import shuffle_key

PLANES_HERE = (FocalPlane.F_MINUS_15, FocalPlane.F_00)
TEXT = "a microscopic image of a human embryo at phase {} recorded at focal plane {}"
PHASE_OF = {number: "tPB2" if number <= 4 else "t2" if number <= 9 else "tM" for number in (*range(2, 10), 11, 12)}
"""The labelled frames of a video of the miniature."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    embryos = MiniatureEmbryos(tmp_path / "data", PLANES_HERE)
    for name in ("AA83-7", "DML271-2", "LEG557-3"):
        embryos.add_video(name)
    return embryos.root


@pytest.fixture
def split_file(tmp_path: Path) -> Path:
    path = tmp_path / "split.json"
    path.write_text('{"train": ["AA83-7", "DML271-2"], "test": ["LEG557-3"]}')
    return path


def job(root: Path, **changes: Any) -> ImageFolderJob:
    given = {"root": root, "output": root.parent / "out", "workers": 0, "shuffle": False, **changes}
    return ImageFolderJob(ImageFolderOptions(**given))


def make(root: Path, **changes: Any) -> Report:
    return run_to_end(job(root, **changes))


def rows_of(output: Path) -> list[dict[str, str]]:
    with (output / "metadata.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def labels_of(output: Path) -> list[str]:
    return [row["label"] for row in rows_of(output)]


def damage(root: Path, video: str, number: int, content: bytes = b"") -> Path:
    path = root / "embryo_dataset" / video / frame_name(number)
    path.write_bytes(content or path.read_bytes()[:-2])
    return path


def test_the_documented_files(root: Path, split_file: Path) -> None:
    before = tree_hash(root / "embryo_dataset")
    report = make(root, split_file=split_file, set_name="test")
    out = root.parent / "out"
    assert report.figures.done == len(PHASE_OF)
    assert report.stats == {"complete": True, "images": 10}
    assert written(out) == sorted(
        [
            ".mvtk-image-folder.json",
            "metadata.csv",
            *(f"images/{number}.jpeg" for number in range(10)),
            *(f"description/{number}.txt" for number in range(10)),
        ]
    )
    assert (out / "metadata.csv").read_text().splitlines()[:2] == [
        "filename,label,phase,file_name,text",
        f"0.jpeg,F+00_LEG557-3_2,tPB2,images/0.jpeg,{TEXT.format('tPB2', 'F+00')}",
    ]
    for number, (row, (frame, phase)) in enumerate(zip(rows_of(out), PHASE_OF.items(), strict=True)):
        text = TEXT.format(phase, "F+00")
        assert row == {
            "filename": f"{number}.jpeg",
            "label": f"F+00_LEG557-3_{frame}",
            "phase": phase,
            "file_name": f"images/{number}.jpeg",
            "text": text,
        }
        assert (out / "description" / f"{number}.txt").read_text() == text
        assert (out / "images" / f"{number}.jpeg").read_bytes() == frame_bytes(brightness_of(FocalPlane.F_00, frame))
    assert tree_hash(root / "embryo_dataset") == before


# In a process of its own: the library leaves files open, for which this one would be blamed.
LOAD = """
import json, sys
from datasets import load_dataset
loaded = load_dataset("imagefolder", data_dir=sys.argv[1], cache_dir=sys.argv[2])
rows = [{**row, "image": row["image"].convert("L").getpixel((3, 3))} for row in loaded["train"]]
print(json.dumps({"splits": list(loaded), "rows": rows}))
"""


def test_hugging_face_loads_it_as_it_is(root: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("datasets") is None:
        pytest.skip("the library datasets is not installed")
    damage(root, "DML271-2", 5)
    make(root, focal_planes="all", shuffle=True)
    command = [sys.executable, "-c", LOAD, str(tmp_path / "out"), str(tmp_path / "cache")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert loaded["splits"] == ["train"]
    by_label = {row["label"]: row for row in loaded["rows"]}
    assert len(by_label) == len(loaded["rows"]) == 2 * 3 * len(PHASE_OF) - 1
    for label, row in by_label.items():
        plane_label, _, number = label.split("_")
        plane = next(plane for plane in PLANES if plane.label == plane_label)
        assert row.keys() == {"image", "filename", "label", "phase", "text"}
        assert row["phase"] == PHASE_OF[int(number)]
        assert row["text"] == TEXT.format(row["phase"], plane_label)
        assert abs(row["image"] - brightness_of(plane, int(number))) <= 2


def test_frames_are_chosen_by_phase_plane_and_middle(root: Path) -> None:
    make(root, phases="t2, tM", focal_planes=("_F-15", "F0"), median_only=True)
    assert labels_of(root.parent / "out") == [
        f"{plane}_{video}_{number}"
        for plane in ("F-15", "F+00")
        for video in ("AA83-7", "DML271-2", "LEG557-3")
        for number in (7, 12)
    ]


def test_shuffled_numbers_are_those_of_the_hash(root: Path) -> None:
    labels = sorted(f"F+00_{video}_{number}" for video in ("AA83-7", "DML271-2", "LEG557-3") for number in PHASE_OF)
    make(root, shuffle=True, seed=3)
    assert labels_of(root.parent / "out") == sorted(labels, key=lambda label: shuffle_key(3, label))
    make(root, shuffle=True, seed=4, output=root.parent / "other")
    other = labels_of(root.parent / "other")
    assert other != labels_of(root.parent / "out")
    assert sorted(other) == labels


def test_a_damaged_frame_keeps_its_number_and_has_no_row(root: Path) -> None:
    cut = damage(root, "AA83-7", 3)
    text = damage(root, "AA83-7", 4, b"no image")
    gone = root / "embryo_dataset" / "AA83-7" / frame_name(6)
    out = root.parent / "out"
    first = job(root)
    gone.write_bytes(b"")
    report = run_to_end(first)
    assert [failed["reason"] for failed in report.failed] == [
        "the file is truncated (no JPEG end marker)",
        "not a JPEG file",
        "the file is empty",
    ]
    assert [failed["source"] for failed in report.failed] == [str(path.relative_to(root)) for path in (cut, text, gone)]
    assert [row["filename"] for row in rows_of(out)][:3] == ["0.jpeg", "3.jpeg", "5.jpeg"]
    assert not (out / "images" / "1.jpeg").exists()
    assert not (out / "description" / "1.txt").exists()
    cut.write_bytes(frame_bytes(1))
    again = make(root)
    assert (again.figures.done, again.figures.failed, again.figures.skipped) == (1, 2, 27)
    assert [row["filename"] for row in rows_of(out)][:3] == ["0.jpeg", "1.jpeg", "3.jpeg"]


def test_run_again_changes_nothing(root: Path) -> None:
    make(root, shuffle=True)
    out = root.parent / "out"
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert make(root, shuffle=True).figures.skip_reasons == {"exists already": 30}
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == times


@pytest.mark.parametrize("removed", ["images/4.jpeg", "description/4.txt", "metadata.csv"])
def test_what_a_killed_run_left_is_completed(root: Path, removed: str) -> None:
    make(root)
    out = root.parent / "out"
    before = tree_hash(out)
    (out / removed).unlink()
    (out / ".mvtk-staging").mkdir()
    (out / ".mvtk-staging" / "4.jpeg").write_bytes(b"half")
    assert make(root).figures.done == (removed != "metadata.csv")
    assert tree_hash(out) == before


class Killed(BaseException):
    """Ends a run as a signal would: nothing catches it."""


@pytest.mark.parametrize("link", [False, True])
def test_a_run_that_dies_at_any_moment_is_completed_by_the_next(
    root: Path, monkeypatch: pytest.MonkeyPatch, link: bool
) -> None:
    options: dict[str, Any] = {"median_only": True, "shuffle": True, "link": link}
    whole = root.parent / "whole"
    make(root, output=whole, **options)
    expected = tree_hash(whole)
    replaces = len(list(whole.rglob("*.txt"))) + (0 if link else len(list(whole.rglob("*.jpeg"))))
    for moment in range(replaces):
        out = root.parent / f"out-{moment}"
        calls = itertools.count()
        replace = os.replace

        def dying(source: str, target: str) -> None:
            if next(calls) == moment:  # noqa: B023 - called in this round of the loop only
                raise Killed
            replace(source, target)  # noqa: B023

        with monkeypatch.context() as patched:
            patched.setattr(image_copy.os, "replace", dying)
            with pytest.raises(Killed):
                make(root, output=out, **options)
        assert not (out / "metadata.csv").exists()
        make(root, output=out, **options)
        assert tree_hash(out) == expected


def test_an_interrupted_run_has_no_table(root: Path) -> None:
    report = make(root, max_files=7)
    out = root.parent / "out"
    assert report.stats["remarks"] == [
        "metadata.csv is not written yet: run the command again, without --shard and --max-files, to write it"
    ]
    assert not (out / "metadata.csv").exists()
    assert make(root).figures.skipped == 7
    assert len(rows_of(out)) == 30


def test_shards_fill_one_folder_and_a_run_of_all_writes_the_table(root: Path) -> None:
    whole = root.parent / "whole"
    make(root, output=whole, shuffle=True)
    counts = [make(root, shard=Shard(part, 2), shuffle=True).figures.done for part in range(2)]
    assert sum(counts) == 30
    assert min(counts) > 0
    assert not (root.parent / "out" / "metadata.csv").exists()
    assert make(root, shuffle=True).figures.skipped == 30
    assert tree_hash(root.parent / "out") == tree_hash(whole)


def test_workers_make_the_same_folder(root: Path) -> None:
    make(root)
    make(root, workers=2, output=root.parent / "other")
    assert tree_hash(root.parent / "other") == tree_hash(root.parent / "out")


def test_links_share_the_files_of_the_dataset(root: Path) -> None:
    linked = root / "embryo_dataset" / "AA83-7" / frame_name(2)
    elsewhere = root.parent / "elsewhere.jpeg"
    linked.rename(elsewhere)
    linked.symlink_to(elsewhere)
    make(root, link=True)
    images = root.parent / "out" / "images"
    assert os.path.samestat(elsewhere.stat(), (images / "0.jpeg").lstat())
    assert (root / "embryo_dataset" / "AA83-7" / frame_name(3)).samefile(images / "1.jpeg")
    assert make(root).figures.skipped == 30


def test_a_link_that_cannot_be_made_ends_the_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(18, "")

    monkeypatch.setattr(image_copy.os, "link", refuse)
    with pytest.raises(StopRunError, match=r"cannot link to .*: Invalid cross-device link; copy .* with --no-link$"):
        make(root, link=True)
    assert not (root.parent / "out" / "metadata.csv").exists()


def test_other_options_are_refused_unless_overwriting(root: Path) -> None:
    out = root.parent / "out"
    make(root, shuffle=True, seed=3)
    before = tree_hash(out)
    with pytest.raises(MvtkError) as caught:
        make(root, phases="t2")
    assert str(caught.value) == (
        f'{out}: holds other images, made with phases="all", shuffle=true, seed=3; '
        "use --overwrite to make it anew, or give another folder"
    )
    assert tree_hash(out) == before
    make(root, phases="t2", overwrite=True)
    make(root, phases="t2", output=root.parent / "fresh")
    assert tree_hash(out) == tree_hash(root.parent / "fresh")


@pytest.mark.parametrize(
    "phases", [{"t2": (1, 12)}, {"tPB2": (2, 5), "t2": (6, 9), "tM": (11, 14)}], ids=["other frames", "other phases"]
)
def test_a_dataset_that_has_changed_is_noticed(root: Path, phases: dict[str, tuple[int, int]]) -> None:
    make(root)
    MiniatureEmbryos(root, PLANES_HERE).write_phases("AA83-7", phases)
    with pytest.raises(MvtkError, match=r"holds other images, since the dataset or the split has changed; use --over"):
        make(root)


def test_overwriting_leaves_the_files_of_others(root: Path) -> None:
    make(root)
    mine = root.parent / "out" / "images" / "mine.jpeg"
    mine.write_bytes(b"mine")
    make(root, phases="tM", overwrite=True)
    assert mine.read_bytes() == b"mine"
    assert len(list(mine.parent.iterdir())) == 1 + 6


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_something_else_is_left_alone(root: Path, overwrite: bool) -> None:
    out = root.parent / "out"
    (out / "images").mkdir(parents=True)
    (out / "images" / "0.jpeg").write_bytes(b"mine")
    with pytest.raises(MvtkError, match=r"out: not empty, and no image folder of mvtk; give a new or an empty folder"):
        make(root, overwrite=overwrite)
    assert written(out) == ["images/0.jpeg"]


def test_an_image_of_other_content_fails(root: Path) -> None:
    make(root)
    out = root.parent / "out"
    (out / "images" / "3.jpeg").write_bytes(b"mine")
    (out / "images" / "4.jpeg").write_bytes(b"x" * (out / "images" / "4.jpeg").stat().st_size)
    (out / "description" / "4.txt").unlink()
    reasons = [failed["reason"] for failed in make(root).failed]
    assert [reason.partition("; ")[0] for reason in reasons] == [
        f"{out}/images/{number}.jpeg exists with other content" for number in (3, 4)
    ]
    assert (out / "images" / "3.jpeg").read_bytes() == b"mine"
    assert len(rows_of(out)) == 30, "an image that is there has its row"


def test_a_frame_that_was_repaired_in_a_part_of_the_work_gets_its_row(root: Path) -> None:
    cut = damage(root, "AA83-7", 3)
    out = root.parent / "out"
    make(root)
    cut.write_bytes(frame_bytes(1))
    assert make(root, max_files=1).stats["remarks"] == [
        "metadata.csv lacks what was made now: run the command again, without --shard and --max-files, to write it"
    ]
    assert len(rows_of(out)) == 29
    report = make(root)
    assert report.figures.skip_reasons == {"exists already": 30}
    assert "remarks" not in report.stats
    assert len(rows_of(out)) == 30


def test_a_frame_that_was_repaired_in_a_run_that_died_gets_its_row(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = damage(root, "AA83-7", 3)
    make(root)
    cut.write_bytes(frame_bytes(1))

    def die(job: ImageFolderJob, figures: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(ImageFolderJob, "finish", die)
        with pytest.raises(Killed):
            make(root)
    make(root)
    assert len(rows_of(root.parent / "out")) == 30


def test_a_frame_that_has_grown_keeps_its_row(root: Path) -> None:
    make(root)
    out = root.parent / "out"
    before = tree_hash(out)
    frame = root / "embryo_dataset" / "AA83-7" / frame_name(3)
    frame.write_bytes(frame_bytes(1) + b"grown")
    [failure] = make(root).failed
    assert (
        failure["reason"] == f"{out}/images/1.jpeg exists with other content; use --overwrite to make the folder anew"
    )
    assert tree_hash(out) == before


@pytest.mark.parametrize("table", [b"", b"filename,label\n", b"more", None])
def test_a_table_that_was_damaged_is_written_again(root: Path, table: bytes | None) -> None:
    make(root)
    path = root.parent / "out" / "metadata.csv"
    whole = path.read_bytes()
    path.write_bytes(whole + b"more" if table == b"more" else whole[:-1] if table is None else table)
    assert make(root).figures.skipped == 30
    assert path.read_bytes() == whole


def test_a_frame_of_the_same_size_and_other_content_is_noticed(root: Path) -> None:
    make(root)
    frame = root / "embryo_dataset" / "AA83-7" / frame_name(3)
    image = root.parent / "out" / "images" / "1.jpeg"
    assert image.stat().st_mtime_ns == frame.stat().st_mtime_ns
    content = bytearray(frame.read_bytes())
    content[-3] ^= 1
    frame.write_bytes(content)
    [failure] = make(root).failed
    assert "1.jpeg exists with other content" in failure["reason"]


def test_an_image_of_another_time_is_compared_once(root: Path) -> None:
    make(root)
    image = root.parent / "out" / "images" / "1.jpeg"
    os.utime(image, ns=(1, 1))
    assert [isinstance(entry, FolderImage) for entry in job(root).plan()].count(True) == 1
    assert make(root).figures.skip_reasons == {"exists already": 30}
    assert not any(isinstance(entry, FolderImage) for entry in job(root).plan())


def test_the_time_of_a_file_with_several_names_is_left(root: Path) -> None:
    make(root)
    image = root.parent / "out" / "images" / "1.jpeg"
    image.unlink()
    other = root.parent / "other.jpeg"
    other.write_bytes((root / "embryo_dataset" / "AA83-7" / frame_name(3)).read_bytes())
    os.utime(other, ns=(1, 1))
    image.hardlink_to(other)
    assert make(root).figures.skip_reasons == {"exists already": 30}
    assert other.stat().st_mtime_ns == 1


def test_a_folder_in_an_image_s_place_is_no_image(root: Path) -> None:
    make(root)
    image = root.parent / "out" / "images" / "1.jpeg"
    image.unlink()
    image.mkdir()
    [failure] = make(root).failed
    assert failure["reason"].startswith(f"{image}: ")
    assert len(rows_of(root.parent / "out")) == 29


@pytest.mark.parametrize("change", ["added", "removed"])
def test_frames_that_came_or_went_are_noticed(root: Path, change: str) -> None:
    folder = root / "embryo_dataset" / "AA83-7"
    time.sleep(0.12)  # an index of a folder that has just changed is not relied on
    EmbryoDataset(root)
    if change == "added":
        (folder / frame_name(13)).write_bytes(frame_bytes(1))
    else:
        (folder / frame_name(3)).unlink()
    assert make(root).stats["images"] == (31 if change == "added" else 29)


def test_a_frame_that_goes_during_the_run_points_at_the_index(root: Path) -> None:
    run = job(root)
    (root / "embryo_dataset" / "AA83-7" / frame_name(3)).unlink()
    [failure] = run_to_end(run).failed
    assert failure["reason"] == "no such file; the frame index may be old: remove it and run the command again"


def test_a_video_without_phases_is_told(root: Path) -> None:
    (root / "embryo_dataset_annotations" / "AA83-7_phases.csv").unlink()
    assert make(root).stats["remarks"] == ["1 video without a phases table, and so without labels: AA83-7"]


def test_a_dry_run_writes_nothing(root: Path) -> None:
    assert make(root, dry_run=True).figures.done == 30
    assert not (root.parent / "out").exists()
    make(root, max_files=4)
    report = make(root, dry_run=True)
    assert (report.figures.done, report.figures.skipped) == (26, 4)
    assert make(root, dry_run=True, overwrite=True).figures.done == 30


def test_names_that_are_not_utf8(root: Path) -> None:
    embryos = MiniatureEmbryos(root, PLANES_HERE)
    embryos.add_frame(FocalPlane.F_00, "odd\udcff", 2)
    embryos.write_phases("odd\udcff", {"tPB2": (2, 4)})
    make(root)
    assert b"F+00_odd\xff_2,tPB2,images/30.jpeg" in (root.parent / "out" / "metadata.csv").read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"set_name": "train"}, "a split file without a set, or the reverse; give both --split-file and --set"),
        ({"overwrite": True, "shard": "0/2"}, "--overwrite with --shard: each shard would remove the others' images"),
        ({"focal_planes": "F-45"}, "no videos of focal plane F-45; it has F-15, F+00"),
        ({"phases": "tHB"}, "no frame of these videos, phases and focal planes; choose more of them"),
    ],
)
def test_choices_that_cannot_be_met(root: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MvtkError) as caught:
        job(root, **changes)
    assert message in str(caught.value)


def test_the_output_is_never_in_the_dataset(root: Path) -> None:
    with pytest.raises(OptionError, match=r"the output .* lies in the dataset .*; name another folder"):
        job(root, output=root / "embryo_dataset" / "out")


def test_the_set_and_its_videos_must_exist(root: Path, split_file: Path) -> None:
    with pytest.raises(OptionError, match=r"split\.json has no set 'eval'; it has train, test"):
        job(root, split_file=split_file, set_name="eval")
    split_file.write_text(json.dumps({"train": ["XX1", "XX2"], "test": []}))
    with pytest.raises(InputProblemsError) as caught:
        job(root, split_file=split_file, set_name="train")
    assert caught.value.problems == ("video 'XX1' is not in the dataset", "video 'XX2' is not in the dataset")


@pytest.mark.parametrize("value", ["t77", "", [], 7])
def test_phases_that_are_none(value: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no phase 't77'; did you mean t7|give all, or labels such as t6,t7"):
        ImageFolderOptions(root=tmp_path, output=tmp_path, phases=value)


@given(st.lists(st.sampled_from(PHASES), min_size=1), st.lists(st.sampled_from(PLANES), min_size=1))
def test_choices_have_one_spelling_in_reports(phases: list[Phase], planes: list[FocalPlane]) -> None:
    options = ImageFolderOptions(
        root=Path(),
        output=Path(),
        phases=",".join(phase.label for phase in phases),
        focal_planes=[plane.label for plane in planes],
    )
    said = options.model_dump(mode="json")
    expected = [phase.label for phase in PHASES if phase in phases]
    assert said["phases"] == ("all" if len(expected) == len(PHASES) else expected)
    assert said["focal_planes"] == [plane.label for plane in PLANES if plane in planes]
    assert ImageFolderOptions(**said).phases == options.phases
