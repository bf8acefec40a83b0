"""Extracting ten archives of small JPEGs against GNU tar, and against the documented pool of processes."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from tests.benchmarks.measuring import Figure, peak_memory_mib
from tests.embryo_archives import Entry, folder
from toolkit.core.cpus import available_cpus
from toolkit.embryo.layout import ARCHIVE_NAMES, ARCHIVE_SUFFIX, GRADES_NAME

ROUNDS = 3
FRAME_SIDE_PX = 500
DIFFERENT_FRAMES = 64
FRAMES_A_VIDEO = 350
UNEVEN = (8400, 7000, 6300, 5600, 4900, 4200, 3500, 1400, 700)
"""Frames an archive; in all 440 MB."""
DOMINATED = (35000, 350, 350, 350, 350, 350, 350, 350, 350)
EXTRACT = "import sys; from toolkit.embryo import extract_dataset; extract_dataset(*sys.argv[1:3], int(sys.argv[3]))"


def measure(folder: Path) -> Iterator[Figure]:
    """Extract with as many workers as there are processors; everything is on the disk when the time stops."""
    workers = available_cpus()
    frames = _frames()
    yield Figure("mean size of a frame, KB", statistics.mean(map(len, frames)) / 1e3, " KB")
    uneven, dominated = folder / "uneven", folder / "dominated"
    _write_record(uneven, UNEVEN, frames)
    _write_record(dominated, DOMINATED, frames)
    fresh = (folder / f"dest{number}" for number in itertools.count())

    ours_s, tar_s, ratio = _in_turn(
        lambda dest: _extract(uneven, dest, workers), lambda dest: _tar(uneven, dest, workers), fresh
    )
    yield Figure(f"extracting {sum(UNEVEN)} frames with {workers} workers, seconds", ours_s, " s")
    yield Figure(f"GNU tar with {workers} processes at once, seconds", tar_s, " s")
    yield Figure("speed over GNU tar", ratio, "x", at_least=1)
    ours_s, pool_s, ratio = _in_turn(
        lambda dest: _extract(dominated, dest, workers), lambda dest: _pool(dominated, dest, workers), fresh
    )
    yield Figure(f"extracting {sum(DOMINATED)} frames, most in one archive, seconds", ours_s, " s")
    yield Figure(f"the documented pool with {workers} processes, seconds", pool_s, " s")
    yield Figure("speed over the documented pool", ratio, "x", at_least=1.5)
    memory = peak_memory_mib([sys.executable, "-c", EXTRACT, str(dominated), str(next(fresh)), str(workers)])
    yield Figure("peak memory of any process, MiB", memory, " MiB", at_most=300)


def _extract(archives: Path, dest: Path, workers: int) -> None:
    subprocess.run([sys.executable, "-c", EXTRACT, str(archives), str(dest), str(workers)], check=True)


def _tar(archives: Path, dest: Path, workers: int) -> None:
    dest.mkdir()
    with ThreadPoolExecutor(workers) as threads:
        for _ in threads.map(
            lambda path: subprocess.run(["tar", "-xzf", path, "-C", dest], check=True), _sorted(archives)
        ):
            pass
    os.sync()


def _pool(archives: Path, dest: Path, workers: int) -> None:
    dest.mkdir()
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.starmap(_extract_all, [(path, dest) for path in _sorted(archives)], chunksize=1)
    os.sync()


def _extract_all(path: Path, dest: Path) -> None:
    with tarfile.open(path, "r:gz") as archive:
        archive.extractall(dest)


def _in_turn(
    ours: Callable[[Path], None], reference: Callable[[Path], None], fresh: Iterator[Path]
) -> tuple[float, float, float]:
    """Time both sides in turn, each in a folder of its own: nothing is removed before the end.

    A file system that reuses what was just removed (ext4 for five minutes) is slow, and unequally so.
    """
    pairs = []
    for turn in range(ROUNDS):
        sides = [ours, reference] if turn % 2 else [reference, ours]
        times = {side: _seconds(side, next(fresh)) for side in sides}
        pairs.append((times[ours], times[reference]))
    return (
        statistics.median(pair[0] for pair in pairs),
        statistics.median(pair[1] for pair in pairs),
        statistics.median(pair[1] / pair[0] for pair in pairs),
    )


def _seconds(action: Callable[[Path], None], dest: Path) -> float:
    os.sync()
    start = time.perf_counter()
    action(dest)
    return time.perf_counter() - start


def _sorted(archives: Path) -> Sequence[Path]:
    """The compressed archives, largest first."""
    return sorted(archives.glob("*.gz"), key=lambda path: -path.stat().st_size)


def _frames() -> list[bytes]:
    """Grey JPEGs of the real ones' size: a bright disc with structure and some noise."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:FRAME_SIDE_PX, :FRAME_SIDE_PX]
    frames = []
    for _ in range(DIFFERENT_FRAMES):
        texture = cv2.resize(generator.normal(0, 25, (60, 60)), (FRAME_SIDE_PX, FRAME_SIDE_PX))
        disc = np.hypot(rows - 250 - generator.integers(-20, 20), columns - 250) < 180
        image_hw = 120 + disc * texture + generator.normal(0, 2.5, disc.shape)
        pixels_hw = np.clip(image_hw, 0, 255).astype(np.uint8)
        frames.append(cv2.imencode(".jpg", pixels_hw, [cv2.IMWRITE_JPEG_QUALITY, 58])[1].tobytes())
    return frames


def _write_record(archives: Path, counts: Sequence[int], frames: Sequence[bytes]) -> None:
    archives.mkdir()
    (archives / GRADES_NAME).write_text("video_name,TE,ICM\n")
    names = [name for name in ARCHIVE_NAMES if name != GRADES_NAME]
    for name, count in zip(names, counts, strict=True):
        with (archives / name).open("wb") as target:
            gzip = subprocess.Popen(["gzip", "-c"], stdin=subprocess.PIPE, stdout=target)
            assert gzip.stdin is not None
            with gzip.stdin as stream:
                stream.writelines(_members(name.removesuffix(ARCHIVE_SUFFIX), count, frames))
                stream.write(bytes(1024))
            assert gzip.wait() == 0


def _members(top: str, count: int, frames: Sequence[bytes]) -> Iterator[bytes]:
    yield folder(f"{top}/")
    for number in range(count):
        video, frame = divmod(number, FRAMES_A_VIDEO)
        if not frame:
            yield folder(f"{top}/AA{video:03}-1/")
        name = f"{top}/AA{video:03}-1/D2013.01.28_S0717_I132_WELL7_RUN{frame + 1}.jpeg"
        yield Entry(name.encode(), frames[number % len(frames)]).tar()
