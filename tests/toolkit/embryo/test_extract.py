"""The extraction as a whole: checks before, staging, publishing, and runs that go on where others ended."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.embryo_archives import Record, file, folder, large_gzip, snapshot, tar_gz, visible
from toolkit.core.batch import Gauge
from toolkit.core.driver import JobRun, run_to_end
from toolkit.core.errors import InputProblemsError, MvtkError, OptionError, StopRunError
from toolkit.core.locks import FolderInUseError, hold_folder
from toolkit.core.report import Report
from toolkit.embryo.extraction import extract, tree_writer
from toolkit.embryo.extraction.archive_files import ArchiveFile, ArchiveRefusedError, least_extracted_bytes
from toolkit.embryo.extraction.extract import ExtractJob, ExtractOptions, extract_dataset
from toolkit.embryo.extraction.staging import COMPLETE_NAME, PARTIAL_NAME
from toolkit.embryo.layout import ARCHIVE_NAMES, EXTRACTED_NAMES, GRADES_NAME

PLANE = "embryo_dataset_F15.tar.gz"


@pytest.fixture
def record(tmp_path: Path) -> Record:
    record = Record(tmp_path)
    record.write()
    return record


@pytest.fixture
def expected(record: Record) -> dict[str, tuple[int, bytes, int]]:
    """The tree of an undisturbed run, made elsewhere."""
    dest = record.root / "undisturbed"
    job(record, dest=dest)
    found = snapshot(dest)
    shutil.rmtree(dest)
    return found


def options(record: Record, **changes: Any) -> ExtractOptions:
    return ExtractOptions(**{"archives": record.archives, "dest": record.dest, "workers": 0, **changes})


def job(record: Record, **changes: Any) -> Report:
    return run_to_end(ExtractJob(options(record, **changes)))


def assert_like(dest: Path, expected: dict[str, tuple[int, bytes, int]]) -> None:
    """Compare trees without the note: it holds the times of the archives, and has one of its own."""
    found = snapshot(dest)
    assert {path: found[path] for path in found if path != COMPLETE_NAME} == {
        path: expected[path] for path in expected if path != COMPLETE_NAME
    }
    assert COMPLETE_NAME in found


@pytest.mark.parametrize("workers", [0, 2])
def test_all_ten_appear(record: Record, workers: int) -> None:
    before = snapshot(record.archives)
    report = extract_dataset(record.archives, str(record.dest), workers)
    assert visible(record.dest) == sorted(EXTRACTED_NAMES)
    assert {path.name for path in record.dest.iterdir()} == {*EXTRACTED_NAMES, COMPLETE_NAME}
    assert (record.dest / GRADES_NAME).read_bytes() == (record.archives / GRADES_NAME).read_bytes()
    files = [path for path in record.dest.rglob("*") if path.is_file() and path.name != COMPLETE_NAME]
    assert (report.figures.done, report.figures.total) == (10, 10)
    assert (report.stats["files"], report.stats["bytes"]) == (len(files), sum(path.stat().st_size for path in files))
    assert report.stats["archives"][PLANE]["files"] == 2 * (3 + ARCHIVE_NAMES.index(PLANE))
    assert "remarks" not in report.stats
    assert snapshot(record.archives) == before


def test_a_second_run_does_nothing(record: Record) -> None:
    job(record)
    before = snapshot(record.dest)
    report = job(record)
    assert report.figures.skip_reasons == {"extracted already": 10}
    assert snapshot(record.dest) == before
    (record.dest / "index.bin").write_text("what others keep there is theirs")
    assert job(record, restart=True).figures.skipped == 10


def test_a_dry_run_writes_nothing(record: Record) -> None:
    report = job(record, dry_run=True)
    assert report.figures.done == 10
    assert not record.dest.exists()


def test_the_largest_comes_first(record: Record) -> None:
    plan = [item.source for item in ExtractJob(options(record)).plan()]
    assert plan == sorted(ARCHIVE_NAMES, key=lambda name: -(record.archives / name).stat().st_size)


def test_a_worker_holds_one_archive(record: Record) -> None:
    job = ExtractJob(options(record, workers=64))
    assert (job.step().lookahead, len(job.devices)) == (1, 10)


def test_all_that_is_wrong_with_the_folder_is_said_at_once(record: Record) -> None:
    (record.archives / PLANE).unlink()
    (record.archives / GRADES_NAME).unlink()
    (record.archives / GRADES_NAME).mkdir()
    (record.archives / ".DS_Store").touch()
    (record.archives / "notes.txt").touch()
    (record.archives / "embryo_dataset_F30.tar.gz").unlink()
    (record.archives / "embryo_dataset_F30.tar.gz").symlink_to("nowhere")
    with pytest.raises(InputProblemsError) as caught:
        job(record)
    assert caught.value.problems == (
        f"{PLANE} is missing",
        ".DS_Store does not belong there",
        "notes.txt does not belong there",
        "embryo_dataset_F30.tar.gz is not a regular file",
        f"{GRADES_NAME} is not a regular file",
    )
    assert "does not hold exactly the ten files of the dataset" in str(caught.value)
    assert not record.dest.exists()


def test_a_link_to_an_archive_is_fine(record: Record) -> None:
    (record.archives / PLANE).rename(record.root / "elsewhere")
    (record.archives / PLANE).symlink_to(record.root / "elsewhere")
    job(record)
    assert len(visible(record.dest)) == 10


def test_the_folder_of_archives_must_exist(record: Record) -> None:
    with pytest.raises(MvtkError, match="none: no such folder; give the folder that holds the ten downloaded files"):
        job(record, archives=record.root / "none")


@pytest.mark.parametrize("name", ["x", ".hidden", "embryo_dataset"])
def test_any_other_folder_that_is_not_empty_is_refused(record: Record, name: str) -> None:
    record.dest.mkdir()
    (record.dest / name).touch()
    with pytest.raises(MvtkError, match=rf"dest: is not empty; it holds {name}; give a folder that is empty"):
        job(record)
    assert [path.name for path in record.dest.iterdir()] == [name]


def test_a_long_list_of_what_is_there_is_cut(record: Record) -> None:
    record.dest.mkdir()
    for name in "abcde":
        (record.dest / name).touch()
    with pytest.raises(MvtkError, match="it holds a, b, c and 2 more;"):
        job(record)


def test_a_partial_folder_that_is_not_ours_is_refused(record: Record) -> None:
    (record.dest / PARTIAL_NAME).mkdir(parents=True)
    (record.dest / PARTIAL_NAME / "thesis.tex").touch()
    with pytest.raises(MvtkError, match=r"\.mvtk-partial: is not what an extraction leaves"):
        job(record)
    assert (record.dest / PARTIAL_NAME / "thesis.tex").exists()


def test_a_partial_folder_that_is_a_link_is_refused(record: Record) -> None:
    (record.root / "outside").mkdir()
    record.dest.mkdir()
    (record.dest / PARTIAL_NAME).symlink_to(record.root / "outside")
    with pytest.raises(MvtkError, match="is not what an extraction leaves"):
        job(record)
    assert not list((record.root / "outside").iterdir())


PLANTED = (
    *("progress", "publishing", "extracted", "finished", "discarded", COMPLETE_NAME, f"finished/{PLANE}.json"),
    *(f"extracted/{PLANE}", f"extracted/{PLANE}/embryo_dataset_F15"),
)


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("target", ["folder", "file", "nothing"])
def test_links_in_the_staging_are_refused_and_never_followed(
    record: Record, expected: dict[str, tuple[int, bytes, int]], name: str, target: str
) -> None:
    refuse(record)
    outside = record.root / "outside"
    (outside / "folder" / "embryo_dataset_F15").mkdir(parents=True)
    (outside / "folder" / "mine").write_text("mine")
    (outside / "file").write_text("mine")
    before = snapshot(outside)
    planted = record.dest / PARTIAL_NAME / name
    if planted.is_dir():
        shutil.rmtree(planted)
    else:
        planted.unlink(missing_ok=True)
    planted.parent.mkdir(exist_ok=True)
    planted.symlink_to(outside / target)
    with pytest.raises(MvtkError) as caught:
        job(record)
    assert str(caught.value) == f"{planted}: is not what an extraction leaves; remove it or use --restart"
    assert snapshot(outside) == before
    job(record, restart=True)
    assert snapshot(outside) == before
    assert_like(record.dest, expected)


def test_a_file_that_is_linked_in_as_progress_is_not_written_to(record: Record) -> None:
    refuse(record)
    mine = record.root / "mine"
    mine.write_text("mine")
    progress = record.dest / PARTIAL_NAME / "progress"
    progress.unlink()
    progress.hardlink_to(mine)
    job(record)
    assert mine.read_text() == "mine"


def test_a_staging_that_is_a_link_is_not_restarted(record: Record) -> None:
    (record.root / "outside").mkdir()
    record.dest.mkdir()
    (record.dest / PARTIAL_NAME).symlink_to(record.root / "outside")
    with pytest.raises(MvtkError, match="is not what an extraction leaves"):
        job(record, restart=True)
    assert not list((record.root / "outside").iterdir())


def test_a_file_in_the_destination_s_place(record: Record) -> None:
    record.dest.touch()
    with pytest.raises(MvtkError, match="dest: cannot list the folder: Not a directory"):
        job(record)


def test_folders_that_overlap(record: Record) -> None:
    for dest, problem in (
        (record.archives, "archives: is the folder of the archives; extract into a folder elsewhere"),
        (
            record.archives / "in" / "it",
            "it: lies in the folder of the archives, .*archives, which is never ",
        ),
        (record.root, "holds the folder of the archives, "),
    ):
        with pytest.raises(MvtkError, match=problem):
            job(record, dest=dest)
    assert sorted(path.name for path in record.archives.iterdir()) == sorted(ARCHIVE_NAMES)


@pytest.mark.parametrize("changes", [{"shard": "0/2"}, {"max_files": 3}])
def test_a_part_of_it_is_no_extraction(record: Record, changes: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="an extraction is all or nothing"):
        job(record, **changes)


def test_too_little_space(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = sum(least_extracted_bytes(archive) for archive in extract.find_archives(record.archives))
    monkeypatch.setattr(extract, "_free_bytes", lambda _: needed - 1)
    with pytest.raises(MvtkError, match=rf"at least {needed:,} bytes are needed, and {needed - 1:,} are free"):
        job(record)
    assert not record.dest.exists()
    monkeypatch.setattr(extract, "_free_bytes", lambda _: needed)
    job(record)


@pytest.mark.parametrize(
    ("size", "remainder", "expected"),
    [
        (1000, 5000, 5000),
        (5 << 30, 1 << 30, 5 << 30),
        (5 << 30, (1 << 30) - (6 << 20), (9 << 30) - (6 << 20)),
        (5 << 30, (1 << 30) - (5 << 20), (5 << 30) - (5 << 20)),
        (3 << 30, 0, 4 << 30),
        (100, 0, 0),
    ],
)
def test_the_least_size_that_agrees_with_the_trailer(tmp_path: Path, size: int, remainder: int, expected: int) -> None:
    path = tmp_path / "x.tar.gz"
    with path.open("wb") as stream:
        stream.truncate(size - 4)
        stream.seek(0, os.SEEK_END)
        stream.write(remainder.to_bytes(4, "little"))
    assert least_extracted_bytes(ArchiveFile(path.name, str(path), size, 0)) == expected


def test_an_archive_that_is_too_short(record: Record) -> None:
    record.replace(PLANE, b"\x1f\x8b")
    with pytest.raises(ArchiveRefusedError, match=r"F15\.tar\.gz: is too short to be a gzip file; download it again"):
        job(record)
    assert not record.dest.exists()


def test_checksums_that_agree(record: Record, expected: dict[str, tuple[int, bytes, int]]) -> None:
    job(record, verify_checksums=record.checksums())
    marker = json.loads((record.dest / COMPLETE_NAME).read_text())
    sums = dict(line.split()[::-1] for line in record.checksums().read_text().splitlines())
    assert {archive["name"]: archive["md5"] for archive in marker["archives"]} == sums
    assert len(snapshot(record.dest)) == len(expected)


def wrong_sums(record: Record) -> Path:
    """A list in which the sum of one plane is another."""
    sums = record.checksums()
    lines = [f"{'0' * 32}  {PLANE}" if PLANE in line else line for line in sums.read_text().splitlines()]
    sums.write_text("\n".join(lines))
    return sums


@pytest.mark.parametrize("workers", [0, 1])
def test_sums_of_a_complete_destination_are_computed(record: Record, workers: int) -> None:
    job(record)
    before = snapshot(record.dest)
    report = job(record, verify_checksums=record.checksums(), workers=workers)
    assert (report.figures.done, report.figures.failed) == (10, 0)
    assert report.stats["files"] == 0
    assert report.stats["remarks"] == [
        f"{record.dest} was complete: the archives' MD5 sums were checked, nothing was extracted"
    ]
    with pytest.raises(
        ArchiveRefusedError, match=rf"F15\.tar\.gz: its MD5 sum is [0-9a-f]{{32}}, not {'0' * 32}; downl"
    ):
        job(record, verify_checksums=wrong_sums(record), workers=workers)
    assert snapshot(record.dest) == before


def test_sums_of_a_complete_destination_are_compared_where_they_are_known(
    record: Record,
) -> None:
    job(record, verify_checksums=record.checksums())
    assert job(record, verify_checksums=record.checksums()).figures.skipped == 10
    with pytest.raises(
        ArchiveRefusedError, match=rf"F15\.tar\.gz: its MD5 sum is [0-9a-f]{{32}}, not {'0' * 32}; downl"
    ):
        ExtractJob(options(record, verify_checksums=wrong_sums(record)))


def test_how_far_a_check_of_sums_is(record: Record) -> None:
    job(record)
    run = ExtractJob(options(record, verify_checksums=record.checksums()))
    found = []
    for _ in JobRun(run).outcomes():
        gauge = run.gauge()
        assert gauge is not None
        found.append(gauge.done_bytes)
    assert found == sorted(found)
    assert len(set(found)) == 10


def test_names_in_a_list_of_sums_may_begin_with_the_folder(record: Record) -> None:
    sums = record.checksums()
    sums.write_text(sums.read_text().replace("  ", "  ./"))
    assert job(record, verify_checksums=sums).figures.done == 10


def test_a_checksum_that_differs(record: Record) -> None:
    sums = record.checksums()
    text = sums.read_text()
    line = next(line for line in text.splitlines() if PLANE in line)
    sums.write_text(text.replace(line, f"{'0' * 32} *{PLANE}"))
    with pytest.raises(ArchiveRefusedError, match=rf"F15\.tar\.gz: its MD5 sum is {line[:32]}, not {'0' * 32}"):
        job(record, verify_checksums=sums)
    assert visible(record.dest) == []
    sums.write_text(text)
    assert job(record, verify_checksums=sums).figures.total == 10
    assert len(visible(record.dest)) == 10


def test_what_was_extracted_without_its_checksum_is_extracted_again(record: Record) -> None:
    record.replace(PLANE, large_gzip(file("elsewhere/x")))
    with pytest.raises(ArchiveRefusedError):
        job(record)
    record.replace(PLANE, tar_gz(file("embryo_dataset_F15/x")))
    finished = [plan for plan in ExtractJob(options(record)).plan() if not isinstance(plan, ArchiveFile)]
    verified = ExtractJob(options(record, verify_checksums=record.checksums())).plan()
    assert len(finished) >= 1
    assert all(isinstance(entry, ArchiveFile) for entry in verified)


def test_a_list_of_checksums_that_lacks_some(record: Record) -> None:
    sums = record.checksums()
    lines = sums.read_text().splitlines()
    sums.write_text("\n".join([*lines[2:], "", "what is this", f"{'0' * 32}  {lines[4].split()[1]}"]) + "\n")
    with pytest.raises(InputProblemsError) as caught:
        job(record, verify_checksums=sums)
    assert caught.value.problems == (
        "line 10 is not an MD5 sum, two spaces and a name",
        f"line 11: a second, different sum of {lines[4].split()[1]}",
        *(f"{line.split()[1]} is not in it" for line in lines[:2]),
    )
    assert not record.dest.exists()


def test_an_archive_that_changes_between_plan_and_work(record: Record) -> None:
    job_of = ExtractJob(options(record))
    record.replace(PLANE, b"x" * 100)
    with pytest.raises(ArchiveRefusedError, match=r"F15\.tar\.gz: was changed while the archives were extracted"):
        run_to_end(job_of)
    assert visible(record.dest) == []


def refuse(record: Record) -> bytes:
    """Let a run end at a refused archive, the last of the ten; return the archive's right content."""
    job_of = ExtractJob(options(record))
    smallest = list(job_of.plan())[-2].source
    right = (record.archives / smallest).read_bytes()
    record.replace(smallest, tar_gz(file("elsewhere/x")))
    with pytest.raises(ArchiveRefusedError):
        job(record)
    record.replace(smallest, right)
    return right


def test_finished_archives_are_kept(record: Record, expected: dict[str, tuple[int, bytes, int]]) -> None:
    refuse(record)
    assert visible(record.dest) == []
    report = job(record)
    assert (report.figures.done, report.figures.skipped) == (2, 8)
    assert visible(record.dest) == sorted(EXTRACTED_NAMES)
    assert_like(record.dest, expected)


def test_restart_discards_what_is_finished(record: Record) -> None:
    refuse(record)
    extracted = next((record.dest / PARTIAL_NAME / "extracted").glob("*/*/*/*"))
    extracted.write_text("changed by somebody")
    report = job(record, restart=True)
    assert (report.figures.done, report.figures.skipped) == (10, 0)
    assert b"changed by somebody" not in [found[1] for found in snapshot(record.dest).values()]


def test_an_archive_that_was_replaced_is_extracted_again(record: Record) -> None:
    refuse(record)
    first = next(iter(ExtractJob(options(record)).plan())).source
    top = first.removesuffix(".tar.gz")
    record.replace(first, large_gzip(folder(f"{top}/") + file(f"{top}/new") + bytes(1024)))
    job(record)
    assert [path.name for path in (record.dest / top).iterdir()] == ["new"]


def test_a_complete_destination_of_other_archives(record: Record) -> None:
    job(record)
    record.replace(PLANE, tar_gz(file("embryo_dataset_F15/x")))
    with pytest.raises(MvtkError, match=f"dest: is complete, but was extracted from another {PLANE}"):
        job(record)


def test_a_complete_destination_that_lost_something(record: Record) -> None:
    job(record)
    shutil.rmtree(record.dest / "embryo_dataset_F15")
    with pytest.raises(MvtkError, match="dest: was complete and lacks embryo_dataset_F15 now"):
        job(record)


def test_a_note_that_cannot_be_understood(record: Record) -> None:
    job(record)
    (record.dest / COMPLETE_NAME).write_text("[]")
    with pytest.raises(MvtkError, match=r"\.mvtk-complete\.json: cannot be understood"):
        job(record)


def test_one_run_at_a_time(record: Record) -> None:
    record.dest.mkdir()
    with (
        hold_folder(record.dest, "embryo extract"),
        pytest.raises(FolderInUseError, match="in use by mvtk embryo extr"),
    ):
        job(record)
    job(record)


@pytest.fixture
def half_published(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """A destination in which the publishing was stopped after three entries."""
    rename, left = Path.rename, iter(range(3))

    def fail(path: Path, target: Path) -> Path:
        if target.parent == record.dest and next(left, None) is None:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        with pytest.raises(MvtkError, match="cannot publish: Input/output error"):
            job(record)
    assert len(visible(record.dest)) == 3


def test_publishing_goes_on(record: Record, expected: dict[str, tuple[int, bytes, int]], half_published: None) -> None:
    report = job(record)
    assert report.figures.skipped == 10
    assert_like(record.dest, expected)


@pytest.mark.usefixtures("half_published")
def test_publishing_is_withdrawn_by_restart(record: Record) -> None:
    report = job(record, restart=True)
    assert report.figures.done == 10
    assert {path.name for path in record.dest.iterdir()} == {*EXTRACTED_NAMES, COMPLETE_NAME}


@pytest.mark.usefixtures("half_published")
def test_publishing_when_something_else_appeared(record: Record) -> None:
    (record.dest / "thesis.tex").touch()
    with pytest.raises(MvtkError, match=r"is not empty; it holds thesis\.tex"):
        job(record)


@pytest.mark.usefixtures("half_published")
def test_publishing_when_an_entry_was_lost(record: Record) -> None:
    shutil.rmtree(record.dest / "embryo_dataset_time_elapsed")
    with pytest.raises(
        MvtkError, match="is half published, and it or the archives or their sums have changed; use --r"
    ):
        job(record)


@pytest.mark.usefixtures("half_published")
def test_publishing_when_an_entry_is_there_already(record: Record) -> None:
    missing = min(set(EXTRACTED_NAMES) - set(visible(record.dest)))
    (record.dest / missing).mkdir()
    with pytest.raises(MvtkError, match=rf"{missing}: appeared meanwhile; move it away"):
        job(record)


def test_a_gauge_of_bytes_and_files(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    job_of = ExtractJob(options(record))
    total = sum(path.stat().st_size for path in record.archives.iterdir())
    assert job_of.gauge() is None
    seen = [gauge for _ in extract_and_watch(job_of) if (gauge := job_of.gauge())]
    assert [gauge.done_bytes for gauge in seen] == sorted(gauge.done_bytes for gauge in seen)
    assert all(gauge.total_bytes == total for gauge in seen)
    assert seen[-1].done_bytes == total
    assert job_of.gauge() == Gauge(total, total, 127)


def extract_and_watch(job_of: ExtractJob) -> Iterator[object]:
    yield from JobRun(job_of).outcomes()


class FullDisk:
    """A file system whose writes fail from the k-th on."""

    def __init__(self, call: str, left: int) -> None:
        self._original = getattr(os, call)
        self.left = left

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self.left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.left -= 1
        return self._original(*arguments, **options)


@pytest.mark.parametrize("call", ["write", "mkdir"])
@pytest.mark.parametrize("left", [0, 1, 20])
def test_a_full_disk_stops_the_run_and_it_goes_on_later(
    record: Record,
    expected: dict[str, tuple[int, bytes, int]],
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    left: int,
) -> None:
    record.dest.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(tree_writer.os, call, FullDisk(call, left))
        with pytest.raises(StopRunError, match="No space left on device; free some space and run the command again"):
            job(record)
    assert visible(record.dest) == []
    job(record)
    assert_like(record.dest, expected)


def test_unfinished_trees_go_first_where_space_is_short(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tree_writer.os, "write", FullDisk("write", 20))
        with pytest.raises(StopRunError):
            job(record)
    left_over = list((record.dest / PARTIAL_NAME / "extracted").iterdir())
    assert len(left_over) == 1
    needed = sum(least_extracted_bytes(archive) for archive in extract.find_archives(record.archives))
    monkeypatch.setattr(extract, "_free_bytes", lambda _: needed - 50_000)
    job(record)
    assert len(visible(record.dest)) == 10


def test_short_writes_are_completed(
    record: Record, expected: dict[str, tuple[int, bytes, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(tree_writer.os, "write", lambda descriptor, data: write(descriptor, data[: 1 + len(data) // 2]))
    job(record)
    assert_like(record.dest, expected)


def test_more_members_than_there_may_be(record: Record) -> None:
    with pytest.raises(ArchiveRefusedError, match=r"member '.*': the archive holds more than 5 members; download"):
        job(record, max_members=5)


def test_more_folders_than_there_may_be(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_writer, "_MAX_FOLDERS", 2)
    with pytest.raises(ArchiveRefusedError, match=r"member '.*': the archive holds more than 2 folders; download"):
        job(record)
    assert visible(record.dest) == []
