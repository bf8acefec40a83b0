"""What a dataset holds, and what is a problem and what a remark."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.embryo_trees import MiniatureEmbryos, frame_bytes, published_oddities
from toolkit.embryo.inspection import (
    BAD_TABLE,
    DAMAGED_FRAME,
    EMPTY_PHASE,
    EXTRA_TIMES,
    GAPS,
    MISSING_VIDEO,
    NESTED_COPY,
    NO_FRAMES,
    NO_GRADES,
    NO_TABLE,
    NO_TIME,
    OTHER_FILES,
    PAST_THE_END,
    REPEATED_NUMBER,
    UNEQUAL_PLANES,
    inspect_dataset,
)
from toolkit.embryo.planes import PLANES, FocalPlane

F0 = FocalPlane.F_00


@pytest.fixture
def sound(tmp_path: Path) -> MiniatureEmbryos:
    """One video with nothing odd."""
    embryos = MiniatureEmbryos(tmp_path)
    embryos.add_video("AA83-7", phases={"tPB2": (1, 4), "t2": (5, 12)})
    return embryos


def only(found: dict[str, Any], severity: str) -> tuple[str, str]:
    """The one finding there is of that severity."""
    [finding] = found["per_video"][0][severity]
    assert found[severity] == {finding["kind"]: 1}
    return finding["kind"], finding["text"]


def test_the_published_oddities_are_remarks(tmp_path: Path) -> None:
    found = inspect_dataset(published_oddities(tmp_path).root, check_files=True)
    assert found == json.loads(json.dumps(found))
    assert found["problems"] == {}
    assert found["part_problems"] == []
    assert found["remarks"] == {
        EMPTY_PHASE: 1,
        NESTED_COPY: 1,
        GAPS: 1,
        PAST_THE_END: 3,
        EXTRA_TIMES: 1,
    }
    assert (found["videos"], found["frames"], found["checked_files"]) == (3, 231, 231)
    assert (found["missing_numbers"], found["unlabelled"], found["missing_parts"]) == (3, 2 + 2 + 2, [])
    assert found["planes"][0] == {"plane": "F-45", "videos": 3, "frames": 33}
    assert [entry for entry in found["phases"] if entry["frames"]] == [
        {"phase": "tPB2", "videos": 2, "frames": 2 + 3},
        {"phase": "t2", "videos": 2, "frames": 3 + 5},
        {"phase": "t4", "videos": 1, "frames": 6},
        {"phase": "t8", "videos": 1, "frames": 4},
        {"phase": "tM", "videos": 2, "frames": 2 + 2},
    ]
    texts = {finding["text"] for video in found["per_video"] for finding in video["remarks"]}
    assert texts == {
        "3 numbers missing between 1 and 12",
        "the phases end at frame 14, 2 past the last frame 12",
        "F+00 has a nested F0 folder",
        "no frame in tB",
        "the phases end at frame 140, 128 past the last frame 12",
        "128 time stamps without a frame",
    }


def test_a_sound_dataset(sound: MiniatureEmbryos) -> None:
    found = inspect_dataset(sound.root)
    assert (found["problems"], found["remarks"], found["checked_files"]) == ({}, {}, 0)
    assert found["per_video"] == [
        {
            "video": "AA83-7",
            "frames": {plane.label: 12 for plane in PLANES},
            "phases": {"tPB2": 4, "t2": 8},
            "unlabelled": 0,
            "missing_numbers": 0,
            "problems": [],
            "remarks": [],
        }
    ]


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (
            lambda embryos: embryos.add_frame(F0, "AA83-7", 3, content=frame_bytes(3)[:-9]),
            (DAMAGED_FRAME, "F+00: D2013.01.28_S0717_I132_WELL7_RUN3.jpeg is cut short (no JPEG end marker)"),
        ),
        (
            lambda embryos: embryos.add_frame(F0, "AA83-7", 3, "z_RUN03.jpeg"),
            (REPEATED_NUMBER, "F+00 has several files of one number: z_RUN03.jpeg"),
        ),
        (
            lambda embryos: embryos.folder(F0, "AA83-7").rename(embryos.root / "elsewhere"),
            (MISSING_VIDEO, "no folder in F+00"),
        ),
        (
            lambda embryos: embryos.tree.phases_path("AA83-7").unlink(),
            (NO_TABLE, "AA83-7_phases.csv is missing"),
        ),
        (
            lambda embryos: embryos.tree.times_path("AA83-7").unlink(),
            (NO_TABLE, "AA83-7_timeElapsed.csv is missing"),
        ),
        (
            lambda embryos: embryos.write_phases("AA83-7", {"t2": (5, 4)}),
            (BAD_TABLE, "AA83-7_phases.csv: line 1: t2 ends at frame 4, before its first frame 5; mend the file"),
        ),
        (
            lambda embryos: embryos.tree.times_path("AA83-7").write_text("frame_index,time\n1,x\n"),
            (BAD_TABLE, "AA83-7_timeElapsed.csv: line 2: time 'x' is not a number of at least 0; mend the file"),
        ),
    ],
)
def test_problems(
    sound: MiniatureEmbryos, change: Callable[[MiniatureEmbryos], object], finding: tuple[str, str]
) -> None:
    change(sound)
    kind, text = only(inspect_dataset(sound.root, check_files=True), "problems")
    assert kind == finding[0]
    assert finding[1] in text


def test_a_video_without_frames_in_a_plane(sound: MiniatureEmbryos) -> None:
    for path in sound.folder(F0, "AA83-7").iterdir():
        path.unlink()
    assert only(inspect_dataset(sound.root), "problems") == (NO_FRAMES, "no frames in F+00")


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (
            lambda embryos: (embryos.folder(F0, "AA83-7") / "notes.txt").touch(),
            (OTHER_FILES, "F+00 has entries that are no frames: 1"),
        ),
        (
            lambda embryos: next(embryos.folder(F0, "AA83-7").glob("*RUN5.jpeg")).unlink(),
            (UNEQUAL_PLANES, "frames that other planes have: F+00 lacks 1"),
        ),
        (
            lambda embryos: embryos.write_times("AA83-7", range(1, 11)),
            (NO_TIME, "no time stamp for 2 of 12 frames"),
        ),
        (
            lambda embryos: embryos.tree.grades_path.write_text("video_name,TE,ICM\n"),
            (NO_GRADES, "no row in embryo_dataset_grades.csv"),
        ),
    ],
)
def test_remarks(
    sound: MiniatureEmbryos, change: Callable[[MiniatureEmbryos], object], finding: tuple[str, str]
) -> None:
    change(sound)
    found = inspect_dataset(sound.root, check_files=True)
    assert found["problems"] == {}
    assert only(found, "remarks") == finding


def test_of_very_many_damaged_frames_some_are_named(sound: MiniatureEmbryos) -> None:
    for number in range(1, 9):
        sound.add_frame(F0, "AA83-7", number, content=b"\xff\xd8")
    _, text = only(inspect_dataset(sound.root, check_files=True), "problems")
    assert text.count("is cut short") == 5
    assert text.endswith(", and 3 more")


def test_files_are_only_opened_when_asked(sound: MiniatureEmbryos) -> None:
    sound.add_frame(F0, "AA83-7", 3, content=b"\xff\xd8")
    assert inspect_dataset(sound.root)["problems"] == {}


def test_what_lies_beside_and_what_is_not_there(sound: MiniatureEmbryos) -> None:
    sound.write_phases("B-1", {"t2": (1, 2)})
    with sound.tree.grades_path.open("a") as stream:
        stream.write("B-1,A,A\nC-1,A,A\n")
    sound.tree.plane_folder(PLANES[0]).rename(sound.root / "gone")
    (sound.folder(F0, "AA83-7") / ".DS_Store").touch()
    found = inspect_dataset(sound.root)
    assert found["missing_parts"] == ["embryo_dataset_F-45"]
    assert found["tables_without_video"] == {
        "embryo_dataset_annotations": 1,
        "embryo_dataset_time_elapsed": 0,
        "embryo_dataset_grades.csv": 2,
    }
    assert (found["hidden_files"], found["other_files"]) == (1, 0)


def test_grades_that_cannot_be_used(sound: MiniatureEmbryos) -> None:
    sound.tree.grades_path.write_text("name,TE,ICM\n")
    found = inspect_dataset(sound.root)
    [problem] = found["part_problems"]
    assert "embryo_dataset_grades.csv: line 1: the header must have the columns video_name,TE,ICM" in problem
    assert found["remarks"] == {}
