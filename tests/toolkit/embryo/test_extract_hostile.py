"""Archives that must be refused: nothing appears, nothing of them remains, and nothing outside is touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.embryo_archives import Record, snapshot, visible
from tests.toolkit.embryo.hostile_members import HOSTILE, TOP, Hostile
from toolkit.core.driver import run_to_end
from toolkit.embryo.extraction.archive_files import ArchiveRefusedError
from toolkit.embryo.extraction.extract import ExtractJob, ExtractOptions
from toolkit.embryo.extraction.staging import PARTIAL_NAME

NAME = f"{TOP}.tar.gz"


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Ten small archives, of which each test replaces one; and, beside, files that nobody may touch."""
    record = Record(tmp_path_factory.mktemp("hostile"))
    record.write(videos=1, frames=1, growth=0)
    (record.root / "outside" / "folder").mkdir(parents=True)
    (record.root / "outside" / "kept.txt").write_text("kept")
    (record.root / "outside" / "link").symlink_to("kept.txt")
    return record


@pytest.fixture
def untouched(record: Record) -> Iterator[None]:
    outside = record.root / "outside"
    before = snapshot(outside)
    yield
    assert snapshot(outside) == before
    assert sorted(path.name for path in record.root.iterdir() if path.name != "dests") == ["archives", "outside"]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_a_hostile_archive_is_refused(record: Record, hostile: Hostile, tmp_path: Path) -> None:
    record.replace(NAME, hostile.data)
    archives = snapshot(record.archives)
    dest = tmp_path / "dest"
    dest.mkdir()
    (tmp_path / "kept.txt").write_text("kept")
    with pytest.raises(ArchiveRefusedError) as caught:
        run_to_end(ExtractJob(ExtractOptions(archives=record.archives, dest=dest, workers=0)))
    message = str(caught.value)
    assert message.startswith(f"{record.archives / NAME}: ")
    assert hostile.member in message
    assert hostile.problem in message
    assert message.isprintable()
    assert visible(dest) == []
    assert [path.name for path in dest.iterdir()] == [PARTIAL_NAME]
    assert not list((dest / PARTIAL_NAME / "extracted").iterdir())
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["kept.txt", "progress"]
    assert snapshot(record.archives) == archives


def test_the_suite_is_large_and_its_cases_differ() -> None:
    assert len(HOSTILE) >= 120
    assert len({hostile.data for hostile in HOSTILE}) == len(HOSTILE)
