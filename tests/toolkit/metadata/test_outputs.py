"""The metadata files of a run: put together from parts, compared with what is there, published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.metadata_files import sample_columns
from tests.raw_annotations import read_samples
from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.core.options import ALL, Shard
from toolkit.metadata.columns import KINDS, SampleColumns
from toolkit.metadata.outputs import WRITTEN_BY, MetadataOutput, find_stale, make_outputs, output_name, publish_outputs
from toolkit.metadata.raw_sources import RawSource
from toolkit.metadata.reading import FileIdentity, open_metadata
from toolkit.metadata.record import MetadataInfo, SourceInfo
from toolkit.metadata.spool import Part, PartWriter
from toolkit.metadata.writing import write_metadata
from toolkit.splitting import Split

BOX = (1.0, 2.0, 3.0, 4.0)


def part_of(folder: Path, class_names: Sequence[str], *chunks: tuple[Split, SampleColumns]) -> Part:
    path = folder / f"{len(list(folder.iterdir()))}.part"
    with PartWriter(path) as writer:
        for split, columns in chunks:
            writer.append(split, columns)
        writer.note(class_names=list(class_names))
    return Part.open(path)


def source(name: str) -> RawSource:
    return RawSource(name, "detector", ("coco",), ())


@pytest.fixture
def parts(tmp_path: Path) -> dict[RawSource, Part]:
    folder = tmp_path / "parts"
    folder.mkdir()
    one = sample_columns("detector", [("a/1.jpg", [BOX, BOX]), ("a/2.jpg", [])], class_ids=[0, 1])
    two = sample_columns("detector", [("b/1.jpg", [BOX, BOX, BOX])], class_ids=[1, -1, 0])
    three = sample_columns("detector", [("b/2.jpg", BOX)], class_ids=[2])
    return {
        source("detector/a"): part_of(folder, ["ear", "nose"], ("train", one)),
        source("detector/b"): part_of(folder, ["eye", "ear", "lip"], ("train", two), ("val", three)),
        source("detector/c"): part_of(folder, []),
    }


def make(
    tmp_path: Path, parts: dict[RawSource, Part], shard: Shard = ALL, split_by: dict[str, Any] | None = None
) -> list[MetadataOutput]:
    for name in ("raw", "out", "made"):
        (tmp_path / name).mkdir(exist_ok=True)
    outputs = make_outputs(
        parts,
        KINDS,
        raw_data_dir=tmp_path / "raw",
        output_dir=tmp_path / "out",
        made_in=tmp_path / "made",
        shard=shard,
        split_by=split_by or {"seed": 1},
    )
    return list(outputs)


def test_classes_of_all_datasets_are_united_by_name(tmp_path: Path, parts: dict[RawSource, Part]) -> None:
    outputs = make(tmp_path, parts)
    assert [(output.target.name, output.samples, output.rows) for output in outputs] == [
        ("train_detector.npy", 3, 5),
        ("val_detector.npy", 1, 1),
    ]
    train, val = (open_metadata(output.made) for output in outputs)
    assert train.info.class_names == val.info.class_names == ("ear", "nose", "eye", "lip")
    assert read_samples(train.path) == [
        ("a/1.jpg", [[*BOX], [*BOX]], ["ear", "nose"]),
        ("a/2.jpg", [], []),
        ("b/1.jpg", [[*BOX]] * 3, ["ear", "", "eye"]),
    ]
    assert read_samples(val.path) == [("b/2.jpg", [[*BOX]], ["lip"])]
    assert train.info.sources == (SourceInfo("detector/a", "coco", 2), SourceInfo("detector/b", "coco", 1))
    assert val.info.sources == (SourceInfo("detector/b", "coco", 1),)
    assert (train.info.root, train.info.split, train.info.split_by) == ("../raw", "train", {"seed": 1})


def test_a_file_does_not_depend_on_the_other_kinds_that_are_made(tmp_path: Path, parts: dict[RawSource, Part]) -> None:
    before = [output.made.read_bytes() for output in make(tmp_path, parts)]
    points = sample_columns("landmarker", [("c.jpg", [(1, 2, 2)])])
    other = RawSource("landmarker/a", "landmarker", ("pts",), ())
    parts[other] = part_of(tmp_path / "parts", ["face"], ("test", points))
    outputs = {output.target.name: output.made for output in make(tmp_path, parts)}
    assert [outputs[f"{split}_detector.npy"].read_bytes() for split in ("train", "val")] == before
    assert len(outputs) == 5
    assert open_metadata(outputs["test_landmarker.npy"]).info.class_names == ("face",)


def test_a_side_without_samples_has_a_file_a_kind_without_samples_has_none(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    columns = sample_columns("teacher", [("a.jpg", BOX)])
    outputs = make(tmp_path, {source("detector/a"): part_of(tmp_path / "parts", ["ear"], ("test", columns))})
    assert {output.target.name: output.samples for output in outputs} == {
        "train_teacher.npy": 0,
        "val_teacher.npy": 0,
        "test_teacher.npy": 1,
    }
    assert len(open_metadata(outputs[0].made)) == 0


def test_a_shard_has_its_name_in_the_files() -> None:
    assert output_name("val", "teacher") == "val_teacher.npy"
    assert output_name("val", "teacher", Shard(2, 8)) == "val_teacher.shard-2-of-8.npy"


def test_files_with_the_same_content_are_left_alone(tmp_path: Path, parts: dict[RawSource, Part]) -> None:
    outputs = make(tmp_path, parts)
    states = publish_outputs(outputs, [], complete=True, overwrite=False, hint="")
    assert states == {"train_detector.npy": "written", "val_detector.npy": "written"}
    before = [FileIdentity.of(output.target.stat()) for output in outputs]
    again = publish_outputs(make(tmp_path, parts), [], complete=True, overwrite=True, hint="")
    assert set(again.values()) == {"unchanged"}
    assert [FileIdentity.of(output.target.stat()) for output in outputs] == before


def test_nothing_is_written_where_one_file_may_not_be_replaced(tmp_path: Path, parts: dict[RawSource, Part]) -> None:
    outputs = make(tmp_path, parts)
    train, val = (output.target for output in outputs)
    val.write_bytes(b"mine")
    with pytest.raises(InputProblemsError) as caught:
        publish_outputs(outputs, [], complete=True, overwrite=False, hint="use --overwrite to replace them")
    assert str(caught.value) == (
        f"nothing was written: {val} exists with other content; use --overwrite to replace them"
    )
    assert not train.exists()
    assert val.read_bytes() == b"mine"
    assert publish_outputs(outputs, [], complete=True, overwrite=True, hint="") == {
        train.name: "written",
        val.name: "written",
    }
    assert read_samples(val) == [("b/2.jpg", [[*BOX]], ["lip"])]


def test_what_is_in_the_way_is_not_always_a_file(tmp_path: Path, parts: dict[RawSource, Part]) -> None:
    outputs = make(tmp_path, parts)
    outputs[0].target.mkdir()
    outputs[1].target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputProblemsError) as caught:
        publish_outputs(outputs, [], complete=True, overwrite=False, hint="")
    assert len(caught.value.problems) == 2
    with pytest.raises(MvtkError, match="not a regular file"):
        publish_outputs(outputs, [], complete=True, overwrite=True, hint="")


def test_a_file_that_cannot_be_made_is_named(tmp_path: Path, parts: dict[RawSource, Part]) -> None:
    make(tmp_path, parts)
    (tmp_path / "made/train_detector.npy").unlink()
    (tmp_path / "made/train_detector.npy").symlink_to("/dev/full")
    with pytest.raises(MvtkError, match=r"made/train_detector.npy: cannot write: No space left on device; free some"):
        make(tmp_path, parts)


def test_files_of_an_incomplete_run_are_replaced_by_a_complete_one(
    tmp_path: Path, parts: dict[RawSource, Part]
) -> None:
    first = make(tmp_path, parts, split_by={"partial": True})
    publish_outputs(first, [], complete=False, overwrite=False, hint="")
    for output in first:
        output.made.unlink()
    whole = make(tmp_path, parts)
    with pytest.raises(InputProblemsError, match="exists with other content; not complete"):
        publish_outputs(whole, [], complete=False, overwrite=True, hint="not complete")
    assert set(publish_outputs(whole, [], complete=True, overwrite=False, hint="").values()) == {"written"}


def test_what_has_no_samples_any_more_is_removed_when_that_is_asked_for(
    tmp_path: Path, parts: dict[RawSource, Part]
) -> None:
    outputs = make(tmp_path, parts)
    publish_outputs(outputs, [], complete=True, overwrite=False, hint="")
    folder = outputs[0].target.parent
    stale = folder / "test_detector.npy"
    stale.write_bytes(outputs[0].target.read_bytes())
    (folder / "test_teacher.npy").write_bytes(b"somebody's own")
    found = find_stale(outputs, folder, KINDS, ALL)
    assert found == [stale]
    elsewhere = MetadataInfo("../other-raw", "train", written_by=WRITTEN_BY)
    nobody = SampleColumns.build("landmarker", [], *(np.zeros(shape, np.int64) for shape in ((0, 2), 0, (0, 3), 0)))
    write_metadata(folder / "train_landmarker.npy", "landmarker", elsewhere, [nobody])
    assert find_stale(outputs, folder, KINDS, ALL) == [stale]
    with pytest.raises(InputProblemsError, match=r"test_detector.npy is of an earlier run"):
        publish_outputs(outputs, found, complete=True, overwrite=False, hint="")
    assert publish_outputs(outputs, found, complete=True, overwrite=True, hint="")["test_detector.npy"] == "removed"
    assert not stale.exists()
