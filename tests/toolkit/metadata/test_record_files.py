"""Metadata files: what is written is read, by NumPy alone too, and no damage is more than an error that names it."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from tests.metadata_files import sample_columns, write_samples
from toolkit.core.errors import MvtkError, collected
from toolkit.metadata import writing
from toolkit.metadata.columns import KINDS, ROW_WIDTHS, Kind, SampleColumns
from toolkit.metadata.errors import LegacyLayoutError, MetadataError
from toolkit.metadata.reading import MetadataFile, open_metadata
from toolkit.metadata.record import MetadataInfo, RecordShape, SourceInfo
from toolkit.metadata.writing import write_metadata

INFO = MetadataInfo("../raw", "train", ("ear", "nöse"), (SourceInfo("detector/x", "coco", 3),), "mvtk 0", {"seed": 42})
SAMPLES: dict[Kind, Any] = {
    "detector": [("x/a.jpg", [[1, 2, 3, 4], [0.5, 0.25, 1, 1]]), ("x/ä.jpg", []), ("b.jpg", [[9, 8, 7, 6]])],
    "landmarker": [("x/a.jpg", [[1, 2, 2], [3, 4, 0]]), ("x/ä.jpg", [[5, 6, 1]]), ("b.jpg", [[7, 8, 2]])],
    "teacher": [("x/a.jpg", [1, 2, 3, 4]), ("x/a.jpg", [0.5, 0.25, 1, 1]), ("b.jpg", [9, 8, 7, 6])],
}
CLASS_IDS = [0, 1, -1]
SIZES_WH = [(64, 48), (0, 0), (65535, 1)]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    value: Kind = request.param
    return value


def write(folder: Path, kind: Kind, **more: Any) -> Path:
    return write_samples(
        folder / "train.npy", kind, SAMPLES[kind], class_ids=CLASS_IDS, sizes_wh=SIZES_WH, **{"info": INFO, **more}
    )


def read_everything(file: MetadataFile) -> None:
    """Read all that the file says; whatever is wrong must be an MvtkError."""
    file.columns()
    for index in range(len(file)):
        file.image_path(index)
        file.rows[file.rows_of(index)].copy()


def error_of(path: Path) -> str:
    with pytest.raises(MetadataError) as caught:
        open_metadata(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert line.isprintable()
    return line.removeprefix(f"{path}: ")


def test_what_is_written_is_read(tmp_path: Path, kind: Kind) -> None:
    file = open_metadata(write(tmp_path, kind))
    assert (file.kind, file.info, len(file)) == (kind, INFO, 3)
    assert file.root == tmp_path / "../raw"
    assert [file.image_path(index) for index in range(3)] == [path for path, _ in SAMPLES[kind]]
    for index, (_, rows) in enumerate(SAMPLES[kind]):
        assert np.array_equal(file.rows[file.rows_of(index)], np.reshape(rows, (-1, ROW_WIDTHS[kind])))
    assert file.class_ids.tolist() == CLASS_IDS
    assert file.image_sizes_wh.tolist() == [list(size) for size in SIZES_WH]


def test_it_is_read_with_numpy_alone(tmp_path: Path, kind: Kind) -> None:
    """As README says it."""
    record = np.load(write(tmp_path, kind), mmap_mode="r", allow_pickle=False)
    assert isinstance(record, np.memmap)
    info = json.loads(record["info"].item())
    assert (record["format"].item(), record["version"].item()) == (b"mvtk.metadata", 1)
    assert (record["kind"].item().decode(), info["root"], info["class_names"]) == (kind, "../raw", ["ear", "nöse"])
    starts = record["path_starts"]
    rows = record["keypoints_xyv" if kind == "landmarker" else "boxes_xywh"]
    for index, (path, own_rows) in enumerate(SAMPLES[kind]):
        assert record["path_bytes"][starts[index] : starts[index + 1]].tobytes().decode() == path
        if kind == "teacher":
            assert rows[index].tolist() == own_rows
        else:
            row_starts = record["box_starts" if kind == "detector" else "keypoint_starts"]
            assert rows[row_starts[index] : row_starts[index + 1]].tolist() == own_rows


def test_every_field_is_aligned_and_the_array_has_no_shape(tmp_path: Path, kind: Kind) -> None:
    path = write(tmp_path, kind)
    record = np.load(path, mmap_mode="r")
    assert record.shape == ()
    with path.open("rb") as stream:
        npy_format.read_magic(stream)
        npy_format.read_array_header_1_0(stream)
        start = stream.tell()
    for dtype, offset, *_ in record.dtype.fields.values():
        assert (start + offset) % dtype.base.alignment == 0


def test_the_same_samples_are_the_same_bytes_in_any_chunks(tmp_path: Path, kind: Kind) -> None:
    whole = write(tmp_path, kind).read_bytes()
    counts = [0] if kind == "landmarker" else [len(np.reshape(rows, (-1, 4))) for _, rows in SAMPLES[kind]]
    chunks = []
    for index, sample in enumerate(SAMPLES[kind]):
        ids = (
            CLASS_IDS[index : index + 1] if kind == "landmarker" else CLASS_IDS[sum(counts[:index]) :][: counts[index]]
        )
        chunks.append(sample_columns(kind, [sample], class_ids=ids, sizes_wh=SIZES_WH[index : index + 1]))
        chunks.append(sample_columns(kind, []))
    write_metadata(tmp_path / "chunks.npy", kind, INFO, chunks)
    assert (tmp_path / "chunks.npy").read_bytes() == whole


def test_no_samples_at_all(tmp_path: Path, kind: Kind) -> None:
    file = open_metadata(write_samples(tmp_path / "empty.npy", kind, []))
    assert len(file) == 0
    assert len(file.columns()) == 0


def test_large_sides_and_many_classes_take_wider_numbers(tmp_path: Path) -> None:
    names = tuple(map(str, range(40_000)))
    path = write_samples(
        tmp_path / "a.npy",
        "detector",
        [("a.jpg", [1, 2, 3, 4])],
        info=MetadataInfo(".", class_names=names),
        class_ids=[39_999],
        sizes_wh=[(65_536, 70_000)],
    )
    file = open_metadata(path)
    assert file.image_sizes_wh.tolist() == [[65_536, 70_000]]
    assert file.class_ids.tolist() == [39_999]
    assert file.columns().class_ids.tolist() == [39_999]


def test_an_existing_file_is_not_replaced_unasked(tmp_path: Path) -> None:
    path = write(tmp_path, "teacher")
    with pytest.raises(MvtkError, match="exists already; use --overwrite"):
        write(tmp_path, "teacher")
    write(tmp_path, "detector", overwrite=True)
    assert open_metadata(path).kind == "detector"


def test_more_than_a_record_can_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = RecordShape("teacher", 3, 3, len("x/a.jpgx/a.jpgb.jpg"), len(INFO.to_json()), 65_535, 2).record_bytes
    monkeypatch.setattr(writing, "MAX_RECORD_BYTES", size)
    write(tmp_path, "teacher")
    monkeypatch.setattr(writing, "MAX_RECORD_BYTES", size - 1)
    with pytest.raises(MetadataError) as caught:
        write(tmp_path, "teacher", overwrite=True)
    assert str(caught.value) == (
        f"{tmp_path}/train.npy: 3 samples take {size} bytes, more than the {size - 1} of a record; process parts of "
        "the raw data into several output folders (--shard), and train on them with CombinedLazyDataset"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["train.npy"]


def test_the_size_of_a_record_is_known_where_numpy_has_no_type_for_it() -> None:
    shape = RecordShape("detector", 10**9, 3 * 10**9, 10**11, 100, 640, 5)
    assert shape.record_bytes > 10**11
    small = RecordShape("detector", 10, 30, 100, 100, 640, 5)
    assert small.record_bytes == small.dtype().itemsize


def test_columns_that_contradict_each_other_are_a_bug(tmp_path: Path) -> None:
    good = sample_columns("detector", [("a.jpg", [1, 2, 3, 4])])
    bad = SampleColumns("detector", good.path_bytes, good.path_lengths, good.image_sizes_wh, good.row_counts, good.rows,
                        good.class_ids[:0])  # fmt: skip
    with pytest.raises(AssertionError, match="class_ids: the chunks' columns contradict each other"):
        write_metadata(tmp_path / "a.npy", "detector", INFO, [bad])
    assert not list(tmp_path.iterdir())


def test_every_truncation_is_refused(tmp_path: Path, kind: Kind) -> None:
    path = write(tmp_path, kind)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(MetadataError):
            open_metadata(path)
    path.write_bytes(data + b"\0")
    assert error_of(path).startswith(f"{len(data) + 1} bytes, not {len(data)} as its header says; ")


@pytest.mark.parametrize("flip", [0x01, 0xFF, *(pytest.param(bits, marks=pytest.mark.slow) for bits in (0x80, 0x20))])
def test_a_flipped_byte_is_an_error_or_gives_a_readable_file(tmp_path: Path, kind: Kind, flip: int) -> None:
    path = write(tmp_path, kind)
    data = bytearray(path.read_bytes())
    for place in range(len(data)):
        data[place] ^= flip
        path.write_bytes(data)
        data[place] ^= flip
        read_or_refuse(path)


def read_or_refuse(path: Path) -> None:
    """Let nothing but an MvtkError come of a damaged file."""
    problems: list[str] = []
    with collected(problems):
        read_everything(open_metadata(path))
    assert all(map(str.isprintable, problems))


@settings(max_examples=200)
@given(st.data())
def test_garbage_in_the_middle_too(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("garbage")
    path = write(folder, data.draw(st.sampled_from(KINDS)))
    content = path.read_bytes()
    start = data.draw(st.integers(0, len(content)))
    garbage = data.draw(st.binary(max_size=40))
    path.write_bytes(content[:start] + garbage + content[start + len(garbage) :])
    read_or_refuse(path)


def change(path: Path, **fields: Any) -> None:
    """Write other values into fields of the record."""
    record = np.load(path, mmap_mode="r+")
    for name, value in fields.items():
        record[name][...] = value
    record.flush()


@pytest.mark.parametrize(
    ("kind", "fields", "problem"),
    [
        (
            "detector",
            {"version": 2},
            "layout version 2; this mvtk reads version 1; update mvtk, or make the file again",
        ),
        ("detector", {"version": -1}, "layout version -1; "),
        ("detector", {"kind": b"segmenter"}, "unknown kind b'segmenter'; "),
        ("detector", {"kind": b"teacher"}, "a teacher file with other fields than it must have: box_starts; "),
        ("teacher", {"kind": b"landmarker"}, "a landmarker file with other fields than it must have: boxes_xywh, "),
        ("detector", {"format": b"other"}, "a NumPy record, but no metadata file; give a file that mvtk dataset "),
        ("detector", {"info": b"{"}, "`info`: Expecting property name"),
        ("detector", {"info": b"[]"}, "`info`: not a JSON object; the file is damaged"),
        ("detector", {"info": b"{}"}, "`info`: `root` is missing; "),
        ("detector", {"info": b'{"root": 1}'}, "`info`: `root` is not of type str; "),
        ("detector", {"path_starts": [1, 7, 15, 20]}, "`path_starts` spans 1 to 20, not 0 to 20; "),
        ("detector", {"path_starts": [0, 7, 15, 2**32 - 1]}, "`path_starts` spans 0 to 4294967295, not 0 to 20; "),
        ("detector", {"box_starts": [0, 2, 2, 2]}, "`box_starts` spans 0 to 2, not 0 to 3; "),
        ("landmarker", {"keypoint_starts": [0, 2, 3, 5]}, "`keypoint_starts` spans 0 to 5, not 0 to 4; "),
    ],
)
def test_a_file_that_lies_is_refused_when_it_is_opened(
    tmp_path: Path, kind: Kind, fields: dict[str, Any], problem: str
) -> None:
    path = write(tmp_path, kind)
    change(path, **fields)
    assert error_of(path).startswith(problem)


def test_offsets_that_lie_inside_are_found_when_they_are_used(tmp_path: Path) -> None:
    path = write(tmp_path, "detector")
    change(path, path_starts=[0, 9, 8, 20], box_starts=[0, 3, 2, 3])
    file = open_metadata(path)
    assert file.image_path(0) == "x/a.jpgx/"
    line = f"{path}: sample 1: `path_starts` gives 9 to 8, which no sample can have; the file is damaged: make it again"
    uses: list[Callable[[], object]] = [lambda: file.image_path(1), file.columns]
    for use in uses:
        with pytest.raises(MetadataError) as caught:
            use()
        assert str(caught.value).startswith(line)
    with pytest.raises(MetadataError, match="sample 1: `box_starts` gives 3 to 2"):
        file.rows_of(1)


def save(path: Path, array: NDArray[Any], **options: Any) -> Path:
    np.save(path, array, **options)
    return path


def fields_of(path: Path, **changed: Any) -> Path:
    """Save a record whose fields are those of a file, some with other types or shapes."""
    old = np.load(path)
    fields = [(name, changed.get(name, old.dtype[name])) for name in old.dtype.names]
    new = np.zeros((), fields)
    for name in old.dtype.names:
        if name not in changed:
            new[name] = old[name]
    return save(path, new)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"boxes_xywh": ("<f8", (3, 4))}, "`boxes_xywh` is (3, 4) float64, not (3, 4) float32; "),
        ({"boxes_xywh": (">f4", (3, 4))}, "`boxes_xywh` is (3, 4) >f4, not (3, 4) float32; "),
        ({"boxes_xywh": ("<f4", (3, 5))}, "`boxes_xywh` is (3, 5) float32, not (3, 4) float32; "),
        ({"boxes_xywh": ("<f4", (12,))}, "the shapes of its fields contradict each other; "),
        ({"path_starts": ("<u4", (0,))}, "the shapes of its fields contradict each other; "),
        ({"path_starts": ("<u4", (2, 2))}, "the shapes of its fields contradict each other; "),
        ({"path_bytes": "u1"}, "the shapes of its fields contradict each other; "),
        ({"box_starts": ("<u4", (3,))}, "`box_starts` is (3,) uint32, not (4,) uint32; "),
        ({"class_ids": ("<i2", (2,))}, "`class_ids` is (2,) int16, not (3,) int16; "),
        ({"image_sizes_wh": ("<u2", (2, 2))}, "`image_sizes_wh` is (2, 2) uint16, not (3, 2) uint16; "),
    ],
)
def test_fields_of_other_types_or_shapes_are_refused(tmp_path: Path, changed: dict[str, Any], problem: str) -> None:
    assert error_of(fields_of(write(tmp_path, "detector"), **changed)).startswith(problem)


def test_other_numpy_files_are_no_metadata_files(tmp_path: Path) -> None:
    hint = "; give a file that mvtk dataset process wrote"
    path = tmp_path / "a.npy"
    assert error_of(save(path, np.zeros((2, 3)))) == f"a NumPy array of shape (2, 3), no metadata file{hint}"
    assert error_of(save(path, np.zeros(()))) == f"a NumPy array of shape (), no metadata file{hint}"
    record = np.zeros((), [("format", "S16"), ("x", "i4")])
    assert error_of(save(path, record)) == f"a NumPy record, but no metadata file{hint}"
    for data in (b"PK\3\4 a zip", b"", b"\x93NUMPY"):
        path.write_bytes(data)
        line = error_of(path)
        assert line.startswith("no metadata file: ")
        assert line.endswith(hint)


def test_the_old_pickled_layout_is_named_and_nothing_is_unpickled(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(canary),)

    saved = save(tmp_path / "old.npy", np.array([Hostile()], object), allow_pickle=True)
    bare = tmp_path / "bare.npy"
    bare.write_bytes(pickle.dumps(Hostile()))
    for path in (saved, bare):
        with pytest.raises(LegacyLayoutError) as caught:
            open_metadata(path)
        assert str(caught.value) == (
            f"{path}: written with the old pickled layout, which is not read; "
            f"convert it with: mvtk dataset migrate {path} NEW.npy"
        )
        copied = pickle.loads(pickle.dumps(caught.value))
        assert (type(copied), str(copied)) == (LegacyLayoutError, str(caught.value))
    assert not canary.exists()


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert error_of(tmp_path / "pipe").startswith("not a regular file")
    with pytest.raises(MvtkError, match="cannot read: No such file or directory; check the path"):
        open_metadata(tmp_path / "nowhere.npy")
    with pytest.raises(MvtkError, match=r"cannot read: Is a directory|not a regular file"):
        open_metadata(tmp_path)


def test_a_header_without_end_costs_nothing(tmp_path: Path) -> None:
    stream = io.BytesIO()
    npy_format.write_array_header_2_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (1,) * 30_000})
    (tmp_path / "a.npy").write_bytes(stream.getvalue())
    assert "its NPY header of 90100 bytes is longer than 10000; " in error_of(tmp_path / "a.npy")


names = st.text(st.characters(exclude_categories=[]), max_size=6)
json_values = st.dictionaries(names, st.none() | st.booleans() | st.integers() | names, max_size=3)


@given(
    st.builds(
        MetadataInfo,
        names.filter(lambda text: "\0" not in text),
        names,
        st.lists(names, max_size=3).map(tuple),
        st.lists(st.builds(SourceInfo, names, names, st.integers(0)), max_size=3).map(tuple),
        names,
        json_values,
    )
)
def test_a_description_reads_back(info: MetadataInfo) -> None:
    assert MetadataInfo.from_json(info.to_json()) == info


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"root": "a\0b"}, "`root` holds a NUL"),
        ({"class_names": ["a", 1]}, "`a class name` is not of type str"),
        ({"sources": [1]}, "a source is not an object"),
        ({"sources": [{"name": "a", "format": "b", "samples": -1}]}, "a source has fewer than 0 samples"),
        ({"sources": [{"name": "a", "format": "b", "samples": True}]}, "`samples` is not of type int"),
        ({"sources": [{"name": "a"}]}, "`format` is missing"),
        ({"split_by": []}, "`split_by` is not of type dict"),
    ],
)
def test_a_description_that_is_none_is_refused(changed: dict[str, Any], text: str) -> None:
    content = json.loads(INFO.to_json()) | changed
    with pytest.raises((ValueError, TypeError), match=text):
        MetadataInfo.from_json(json.dumps(content).encode())
