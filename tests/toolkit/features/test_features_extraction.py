"""New features files from images: what is in them, where they lie, and when they are made again."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.builders import write_bomb
from tests.datasets import tree_hash
from tests.feature_images import RANDOM, ImageTree, failure, features, number_of, picture, use_fake_encoder
from tests.sam2_checkpoints import MINI, reference_encoder, reference_features, saved_weights
from toolkit.core.driver import run_to_end
from toolkit.core.errors import MvtkError
from toolkit.core.files import _machine
from toolkit.core.locks import hold_folder
from toolkit.core.report import Report
from toolkit.features import MODELS, FeatureSource, Weights
from toolkit.features.encoding import ALREADY_PROCESSED, STALE
from toolkit.features.extraction import TWO_IMAGES, ExtractFeaturesJob
from toolkit.features.options import ExtractFeaturesOptions
from toolkit.npz import check_npz, read_npz


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_encoder(monkeypatch)


@pytest.fixture
def tree(tmp_path: Path) -> ImageTree:
    (tmp_path / "images").mkdir()
    return ImageTree(tmp_path / "images")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weights]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(MODELS, MINI.name, MINI)
        yield saved_weights(tmp_path_factory.mktemp("mini"), MINI)


def output_of(tree: ImageTree) -> Path:
    return tree.root.parent / "out"


def extract(tree: ImageTree, **changes: Any) -> Report:
    values: dict[str, Any] = {
        "images": tree.root,
        "output": output_of(tree),
        "workers": 0,
        "device": "cpu",
        **RANDOM,
        **changes,
    }
    return run_to_end(ExtractFeaturesJob(ExtractFeaturesOptions(**values)))


def outputs(tree: ImageTree) -> list[str]:
    return sorted(path.relative_to(output_of(tree)).as_posix() for path in output_of(tree).rglob("*.npz"))


def test_a_file_has_the_features_and_marks_of_its_image(tree: ImageTree, weights: Weights) -> None:
    tree.add_image("a/sa_1.png", 4)
    report = extract(tree, weights=str(weights.path), model=weights.model.name)
    assert report.figures.done == 1
    path = output_of(tree) / "a" / "sa_1_features.npz"
    arrays = read_npz(path)
    expected = reference_features(reference_encoder(MINI), picture(4))
    for key, reference in zip(("P4_S16", "P5_S32"), expected, strict=True):
        assert (arrays[key].dtype, arrays[key].shape) == (np.float32, reference.shape)
        np.testing.assert_allclose(arrays[key], reference, rtol=0, atol=1e-5)
    assert list(arrays) == [
        "P4_S16", "P5_S32", "image_id", "image_shape", "model_type", "feature_flag", "feature_source"
    ]  # fmt: skip
    assert (arrays["image_id"].item(), arrays["model_type"].item()) == ("sa_1", MINI.name)
    assert (arrays["image_shape"].dtype, arrays["image_shape"].tolist()) == (np.int64, [48, 64, 3])
    assert (arrays["feature_flag"].dtype, arrays["feature_flag"].item()) == (np.int64, 1)
    assert FeatureSource.parse(arrays["feature_source"].item()) == FeatureSource.of(weights, "float32")
    assert check_npz(path, "features").problems == ()
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


@pytest.mark.usefixtures("fake")
def test_the_tree_of_the_images_is_mirrored(tree: ImageTree) -> None:
    for name in ("b.PNG", "a/b.jpg", "a/c/d.Jpeg", "e.f.tif"):
        tree.add_image(name)
    (tree.root / "notes.txt").write_text("no image")
    tree.add_npz("x_features.npz", features("x"))
    assert extract(tree).figures.done == 4
    assert outputs(tree) == ["a/b_features.npz", "a/c/d_features.npz", "b_features.npz", "e.f_features.npz"]


@pytest.mark.usefixtures("fake")
def test_the_id_is_the_name_of_the_image_whatever_it_ends_with(tree: ImageTree) -> None:
    tree.add_image("x_sam2.png")
    tree.add_image("y_features.png")
    extract(tree)
    ids = [read_npz(output_of(tree) / name)["image_id"].item() for name in outputs(tree)]
    assert ids == ["x_sam2", "y_features"]


@pytest.mark.usefixtures("fake")
def test_stored_in_float16(tree: ImageTree) -> None:
    tree.add_image("x.png", 2)
    extract(tree, store="float16")
    arrays = read_npz(output_of(tree) / "x_features.npz")
    assert (arrays["P4_S16"].dtype, arrays["P5_S32"].dtype) == (np.float16, np.float16)
    assert (arrays["P4_S16"] == np.float16(number_of(picture(2)))).all()


@pytest.mark.usefixtures("fake")
def test_two_images_of_one_name_fail_but_the_first(tree: ImageTree) -> None:
    tree.add_image("a/x.jpg")
    tree.add_image("a/x.png")
    tree.add_image("b/x.png")
    report = extract(tree)
    assert (report.figures.done, report.figures.failure_kinds) == (2, {TWO_IMAGES: 1})
    assert report.failed[0] == {
        "source": "a/x.png",
        "reason": f"two images for one features file: a/x.jpg becomes {output_of(tree)}/a/x_features.npz; rename one"
        " of them",
    }
    shards = [extract(tree, shard=f"{index}/3", overwrite=True) for index in range(3)]
    assert sum(report.figures.failed for report in shards) == 1
    assert sum(report.figures.done for report in shards) == 2


@pytest.mark.usefixtures("fake")
def test_what_is_there_is_skipped_refreshed_or_replaced(tree: ImageTree) -> None:
    tree.add_image("x.png")
    assert extract(tree).figures.done == 1
    before = tree_hash(output_of(tree))
    assert extract(tree, refresh_stale=True).figures.skip_reasons == {ALREADY_PROCESSED: 1}
    report = extract(tree, weights="random:1")
    assert (report.figures.skip_reasons, report.stats["stale"]) == ({STALE: 1}, 1)
    assert tree_hash(output_of(tree)) == before
    assert extract(tree, weights="random:1", refresh_stale=True).figures.done == 1
    assert tree_hash(output_of(tree)) != before
    assert extract(tree, overwrite=True).figures.done == 1
    assert tree_hash(output_of(tree)) == before


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("refresh_stale", [False, True])
def test_files_of_others_are_replaced_only_with_overwrite(tree: ImageTree, refresh_stale: bool) -> None:
    tree.add_image("x.png")
    tree.add_image("y.png")
    out = ImageTree(output_of(tree))
    unflagged = out.add_npz("x_features.npz", features("x"))
    (out.root / "y_features.npz").write_bytes(b"damaged")
    before = tree_hash(out.root)
    report = extract(tree, refresh_stale=refresh_stale)
    reasons = [problem["reason"] for problem in report.failed]
    assert reasons[0] == f"{unflagged} exists without feature_flag; use --overwrite to replace it"
    assert "y_features.npz" in reasons[1]
    assert reasons[1].endswith("use --overwrite to make it again")
    assert tree_hash(out.root) == before
    assert extract(tree, overwrite=True).figures.done == 2
    assert (read_npz(unflagged)["P4_S16"] == number_of(picture(0))).all()


@pytest.mark.usefixtures("fake")
def test_a_file_that_appears_meanwhile_is_kept(tree: ImageTree) -> None:
    tree.add_image("x.png")
    values: dict[str, Any] = {"images": tree.root, "output": output_of(tree), "workers": 0, "device": "cpu", **RANDOM}
    job = ExtractFeaturesJob(ExtractFeaturesOptions(**values))
    (item,) = job.plan()
    step = job.step()
    step.setup("cpu")
    publish: Any = step.process_one(item)  # type: ignore[arg-type]  # no outcome: it needs work
    path = ImageTree(output_of(tree)).add_npz("x_features.npz", features("x"))
    before = path.read_bytes()
    assert publish().status == "skipped"
    assert path.read_bytes() == before


@pytest.mark.usefixtures("fake")
def test_a_bad_image_fails_and_leaves_nothing(tree: ImageTree) -> None:
    write_bomb(tree.root / "x.png")
    assert "x.png: too many pixels" in failure(extract(tree))
    assert outputs(tree) == []


@pytest.mark.usefixtures("fake")
def test_max_files_shards_and_a_dry_run(tree: ImageTree, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        tree.add_image(f"{number}.png")
    monkeypatch.setattr("toolkit.features.jobs.seconds_an_image", lambda *_: 1.0)
    report = extract(tree, dry_run=True)
    assert (report.figures.done, output_of(tree).exists()) == (5, False)
    assert report.stats["estimate"]["gigabytes"] == pytest.approx(5 * 256 * (64 * 64 + 32 * 32) * 4 / 1e9)
    assert extract(tree, max_files=2).figures.done == 2
    assert sum(extract(tree, shard=f"{index}/2").figures.done for index in range(2)) == 3
    assert len(outputs(tree)) == 5


@pytest.mark.usefixtures("fake")
def test_left_overs_go_and_one_run_at_a_time(tree: ImageTree) -> None:
    tree.add_image("a/x.png")
    (output_of(tree) / "a").mkdir(parents=True)
    (output_of(tree) / "a" / f".mvtk-{_machine()}-999999999-1-0123abcd.tmp").write_bytes(b"half")
    with hold_folder(output_of(tree), "another"), pytest.raises(MvtkError, match="in use by mvtk another"):
        extract(tree)
    extract(tree)
    assert [path.name for path in (output_of(tree) / "a").iterdir()] == ["x_features.npz"]


def test_what_cannot_run(tree: ImageTree, tmp_path: Path) -> None:
    with pytest.raises(MvtkError, match=r"gone: no such folder; give the folder with the images"):
        extract(tree, images=tmp_path / "gone")
    with pytest.raises(MvtkError, match=r"there are no images in .*images; give the folder that holds them"):
        extract(tree)
    tree.add_image("x.png")
    (tmp_path / "file").touch()
    with pytest.raises(MvtkError, match=r"file: exists and is not a folder"):
        extract(tree, output=tmp_path / "file")
