"""The repair of ``<split>/extracted`` folders: where the images are, and what is done and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tests.feature_images import RANDOM, ImageTree, features, number_of, picture, use_fake_encoder
from toolkit.core.driver import run_to_end
from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.core.locks import hold_folder
from toolkit.core.report import Report
from toolkit.features.encoding import ALREADY_PROCESSED, STALE
from toolkit.features.fix_splits import FixSplitsJob
from toolkit.features.jobs import _outermost
from toolkit.features.options import FixSplitsOptions
from toolkit.npz import read_npz


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_encoder(monkeypatch)


@pytest.fixture
def tree(tmp_path: Path) -> ImageTree:
    """Two splits of one image each, the images in the folder above the features files."""
    tree = ImageTree(tmp_path)
    for seed, split in enumerate(("train", "test")):
        tree.add_image(f"{split}/sa_{seed}.png", seed)
        tree.add_npz(f"{split}/extracted/sa_{seed}_features.npz", features(f"sa_{seed}"))
    return tree


def fix(tree: ImageTree, *folders: str | Path, **changes: Any) -> Report:
    extracted_dirs = folders or (tree.root / "train/extracted", tree.root / "test/extracted")
    values: dict[str, Any] = {"extracted_dirs": extracted_dirs, "workers": 0, "device": "cpu", **RANDOM, **changes}
    return run_to_end(FixSplitsJob(FixSplitsOptions(**values)))


def repaired(path: Path, seed: int) -> bool:
    arrays = read_npz(path)
    return arrays["feature_flag"].item() == 1 and bool((arrays["P4_S16"] == number_of(picture(seed))).all())


def test_the_images_lie_in_the_folder_above(tree: ImageTree) -> None:
    assert fix(tree).figures.done == 2
    for seed, split in enumerate(("train", "test")):
        assert repaired(tree.root / split / "extracted" / f"sa_{seed}_features.npz", seed)
    assert fix(tree).figures.skip_reasons == {ALREADY_PROCESSED: 2}
    assert fix(tree, dtype="bfloat16").figures.skip_reasons == {STALE: 2}


def test_the_folder_above_also_of_the_current_one_and_of_deeper_files(
    tree: ImageTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tree.add_npz("train/extracted/a/b/sa_0_sam2_features.npz", features("sa_0"))
    monkeypatch.chdir(tree.root / "train" / "extracted")
    assert fix(tree, Path()).figures.done == 2
    assert repaired(deep, 0)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".jpeg", ".JPG", ".PNG", ".JPEG", ".Jpg", ".tif", ".webp"])
def test_the_suffixes_of_images(tree: ImageTree, suffix: str) -> None:
    image = tree.root / "train" / "sa_0.png"
    image.rename(image.with_suffix(suffix))
    assert fix(tree).figures.done == 2


def test_images_elsewhere_are_not_taken(tree: ImageTree) -> None:
    image = tree.root / "train" / "sa_0.png"
    for place in ("train/extracted", "train/deeper", "."):
        (tree.root / place).mkdir(exist_ok=True)
        image = image.rename(tree.root / place / "sa_0.png")
        report = fix(tree)
        assert report.figures.failure_kinds == {"image not found": 1}
        assert f"sa_0 has none in {tree.root}/train" in report.failed[0]["reason"]
        assert report.failed[0]["source"] == f"{tree.root}/train/extracted/sa_0_features.npz"


def test_one_folder_named_twice_is_done_once(tree: ImageTree) -> None:
    (tree.root / "link").symlink_to("train")
    report = fix(tree, tree.root / "train/extracted", tree.root / "link/extracted")
    assert (report.figures.done, report.figures.skip_reasons) == (1, {ALREADY_PROCESSED: 1})


def test_folders_within_others_are_held_with_them(tmp_path: Path) -> None:
    names = ["b/c", "a", "ab", "b", "a/d/e"]
    for name in names:
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / "link").symlink_to("b")
    folders = [tmp_path / name for name in [*names, "a", "link"]]
    assert {path.resolve().name for path in _outermost(folders)} == {"a", "ab", "b"}
    assert len(_outermost(folders)) == 3
    assert _outermost([tmp_path, Path("/")]) == [Path("/")]


def test_missing_folders_are_said_at_once(tree: ImageTree) -> None:
    with pytest.raises(InputProblemsError) as caught:
        fix(tree, tree.root / "no_a", tree.root / "train/extracted", tree.root / "no_b")
    assert [name in problem for name, problem in zip(("no_a", "no_b"), caught.value.problems, strict=True)] == [
        True
    ] * 2


def test_a_folder_without_features_files_and_no_folders(tree: ImageTree) -> None:
    (tree.root / "empty").mkdir()
    with pytest.raises(MvtkError, match=r"there are no \*_features\.npz files in .*empty"):
        fix(tree, tree.root / "empty")
    with pytest.raises(ValidationError, match="extracted_dirs"):
        FixSplitsOptions(extracted_dirs=(), **RANDOM)


def test_every_folder_is_held(tree: ImageTree) -> None:
    for split in ("train", "test"):
        folder = tree.root / split / "extracted"
        with hold_folder(folder, "another"), pytest.raises(MvtkError, match=f"{folder} is in use by mvtk another"):
            fix(tree)
    assert not list(tree.root.rglob(".*"))
    assert (read_npz(tree.root / "train/extracted/sa_0_features.npz")["P4_S16"] == -1).all()


def test_shards_and_max_files(tree: ImageTree) -> None:
    for number in range(4):
        tree.add_image(f"train/x_{number}.png")
        tree.add_npz(f"train/extracted/x_{number}_features.npz", features("x", feature_flag=np.array(number % 2)))
    report = fix(tree, max_files=1)
    assert (report.figures.done, report.stats["complete"]) == (1, False)
    reports = [fix(tree, shard=f"{index}/2") for index in range(2)]
    assert sum(report.figures.done for report in reports) == 3
    assert sum(report.figures.total for report in reports) == 6
