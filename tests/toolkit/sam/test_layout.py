"""The layout of SAM training data: one look finds every sample, and everything that is wrong with the files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sam_datasets import make_dataset, write_summary
from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.sam.layout import mask_name, parse_mask_name, read_layout, read_summary, scan_layout

# Names of one file: no slash and no NUL.
IDS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=12)


def test_a_valid_dataset_gives_its_samples_sorted(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", {"b": 2, "a": 1, "empty": 0}, groups={"a": "patient 1"})
    layout = read_layout(root)
    assert layout.ids == ("a", "b", "empty")
    b = layout.samples[1]
    assert b.image == root / "images/b.png"
    assert b.masks == (root / "masks/b_0.png", root / "masks/b_1.png")
    assert b.boxes == root / "boxes/b.txt"
    assert layout.samples[2].masks == ()
    assert layout.class_names == ("disc", "rectangle")
    assert layout.class_count == 2
    assert layout.groups == {"a": "patient 1"}


def test_masks_are_in_the_order_of_their_numbers_not_of_their_names(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", {"a": 12})
    names = read_layout(root).samples[0].mask_names
    assert names == tuple(f"a_{number}.png" for number in range(12))


def test_ids_that_look_like_another_ids_masks_are_kept_apart(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", {"a": 2, "a_1": 1})
    by_id = {files.id: files.mask_names for files in read_layout(root).samples}
    assert by_id == {"a": ("a_0.png", "a_1.png"), "a_1": ("a_1_0.png",)}


@given(IDS, st.integers(0, 10**6))
def test_the_name_of_a_mask_tells_id_and_number(sample_id: str, number: int) -> None:
    assert parse_mask_name(mask_name(sample_id, number)) == (sample_id, number)


@pytest.mark.parametrize(
    "name", ["a.png", "a_.png", "_0.png", "a_0.jpg", "a_x.png", "a_0", "a_-1.png", "a_².png", "a_٣.png"]
)
def test_other_names_are_none_of_a_mask(name: str) -> None:
    assert parse_mask_name(name) is None


def test_ids_may_be_numbers_and_keys_that_others_write_are_passed_over(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", {"17": 1})
    (root / "summary.json").write_text(json.dumps({"task_ids": [17], "total_tasks": 1}))
    layout = read_layout(root)
    assert layout.ids == ("17",)
    assert layout.class_names == ()
    assert layout.class_count is None


def test_all_structural_problems_are_said_at_once(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", {"gap": 3, "gone": 1, "twice": 1, "unboxed": 2, "zeros": 1})
    (root / "masks/gap_1.png").unlink()
    (root / "images/gone.png").unlink()
    (root / "images/twice.jpg").write_bytes(b"")
    (root / "boxes/unboxed.txt").unlink()
    (root / "masks/zeros_00.png").write_bytes(b"")
    with pytest.raises(InputProblemsError) as caught:
        read_layout(root)
    assert caught.value.problems == (
        "masks/gap_0.png: the masks are numbered 0, 2, not from 0 on without a gap",
        "images/gone: no such image, and task_ids lists it",
        "images/twice.jpg: twice.png is an image of the same id",
        "boxes/unboxed.txt: no such file, and there are 2 masks",
        "masks/zeros_0.png: the masks are numbered 0, 0, not from 0 on without a gap",
    )
    assert caught.value.hint == "mvtk sam verify lists all problems"


def test_what_belongs_to_no_sample_is_found_but_harmless(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", {"a": 1, "unlisted": 1})
    write_summary(root, ["a"], groups={"b": "x"})
    for name in ("masks/nobody_0.png", "boxes/nobody.txt", "masks/odd.png", "images/notes.md", "images/.hidden"):
        (root / name).write_bytes(b"")
    assert read_layout(root).ids == ("a",)
    assert [(leftover.source, leftover.kind) for leftover in scan_layout(root).leftovers] == [
        ("summary.json", "bad summary.json"),
        ("images/unlisted.png", "not in summary.json"),
        ("masks/nobody_0.png", "belongs to no image"),
        ("boxes/nobody.txt", "belongs to no image"),
        ("images/notes.md", "belongs to no image"),
        ("masks/odd.png", "belongs to no image"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "not a JSON object"),
        ("{", "cut short or no JSON: line 1 column 2"),
        ("{}", "task_ids: missing"),
        ('{"task_ids": "a"}', "task_ids: not a list"),
        ('{"task_ids": [null, true, "a"]}', "task_ids: 2 entries are neither texts nor whole numbers"),
        ('{"task_ids": ["../a"]}', "task_ids: '../a' cannot be part of a file name"),
        ('{"task_ids": ["a", "a"]}', "task_ids: 'a' is listed 2 times"),
        ('{"task_ids": [], "class_names": {"0": "cell"}}', "class_names: not a list of texts"),
        ('{"task_ids": [], "groups": ["a"]}', "groups: not an object of id: group"),
        ('{"task_ids": [], "groups": {"a": null}}', "groups: not an object of id: group"),
    ],
)
def test_an_unusable_summary_is_an_error_that_says_why(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "summary.json"
    path.write_text(content)
    with pytest.raises(MvtkError) as caught:
        read_summary(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert '{"task_ids": ["image1", "image2"]}' in caught.value.hint


def test_missing_parts_are_named_together(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(InputProblemsError) as caught:
        read_layout(tmp_path)
    assert caught.value.problems == ("no folder masks", "no folder boxes")
    with pytest.raises(MvtkError, match="no such folder"):
        read_layout(tmp_path / "nowhere")


def test_nothing_but_the_summary_is_opened(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "data", (2,))
    (root / "masks/image_0_0.png").unlink()
    os.mkfifo(root / "masks/image_0_0.png")
    assert len(read_layout(root).samples[0].masks) == 2
