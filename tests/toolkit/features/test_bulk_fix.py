"""The repair of a tree: what is written, carried over, skipped and refused."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.builders import encoded, write_bomb, write_image, write_oriented, write_png16
from tests.datasets import tree_hash
from tests.feature_images import (
    RANDOM,
    STALE_VALUE,
    FakeEncoder,
    ImageTree,
    failure,
    features,
    number_of,
    picture,
    use_fake_encoder,
)
from tests.feature_trees import raw_members
from tests.sam2_checkpoints import MINI, reference_encoder, reference_features, saved_weights
from toolkit.core import listing
from toolkit.core.batch import Outcome
from toolkit.core.driver import JobRun, run_to_end
from toolkit.core.errors import MvtkError, StopRunError
from toolkit.core.files import _machine
from toolkit.core.locks import hold_folder
from toolkit.features import MODELS, FeatureSource, Weights, read_feature_marks
from toolkit.features.bulk_fix import OTHER_FILE, BulkFixJob
from toolkit.features.encoding import ALREADY_PROCESSED, OTHER_SIZE, STALE, FeatureItem
from toolkit.images import load_image
from toolkit.npz import check_npz, open_npz, read_npz
from toolkit.npz.rewriting import ChangedMeanwhileError


@pytest.fixture
def tree(tmp_path: Path) -> ImageTree:
    (tmp_path / "tree").mkdir()
    return ImageTree(tmp_path / "tree")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_encoder(monkeypatch)


@pytest.fixture(scope="module")
def mini() -> Iterator[None]:
    """The small real model, registered under its name."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(MODELS, MINI.name, MINI)
        yield


@pytest.fixture(scope="module")
def weights(mini: None, tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return saved_weights(tmp_path_factory.mktemp("mini"), MINI)


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    return reference_encoder(MINI)


def of(weights: Weights) -> dict[str, str]:
    return {"weights": str(weights.path), "model": weights.model.name}


def source_of(path: Path) -> FeatureSource:
    with open_npz(path) as reader:
        source = read_feature_marks(reader).source
    assert source is not None
    return source


def assert_features_of(path: Path, image_hwc: np.ndarray[Any, Any]) -> None:
    """The file has what the fake encoder makes of the image."""
    arrays = read_npz(path, ("P4_S16", "P5_S32"))
    assert (arrays["P4_S16"] == number_of(image_hwc)).all()
    assert (arrays["P5_S32"] == number_of(image_hwc) + 0.5).all()


# What is written


@pytest.mark.parametrize("workers", [0, 1])
def test_features_are_those_of_sam2_in_float32(
    tree: ImageTree, weights: Weights, reference: torch.nn.Module, workers: int
) -> None:
    """In a worker, the images pass the pipeline in batches."""
    paths = [tree.add(f"sa_{seed}", seed=seed, folder=f"part_{seed % 2}") for seed in range(3)]
    report = tree.bulk_fix(**of(weights), workers=workers, batch_size=2)
    assert report.figures.done == 3
    for seed, path in enumerate(paths):
        arrays = read_npz(path)
        for key, expected in zip(("P4_S16", "P5_S32"), reference_features(reference, picture(seed)), strict=True):
            assert (arrays[key].dtype, arrays[key].shape) == (np.float32, expected.shape)
            np.testing.assert_allclose(arrays[key], expected, rtol=0, atol=1e-5)
        assert (arrays["feature_flag"].shape, arrays["feature_flag"].dtype.kind) == ((), "i")
        assert arrays["feature_flag"].item() == 1
        assert arrays["feature_source"].shape == ()
        assert source_of(path) == FeatureSource.of(weights, "float32")
        assert check_npz(path, "features").problems == ()


def test_stored_in_float16_they_are_the_same_rounded(tree: ImageTree, weights: Weights) -> None:
    path = tree.add("sa_1", IMAGE_EMB_S16=np.zeros((1, 256, 64, 64), np.float32))
    tree.bulk_fix(**of(weights))
    exact = read_npz(path)
    tree.add("sa_1", IMAGE_EMB_S16=np.zeros((1, 256, 64, 64), np.float32))
    tree.bulk_fix(**of(weights), store="float16")
    stored = read_npz(path)
    for key in ("P4_S16", "P5_S32", "IMAGE_EMB_S16"):
        assert stored[key].dtype == np.float16
        np.testing.assert_array_equal(stored[key], exact[key].astype(np.float16))
    assert (source_of(path).dtype, source_of(path).stored) == ("float32", "float16")


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_reduced_arithmetic_is_close_and_said(
    tree: ImageTree, weights: Weights, reference: torch.nn.Module, dtype: str
) -> None:
    path = tree.add("sa_1")
    report = tree.bulk_fix(**of(weights), dtype=dtype)
    assert report.stats["feature_source"]["dtype"] == source_of(path).dtype == dtype
    for key, expected in zip(("P4_S16", "P5_S32"), reference_features(reference, picture(0)), strict=True):
        stored = read_npz(path)[key].astype(np.float64)
        assert not np.array_equal(stored, expected)
        assert (stored * expected).sum() / np.sqrt((stored**2).sum() * (expected**2).sum()) >= 0.999


@pytest.mark.usefixtures("fake")
def test_everything_else_is_carried_over_byte_for_byte(tree: ImageTree) -> None:
    masks = np.array([{"hostile": os.system}], dtype=object)  # numpy would unpickle it
    path = tree.add("sa_1", masks=masks, bboxes=np.zeros((0, 4), np.float32))
    path.chmod(0o640)
    before = raw_members(path)
    assert tree.bulk_fix().figures.done == 1
    after = raw_members(path)
    kept = before.keys() - {"P4_S16.npy", "P5_S32.npy"}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert list(after) == [*before, "feature_flag.npy", "feature_source.npy"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert_features_of(path, picture(0))


@pytest.mark.usefixtures("fake")
def test_the_copy_of_p4_follows_it_where_there_is_one(tree: ImageTree) -> None:
    with_copy = tree.add("sa_1", seed=1, IMAGE_EMB_S16=np.zeros((1, 256, 64, 64), np.float32))
    without = tree.add("sa_2", seed=2)
    tree.bulk_fix()
    assert (read_npz(with_copy)["IMAGE_EMB_S16"] == number_of(picture(1))).all()
    assert "IMAGE_EMB_S16" not in read_npz(without)


@pytest.mark.usefixtures("fake")
def test_a_compressed_file_keeps_its_compressed_members(tree: ImageTree) -> None:
    path = tree.add("sa_1")
    np.savez_compressed(path, **features("sa_1"))
    before = raw_members(path)
    tree.bulk_fix()
    assert raw_members(path)["edge_64x64.npy"] == before["edge_64x64.npy"]
    assert_features_of(path, picture(0))


@pytest.mark.usefixtures("fake")
def test_repairing_twice_gives_the_same_bytes(tree: ImageTree) -> None:
    path = tree.add("sa_1", feature_flag=np.array(0))
    tree.bulk_fix()
    content = path.read_bytes()
    tree.bulk_fix(model="sam2.1_hiera_large", refresh_stale=True)
    assert path.read_bytes() != content
    tree.bulk_fix(refresh_stale=True)
    assert path.read_bytes() == content


@pytest.mark.usefixtures("fake")
def test_random_weights_are_said(tree: ImageTree) -> None:
    path = tree.add("sa_1")
    report = tree.bulk_fix(weights="random:7")
    assert report.stats["feature_source"]["weights_sha256"] == source_of(path).weights_sha256 == "random:7"
    assert source_of(path).is_random
    assert any("random" in remark for remark in report.stats["remarks"])


# What is found


@pytest.mark.usefixtures("fake")
def test_both_patterns_at_any_depth(tree: ImageTree) -> None:
    deep = tree.add("sa_1", seed=1, folder="sa_000020/extracted")
    sam2 = tree.add("sa_2", seed=2, suffix="_sam2_features.npz")
    tree.add_npz("sa_3.npz", features("sa_3"))
    report = tree.bulk_fix()
    assert (report.figures.done, report.figures.warnings) == (2, {})
    assert_features_of(deep, picture(1))
    assert_features_of(sam2, picture(2))


@pytest.mark.usefixtures("fake")
def test_of_two_files_of_an_image_the_shorter_name_wins(tree: ImageTree) -> None:
    path = tree.add("sa_1")
    other = tree.add_npz("sa_1_sam2_features.npz", features("sa_1"))
    before = other.read_bytes()
    report = tree.bulk_fix()
    assert (report.figures.done, report.figures.skip_reasons) == (1, {OTHER_FILE: 1})
    assert_features_of(path, picture(0))
    assert other.read_bytes() == before


@pytest.mark.usefixtures("fake")
def test_the_image_lies_beside_else_anywhere_below(tree: ImageTree) -> None:
    paths = [tree.add_npz(f"extracted/sa_{number}_features.npz", features("x")) for number in range(2)]
    tree.add_image("extracted/sa_0.png", 3)
    tree.add_image("jpegs/sa_0.png", 4)
    tree.add_image("jpegs/sa_1.PNG", 5)
    assert tree.bulk_fix().figures.done == 2
    assert_features_of(paths[0], picture(3))
    assert_features_of(paths[1], picture(5))


@pytest.mark.usefixtures("fake")
def test_the_tree_is_listed_folder_by_folder_while_the_work_goes_on(
    tree: ImageTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        tree.add(f"sa_{number}", folder=f"part_{number}")
    listed: list[str] = []
    visible_entries = listing.visible_entries

    def watched(folder: Path | str) -> Iterator[os.DirEntry[str]]:
        listed.append(Path(folder).name)
        return visible_entries(folder)

    monkeypatch.setattr(listing, "visible_entries", watched)
    plan = BulkFixJob(tree.options()).plan()
    assert next(plan).source == "part_0/sa_0_features.npz"
    assert listed == ["tree", "part_0", "part_1"]  # one further, to know that the first one has ended
    assert [entry.source for entry in plan] == [f"part_{number}/sa_{number}_features.npz" for number in range(1, 5)]
    assert listed == ["tree", *(f"part_{number}" for number in range(5))]


@pytest.mark.usefixtures("fake")
def test_max_files_counts_only_files_that_need_work_and_shards_cut_the_tree(tree: ImageTree) -> None:
    for number in range(4):
        tree.add(f"sa_{number}")
    assert tree.bulk_fix(max_files=1).figures.done == 1
    report = tree.bulk_fix(max_files=1)
    assert (report.figures.done, report.figures.skipped, report.stats["complete"]) == (1, 1, False)
    shards = [tree.bulk_fix(shard=f"{index}/3").figures for index in range(3)]
    assert (sum(shard.done for shard in shards), sum(shard.total for shard in shards)) == (2, 4)
    assert all(read_npz(path)["feature_flag"].item() == 1 for path in tree.root.glob("*.npz"))


# What is skipped


@pytest.mark.usefixtures("fake")
def test_a_second_run_skips_what_is_processed(tree: ImageTree) -> None:
    path = tree.add("sa_1")
    tree.bulk_fix()
    before = path.stat().st_ino, path.stat().st_mtime_ns
    for options in ({}, {"refresh_stale": True}):
        report = tree.bulk_fix(**options)
        assert report.figures.skip_reasons == {ALREADY_PROCESSED: 1}
        assert report.stats["stale"] == 0
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == before


@pytest.mark.usefixtures("fake")
def test_a_flagged_file_without_a_source_counts_as_processed(tree: ImageTree) -> None:
    path = tree.add("sa_1", feature_flag=np.array(1))
    before = path.read_bytes()
    for refresh in (False, True):
        assert tree.bulk_fix(refresh_stale=refresh).figures.skip_reasons == {ALREADY_PROCESSED: 1}
    assert path.read_bytes() == before


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    "change",
    [{"model": "sam2.1_hiera_small"}, {"weights": "random:1"}, {"dtype": "bfloat16"}, {"store": "float16"}],
)
def test_what_another_model_other_weights_or_dtype_made_is_stale(tree: ImageTree, change: dict[str, str]) -> None:
    path = tree.add("sa_1")
    tree.bulk_fix(**change)
    before = path.read_bytes()
    report = tree.bulk_fix()
    assert report.figures.skip_reasons == {STALE: 1}
    assert report.stats["stale"] == 1
    assert path.read_bytes() == before
    report = tree.bulk_fix(refresh_stale=True)
    assert (report.figures.done, report.stats["stale"]) == (1, 0)
    assert source_of(path) == BulkFixJob(tree.options()).feature_source


@pytest.mark.usefixtures("fake")
def test_what_another_version_of_mvtk_made_is_not_stale(tree: ImageTree) -> None:
    source = BulkFixJob(tree.options()).feature_source
    other = FeatureSource(source.model, source.weights_sha256, source.preprocessing, source.dtype, "0.0.1")
    tree.add("sa_1", feature_flag=np.array(1), feature_source=other.to_array())
    assert tree.bulk_fix(refresh_stale=True).figures.skip_reasons == {ALREADY_PROCESSED: 1}


@pytest.mark.usefixtures("fake")
def test_without_the_flag_a_file_is_repaired_whatever_its_source_says(tree: ImageTree) -> None:
    path = tree.add("sa_1", feature_source=BulkFixJob(tree.options()).feature_source.to_array())
    assert tree.bulk_fix().figures.done == 1
    assert_features_of(path, picture(0))


def test_a_dry_run_estimates_and_changes_nothing(tree: ImageTree, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [tree.add(f"sa_{number}").stat().st_size for number in range(3)]
    tree.add("sa_9", feature_flag=np.array(1))
    monkeypatch.setattr("toolkit.features.jobs.seconds_an_image", lambda *_: 1200.0)
    before = tree_hash(tree.root)
    report = tree.bulk_fix(dry_run=True)
    assert (report.figures.done, report.figures.skipped) == (3, 1)
    estimate = report.stats["estimate"]
    assert estimate == {
        "hours": pytest.approx(1.0),
        "seconds_an_image": 1200.0,
        "gigabytes": pytest.approx(sum(sizes) / 1e9),
    }
    assert any(remark.startswith("estimate: 1.0 hours on cpu") for remark in report.stats["remarks"])
    assert tree_hash(tree.root) == before


@pytest.mark.slow
def test_a_dry_run_measures_the_encoder_in_a_process_of_its_own(tree: ImageTree, weights: Weights) -> None:
    tree.add("sa_1")
    report = tree.bulk_fix(**of(weights), dry_run=True)
    assert report.stats["estimate"]["seconds_an_image"] > 0


def test_nothing_is_measured_where_nothing_is_to_be_done(tree: ImageTree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.add("sa_1", feature_flag=np.array(1))
    monkeypatch.delattr("toolkit.features.jobs.seconds_an_image")
    assert "estimate" not in tree.bulk_fix(dry_run=True).stats


# Bad input


def write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


BAD_IMAGES = {
    "truncated": (lambda path: write_bytes(path, encoded(picture(0), "PNG")[:-40]), "x.png"),
    "truncated jpeg": (lambda path: write_bytes(path, encoded(picture(0), "JPEG")[:-20]), "x.png"),
    "bomb": (write_bomb, "limit"),
    "16-bit": (lambda path: write_png16(path, np.full((4, 4, 3), 999, np.uint16)), "--to-8bit"),
    "text": (lambda path: write_bytes(path, b"not an image"), "not a readable image"),
    "empty": (lambda path: write_bytes(path, b""), "empty"),
    "folder": (Path.mkdir, "folder"),
    "dangling link": (lambda path: path.symlink_to("nowhere.png"), "no such file"),
}


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("case", BAD_IMAGES)
def test_a_bad_image_fails_the_item_in_one_line(tree: ImageTree, case: str) -> None:
    write, text = BAD_IMAGES[case]
    path = tree.add_npz("x_features.npz", features("x"))
    write(tree.root / "x.png")
    before = path.read_bytes()
    reason = failure(tree.bulk_fix())
    assert str(tree.root / "x.png") in reason
    assert text in reason
    assert path.read_bytes() == before


@pytest.mark.usefixtures("fake")
def test_a_missing_image_fails_the_item_and_not_the_others(tree: ImageTree) -> None:
    path = tree.add_npz("sa_1_features.npz", features("sa_1"))
    tree.add("sa_2")
    before = path.read_bytes()
    report = tree.bulk_fix()
    assert (report.figures.done, report.figures.failure_kinds) == (1, {"image not found": 1})
    assert "sa_1" in report.failed[0]["reason"]
    assert path.read_bytes() == before


IMAGES = {
    "grey": lambda path: write_image(path, picture(1)[..., 0]),
    "CMYK": lambda path: write_image(path.with_suffix(".jpg"), picture(1), "CMYK"),
    "RGBA": lambda path: write_image(path, picture(1), "RGBA"),
    "1x1": lambda path: write_image(path, picture(1, 1, 1)),
    "palette": lambda path: write_image(path, picture(1), "P"),
    "rotated": lambda path: write_oriented(path.with_suffix(".jpg"), picture(1), 6),
}


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("case", IMAGES)
def test_grey_cmyk_alpha_and_tiny_images_are_encoded_as_rgb(tree: ImageTree, case: str) -> None:
    path = tree.add_npz("x_features.npz", features("x", image_shape=None))
    image = IMAGES[case](tree.root / "x.png")
    report = tree.bulk_fix()
    assert report.figures.done == 1
    assert_features_of(path, load_image(image).pixels)
    assert (OTHER_SIZE in report.figures.warnings) is False


@pytest.mark.usefixtures("fake")
def test_16_bit_images_are_scaled_where_it_is_asked_for(tree: ImageTree) -> None:
    path = tree.add_npz("x_features.npz", features("x"))
    write_png16(tree.root / "x.png", picture(2).astype(np.uint16) * 257)
    assert tree.bulk_fix(to_8bit=True).figures.done == 1
    assert_features_of(path, picture(2))


@pytest.mark.usefixtures("fake")
def test_an_image_of_another_size_is_a_remark(tree: ImageTree) -> None:
    tree.add("sa_1", image_shape=np.array([480, 640, 3]))
    report = tree.bulk_fix()
    assert (report.figures.done, report.figures.warnings) == (1, {OTHER_SIZE: 1})


BAD_FILES = {
    "truncated": lambda content: content[: len(content) // 2],
    "without its end": lambda content: content[:-30],
    "empty": lambda _: b"",
    "something else": lambda _: b"\x89PNG" * 100,
    "damaged": lambda content: content[:-600] + bytes(100) + content[-500:],
}


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("case", BAD_FILES)
def test_a_damaged_features_file_fails_and_stays_as_it_is(tree: ImageTree, case: str) -> None:
    path = tree.add("x")
    path.write_bytes(BAD_FILES[case](path.read_bytes()))
    before = path.read_bytes()
    assert failure(tree.bulk_fix()).startswith(str(path))
    assert path.read_bytes() == before
    assert sorted(name.name for name in tree.root.iterdir()) == ["x.png", "x_features.npz"]


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"P4_S16": np.zeros((1, 256, 32, 32), "f4")}, "'P4_S16' is of shape (1, 256, 32, 32), not of shape"),
        ({"P5_S32": np.zeros((256, 32, 32), "f4")}, "'P5_S32' is of shape (256, 32, 32), not"),
        ({"IMAGE_EMB_S16": np.zeros(4, "f4")}, "'IMAGE_EMB_S16' is of shape (4,)"),
        ({"P4_S16": np.array([None])}, "'P4_S16' is pickled"),
    ],
)
def test_features_of_other_shapes_are_left_alone(tree: ImageTree, arrays: dict[str, Any], text: str) -> None:
    path = tree.add("x", **arrays)
    before = path.read_bytes()
    assert text in failure(tree.bulk_fix())
    assert path.read_bytes() == before


@pytest.mark.usefixtures("fake")
def test_a_file_without_features_gets_them(tree: ImageTree) -> None:
    path = tree.add("x", P4_S16=None, P5_S32=None)
    assert tree.bulk_fix().figures.done == 1
    assert_features_of(path, picture(0))


@pytest.mark.usefixtures("fake")
def test_a_read_only_file_is_left_alone(tree: ImageTree) -> None:
    path = tree.add("x")
    path.chmod(0o444)
    before = path.read_bytes()
    assert "read-only" in failure(tree.bulk_fix())
    assert path.read_bytes() == before


def prepared(tree: ImageTree, **options: Any) -> tuple[Any, Any]:
    """A step that has read and encoded the tree's only item, and what is left: to publish it."""
    job = BulkFixJob(tree.options(**options))
    (item,) = job.plan()
    step = job.step()
    step.setup("cpu")
    assert isinstance(item, FeatureItem)
    return step, step.process_one(item)


@pytest.mark.usefixtures("fake")
def test_a_file_that_is_replaced_meanwhile_fails_and_what_replaced_it_is_kept(tree: ImageTree) -> None:
    path = tree.add("x")
    _, publish = prepared(tree)
    tree.add("x", added=np.array(7))
    before = path.read_bytes()
    with pytest.raises(ChangedMeanwhileError, match=r"x_features\.npz: was replaced or changed"):
        publish()
    assert path.read_bytes() == before


@pytest.mark.usefixtures("fake")
def test_a_file_that_another_run_has_repaired_meanwhile_is_skipped(tree: ImageTree) -> None:
    tree.add("x")
    step, publish = prepared(tree)
    (item,) = BulkFixJob(tree.options()).plan()
    tree.bulk_fix()
    assert publish() == Outcome.skipped("x_features.npz", ALREADY_PROCESSED)
    assert step.process_one(item) == Outcome.skipped("x_features.npz", ALREADY_PROCESSED)


@pytest.mark.usefixtures("fake")
def test_a_file_that_vanishes_meanwhile_fails(tree: ImageTree) -> None:
    tree.add("x")
    tree.add("y")
    run = JobRun(BulkFixJob(tree.options()))
    (tree.root / "x_features.npz").rename(tree.root / "z")
    outcomes = {outcome.source: outcome for outcome in run.outcomes()}
    assert [outcome.status for outcome in outcomes.values()] == ["done"]
    _, publish = prepared(tree, shard="0/1", model="sam2.1_hiera_small", refresh_stale=True)
    (tree.root / "y_features.npz").unlink()
    with pytest.raises(ChangedMeanwhileError, match=r"y_features\.npz: vanished"):
        publish()
    assert not list(tree.root.rglob("*_features.npz"))


@pytest.mark.usefixtures("fake")
def test_two_names_of_one_file_are_no_trouble(tree: ImageTree) -> None:
    path = tree.add("x", folder="a")
    (tree.root / "b").mkdir()
    (tree.root / "b" / "x_features.npz").symlink_to(path)
    job = BulkFixJob(tree.options())
    step = job.step()
    step.setup("cpu")
    items = [entry for entry in job.plan() if isinstance(entry, FeatureItem)]
    begun = [step.process_one(item) for item in items]  # both have read the file before one replaces it
    assert [publish().status for publish in begun if not isinstance(publish, Outcome)] == ["done", "skipped"]
    assert_features_of(path, picture(0))
    assert (tree.root / "b" / "x_features.npz").is_symlink()


@pytest.mark.usefixtures("fake")
def test_a_file_on_another_file_system_is_replaced_there(tree: ImageTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")  # no temporary folder plays a part
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tree.root.parent.stat().st_dev:
        pytest.skip("there is no second file system")
    with tempfile.TemporaryDirectory(dir=shared_memory) as folder:
        elsewhere = ImageTree(Path(folder)).add_npz("x_features.npz", features("x"))
        tree.add_image("x.png", 3)
        (tree.root / "x_features.npz").symlink_to(elsewhere)
        assert tree.bulk_fix().figures.done == 1
        assert_features_of(elsewhere, picture(3))
        assert [path.name for path in elsewhere.parent.iterdir()] == ["x_features.npz"]
    assert (tree.root / "x_features.npz").is_symlink()


@pytest.mark.usefixtures("fake")
def test_a_full_disk_stops_the_run_and_loses_nothing(tree: ImageTree, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        tree.add(f"sa_{number}")
    before = tree_hash(tree.root)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("toolkit.core.files.os.fsync", full)
    run = JobRun(BulkFixJob(tree.options()))
    with pytest.raises(StopRunError, match=r"sa_0_features\.npz: cannot write: No space left on device; free some"):
        list(run.outcomes())
    assert (run.report.figures.total, run.report.figures.failure_kinds) == (1, {"run stopped": 1})
    assert tree_hash(tree.root) == before


# The run


@pytest.mark.usefixtures("fake")
def test_left_overs_of_killed_runs_are_removed(tree: ImageTree) -> None:
    tree.add("x", folder="deep")
    (tree.root / "deep" / f".mvtk-{_machine()}-999999999-1-0123abcd.tmp").write_bytes(b"half")
    tree.bulk_fix()
    assert sorted(path.name for path in tree.root.rglob("*")) == ["deep", "x.png", "x_features.npz"]


def test_one_run_at_a_time(tree: ImageTree) -> None:
    tree.add("x")
    with hold_folder(tree.root, "edges update"), pytest.raises(MvtkError, match="in use by mvtk edges update"):
        tree.bulk_fix()


def test_what_cannot_run_is_said_before_anything_is_done(tree: ImageTree, tmp_path: Path) -> None:
    with pytest.raises(MvtkError, match="gone: no such folder; give the folder with the features files"):
        tree.bulk_fix(root=tmp_path / "gone")
    with pytest.raises(MvtkError, match=r"there are no \*_features\.npz files in .*tree; give the folder"):
        tree.bulk_fix()
    with pytest.raises(MvtkError, match=r"no\.pt: no such file; --weights needs a SAM2 checkpoint"):
        tree.bulk_fix(weights=str(tmp_path / "no.pt"))


def test_a_gpu_works_in_a_process_of_its_own_also_without_workers(
    tree: ImageTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process the work would be done on the CPU."""
    tree.add("x")
    monkeypatch.setattr("toolkit.features.jobs.resolve_devices", lambda *_: ("cuda:1",))
    assert BulkFixJob(tree.options(workers=0)).devices == ("cuda:1",)
    monkeypatch.setattr("toolkit.features.jobs.resolve_devices", lambda *_: ("cpu",))
    assert BulkFixJob(tree.options(workers=0)).devices == ()
    assert BulkFixJob(tree.options(workers=2)).devices == ("cpu",)


def test_a_batch_is_one_image_on_the_cpu_and_eight_on_a_gpu_unless_said(
    tree: ImageTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.add("x")
    job = BulkFixJob(tree.options(workers=6))
    assert (job.settings.batch_size, job.settings.threads) == (1, 6)
    assert BulkFixJob(tree.options(batch_size=3)).settings.batch_size == 3
    monkeypatch.setattr("toolkit.features.jobs.resolve_devices", lambda *_: ("cuda:1", "cuda:2"))
    job = BulkFixJob(tree.options(workers=6))
    assert (job.settings.batch_size, job.settings.threads, job.devices) == (8, 3, ("cuda:1", "cuda:2"))


def test_the_options_reach_the_encoder(tree: ImageTree, monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_encoder(monkeypatch)
    tree.add("x")
    step, _ = prepared(tree, dtype="float16", compile=True)
    assert isinstance(step.encoder, FakeEncoder)
    assert (step.encoder.device, step.encoder.dtype, step.encoder.compiled) == ("cpu", "float16", True)
    assert step.encoder.weights.model.name == RANDOM["model"]


@pytest.mark.parametrize("size", [0, -1, "many", None, 2.5])
def test_a_batch_size_is_a_whole_number_or_auto(tree: ImageTree, size: Any) -> None:
    with pytest.raises(ValueError, match="is neither a whole number of at least 1 nor auto"):
        tree.options(batch_size=size)


@pytest.mark.slow
def test_what_the_time_went_on_is_told(tree: ImageTree, weights: Weights) -> None:
    for seed in range(4):
        tree.add(f"sa_{seed}", seed=seed)
    report = run_to_end(BulkFixJob(tree.options(**of(weights), workers=1)))
    assert set(report.stats["seconds"]) == {"prepare", "batch", "input_wait", "writer_wait", "publish"}
    assert report.stats["limit"] in {"encoder", "reading", "writing"}
    assert 0 <= report.stats["outside_encoder"] <= 1


def test_stale_values_are_not_those_of_the_encoder() -> None:
    assert number_of(picture(0)) != STALE_VALUE
    assert len({number_of(picture(seed)) for seed in range(6)}) == 6


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("number", [np.nan, np.inf, 1e9])
def test_features_that_are_no_finite_numbers_are_not_stored(
    tree: ImageTree, monkeypatch: pytest.MonkeyPatch, number: float
) -> None:
    path = tree.add("sa_1")
    before = path.read_bytes()
    monkeypatch.setattr(FakeEncoder, "prepare", lambda *_: number)
    report = tree.bulk_fix(store="float16")  # in which 1e9 is infinite
    assert "not finite" in failure(report)
    assert path.read_bytes() == before


@pytest.mark.usefixtures("fake")
def test_a_read_only_file_is_found_before_its_image_is_read(tree: ImageTree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.add("sa_1").chmod(0o444)
    monkeypatch.setattr(FakeEncoder, "prepare", lambda *_: pytest.fail("the image was read"))
    assert "read-only" in failure(tree.bulk_fix())


@pytest.mark.usefixtures("fake")
def test_a_folder_with_the_name_of_a_features_file_does_not_count(tree: ImageTree) -> None:
    tree.add("sa_1", suffix="_sam2_features.npz")
    (tree.root / "sa_1_features.npz").mkdir()
    assert tree.bulk_fix().figures.done == 1
