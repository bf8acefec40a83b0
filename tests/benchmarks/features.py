"""``mvtk features bulk-fix`` against the documented loop and the bare encoder, and a second run over a large tree."""

from __future__ import annotations

import functools
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tests.benchmarks.measuring import Figure, peak_memory_mib, run_command
from tests.benchmarks.reading import write_features
from tests.sam2_checkpoints import reference_encoder, reference_features, save_checkpoint
from toolkit.core import engines
from toolkit.core.batch import Outcome, Publishing, Step
from toolkit.core.driver import JobRun
from toolkit.features import FeatureSource, resolve_weights
from toolkit.features.bulk_fix import BulkFixJob
from toolkit.features.encoding import EncodingSettings, PreparedImage, RepairStep, SkipRule
from toolkit.features.options import BulkFixOptions
from toolkit.features.sam2_encoder import INPUT_SIDE_PX, Features, Sam2Encoder, build_encoder
from toolkit.features.sam2_models import MODELS
from toolkit.npz import open_npz, read_npz
from toolkit.npz.rewriting import rewrite_npz

if TYPE_CHECKING:
    import torch

MODEL = MODELS["sam2.1_hiera_tiny"]
"""The fastest one, which shows most of what the rest costs."""
FILES, THREADS = 12, 2
METERED_FILES = 40
GPU = "cuda:0"
GPU_MODEL = MODELS["sam2.1_hiera_base_plus"]
GPU_DTYPES = ("float32", "bfloat16")
GPU_FILES, GPU_BATCHES = 256, 20
PROCESSED_FILES, FILES_A_FOLDER = 10_000, 1000
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")
WIDTH_PX, HEIGHT_PX = 2250, 1500


def measure(folder: Path) -> Iterator[Figure]:
    """Measure a repair on the CPU, what the encoding thread does besides, a second run, and GPU 0 if there is one."""
    weights = save_checkpoint(folder, MODEL)
    yield from _on_the_cpu(folder, weights)
    yield from _encoding_thread(folder, weights)
    yield from _second_run(folder, weights)
    import torch

    if torch.cuda.is_available():
        gpu_weights = save_checkpoint(folder, GPU_MODEL)
        for dtype in GPU_DTYPES:
            share, limit = gpu_share(folder / dtype, gpu_weights, dtype)
            what = f"bulk-fix on a GPU, {dtype}, limited by {limit}, images a second over the bare encoder's"
            yield Figure(what, share, "x", at_least=0.9)


def gpu_share(folder: Path, weights: Path, dtype: str) -> tuple[float, str]:
    """Repair a tree on a GPU.

    Returns:
        its images a second over those of the bare network, batch size and dtype alike, and the resource that was the
        limit: "encoder", "reading" or "writing".
    """
    job = BulkFixJob(_options(write_tree(folder, GPU_FILES), weights, device=GPU, dtype=dtype))
    ends_s, stats = _repair(job)
    shutil.rmtree(folder)
    first = job.settings.batch_size  # with it goes what is done once: buffers, the choice of kernels
    repair_s = (ends_s[-1] - ends_s[first - 1]) / (len(ends_s) - first)
    return _bare_encoder_s(job.settings, GPU) / repair_s, stats["limit"]


def write_tree(folder: Path, count: int) -> Path:
    """Write features files of 9.6 MB that need work, beside JPEGs of 1500x2250, and return their folder.

    They are hard links to few files; the repair gives each its own.
    """
    import skimage.data

    folder.mkdir(parents=True)
    images = [folder / f".{name}.jpg" for name in PHOTOGRAPHS]
    for name, path in zip(PHOTOGRAPHS, images, strict=True):
        photograph = Image.fromarray(getattr(skimage.data, name)())
        photograph.resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.BICUBIC).save(path, quality=92)
    features = folder / ".features.npz"
    write_features(features)
    _rewrite(features, feature_flag=np.array(0))
    for number in range(count):
        os.link(images[number % len(images)], folder / f"sa_{number:05}.jpg")
        os.link(features, folder / f"sa_{number:05}_features.npz")
    return folder


def _on_the_cpu(folder: Path, weights: Path) -> Iterator[Figure]:
    """The repair and the documented loop, each in one process that has all processors; the median image counts."""
    ours, documented, metered = (write_tree(folder / name, FILES) for name in ("ours", "documented", "metered"))
    ends_s, stats = _repair(BulkFixJob(_options(ours, weights, device="cpu", workers=THREADS)))
    our_s = statistics.median(np.diff(ends_s))
    loop = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.features", str(documented)]
    documented_s = float(subprocess.check_output(loop))
    _assert_same_features(ours, documented)
    job = _MeteredJob(_options(metered, weights, device="cpu", workers=THREADS), _AlternatingEncoder)
    _repair(job)
    # The first image had to be waited for; while the last ones are encoded, nothing is left to read.
    steady = job.figures[1 : -job.step().lookahead]
    outside = statistics.median(1 - figures["bare_s"] / figures["all_s"] for figures in steady)
    for tree in (ours, documented, metered):
        shutil.rmtree(tree)
    name = "bulk-fix on the CPU"
    yield Figure(f"{name}, seconds an image, documented loop", documented_s, " s")
    yield Figure(f"{name}, seconds an image, mvtk", our_s, " s")
    yield Figure(f"{name}, speed-up", documented_s / our_s, "x")
    yield Figure(f"{name}, time outside the encoder, as reported", 100 * stats["outside_encoder"], " %", at_most=3)
    yield Figure(f"{name}, time that the bare encoder would not take", 100 * outside, " %", at_most=3)


def documented_loop(root: Path) -> float:
    """Repair a tree as the documented script does; return the seconds of the median image."""
    encoder = reference_encoder(MODEL)
    ends_s = []
    for path in sorted(root.glob("sa_*.npz")):
        image = Image.open(path.with_name(path.name.replace("_features.npz", ".jpg")))
        p4, p5 = reference_features(encoder, np.array(image.convert("RGB")))
        with np.load(path) as npz:
            arrays = dict(npz)
        temporary = path.with_suffix(".tmp.npz")
        np.savez(temporary, **(arrays | {"P4_S16": p4, "P5_S32": p5, "feature_flag": np.array(1)}))
        temporary.replace(path)
        ends_s.append(time.perf_counter())
    return statistics.median(np.diff(ends_s))


def _repair(job: BulkFixJob) -> tuple[list[float], Mapping[str, Any]]:
    """Run a repair; return the time of day, in seconds, at each image's end, and what the report says."""
    run, ends_s = JobRun(job), []
    for outcome in run.outcomes():
        assert outcome.status == "done", outcome
        ends_s.append(time.perf_counter())
    return ends_s, run.report.stats


def _options(root: Path, weights: Path, **more: Any) -> BulkFixOptions:
    return BulkFixOptions(root=root, weights=str(weights), **more)


def _rewrite(path: Path, **arrays: Any) -> None:
    with open_npz(path) as reader:
        rewrite_npz(reader, arrays)


def _assert_same_features(ours: Path, documented: Path) -> None:
    for path in ours.glob("sa_*.npz"):
        found, expected = (read_npz(root / path.name, ["P4_S16", "P5_S32"]) for root in (ours, documented))
        for key, array in expected.items():
            np.testing.assert_allclose(found[key], array, rtol=0, atol=1e-5)


class _Network:
    """The bare encoder: input that is there already, output that stays where it is."""

    def __init__(self, settings: EncodingSettings, device: str) -> None:
        import torch

        self._device = torch.device(device)
        self._dtype = getattr(torch, settings.dtype)
        self._encoder: Any = build_encoder(settings.weights).to(self._device)
        for operation in (torch.backends.cudnn.conv, torch.backends.cuda.matmul):
            operation.fp32_precision = "ieee"

    def seconds(self, images_bchw: torch.Tensor) -> float:
        """Encode (B, 3, 1024, 1024) float32, and return how long it took."""
        import torch

        reduced = torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32)
        start_s = time.perf_counter()
        with torch.inference_mode(), reduced:
            self._encoder.neck(self._encoder.trunk(images_bchw))
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start_s


@dataclass(frozen=True, slots=True)
class _Trial:
    source: str = "bare encoder"


class _TimeNetwork(Step[_Trial]):
    """Time the bare encoder; the median batch counts."""

    def __init__(self, settings: EncodingSettings) -> None:
        self._settings = settings

    def setup(self, device: str) -> None:
        self._device = device

    def process_one(self, item: _Trial) -> Outcome:
        import torch

        network, batch_size = _Network(self._settings, self._device), self._settings.batch_size
        images_bchw = torch.randn((batch_size, 3, INPUT_SIDE_PX, INPUT_SIDE_PX), device=self._device)
        network.seconds(images_bchw)
        batch_s = statistics.median(network.seconds(images_bchw) for _ in range(GPU_BATCHES))
        return Outcome.done(item.source, seconds=batch_s / batch_size)


def _bare_encoder_s(settings: EncodingSettings, device: str) -> float:
    """Return the seconds an image takes the bare encoder, in a worker of its own."""
    [outcome] = engines.run(_TimeNetwork(settings), [_Trial()], devices=(device,))
    assert outcome.status == "done", outcome
    return float(outcome.details["seconds"])


class _MeteredEncoder:
    """Stands in for the encoder of a repair, and keeps figures of its last batch."""

    def __init__(self, encoder: Sam2Encoder, settings: EncodingSettings) -> None:
        self.prepare = encoder.prepare
        self.settings = settings
        self.figures: dict[str, float] = {}


class _SleepingEncoder(_MeteredEncoder):
    """Takes time, so that nobody waits for files, but no processor; notes what its thread has used of one."""

    seconds = 0.15

    def encode(self, batch: Sequence[torch.Tensor]) -> Features:
        time.sleep(self.seconds)
        self.figures = {"used_s": time.thread_time()}
        return np.zeros((len(batch), 256, 64, 64), np.float32), np.zeros((len(batch), 256, 32, 32), np.float32)


class _AlternatingEncoder(_MeteredEncoder):
    """Encodes each batch once more, bare, when the files beside it are read and written.

    The two times are seconds apart: what else the machine does weighs on both.
    """

    def __init__(self, encoder: Sam2Encoder, settings: EncodingSettings) -> None:
        super().__init__(encoder, settings)
        self._encode = encoder.encode
        self._network = _Network(settings, "cpu")
        self._free_s = time.perf_counter()

    def encode(self, batch: Sequence[torch.Tensor]) -> Features:
        import torch

        features = self._encode(batch)
        all_s = time.perf_counter() - self._free_s
        self.figures = {"all_s": all_s, "bare_s": self._network.seconds(torch.stack(list(batch)))}
        self._free_s = time.perf_counter()
        return features


class _MeteredStep(RepairStep):
    """A repair whose outcomes tell the figures of its encoder."""

    def __init__(self, stand_in: type[_MeteredEncoder], settings: EncodingSettings, rule: SkipRule) -> None:
        super().__init__(settings, rule, set_flag=True, add_copy=False)
        self._stand_in = stand_in

    def setup(self, device: str) -> None:
        super().setup(device)
        self._encoder: Any = self._stand_in(self.encoder, self._settings)

    def process_batch(self, batch: Sequence[PreparedImage]) -> Sequence[Outcome | Publishing]:
        results = super().process_batch(batch)
        return [functools.partial(_with_figures, publishing, self._encoder.figures) for publishing in results]


def _with_figures(publishing: Publishing, figures: Mapping[str, float]) -> Outcome:
    outcome = publishing()
    return replace(outcome, details={**outcome.details, **figures})


class _MeteredJob(BulkFixJob):
    """A repair with another encoder, whose figures it collects."""

    def __init__(self, options: BulkFixOptions, stand_in: type[_MeteredEncoder]) -> None:
        super().__init__(options)
        self._stand_in = stand_in
        self.figures: list[Mapping[str, Any]] = []

    def step(self) -> RepairStep:
        return _MeteredStep(self._stand_in, self.settings, self.rule)

    def watch(self, outcome: Outcome) -> Outcome:
        self.figures.append(outcome.details)
        return super().watch(outcome)


def _encoding_thread(folder: Path, weights: Path) -> Iterator[Figure]:
    """What the thread that encodes does besides: its own work, and its own work with all that it waits for."""
    tree = write_tree(folder / "sleeping", METERED_FILES)
    job = _MeteredJob(_options(tree, weights, device="cpu", workers=THREADS), _SleepingEncoder)
    ends_s, _ = _repair(job)
    shutil.rmtree(tree)
    used_s = [figures["used_s"] for figures in job.figures]
    own_s, wall_s = ((marks_s[-1] - marks_s[0]) / (METERED_FILES - 1) for marks_s in (used_s, ends_s))
    name = "bulk-fix, the encoding thread outside the encoder, milliseconds a file"
    yield Figure(f"{name}, processor time", own_s * 1e3, " ms")
    yield Figure(f"{name}, wall time", (wall_s - _SleepingEncoder.seconds) * 1e3, " ms", at_most=12)


def _second_run(folder: Path, weights: Path) -> Iterator[Figure]:
    """Run the command over processed files: hard links to one file, a thousand in a folder."""
    few, many = (
        _processed_tree(folder / str(count), count, weights) for count in (PROCESSED_FILES, 4 * PROCESSED_FILES)
    )
    command = [sys.executable, "-m", "commands.main", "features", "bulk-fix", "--weights", str(weights), "--quiet"]
    memory_few, memory_many = (peak_memory_mib([*command, "--root", str(tree)]) for tree in (few, many))
    start_s = time.perf_counter()
    run_command([*command, "--root", str(few)])
    elapsed_s = time.perf_counter() - start_s
    yield Figure("bulk-fix, second run, a processed file", elapsed_s / PROCESSED_FILES * 1e3, " ms", at_most=0.3)
    yield Figure(f"bulk-fix, second run, memory with {PROCESSED_FILES} files", memory_few, " MiB")
    yield Figure("bulk-fix, second run, memory for 4 times as many files", memory_many / memory_few, "x", at_most=1.1)


def _processed_tree(tree: Path, count: int, weights: Path) -> Path:
    tree.mkdir()
    first = tree / "sa_0_features.npz"
    write_features(first)
    _rewrite(first, feature_source=FeatureSource.of(resolve_weights(str(weights)), "float32").to_array())
    for number in range(1, count):
        part = tree / f"{number // FILES_A_FOLDER:06}"
        part.mkdir(exist_ok=True)
        os.link(first, part / f"sa_{number}_features.npz")
    return tree


if __name__ == "__main__":
    print(documented_loop(Path(sys.argv[1])))  # noqa: T201 - the result, for the process that asked
