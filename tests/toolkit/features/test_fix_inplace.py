"""The repair of listed samples: the list, where their features files are found, and what is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets import tree_hash
from tests.feature_images import RANDOM, ImageTree, failure, features, number_of, picture, use_fake_encoder
from toolkit.core import file_index
from toolkit.core.driver import run_to_end
from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.core.locks import hold_folder
from toolkit.core.report import Report
from toolkit.features.encoding import ALREADY_PROCESSED
from toolkit.features.fix_inplace import (
    FEATURES_NOT_FOUND,
    IMAGE_NOT_FOUND,
    LISTED_TWICE,
    SHARED_FEATURES,
    TWO_FEATURES,
    FixInplaceJob,
)
from toolkit.features.options import FixInplaceOptions
from toolkit.npz import read_npz


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_encoder(monkeypatch)


@pytest.fixture
def tree(tmp_path: Path) -> ImageTree:
    return ImageTree(tmp_path / "tree")


def options(tree: ImageTree, lines: list[Any], **changes: Any) -> FixInplaceOptions:
    samples = tree.root.parent / "samples.txt"
    samples.write_text("".join(f"{line}\n" for line in lines))
    values: dict[str, Any] = {"samples": samples, "workers": 0, "device": "cpu", **RANDOM, **changes}
    return FixInplaceOptions(**values)


def fix(tree: ImageTree, lines: list[Any], **changes: Any) -> Report:
    return run_to_end(FixInplaceJob(options(tree, lines, **changes)))


def has_features_of(path: Path, seed: int) -> bool:
    arrays, number = read_npz(path, ("P4_S16", "P5_S32")), number_of(picture(seed))
    return bool((arrays["P4_S16"] == number).all() and (arrays["P5_S32"] == number + 0.5).all())


# What is written


@pytest.mark.parametrize("stale_copy", [None, np.zeros((1, 256, 64, 64), np.float32)])
def test_p4_its_copy_and_p5_are_written_and_no_flag(tree: ImageTree, stale_copy: Any) -> None:
    path = tree.add("sa_1", seed=1, IMAGE_EMB_S16=stale_copy)
    before = read_npz(path)
    assert fix(tree, [tree.root / "sa_1.png"]).figures.done == 1
    after = read_npz(path)
    assert has_features_of(path, 1)
    np.testing.assert_array_equal(after["IMAGE_EMB_S16"], after["P4_S16"])
    assert set(after) == {*before, "IMAGE_EMB_S16", "feature_source"}


def test_the_flag_is_set_only_where_it_is_asked_for(tree: ImageTree) -> None:
    path = tree.add("sa_1")
    fix(tree, [tree.root / "sa_1.png"], set_flag=True)
    assert read_npz(path)["feature_flag"].item() == 1


def test_a_flag_that_is_there_stays(tree: ImageTree) -> None:
    path = tree.add("sa_1", feature_flag=np.array(0))
    fix(tree, [tree.root / "sa_1.png"])
    assert read_npz(path)["feature_flag"].item() == 0


# What is skipped


def test_a_file_of_this_source_is_skipped_and_the_flag_does_not_count(tree: ImageTree) -> None:
    flagged = tree.add("sa_1", seed=1, feature_flag=np.array(1))
    images = [tree.root / "sa_1.png"]
    assert fix(tree, images).figures.done == 1
    assert has_features_of(flagged, 1)
    before = flagged.read_bytes()
    assert fix(tree, images).figures.skip_reasons == {ALREADY_PROCESSED: 1}
    assert flagged.read_bytes() == before
    assert fix(tree, images, weights="random:1").figures.done == 1  # another source: no refreshing has to be asked for


# The list


def test_blank_lines_duplicates_and_line_ends(tree: ImageTree) -> None:
    tree.add("sa_1")
    tree.add("sa 2")
    (tree.root / "link.png").symlink_to("sa_1.png")
    image = tree.root / "sa_1.png"
    lines = ["\ufeff" + str(image), "", "   ", f"{image}\r", tree.root / "sub" / ".." / "sa 2.png", image]
    (tree.root / "sub").mkdir()
    report = fix(tree, [*lines, tree.root / "link.png"])
    assert report.figures.done == 2
    assert report.figures.skip_reasons == {LISTED_TWICE: 3}


def test_a_list_without_a_line_end_and_names_that_are_not_utf_8(tree: ImageTree) -> None:
    name = os.fsdecode(b"sa_\xff")
    tree.add(name)
    job_options = options(tree, [])
    job_options.samples.write_bytes(os.fsencode(tree.root / f"{name}.png"))
    assert run_to_end(FixInplaceJob(job_options)).figures.done == 1


def test_relative_paths_start_here_or_at_the_list(tree: ImageTree, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tree.add("sa_1", seed=1, folder="here")
    by_list = tree.add("sa_1", seed=2, folder="../here")
    monkeypatch.chdir(tree.root)
    report = fix(tree, ["here/sa_1.png"])
    assert (report.figures.done, has_features_of(here, 1), has_features_of(by_list, 2)) == (1, True, False)
    monkeypatch.chdir("here")
    assert fix(tree, ["here/sa_1.png"]).figures.done == 1
    assert has_features_of(by_list, 2)


def test_missing_images_fail_and_the_others_are_done(tree: ImageTree) -> None:
    tree.add("sa_1")
    tree.add_npz("sa_2_features.npz", features("sa_2"))
    report = fix(tree, [tree.root / "sa_2.png", "nowhere/x.jpg", tree.root / "sa_1.png"])
    assert (report.figures.done, report.figures.failure_kinds) == (1, {IMAGE_NOT_FOUND: 2})
    assert [problem["reason"] for problem in report.failed] == [
        f"image not found: {tree.root}/sa_2.png",
        "image not found: nowhere/x.jpg",
    ]


@pytest.mark.parametrize("line", ["a\0b.jpg", "x" * 5000, ".", "/", "..", "a.jpg/b.jpg"])
def test_a_line_that_is_no_path_of_an_image_fails_its_item(tree: ImageTree, line: str) -> None:
    tree.add("sa_1")
    report = fix(tree, [line, tree.root / "sa_1.png"])
    assert (report.figures.done, report.figures.failed) == (1, 1)
    assert set(report.figures.failure_kinds) <= {IMAGE_NOT_FOUND, FEATURES_NOT_FOUND}


def test_everything_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        **RANDOM,
        "samples": tmp_path / "no.txt",
        "npz_dirs": (tmp_path / "no_a", tmp_path / "no_b"),
    }
    with pytest.raises(InputProblemsError) as caught:
        FixInplaceJob(FixInplaceOptions(**values))
    problems = caught.value.problems
    assert [name in problem for name, problem in zip(("no.txt", "no_a", "no_b"), problems, strict=True)] == [True] * 3


def test_an_empty_list_cannot_run(tree: ImageTree) -> None:
    tree.add("sa_1")
    with pytest.raises(MvtkError, match=r"samples\.txt: there are no paths in it; write the path of one image a line"):
        fix(tree, ["", " "])


def test_max_files_counts_what_needs_work_and_shards_cut_the_list(tree: ImageTree) -> None:
    images = [tree.add(f"sa_{number}").with_name(f"sa_{number}.png") for number in range(4)]
    assert fix(tree, images, max_files=1).figures.done == 1
    report = fix(tree, images, max_files=1)
    assert (report.figures.done, report.figures.skipped, report.stats["complete"]) == (1, 1, False)
    reports = [fix(tree, images, shard=f"{index}/3") for index in range(3)]
    assert sum(report.figures.done for report in reports) == 2
    assert sum(report.figures.total for report in reports) == 4


# Where features files are found


def test_search_order(tree: ImageTree, tmp_path: Path) -> None:
    image = tree.add_image("images/sa_1.png", 3)
    places = [
        "tree/images/sa_1_features.npz",
        "tree/images/sa_1_sam2_features.npz",
        "a/deep/sa_1_features.npz",
        "a/sa_1_sam2_features.npz",
    ]
    paths = [ImageTree(tmp_path).add_npz(place, features("sa_1")) for place in places]
    for number, path in enumerate(paths):
        assert fix(tree, [image], npz_dirs=(tmp_path / "a",)).figures.done == 1
        assert [has_features_of(other, 3) for other in paths[number:]] == [True] + [False] * (len(paths) - number - 1)
        path.unlink()
    reason = failure(fix(tree, [image], npz_dirs=(tmp_path / "a",)))
    assert reason == (
        f"features file not found: sa_1_features.npz is not in {image.parent}, {tmp_path}/a; name its folder with"
        " --npz-dirs"
    )


def test_the_second_of_the_npz_dirs_is_searched_too(tree: ImageTree, tmp_path: Path) -> None:
    image = tree.add_image("sa_1.png", 3)
    (tmp_path / "a").mkdir()
    path = ImageTree(tmp_path).add_npz("b/sa_1_features.npz", features("sa_1"))
    assert fix(tree, [image], npz_dirs=(tmp_path / "a", tmp_path / "b")).figures.done == 1
    assert has_features_of(path, 3)


def test_two_files_in_the_npz_dirs_are_both_named(tree: ImageTree, tmp_path: Path) -> None:
    image = tree.add_image("sa_1.png")
    paths = [ImageTree(tmp_path).add_npz(f"{folder}/sa_1_features.npz", features("sa_1")) for folder in ("a", "b/c")]
    report = fix(tree, [image], npz_dirs=(tmp_path / "a", tmp_path / "b"))
    assert failure(report) == f"two features files: {paths[0]} and {paths[1]}; keep the right one only"
    assert report.figures.failure_kinds == {TWO_FEATURES: 1}
    assert all((read_npz(path)["P4_S16"] == -1).all() for path in paths)


def test_two_images_of_one_features_file_fail_but_the_first(tree: ImageTree) -> None:
    path = tree.add("x", seed=1)
    other = tree.add_image("x.jpg", 2)
    report = fix(tree, [tree.root / "x.png", other])
    assert (report.figures.done, report.figures.failure_kinds) == (1, {SHARED_FEATURES: 1})
    assert report.failed[0]["reason"] == f"features file of two images: {path} is that of {tree.root}/x.png too"
    assert has_features_of(path, 1)


def test_the_npz_dirs_are_listed_once_and_not_at_all_where_nothing_is_sought_in_them(
    tree: ImageTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[Path] = []
    walk_files = file_index.walk_files

    def watched(folder: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, os.DirEntry[str]]]:
        walked.append(folder)
        return walk_files(folder, wanted)

    monkeypatch.setattr(file_index, "walk_files", watched)
    tree.add("beside")
    images = [tree.root / "beside.png"]
    npz_dirs = (tmp_path / "a", tmp_path / "b")
    for number, folder in enumerate(npz_dirs):
        ImageTree(folder).add_npz(f"sa_{number}_features.npz", features("x"))
        images.append(tree.add_image(f"sa_{number}.png"))
    assert fix(tree, images[:1], npz_dirs=npz_dirs).figures.done == 1
    assert walked == []
    report = fix(tree, images, npz_dirs=npz_dirs)
    assert (report.figures.done, report.figures.skipped) == (2, 1)
    assert walked == list(npz_dirs)


# The run


def test_folders_that_are_written_to_are_held_and_no_others(tree: ImageTree, tmp_path: Path) -> None:
    """The images of scattered features files may lie where nobody may write."""
    image = tree.add_image("images/sa_1.png")
    tree.add("sa_2", folder="beside")
    ImageTree(tmp_path).add_npz("a/sa_1_features.npz", features("sa_1"))
    with hold_folder(image.parent, "another"):
        assert fix(tree, [image], npz_dirs=(tmp_path / "a",)).figures.done == 1
    for folder in (tmp_path / "a", tree.root / "beside"):
        with hold_folder(folder, "another"), pytest.raises(MvtkError, match=f"{folder} is in use by mvtk another"):
            fix(tree, [image, tree.root / "beside" / "sa_2.png"], npz_dirs=(tmp_path / "a",))
    assert not list(tmp_path.rglob(".*"))


def test_a_dry_run_changes_nothing(tree: ImageTree, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tree.add("sa_1")
    monkeypatch.setattr("toolkit.features.jobs.seconds_an_image", lambda *_: 1.0)
    before = tree_hash(tree.root)
    report = fix(tree, [tree.root / "sa_1.png"], dry_run=True)
    assert (report.figures.done, tree_hash(tree.root)) == (1, before)
    assert report.stats["estimate"]["gigabytes"] == pytest.approx(path.stat().st_size / 1e9)


def test_a_damaged_features_file_fails_its_item(tree: ImageTree) -> None:
    path = tree.add("sa_1")
    path.write_bytes(path.read_bytes()[:-40])
    before = path.read_bytes()
    assert "sa_1_features.npz" in failure(fix(tree, [tree.root / "sa_1.png"]))
    assert path.read_bytes() == before
