"""Part files: chunks come back as they were, and a full disk is an error that names the file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metadata_files import sample_columns
from toolkit.core.errors import MvtkError, StopRunError
from toolkit.metadata.columns import ROW_WIDTHS, Kind, SampleColumns
from toolkit.metadata.spool import Part, PartWriter
from toolkit.splitting import Split

FULL = Path("/dev/full")


def same(one: SampleColumns, other: SampleColumns) -> bool:
    def comparable(value: Any) -> Any:
        return (value.shape, value.tolist()) if isinstance(value, np.ndarray) else value

    names = [field.name for field in dataclasses.fields(one)]
    return all(comparable(getattr(one, name)) == comparable(getattr(other, name)) for name in names)


def row_lists(kind: Kind) -> st.SearchStrategy[list[list[float]]]:
    width = ROW_WIDTHS[kind]
    row = st.lists(st.floats(width=32, allow_nan=False), min_size=width, max_size=width)
    return st.lists(row, min_size=int(kind == "teacher"), max_size=1 if kind == "teacher" else 4)


@st.composite
def chunks(draw: st.DrawFn) -> tuple[Split, SampleColumns]:
    kind: Kind = draw(st.sampled_from(("detector", "landmarker", "teacher")))
    paths = st.text(st.characters(codec="utf-8"), min_size=1, max_size=9)
    samples = draw(st.lists(st.tuples(paths, row_lists(kind)), max_size=5))
    return draw(st.sampled_from(("train", "val", "test"))), sample_columns(kind, samples)


@settings(max_examples=30, deadline=None)
@given(st.lists(chunks(), max_size=6))
def test_chunks_come_back_by_split_and_kind_in_their_order(
    tmp_path_factory: pytest.TempPathFactory, appended: list[tuple[Split, SampleColumns]]
) -> None:
    path = tmp_path_factory.mktemp("parts") / "a.part"
    with PartWriter(path) as writer:
        for split, columns in appended:
            writer.append(split, columns)
        writer.note(class_names=["ear"], findings={"odd": 1}, listed=[("odd", "a\udcff.jpg")])
    part = Part.open(path)
    assert part.notes == {"class_names": ["ear"], "findings": {"odd": 1}, "listed": [["odd", "a\udcff.jpg"]]}
    for kind in ROW_WIDTHS:
        assert part.splits(kind) == {split for split, columns in appended if columns.kind == kind and len(columns)}
    for split in ("train", "val", "test"):
        for kind in ROW_WIDTHS:
            wanted = [columns for own, columns in appended if (own, columns.kind) == (split, kind)]
            found = list(part.chunks(split, kind))
            assert len(found) == len(wanted)
            assert all(map(same, found, wanted))


def test_a_part_without_chunks(tmp_path: Path) -> None:
    with PartWriter(tmp_path / "a.part"):
        pass
    part = Part.open(tmp_path / "a.part")
    assert part.splits("detector") == set()
    assert list(part.chunks("train", "detector")) == []


def little(writer: PartWriter) -> None:
    writer.append("train", sample_columns("detector", [("a.jpg", [1, 2, 3, 4])]))


def much(writer: PartWriter) -> None:
    columns = sample_columns("detector", [("a.jpg", np.ones((200_000, 4)))])
    for _ in range(6):
        writer.append("train", columns)


def fail(writer: PartWriter) -> None:
    little(writer)
    raise MvtkError("the dataset's own trouble")


def test_an_error_in_the_block_is_what_is_raised_and_the_writer_ends(tmp_path: Path) -> None:
    with pytest.raises(MvtkError, match="own trouble"), PartWriter(tmp_path / "a.part") as writer:
        fail(writer)
    assert not writer._thread.is_alive()


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("write", [little, much])
def test_a_full_disk_stops_the_run(write: Callable[[PartWriter], None]) -> None:
    with pytest.raises(StopRunError) as caught, PartWriter(FULL) as writer:
        write(writer)
    assert str(caught.value) == (
        "/dev/full: cannot write: No space left on device; free some space and run the command again"
    )


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_an_error_of_the_dataset_comes_before_one_of_the_disk() -> None:
    with pytest.raises(MvtkError, match="own trouble"), PartWriter(FULL) as writer:
        fail(writer)


def test_a_part_that_cannot_be_made_or_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(MvtkError, match=r"nowhere/a.part: cannot write: No such file"):
        PartWriter(tmp_path / "nowhere/a.part")
    with pytest.raises(MvtkError, match=r"a.part: cannot read: No such file"):
        Part.open(tmp_path / "a.part")
