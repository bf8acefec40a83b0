"""Migration: what the old files hold is what the new ones hold, and what they cannot hold is said."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.metadata_files import write_samples
from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.core.files import TargetExistsError
from toolkit.metadata import legacy
from toolkit.metadata.errors import MetadataError
from toolkit.metadata.legacy import migrate_metadata
from toolkit.metadata.reading import MetadataFile, open_metadata

NUMBERS = st.floats(-1e4, 1e4, width=32)
SAMPLES = st.lists(
    st.tuples(st.text("ab/ä", min_size=1, max_size=8), st.lists(st.tuples(*[NUMBERS] * 4), max_size=3)), min_size=1
)


def save_old(path: Path, content: Any) -> Path:
    np.save(path, content, allow_pickle=True)
    return path


def rows_of(file: MetadataFile) -> list[list[list[float]]]:
    return [file.rows[file.rows_of(index)].tolist() for index in range(len(file))]


def images_of(file: MetadataFile) -> list[str]:
    return [os.path.realpath(file.root / file.image_path(index)) for index in range(len(file))]


def ragged(rows: list[Any]) -> np.ndarray[Any, Any]:
    array = np.empty(len(rows), object)
    array[:] = rows
    return array


@given(SAMPLES, st.booleans(), st.sampled_from(["npy", "one", "pickle", "samples"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_new_file_holds_what_the_old_one_held(
    tmp_path: Path, samples: list[tuple[str, list[tuple[float, ...]]]], as_arrays: bool, form: str
) -> None:
    paths = [str(tmp_path / f"{folder}x{index}.png") for index, (folder, _) in enumerate(samples)]
    boxes: Any = [[list(box) for box in rows] for _, rows in samples]
    content: Any = {"image_paths": paths, "bboxes": boxes}
    if as_arrays:
        content = {"image_paths": np.array(paths), "bboxes": ragged([np.array(rows) for rows in boxes])}
    old = tmp_path / "old.npy"
    if form == "npy":
        save_old(old, content)
    elif form == "one":
        save_old(old, np.array([content], object))
    elif form == "pickle":
        old.write_bytes(pickle.dumps(content))
    else:
        one_each = [{"image_path": path, "bboxes": rows} for path, rows in zip(paths, boxes, strict=True)]
        save_old(old, np.array(one_each, object))
    before = old.read_bytes()
    summary = migrate_metadata(old, tmp_path / "new.npy", overwrite=True)
    file = open_metadata(tmp_path / "new.npy")
    assert (file.kind, len(file), len(file.rows)) == (summary.kind, summary.samples, summary.rows)
    assert file.kind == "detector"
    assert images_of(file) == [os.path.realpath(path) for path in paths]
    assert rows_of(file) == boxes
    assert file.class_ids.tolist() == [-1] * len(file.rows)
    assert not file.image_sizes_wh.any()
    assert file.info.sources[0].samples == len(paths)
    assert old.read_bytes() == before


@pytest.mark.parametrize(
    "boxes",
    [
        np.array([[1, 2, 3, 4], [5, 6, 7, 8]]),
        [[1, 2, 3, 4], (5, 6.0, np.float32(7), np.int64(8))],
        ragged([np.array([1.0, 2, 3, 4]), [5, 6, 7, 8]]),
    ],
)
def test_one_box_each_is_a_teacher(tmp_path: Path, boxes: Any) -> None:
    old = save_old(
        tmp_path / "val_teacher.npy", {"image_paths": [f"{tmp_path}/a.png", f"{tmp_path}/b.png"], "bboxes": boxes}
    )
    migrate_metadata(old, tmp_path / "new.npy")
    file = open_metadata(tmp_path / "new.npy")
    assert file.kind == "teacher"
    assert file.info.split == "val"
    assert file.info.root == "."
    assert [(source.name, source.format) for source in file.info.sources] == [("val_teacher.npy", "migrated")]
    assert rows_of(file) == [[[1, 2, 3, 4]], [[5, 6, 7, 8]]]


@pytest.mark.parametrize(
    ("keypoints", "expected"),
    [
        (np.array([[[1, 2], [3, 4]]]), [[1, 2, 2], [3, 4, 2]]),
        ([[[1, 2, 1], [3, 4, 0]]], [[1, 2, 1], [3, 4, 0]]),
        (ragged([np.array([[1, 2, 0]], np.float16)]), [[1, 2, 0]]),
        (ragged([[np.array([1, 2]), np.array([3, 4])]]), [[1, 2, 2], [3, 4, 2]]),
        (ragged([np.zeros((0, 3))]), []),
    ],
)
def test_keypoints_become_a_landmarker(tmp_path: Path, keypoints: Any, expected: list[list[float]]) -> None:
    old = save_old(tmp_path / "old.npy", {"image_paths": ["/x/a.png"], "keypoints": keypoints, "extra": 1})
    summary = migrate_metadata(old, tmp_path / "new.npy")
    file = open_metadata(tmp_path / "new.npy")
    assert file.kind == "landmarker"
    assert summary.left_out == ("extra",)
    assert summary.root == Path("/x")
    assert rows_of(file) == [expected]
    assert file.class_ids.tolist() == [-1]


def test_paths_are_resolved_against_the_working_folder_and_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep/images/a").mkdir(parents=True)
    (tmp_path / "deep/images/b").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "deep")
    (tmp_path / "work/link").symlink_to(tmp_path / "deep/images/a")
    monkeypatch.chdir(tmp_path / "work")
    content = {"image_paths": ["link/1.png", "link/../b/2.png", "../deep/images/3.png"], "bboxes": [[], [], []]}
    old = save_old(tmp_path / "old.npy", content)
    summary = migrate_metadata(old, tmp_path / "out/new.npy")
    file = open_metadata(tmp_path / "out/new.npy")
    images = tmp_path / "deep/images"
    assert [file.image_path(index) for index in range(3)] == ["a/1.png", "b/2.png", "3.png"]
    assert file.info.root == "images"
    assert summary.root == images.resolve()
    migrate_metadata(old, tmp_path / "wide.npy", root=tmp_path / "out")
    wide = open_metadata(tmp_path / "wide.npy")
    assert wide.info.root == "deep"
    assert wide.image_path(0) == "images/a/1.png"
    with pytest.raises(InputProblemsError, match=r"sample 1: link/../b/2.png is not below the root .*/images/a"):
        migrate_metadata(old, tmp_path / "no.npy", root=Path("link"))
    assert not (tmp_path / "no.npy").exists()


def test_names_that_are_not_utf8_stay(tmp_path: Path) -> None:
    name = os.fsdecode(b"/x/\xff.png")
    old = tmp_path / "old.npy"
    old.write_bytes(pickle.dumps({"image_paths": [name, b"/x/\xfe.png"], "bboxes": [[], []]}))
    migrate_metadata(old, tmp_path / "new.npy")
    assert open_metadata(tmp_path / "new.npy").path_bytes.tobytes() == b"\xff.png\xfe.png"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"bboxes": []}, "a dict with the keys bboxes, not a dict with `image_paths`"),
        ({}, "an empty dict, not a dict"),
        (np.array([1], object), "a list, not a dict"),
        ({"image_paths": ["a"], "bboxes": [[]], "keypoints": [[]]}, "`bboxes` and `keypoints` together"),
        ({"image_paths": ["a"]}, "neither `bboxes` nor `keypoints`"),
        ({"image_paths": ["a", "b"], "bboxes": [[]]}, "2 `image_paths`, but 1 `bboxes`"),
        ({"image_paths": "a", "bboxes": [[]]}, "`image_paths` is no list"),
        ({"image_paths": [], "bboxes": []}, "it holds no samples"),
        (np.array([{"image_path": "a", "bboxes": []}, {"image_path": "a"}]), "sample 1: other keys"),
        (
            {"image_paths": ["a", "b", "c"], "bboxes": [[[1, 2, 3, 4]], [], [1, 2, 3, 4]]},
            "sample 2 has a single box, sample 0 a list of boxes: the kind cannot be told",
        ),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: Any, problem: str) -> None:
    old = save_old(tmp_path / "old.npy", content)
    with pytest.raises(MetadataError, match=rf"old.npy: .*{problem}"):
        migrate_metadata(old, tmp_path / "new.npy")
    assert not (tmp_path / "new.npy").exists()


CYCLIC: list[Any] = []
CYCLIC.append(CYCLIC)


@pytest.mark.parametrize(
    ("path", "rows", "problem"),
    [
        (3, [], "its image path is no text"),
        ("", [], "its image path '' names no file"),
        ("a/", [], "names no file"),
        ("a/..", [], "names no file"),
        ("a\0b", [], "names no file"),
        ("x" * 5000, [], "names no file"),
        ("\ud800", [], "cannot be a file's name"),
        ("a", None, "its boxes or keypoints are no list"),
        ("a", {"x": 1}, "its boxes or keypoints are no list"),
        ("a", [[1, 2, 3]], "rows of 3 numbers, not 4"),
        ("a", [[1, 2, 3, 4, 5]], "a row of 5 numbers"),
        ("a", [1, 2, 3, 4, 5], "its boxes or keypoints are not lists of numbers"),
        ("a", [[1, 2, 3, 4], [1, 2, 3]], "rows of 4 and of 3 numbers"),
        ("a", [[1, 2, 3, "4"]], "not lists of numbers"),
        ("a", [[1, 2, 3, True]], "not lists of numbers"),
        ("a", [[[1, 2, 3, 4]]], "not lists of numbers"),
        ("a", CYCLIC, "not lists of numbers"),
        ("a", [[1, 2, 3, float("nan")]], "a number is not finite, or too large"),
        ("a", [[1, 2, 3, 1e39]], "a number is not finite, or too large"),
        ("a", [[1, 2, 3, 10**400]], "a number is not finite, or too large"),
        ("a", np.array([[1, 2, np.inf, 3]]), "a number is not finite, or too large"),
        ("a", np.array(["x"]), "an array of shape \\(1,\\) and type <U1"),
        ("a", np.zeros((1, 1, 4)), "an array of shape \\(1, 1, 4\\)"),
        ("a", np.zeros((1, 9)), "an array of shape \\(1, 9\\)"),
    ],
)
def test_unsound_samples_are_listed(tmp_path: Path, path: Any, rows: Any, problem: str) -> None:
    old = tmp_path / "old.npy"
    old.write_bytes(pickle.dumps({"image_paths": ["b", path], "bboxes": [[], rows]}))
    with pytest.raises(InputProblemsError, match=rf"old.npy: cannot migrate: sample 1: .*{problem}"):
        migrate_metadata(old, tmp_path / "new.npy")
    assert not (tmp_path / "new.npy").exists()


def test_flat_keypoints_are_refused(tmp_path: Path) -> None:
    old = save_old(tmp_path / "old.npy", {"image_paths": ["a"], "keypoints": [[1, 2, 3]]})
    with pytest.raises(InputProblemsError, match="sample 0: its keypoints are one flat list"):
        migrate_metadata(old, tmp_path / "new.npy")


def test_the_first_20_unsound_samples_are_listed(tmp_path: Path) -> None:
    old = save_old(tmp_path / "old.npy", {"image_paths": ["a"] * 50, "bboxes": [[[1, 2]]] * 50})
    with pytest.raises(InputProblemsError) as caught:
        migrate_metadata(old, tmp_path / "new.npy")
    assert len(caught.value.problems) == 21
    assert caught.value.problems[-1] == "30 more samples"


def test_content_that_repeats_itself_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legacy, "_REPETITION_ALLOWANCE", 1000)
    box = [1.0, 2.0, 3.0, 4.0]
    old = save_old(tmp_path / "old.npy", {"image_paths": ["a"] * 2000, "bboxes": [[box] * 500] * 2000})
    with pytest.raises(MetadataError, match="it repeats its own content over and over"):
        migrate_metadata(old, tmp_path / "new.npy")


def test_a_hostile_file_does_nothing(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {canary}",)

    for content in (Hostile(), {"image_paths": [Hostile()], "bboxes": [[]]}):
        old = save_old(tmp_path / "old.npy", np.array(content, object))
        with pytest.raises(MetadataError, match=r"old.npy: refuses to build (posix|nt).system"):
            migrate_metadata(old, tmp_path / "new.npy")
        old.write_bytes(pickle.dumps(content))
        with pytest.raises(MetadataError, match=r"old.npy: refuses to build (posix|nt).system"):
            migrate_metadata(old, tmp_path / "new.npy")
    assert not canary.exists()
    assert not (tmp_path / "new.npy").exists()


def test_files_that_are_not_of_the_old_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = tmp_path / "new.npy"
    present = write_samples(tmp_path / "present.npy", "detector", [("a", [])])
    with pytest.raises(MetadataError, match=r"present.npy: of the present layout already"):
        migrate_metadata(present, new)
    with pytest.raises(MetadataError, match="a NumPy array of shape \\(3,\\) and type float64"):
        migrate_metadata(save_old(tmp_path / "numbers.npy", np.zeros(3)), new)
    np.savez(tmp_path / "old.npz", a=1)
    with pytest.raises(MetadataError, match="an NPZ file: those hold images, not paths; make the file again"):
        migrate_metadata(tmp_path / "old.npz", new)
    for data, problem in {
        b"": "neither a NumPy file nor a pickle",
        b"text": "neither a NumPy file nor a pickle",
        b"\x93NUMPY": "header is cut short|version",
        b"\x80\x04N": "the pickle is damaged",
    }.items():
        (tmp_path / "x.npy").write_bytes(data)
        with pytest.raises(MetadataError, match=rf"x.npy: .*({problem})"):
            migrate_metadata(tmp_path / "x.npy", new)
    with pytest.raises(MvtkError, match=r"missing.npy: cannot read: No such file"):
        migrate_metadata(tmp_path / "missing.npy", new)
    with pytest.raises(MvtkError, match="Is a directory"):
        migrate_metadata(tmp_path, new)
    monkeypatch.setattr(legacy, "MAX_OLD_BYTES", 3)
    with pytest.raises(MetadataError, match="more than 3 are not read"):
        migrate_metadata(tmp_path / "numbers.npy", new)
    assert not new.exists()


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    old = save_old(tmp_path / "old.npy", {"image_paths": ["a"], "bboxes": [[]]})
    (tmp_path / "link.npy").symlink_to(old)
    before = old.read_bytes()
    for same in (old, tmp_path / "link.npy"):
        with pytest.raises(MvtkError, match="is an input, and inputs are never modified"):
            migrate_metadata(old, same, overwrite=True)
    (tmp_path / "new.npy").write_text("mine")
    with pytest.raises(TargetExistsError):
        migrate_metadata(old, tmp_path / "new.npy")
    assert (tmp_path / "new.npy").read_text() == "mine"
    assert old.read_bytes() == before
