"""What a worker does: which files it leaves alone, batches, and batches that do not fit the memory."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.feature_images import FakeEncoder, ImageTree, number_of, picture, use_fake_encoder
from toolkit.core.answers import process
from toolkit.core.batch import Outcome
from toolkit.features import FeatureMarks, FeatureSource, OutOfMemoryError
from toolkit.features.bulk_fix import BulkFixJob
from toolkit.features.encoding import ALREADY_PROCESSED, STALE, FeatureItem, RepairStep, SkipRule
from toolkit.npz import read_npz

THIS = FeatureSource("sam2.1_hiera_tiny", "00ff", "SAM2Transforms-1024", "float32", "0.1.0")
SAME = FeatureSource("sam2.1_hiera_tiny", "00ff", "SAM2Transforms-1024", "float32", "9.9.9")
OTHER = FeatureSource("sam2.1_hiera_tiny", "00fe", "SAM2Transforms-1024", "float32", "0.1.0")


@pytest.mark.parametrize(
    ("flag", "source", "by_flag", "refresh_stale", "reason"),
    [
        (False, None, True, False, ""),
        (False, THIS, True, False, ""),
        (False, OTHER, True, False, ""),
        (True, None, True, False, ALREADY_PROCESSED),
        (True, None, True, True, ALREADY_PROCESSED),
        (True, THIS, True, False, ALREADY_PROCESSED),
        (True, SAME, True, True, ALREADY_PROCESSED),
        (True, OTHER, True, False, STALE),
        (True, OTHER, True, True, ""),
        (True, None, False, False, ""),
        (True, THIS, False, False, ALREADY_PROCESSED),
        (False, SAME, False, False, ALREADY_PROCESSED),
        (True, OTHER, False, False, ""),
        (False, None, False, False, ""),
    ],
)
def test_what_needs_no_work(
    flag: bool, source: FeatureSource | None, by_flag: bool, refresh_stale: bool, reason: str
) -> None:
    rule = SkipRule(THIS, by_flag=by_flag, refresh_stale=refresh_stale)
    assert rule.reason(FeatureMarks(flag, source)) == reason


@pytest.mark.parametrize("field", ["model", "weights_sha256", "preprocessing", "dtype", "stored"])
def test_whatever_else_differs_is_stale(field: str) -> None:
    values = {name: getattr(THIS, name) for name in ("model", "weights_sha256", "preprocessing", "dtype", "mvtk")}
    other = FeatureSource(**{**values, field: "other"})
    assert SkipRule(THIS, by_flag=True, refresh_stale=False).reason(FeatureMarks(True, other)) == STALE


def begin(tmp_path: Path, count: int, **options: Any) -> tuple[RepairStep, list[Any]]:
    """A step that is set up, with ``count`` prepared images."""
    tree = ImageTree(tmp_path)
    for seed in range(count):
        tree.add(f"sa_{seed}", seed=seed)
    job = BulkFixJob(tree.options(**options))
    step = pickle.loads(pickle.dumps(job.step()))  # as it comes to a worker
    step.setup("cpu")
    return step, [step.prepare(item) for item in job.plan()]


def publish_all(results: Any) -> None:
    assert [publish().status for publish in results] == ["done"] * len(results)


def assert_repaired(tmp_path: Path, count: int) -> None:
    for seed in range(count):
        arrays = read_npz(tmp_path / f"sa_{seed}_features.npz")
        assert (arrays["P4_S16"] == number_of(picture(seed))).all()
        assert (arrays["P5_S32"] == number_of(picture(seed)) + 0.5).all()


def test_every_image_of_a_batch_gets_its_own_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_encoder(monkeypatch)
    step, images = begin(tmp_path, 3, batch_size=3)
    publish_all(step.process_batch(images))
    assert isinstance(step.encoder, FakeEncoder)
    assert step.encoder.batches == [3]
    assert_repaired(tmp_path, 3)


@pytest.mark.parametrize(("count", "fits", "batches"), [(5, 2, [2, 1, 2]), (4, 1, [1] * 4), (6, 5, [3, 3])])
def test_out_of_memory_halves_the_batch_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, fits: int, batches: list[int]
) -> None:
    use_fake_encoder(monkeypatch, largest_batch=fits)
    step, images = begin(tmp_path, count, batch_size=count)
    publish_all(step.process_batch(images))
    assert isinstance(step.encoder, FakeEncoder)
    assert sorted(step.encoder.batches) == sorted(batches)
    assert_repaired(tmp_path, count)
    assert step.batch_size <= fits  # the next batches are smaller


def test_an_image_that_does_not_fit_alone_fails_its_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_encoder(monkeypatch, largest_batch=0)
    step, images = begin(tmp_path, 2, batch_size=2)
    before = (tmp_path / "sa_0_features.npz").read_bytes()
    with pytest.raises(OutOfMemoryError):
        step.process_batch(images)
    outcome = process(step, FeatureItem("sa_0", str(tmp_path / "sa_0_features.npz"), str(tmp_path / "sa_0.png")))
    assert outcome == Outcome.failed("sa_0", "not enough memory for a batch of 1; use a smaller --batch-size")
    assert (tmp_path / "sa_0_features.npz").read_bytes() == before


def test_other_trouble_does_not_shrink_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_encoder(monkeypatch)
    step, images = begin(tmp_path, 2, batch_size=2)

    def fail(encoder: FakeEncoder, batch: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(FakeEncoder, "encode", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        step.process_batch(images)
    assert step.batch_size == 2


def test_a_file_that_cannot_be_used_is_closed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_encoder(monkeypatch)
    tree = ImageTree(tmp_path)
    path = tree.add("sa_1", P4_S16=np.zeros(3, "f4"))
    job = BulkFixJob(tree.options())
    (item,) = job.plan()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for image in (tree.root / "sa_1.png", tree.root / "gone.png"):
        outcome = process(job.step(), FeatureItem("sa_1", str(path), str(image)))
        assert isinstance(outcome, Outcome)
        assert outcome.status == "failed"
    tree.add("sa_1", feature_flag=np.array(1))
    assert process(job.step(), item) == Outcome.skipped("sa_1_features.npz", ALREADY_PROCESSED)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_step_that_was_not_set_up_says_so(tmp_path: Path) -> None:
    tree = ImageTree(tmp_path)
    tree.add("sa_1")
    with pytest.raises(RuntimeError, match="the step is not set up"):
        _ = BulkFixJob(tree.options()).step().encoder
