"""What the verification of features files finds, in the files and against a fresh encoding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tests.datasets import tree_hash
from tests.feature_images import RANDOM, ImageTree, failure, features, use_fake_encoder
from tests.sam2_checkpoints import MINI, saved_weights
from toolkit.core.driver import run_to_end
from toolkit.core.errors import MvtkError
from toolkit.core.report import Report
from toolkit.features import MODELS, FeatureSource, Weights
from toolkit.features.verification import (
    RecomputeJob,
    RecomputeOptions,
    VerifyFeaturesJob,
    VerifyFeaturesOptions,
    check_features,
)
from toolkit.npz import open_npz, read_npz, rewrite_npz

SOURCE = FeatureSource("sam2.1_hiera_tiny", "random:0", "SAM2Transforms-1024", "float32", "0.1.0")


@pytest.fixture
def tree(tmp_path: Path) -> ImageTree:
    (tmp_path / "tree").mkdir()
    return ImageTree(tmp_path / "tree")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weights]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(MODELS, MINI.name, MINI)
        yield saved_weights(tmp_path_factory.mktemp("mini"), MINI)


def verify(tree: ImageTree, **changes: Any) -> Report:
    return run_to_end(VerifyFeaturesJob(VerifyFeaturesOptions(**{"root": tree.root, "workers": 0, **changes})))


def recompute(tree: ImageTree, count: int = 100, **changes: Any) -> Report:
    values: dict[str, Any] = {"root": tree.root, "workers": 0, "device": "cpu", "recompute": count, **RANDOM, **changes}
    return run_to_end(RecomputeJob(RecomputeOptions(**values)))


def change(path: Path, **arrays: Any) -> None:
    with open_npz(path) as reader:
        rewrite_npz(reader, arrays)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_encoder(monkeypatch)


# The files


@pytest.mark.usefixtures("fake")
def test_repaired_files_are_sound_and_their_models_counted(tree: ImageTree) -> None:
    masks = np.array([None])
    tree.add("sa_1", folder="a", masks=masks, IMAGE_EMB_S16=np.zeros((1, 256, 64, 64), np.float32))
    tree.add("sa_2", suffix="_sam2_features.npz")
    tree.bulk_fix()
    tree.add("sa_3", feature_flag=np.array(1))
    report = verify(tree)
    assert (report.figures.done, report.figures.failed) == (3, 0)
    assert report.stats["models"] == {"not said": 1, "sam2.1_hiera_tiny": 2}


@pytest.mark.usefixtures("fake")
def test_float16_is_sound(tree: ImageTree) -> None:
    tree.add("sa_1")
    tree.bulk_fix(store="float16")
    assert verify(tree).figures.done == 1


PROBLEMS = {
    "not finite": ({"P4_S16": np.full((1, 256, 64, 64), np.nan, "f4")}, "'P4_S16' holds values that are not finite"),
    "infinite": ({"P5_S32": np.full((1, 256, 32, 32), np.inf, "f2")}, "'P5_S32' holds values that are not finite"),
    "shape": ({"P5_S32": np.zeros((1, 256, 64, 64), "f4")}, "'P5_S32' has shape (1, 256, 64, 64), not (1, 256, 32"),
    "dtype": ({"P4_S16": np.zeros((1, 256, 64, 64), "f8")}, "'P4_S16' has dtype float64, not float32 or float16"),
    "missing": ({"P5_S32": None}, "P5_S32"),
    "another copy": ({"IMAGE_EMB_S16": np.zeros((1, 256, 64, 64), "f4")}, "'IMAGE_EMB_S16' and 'P4_S16' differ"),
    "flag": ({"feature_flag": np.array(0)}, "feature_flag is not 1 and there is no feature_source"),
    "no flag": ({"feature_flag": None}, "feature_flag is not 1 and there is no feature_source"),
    "foreign source": ({"feature_source": np.array("by hand")}, "feature_source is not what mvtk writes"),
    "number as source": ({"feature_source": np.array(7)}, "feature_source is not what mvtk writes"),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_each_problem_is_found_and_named(tree: ImageTree, case: str) -> None:
    arrays, text = PROBLEMS[case]
    tree.add("sa_1", **{"feature_flag": np.array(1), **arrays})
    report = verify(tree)
    assert text in failure(report)
    assert report.figures.failure_kinds == {"problems": 1}


def test_all_problems_of_a_file_are_in_one_line(tree: ImageTree) -> None:
    tree.add("sa_1", P4_S16=np.zeros(3, "f8"), P5_S32=None)
    reason = failure(verify(tree))
    assert all(text in reason for text in ("shape (3,)", "float64", "P5_S32"))


def test_a_file_of_a_known_source_needs_no_flag(tree: ImageTree) -> None:
    """As fix-inplace leaves it."""
    path = tree.add("sa_1", feature_source=SOURCE.to_array())
    assert verify(tree).figures.done == 1
    assert check_features(path) == ([], SOURCE)


@pytest.mark.parametrize("cut", [40, 100_000])
def test_a_damaged_file_is_a_problem(tree: ImageTree, cut: int) -> None:
    path = tree.add("sa_1", feature_flag=np.array(1))
    path.write_bytes(path.read_bytes()[:-cut])
    assert "sa_1_features.npz" in failure(verify(tree)) or "cut" in failure(verify(tree))


def test_a_flipped_bit_is_found(tree: ImageTree) -> None:
    path = tree.add("sa_1", feature_flag=np.array(1))
    content = bytearray(path.read_bytes())
    content[2_000_000] ^= 1
    path.write_bytes(content)
    assert "checksum" in failure(verify(tree))


def test_what_cannot_be_verified(tree: ImageTree, tmp_path: Path) -> None:
    for job in (verify, recompute):
        with pytest.raises(MvtkError, match=r"gone: no such folder; give the folder with the features files"):
            job(tree, root=tmp_path / "gone")
        with pytest.raises(MvtkError, match=r"there are no \*_features\.npz files in"):
            job(tree)
    tree.add("sa_1", feature_flag=np.array(1))
    shards = [verify(tree, shard=f"{index}/3") for index in range(3)]
    assert sorted(report.figures.total for report in shards) == [0, 0, 1]


# Against a fresh encoding


@pytest.mark.parametrize("store", ["float32", pytest.param("float16", marks=pytest.mark.slow)])
def test_what_the_same_weights_made_is_close(tree: ImageTree, weights: Weights, store: str) -> None:
    tree.add("sa_1", seed=1)
    of = {"weights": str(weights.path), "model": weights.model.name}
    tree.bulk_fix(**of, store=store)
    before = tree_hash(tree.root)
    report = recompute(tree, **of)
    assert report.figures.done == 1
    assert report.stats["min_cosine"] >= 0.999999
    assert report.stats["max_error"] <= (1e-6 if store == "float32" else 0.02)
    assert tree_hash(tree.root) == before


@pytest.mark.slow
def test_reduced_arithmetic_is_close_enough(tree: ImageTree, weights: Weights) -> None:
    tree.add("sa_1", seed=1)
    of = {"weights": str(weights.path), "model": weights.model.name}
    tree.bulk_fix(**of)
    change(tree.root / "sa_1_features.npz", feature_source=np.array(FeatureSource.of(weights, "bfloat16").to_json()))
    report = recompute(tree, **of, dtype="bfloat16")
    assert report.figures.done == 1
    assert 0.999 <= report.stats["min_cosine"] < 1


@pytest.mark.usefixtures("fake")
def test_features_of_another_image_are_found(tree: ImageTree) -> None:
    path = tree.add("sa_1", seed=1)
    tree.bulk_fix()
    p4 = read_npz(path)["P4_S16"]
    p4[0, :128] *= -1
    change(path, P4_S16=p4)
    report = recompute(tree)
    reason = failure(report)
    assert reason.startswith(f"differs from a fresh encoding of {tree.root}/sa_1.png: p4_cosine 0, p4_max_error ")
    assert report.figures.failure_kinds == {"differs from a fresh encoding": 1}
    assert recompute(tree, min_cosine=-1).figures.done == 1


@pytest.mark.usefixtures("fake")
def test_one_wrong_value_shows_in_the_error(tree: ImageTree) -> None:
    path = tree.add("sa_1")
    tree.bulk_fix()
    p5 = read_npz(path)["P5_S32"]
    p5[0, 0, 0, 0] += 0.25
    change(path, P5_S32=p5)
    assert recompute(tree).stats["max_error"] == 0.25


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("made_by", [{"weights": "random:1"}, {"model": "sam2.1_hiera_large"}, {"dtype": "float16"}])
def test_features_of_another_source_are_a_problem(tree: ImageTree, made_by: dict[str, str]) -> None:
    tree.add("sa_1")
    tree.bulk_fix(**made_by)
    assert "its features were made by" in failure(recompute(tree))


@pytest.mark.usefixtures("fake")
def test_features_without_a_source_are_compared(tree: ImageTree) -> None:
    tree.add("sa_1", feature_flag=np.array(1))
    assert failure(recompute(tree)).startswith("differs from a fresh encoding")


@pytest.mark.usefixtures("fake")
def test_a_problem_and_a_missing_image_fail_without_an_encoding(tree: ImageTree) -> None:
    tree.add("sa_1", P5_S32=None)
    tree.add_npz("sa_2_features.npz", features("sa_2", feature_flag=np.array(1)))
    report = recompute(tree)
    assert report.figures.failure_kinds == {"problems": 1, "image not found": 1}


@pytest.mark.usefixtures("fake")
def test_the_sample_is_as_large_as_asked_for_spread_and_the_same_each_time(tree: ImageTree) -> None:
    for number in range(12):
        tree.add_npz(f"{number:02}_features.npz", {"x": np.zeros(1)})
    samples = [[problem["source"] for problem in recompute(tree, 4).failed] for _ in range(2)]
    assert samples[0] == samples[1] == sorted(samples[0])
    assert len(samples[0]) == 4
    assert samples[0] != [f"{number:02}_features.npz" for number in range(4)]
    assert recompute(tree, 100).figures.total == 12


@pytest.mark.usefixtures("fake")
def test_constant_zero_features_compare_without_a_division_by_zero(tree: ImageTree) -> None:
    path = tree.add("sa_1")
    tree.bulk_fix()
    change(path, P4_S16=np.zeros((1, 256, 64, 64), np.float32))
    assert "p4_cosine 0" in failure(recompute(tree))


def test_a_dry_run_says_that_nothing_is_written(tree: ImageTree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.add("sa_1", feature_flag=np.array(1))
    monkeypatch.setattr("toolkit.features.jobs.seconds_an_image", lambda *_: 1.0)
    assert recompute(tree, dry_run=True).stats["estimate"]["gigabytes"] == 0


@pytest.mark.parametrize("wrong", [{"recompute": 0}, {"min_cosine": 1.5}, {"min_cosine": float("nan")}])
def test_wrong_options(tree: ImageTree, wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        RecomputeOptions(**{"root": tree.root, "recompute": 1, **RANDOM, **wrong})
