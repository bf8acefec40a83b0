"""The index of all frames: what it says, when it is made again, and what happens to one that is damaged."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.embryo_trees import FRAMES, HOURS_A_FRAME, MiniatureEmbryos, frame_name, published_oddities
from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.embryo import frame_index
from toolkit.embryo.frame_index import INDEX_NAME, FrameIndex, open_frame_index
from toolkit.embryo.index_file import DamagedIndexError, ForeignFileError, TextTable, read_index, write_index
from toolkit.embryo.phases import Phase
from toolkit.embryo.planes import PLANES, FocalPlane

LONG_AGO_S = 1_600_000_000


@pytest.fixture
def embryos(tmp_path: Path) -> MiniatureEmbryos:
    return published_oddities(tmp_path / "extracted")


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was scanned: one entry a scan."""
    scanned: list[object] = []
    scan_tree = frame_index.scan_tree

    def counting(tree: object) -> object:
        scanned.append(tree)
        return scan_tree(tree)

    monkeypatch.setattr(frame_index, "scan_tree", counting)
    return scanned


def settle(root: Path) -> None:
    """Make everything old: what changed a moment before a scan counts as changing still."""
    for path in (root, *root.rglob("*")):
        os.utime(path, (LONG_AGO_S, LONG_AGO_S), follow_symlinks=False)


def open_settled(embryos: MiniatureEmbryos) -> FrameIndex:
    settle(embryos.root)
    return open_frame_index(embryos.root)


def test_every_frame_is_what_its_files_say(embryos: MiniatureEmbryos) -> None:
    index = open_frame_index(embryos.root)
    assert index.videos == ("AA83-7", "DML271-2", "GS490-_6")
    assert index.planes == PLANES
    assert len(index) == 7 * (9 + 12 + 12)
    assert [index.frame(position).label for position in index.positions(FocalPlane.F_00, "AA83-7")] == [
        f"F+00_AA83-7_{number}" for number in (1, 2, 4, 5, 6, 9, 10, 11, 12)
    ]
    frame = index.frame(index.positions(FocalPlane.F_PLUS_15, "DML271-2")[4])
    assert frame.path == embryos.folder(FocalPlane.F_PLUS_15, "DML271-2") / frame_name(5)
    assert (frame.plane, frame.video, frame.number) == (FocalPlane.F_PLUS_15, "DML271-2", 5)
    assert (frame.phase, frame.hours) == (Phase.T2, 4 * HOURS_A_FRAME)
    assert index.frame(0).phase is None
    for position in range(len(index)):
        assert index.frame(position).path.is_file()
        assert index.frame(position).plane.index == index.plane_indices[position]
        assert index.frame(position).video == index.videos[index.video_indices[position]]


def test_positions_that_are_not_there(embryos: MiniatureEmbryos) -> None:
    index = open_frame_index(embryos.root)
    assert len(index.positions(FocalPlane.F_00, "B-1")) == 0
    for position in (-1, len(index)):
        with pytest.raises(IndexError, match=f"frame {position} of 231"):
            index.frame(position)


def test_odd_names_come_back_as_they_are(tmp_path: Path) -> None:
    embryos = MiniatureEmbryos(tmp_path, [FocalPlane.F_00])
    odd = ["other_RUN2.jpeg", "D_RUN003.jpeg", "D_RUN4.JPG", os.fsdecode(b"\xff\n_RUN5.jpeg")]
    for number, name in enumerate(["D_RUN1.jpeg", *odd, "D_RUN6.jpeg"], 1):
        embryos.add_frame(FocalPlane.F_00, "A-1", number, name)
    embryos.add_frame(FocalPlane.F_00, "B-1", 1, "E_RUN1.jpg")
    index = open_frame_index(tmp_path)
    names = [index.frame(position).path.name for position in range(len(index))]
    assert names == ["D_RUN1.jpeg", *odd, "D_RUN6.jpeg", "E_RUN1.jpg"]


def test_without_tables_frames_have_no_phase_and_no_hours(tmp_path: Path) -> None:
    embryos = MiniatureEmbryos(tmp_path, [FocalPlane.F_00])
    embryos.add_frame(FocalPlane.F_00, "A-1", 1)
    frame = open_frame_index(tmp_path).frame(0)
    assert (frame.phase, frame.hours) == (None, None)


def test_a_dataset_without_a_video_has_an_empty_index(tmp_path: Path) -> None:
    MiniatureEmbryos(tmp_path)
    assert len(open_frame_index(tmp_path)) == 0
    assert open_frame_index(tmp_path).planes == ()


def test_a_stored_index_is_taken_while_nothing_changes(embryos: MiniatureEmbryos, scans: list[object]) -> None:
    first = open_settled(embryos)
    again = open_frame_index(embryos.root, strict=True)
    assert len(scans) == 1
    assert (embryos.root / INDEX_NAME).is_file()
    assert [again.frame(position) for position in range(len(again))] == [
        first.frame(position) for position in range(len(first))
    ]


def test_the_index_is_the_same_bytes_each_time(embryos: MiniatureEmbryos) -> None:
    open_settled(embryos)
    first = (embryos.root / INDEX_NAME).read_bytes()
    (embryos.root / INDEX_NAME).unlink()
    open_frame_index(embryos.root)
    assert (embryos.root / INDEX_NAME).read_bytes() == first
    record = np.load(embryos.root / INDEX_NAME, mmap_mode="r", allow_pickle=False)
    assert bytes(record["format"][()]) == b"mvtk.embryo"


@pytest.mark.parametrize(
    "change",
    [
        lambda embryos: embryos.add_video("B-1"),
        lambda embryos: embryos.write_phases("AA83-7", {"t2": (1, 5)}),
        lambda embryos: embryos.write_times("AA83-7", [1, 2]),
        lambda embryos: (embryos.tree.phases_path("AA83-7")).unlink(),
        lambda embryos: embryos.tree.grades_path.write_text("video_name,TE,ICM\n"),
        lambda embryos: embryos.folder(FocalPlane.F_00, "AA83-7").rename(embryos.folder(FocalPlane.F_00, "AA83-8")),
        lambda embryos: embryos.tree.plane_folder(FocalPlane.F_00).rename(embryos.root / "gone"),
    ],
)
def test_a_change_is_noticed(
    embryos: MiniatureEmbryos, scans: list[object], change: Callable[[MiniatureEmbryos], object]
) -> None:
    open_settled(embryos)
    change(embryos)
    open_frame_index(embryos.root)
    assert len(scans) == 2


def test_a_change_inside_a_video_is_noticed_by_the_strict_check(embryos: MiniatureEmbryos, scans: list[object]) -> None:
    count = len(open_settled(embryos))
    embryos.add_frame(FocalPlane.F_00, "AA83-7", 3)
    assert len(open_frame_index(embryos.root)) == count
    assert len(scans) == 1
    assert len(open_frame_index(embryos.root, strict=True)) == count + 1
    assert len(scans) == 2


def test_what_changed_a_moment_ago_is_looked_at_again(embryos: MiniatureEmbryos, scans: list[object]) -> None:
    open_frame_index(embryos.root)
    open_frame_index(embryos.root)
    assert len(scans) == 2


def test_unusable_tables_are_all_named_at_once(embryos: MiniatureEmbryos) -> None:
    embryos.write_phases("AA83-7", {"t99": (1, 5)})
    embryos.tree.times_path("DML271-2").write_text("frame,time\n")
    with pytest.raises(InputProblemsError) as caught:
        open_frame_index(embryos.root)
    assert len(caught.value.problems) == 2
    assert "AA83-7_phases.csv: line 1: there is no phase 't99'" in caught.value.problems[0]
    assert "DML271-2_timeElapsed.csv: line 1: the header must have" in caught.value.problems[1]
    assert not (embryos.root / INDEX_NAME).exists()


def test_another_place_for_the_index(embryos: MiniatureEmbryos, tmp_path: Path, scans: list[object]) -> None:
    settle(embryos.root)
    place = tmp_path / "index.npy"
    for _ in range(2):
        assert open_frame_index(embryos.root, index_path=place).remark == ""
    assert place.is_file()
    assert not (embryos.root / INDEX_NAME).exists()
    assert len(scans) == 1


def test_a_folder_that_cannot_be_written_to(embryos: MiniatureEmbryos, tmp_path: Path) -> None:
    (embryos.root / INDEX_NAME).mkdir()
    index = open_frame_index(embryos.root)
    assert len(index) == 231
    assert index.remark.startswith("the index is kept in memory (")
    copy = pickle.loads(pickle.dumps(index))
    assert copy.frame(100) == index.frame(100)
    with pytest.raises(MvtkError, match="cannot write"):
        open_frame_index(embryos.root, index_path=tmp_path / "nowhere" / "index.npy")


@pytest.mark.parametrize("content", [b"", b"somebody's notes", b"\x80\x04K\x01."])
def test_a_file_that_is_no_index_is_never_replaced(embryos: MiniatureEmbryos, tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "notes.npy"
    place.write_bytes(content)
    with pytest.raises(ForeignFileError, match=r"notes\.npy: not a frame index of mvtk; name another file"):
        open_frame_index(embryos.root, index_path=place)
    np.save(place, np.arange(3))
    with pytest.raises(ForeignFileError, match="not a frame index"):
        open_frame_index(embryos.root, index_path=place)
    assert np.load(place).tolist() == [0, 1, 2]


def test_a_damaged_index_is_made_again(embryos: MiniatureEmbryos, scans: list[object]) -> None:
    whole = open_settled(embryos)
    place = embryos.root / INDEX_NAME
    content = place.read_bytes()
    for damaged in (
        content[:-1],
        content[: len(content) // 2],
        content[:100],
        b"",
        content.replace(b"mvtk.e", b"mvtk.x"),
    ):
        place.write_bytes(damaged)
        assert open_frame_index(embryos.root).frame(0) == whole.frame(0)
        assert place.read_bytes() == content
    assert len(scans) == 6


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("hours", lambda hours: hours[1:]),
        ("phase_indices", lambda indices: indices + 1 + 15),
        ("group_starts", lambda starts: starts[::-1]),
        ("group_starts", lambda starts: starts * 2),
        ("group_starts", lambda starts: np.concatenate([starts[:1], starts[-2:0:-1], starts[-1:]])),
        ("group_planes", lambda planes: planes + 7),
        ("group_videos", lambda videos: videos - 1),
        ("group_stamps", lambda stamps: stamps[1:]),
        ("part_stamps", lambda stamps: stamps[1:]),
        ("table_stamps", lambda stamps: stamps[:, 1:]),
        ("odd_positions", lambda _: np.array([231])),
        ("video_starts", lambda starts: starts[1:]),
        ("stem_bytes", lambda text: np.full_like(text, ord("/"))),
    ],
)
def test_fields_that_contradict_each_other_are_noticed(
    embryos: MiniatureEmbryos, tmp_path: Path, field: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    open_frame_index(embryos.root)
    arrays, _ = read_index(embryos.root / INDEX_NAME)
    fields = {name: array for name, array in arrays.items() if name not in ("format", "version")}
    write_index(tmp_path / "index.npy", fields)
    read_index(tmp_path / "index.npy")
    write_index(tmp_path / "index.npy", {**fields, field: change(fields[field])})
    with pytest.raises(DamagedIndexError, match=r"index\.npy: `\w+` contradicts the other fields"):
        read_index(tmp_path / "index.npy")


def test_a_stored_index_is_pickled_as_its_name(embryos: MiniatureEmbryos) -> None:
    index = open_frame_index(embryos.root)
    pickled = pickle.dumps(index)
    assert len(pickled) < 600
    assert pickle.loads(pickled).frame(77) == index.frame(77)
    embryos.add_video("B-1", FRAMES)
    open_frame_index(embryos.root)
    with pytest.raises(MvtkError, match="the index was made again while it was in use; open the dataset again"):
        pickle.loads(pickled)


def test_text_tables() -> None:
    names = ["", "a", os.fsdecode(b"\xff"), "ü", ""]
    table = TextTable.pack(names)
    assert [table[index] for index in range(len(table))] == names
    assert len(TextTable.pack([])) == 0
