"""Merging: the merged file holds what its inputs hold, one after another."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.metadata_files import write_samples
from toolkit.core.errors import InputProblemsError, OptionError
from toolkit.core.files import TargetExistsError
from toolkit.metadata.columns import KINDS, ROW_WIDTHS, Kind
from toolkit.metadata.merge import merge_metadata
from toolkit.metadata.reading import MetadataFile, open_metadata
from toolkit.metadata.record import MetadataInfo, SourceInfo
from toolkit.metadata.verification import check_metadata

NAMES = st.lists(st.sampled_from("abcd"), max_size=4, unique=True)


def contents(file: MetadataFile) -> list[Any]:
    """All that a file says of each sample, in terms that do not depend on its root and class numbers."""
    names = (*file.info.class_names, None)
    found = []
    for index in range(len(file)):
        rows = file.rows_of(index)
        class_ids = file.class_ids[index : index + 1] if file.kind == "landmarker" else file.class_ids[rows]
        found.append(
            (
                os.path.realpath(file.root / file.image_path(index)),
                file.rows[rows].tolist(),
                [names[class_id] for class_id in class_ids],
                file.image_sizes_wh[index].tolist(),
            )
        )
    return found


@st.composite
def inputs(draw: st.DrawFn, kind: Kind) -> dict[str, Any]:
    names = draw(NAMES)
    count = draw(st.integers(0, 4))
    row_counts = [1 if kind == "teacher" else draw(st.integers(0, 3)) for _ in range(count)]
    rows = [[[draw(st.integers(0, 99)) for _ in range(ROW_WIDTHS[kind])]] * rows for rows in row_counts]
    classes = count if kind == "landmarker" else sum(row_counts)
    return {
        "samples": [(draw(st.text("xyz", min_size=1, max_size=3)), sample) for sample in rows],
        "class_ids": [draw(st.integers(-1, len(names) - 1)) for _ in range(classes)],
        "sizes_wh": [(draw(st.integers(0, 70000)), draw(st.integers(0, 99))) for _ in range(count)],
        "info": MetadataInfo(draw(st.sampled_from([".", "a", "a/b", ".."])), "train", tuple(names)),
    }


@given(st.sampled_from(KINDS), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_merge_is_its_inputs_one_after_another(tmp_path: Path, kind: Kind, data: st.DataObject) -> None:
    expected: list[Any] = []
    paths = []
    for number in range(data.draw(st.integers(1, 3))):
        path = tmp_path / f"in{number}" / "x.npy"
        path.parent.mkdir(exist_ok=True)
        write_samples(path, kind, overwrite=True, **data.draw(inputs(kind)))
        paths.append(path)
        expected += contents(open_metadata(path))
    summary = merge_metadata(paths, tmp_path / "merged.npy", overwrite=True)
    merged = open_metadata(tmp_path / "merged.npy")
    assert contents(merged) == expected
    assert (summary.kind, summary.samples, summary.rows) == (merged.kind, len(merged), len(merged.rows))
    assert merged.info.split == "train"
    assert os.path.realpath(merged.root) == str(summary.root)
    assert merged.info.class_names == summary.class_names


def test_descriptions_are_united(tmp_path: Path) -> None:
    (tmp_path / "deep/one").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep")
    first = write_samples(
        tmp_path / "first.npy",
        "detector",
        [("1.png", [[0, 0, 1, 1], [0, 0, 2, 2]])],
        info=MetadataInfo("link/one", "train", ("b", "a"), (SourceInfo("s", "coco", 1),), "mvtk 1", {"seed": 1}),
        class_ids=[0, -1],
    )
    second = write_samples(
        tmp_path / "second.npy",
        "detector",
        [("2.png", [[0, 0, 3, 3]])],
        info=MetadataInfo("deep", "val", ("a", "c"), (SourceInfo("t", "csv", 1),), "mvtk 1", {"seed": 2}),
        class_ids=[1],
    )
    summary = merge_metadata([first, second], tmp_path / "deep/merged.npy")
    merged = open_metadata(tmp_path / "deep/merged.npy")
    assert summary.root == (tmp_path / "deep").resolve()
    assert [merged.image_path(0), merged.image_path(1)] == ["one/1.png", "2.png"]
    sources = (SourceInfo("s", "coco", 1), SourceInfo("t", "csv", 1))
    assert merged.info == MetadataInfo(".", "", ("b", "a", "c"), sources, "mvtk 1", {})
    assert merged.class_ids.tolist() == [0, -1, 2]
    assert check_metadata(merged) == []


def test_duplicates_are_counted_and_kept(tmp_path: Path) -> None:
    box, other = [1, 2, 3, 4], [5, 6, 7, 8]
    info = MetadataInfo(".", class_names=("a",))
    first = write_samples(tmp_path / "1.npy", "teacher", [("a", box), ("a", box), ("b", box)], info=info)
    second = write_samples(tmp_path / "2.npy", "teacher", [("a", box), ("b", other), ("c", box)], info=info)
    assert merge_metadata([first], tmp_path / "m.npy").duplicates == 0
    summary = merge_metadata([first, second], tmp_path / "merged.npy")
    assert (summary.duplicates, summary.samples) == (1, 6)


def test_all_offenders_are_named(tmp_path: Path) -> None:
    good = write_samples(tmp_path / "good.npy", "detector", [], info=MetadataInfo("."))
    other = write_samples(tmp_path / "other.npy", "teacher", [], info=MetadataInfo("."))
    upward = write_samples(tmp_path / "up.npy", "detector", [("../a", [])])
    nameless = write_samples(tmp_path / "nameless.npy", "detector", [("a", [[1, 2, 3, 4]])], class_ids=[3])
    lying = write_samples(tmp_path / "lying.npy", "detector", [("a", []), ("b", [])])
    record = np.lib.format.open_memmap(lying, "r+")
    record["path_starts"][1] = 9
    record.flush()
    with pytest.raises(InputProblemsError) as caught:
        merge_metadata([good, other, upward, nameless, lying, tmp_path / "missing.npy"], tmp_path / "merged.npy")
    text = str(caught.value)
    assert "up.npy: sample 0: an image path that leads upwards (..): '../a'" in text
    assert "nameless.npy: class ids -1 to 3, with 0 class names" in text
    assert "lying.npy: sample 1: `path_starts` gives 9 to 2" in text
    assert "missing.npy: cannot read" in text
    assert "good.npy: of kind detector" in text
    assert "other.npy: of kind teacher" in text
    assert not (tmp_path / "merged.npy").exists()


def test_inputs_and_existing_files_stay(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "x.npy", "detector", [("a", [])])
    (tmp_path / "link.npy").symlink_to(path)
    with pytest.raises(OptionError, match="is an input, and inputs are never modified"):
        merge_metadata([path], tmp_path / "link.npy", overwrite=True)
    with pytest.raises(OptionError, match="there is nothing to merge"):
        merge_metadata([], tmp_path / "merged.npy")
    (tmp_path / "merged.npy").write_text("mine")
    with pytest.raises(TargetExistsError):
        merge_metadata([path], tmp_path / "merged.npy")
    assert (tmp_path / "merged.npy").read_text() == "mine"
