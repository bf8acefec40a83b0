"""The frame index of the embryo dataset: scanning a tree, opening the index of one and of 2.4 million frames."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.measuring import Figure, peak_memory_mib
from tests.embryo_trees import MiniatureEmbryos, frame_bytes, frame_name
from toolkit.embryo import index_scan
from toolkit.embryo.frame_index import INDEX_NAME, FrameIndex, open_frame_index
from toolkit.embryo.frames import FrameFolder
from toolkit.embryo.inspection import inspect_dataset
from toolkit.embryo.phases import PHASES
from toolkit.embryo.planes import PLANES
from toolkit.embryo.selection import select_frames

FRAMES_A_VIDEO = 480
ROUNDS = 11
LONG_AGO_S = 1_600_000_000
_REOPEN = "import sys; from toolkit.embryo.frame_index import open_frame_index; open_frame_index(sys.argv[1])"
_IMPORT = "import toolkit.embryo.frame_index"


def measure(folder: Path) -> Iterator[Figure]:
    """Scan 50,000 files that are there; then open indices as large as the published dataset's."""
    yield from _measure_scan(folder / "files")
    for videos, bound_ms in ((298, 10.0), (704, None)):
        yield from _measure_opening(folder / f"videos-{videos}", videos, bound_ms)


def _measure_scan(root: Path) -> Iterator[Figure]:
    embryos = _make_tree(root, videos=15)
    for plane in PLANES:
        for video in embryos.tree.videos(plane):
            for number in range(1, FRAMES_A_VIDEO + 1):
                (embryos.folder(plane, video) / frame_name(number)).write_bytes(frame_bytes(number % 250))
    count = 15 * FRAMES_A_VIDEO * len(PLANES)
    scan_s = _median_s(lambda: _scan_anew(root), rounds=3)
    yield Figure(f"embryo index, scan of {count} files, a million", scan_s / count * 1e6, " s")
    listing_s = _median_s(lambda: inspect_dataset(root), rounds=3)
    yield Figure(f"embryo inspect of {count} files, a million", listing_s / count * 1e6, " s")
    ends_s = _median_s(lambda: inspect_dataset(root, check_files=True), rounds=3)
    yield Figure(f"embryo inspect --check-files of {count} files in memory, a million", ends_s / count * 1e6, " s")


def _measure_opening(root: Path, videos: int, bound_ms: float | None) -> Iterator[Figure]:
    """Index a tree with the folders and tables of so many videos, whose frames are made up when they are listed."""
    _make_tree(root, videos)
    numbers = tuple(range(1, FRAMES_A_VIDEO + 1))
    frames = FrameFolder(numbers, tuple(map(frame_name, numbers)))
    with mock.patch.object(index_scan, "list_frames", return_value=frames):
        index = open_frame_index(root)
    size = f"{len(index) / 1e6:.1f} M frames"
    yield Figure(f"embryo index of {size}, on disk", (root / INDEX_NAME).stat().st_size / 2**20, " MiB")
    open_s = _median_s(lambda: open_frame_index(root), ROUNDS)
    yield Figure(f"embryo index of {size}, opened", open_s * 1e3, " ms", at_most=bound_ms)
    strict_s = _median_s(lambda: open_frame_index(root, strict=True), ROUNDS)
    yield Figure(f"embryo index of {size}, opened with all folders compared", strict_s * 1e3, " ms")
    yield Figure(f"embryo index of {size}, a frame looked up", _lookup_s(index) * 1e6, " us")
    median_s = _median_s(lambda: select_frames(open_frame_index(root), phases=PHASES, median_only=True), rounds=3)
    yield Figure(f"embryo index of {size}, the middle frames of all phases", median_s * 1e3, " ms")
    memory = peak_memory_mib([sys.executable, "-c", _REOPEN, str(root)]) - peak_memory_mib(
        [sys.executable, "-c", _IMPORT]
    )
    yield Figure(f"embryo index of {size}, memory of an open one", memory, " MiB")


def _make_tree(root: Path, videos: int) -> MiniatureEmbryos:
    embryos = MiniatureEmbryos(root)
    numbers = range(1, FRAMES_A_VIDEO + 1)
    bounds = np.linspace(8, FRAMES_A_VIDEO, len(PHASES) + 1, dtype=int).tolist()
    phases = {
        phase.label: (first, stop - 1) for phase, first, stop in zip(PHASES, bounds[:-1], bounds[1:], strict=True)
    }
    for video in range(videos):
        embryos.add_video(f"AB{video:03}-{video % 9}", frames=(), phases=phases)
        embryos.write_times(f"AB{video:03}-{video % 9}", numbers)
        for plane in PLANES:
            embryos.folder(plane, f"AB{video:03}-{video % 9}").mkdir()
    for path in (root, *root.rglob("*")):
        os.utime(path, (LONG_AGO_S, LONG_AGO_S))
    return embryos


def _scan_anew(root: Path) -> None:
    (root / INDEX_NAME).unlink(missing_ok=True)
    open_frame_index(root)


def _lookup_s(index: FrameIndex) -> float:
    positions: NDArray[np.int64] = np.random.default_rng(0).integers(0, len(index), 2000)
    start = time.perf_counter()
    for position in positions.tolist():
        index.frame(position)
    return (time.perf_counter() - start) / len(positions)


def _median_s(action: Callable[[], object], rounds: int) -> float:
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
