"""Lazy datasets: opening a million samples, annotations at random, memory of workers, and epochs against decoding."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.benchmarks.measuring import Figure, in_turn
from toolkit.metadata.collating import make_dataloader
from toolkit.metadata.columns import SampleColumns
from toolkit.metadata.image_loading import ImageLoader
from toolkit.metadata.lazy import LazyNPYDataset
from toolkit.metadata.record import MetadataInfo
from toolkit.metadata.writing import write_metadata

SAMPLES = 1_000_000
PATH_BYTES = len("images/0000000.jpg")
OPENINGS = 7
LOOKUPS = 50_000
WORKERS = 8
TIMEOUT_S = 600
PHOTOGRAPHS = 96
PHOTOGRAPH_HW = (480, 640)
BATCH_SIZE = 32
EPOCHS = 15


def measure(folder: Path) -> Iterator[Figure]:
    """Read a file of a million samples with two boxes each, then JPEG photographs through a loader."""
    path = folder / "train_detector.npy"
    _write_million(path)
    yield from _opening(path)
    yield Figure(f"get_metadata, any of {SAMPLES} samples, microseconds", _lookup_us(path), " us", at_most=15)
    for method in ("fork", "spawn"):
        yield from _workers(path, method)
    photographs = _write_photographs(folder)
    for loader in DECODERS:
        yield from _epochs(LazyNPYDataset(photographs, image_loader=loader))


def _write_million(path: Path) -> None:
    generator = np.random.default_rng(0)
    boxes_xywh = generator.random((2 * SAMPLES, 4), np.float32) * 300
    columns = SampleColumns.build(
        "detector",
        [b"images/%07d.jpg" % number for number in range(SAMPLES)],
        np.full((SAMPLES, 2), 640, np.int64),
        np.full(SAMPLES, 2, np.int64),
        boxes_xywh,
        np.zeros(2 * SAMPLES, np.int64),
    )
    write_metadata(path, "detector", MetadataInfo("."), [columns])


def _opening(path: Path) -> Iterator[Figure]:
    """Open the file, each time in a process of its own that has done nothing else."""
    command = [sys.executable, "-m", "tests.benchmarks.metadata_reading", str(path)]
    runs = [subprocess.check_output(command, text=True).split() for _ in range(OPENINGS)]
    opening_ms, grown_mb = np.median(np.array(runs, float), axis=0)
    yield Figure(f"opening {SAMPLES} samples, milliseconds", opening_ms, " ms", at_most=5)
    yield Figure(f"opening {SAMPLES} samples, memory", grown_mb, " MB", at_most=10)


def open_once(path: Path) -> None:
    """Print how many milliseconds the opening takes and by how many MB it makes the process grow."""
    before_kb = _memory_kb("status", "VmRSS")
    start_s = time.perf_counter()
    dataset = LazyNPYDataset(path)
    elapsed_s = time.perf_counter() - start_s
    assert len(dataset) == SAMPLES
    grown_mb = (_memory_kb("status", "VmRSS") - before_kb) * 1024 / 1e6
    print(elapsed_s * 1e3, grown_mb)  # noqa: T201 - the result, for the process that asked


def _lookup_us(path: Path) -> float:
    dataset = LazyNPYDataset(path)
    indices = np.random.default_rng(1).integers(0, SAMPLES, LOOKUPS).tolist()
    start_s = time.perf_counter()
    for index in indices:
        dataset.get_metadata(index)
    return (time.perf_counter() - start_s) / LOOKUPS * 1e6


def _workers(path: Path, method: str) -> Iterator[Figure]:
    """Let workers read all of the file; measure what each then holds of it, alone and as its share."""
    context = multiprocessing.get_context(method)
    dataset = LazyNPYDataset(path)
    together, results = context.Barrier(WORKERS), context.Queue()
    workers = [context.Process(target=_read_all, args=(dataset, together, results)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    figures = np.array([results.get(timeout=TIMEOUT_S) for _ in workers])
    for worker in workers:
        worker.join()
    file_mb = path.stat().st_size / 1e6
    share_mb, private_mb, heap_mb = figures.T
    name = f"{WORKERS} workers ({method}) that read all {SAMPLES} samples"
    yield Figure(f"{name}, memory of the mapping in all (PSS), over the file's size", share_mb.sum() / file_mb, "x",
                 at_most=1.05)  # fmt: skip
    yield Figure(f"{name}, memory that the mapping takes of one alone", private_mb.max(), " MB", at_most=1)
    yield Figure(f"{name}, growth of other memory of one", heap_mb.max(), " MB", at_most=10)


def _read_all(dataset: LazyNPYDataset, together: Barrier, results: Queue[list[float]]) -> None:
    """Read all annotations; once all workers have, tell what this one holds: share, private and beside it, in MB."""
    before_kb = _memory_kb("smaps_rollup", "Private_Dirty")
    for index in range(len(dataset)):
        dataset.get_metadata(index)
    together.wait(TIMEOUT_S)
    mapping = _mapping_kb(dataset.path)
    grown_kb = _memory_kb("smaps_rollup", "Private_Dirty") - before_kb
    together.wait(TIMEOUT_S)
    private_kb = mapping["Private_Clean"] + mapping["Private_Dirty"]
    results.put([kilobytes * 1024 / 1e6 for kilobytes in (mapping["Pss"], private_kb, grown_kb)])


def _memory_kb(file: str, field: str) -> int:
    """Return a field of one of this process's memory files."""
    for line in Path(f"/proc/self/{file}").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise AssertionError(f"{file} has no {field}")


def _mapping_kb(path: Path) -> dict[str, int]:
    """Return the memory figures of a file's mapping in this process."""
    figures: dict[str, int] = {}
    is_inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *values = line.split()
        if not name.endswith(":"):
            is_inside = line.endswith(str(path))
        elif is_inside and values[-1] == "kB":
            figures[name[:-1]] = figures.get(name[:-1], 0) + int(values[0])
    return figures


def _write_photographs(folder: Path) -> Path:
    """Write JPEG pieces of the photographs that scikit-image ships, and a metadata file of them."""
    pieces = _pieces()
    paths = []
    for number in range(PHOTOGRAPHS):
        piece_hwc = np.roll(pieces[number % len(pieces)], 13 * number, axis=1)
        paths.append(f"{number:03}.jpg")
        Image.fromarray(piece_hwc).save(folder / paths[-1], quality=90)
    counts = np.arange(PHOTOGRAPHS) % 4
    boxes_xywh = np.full((int(counts.sum()), 4), 20.0, np.float32)
    columns = SampleColumns.build(
        "detector",
        [path.encode() for path in paths],
        np.tile(np.array(PHOTOGRAPH_HW[::-1], np.int64), (PHOTOGRAPHS, 1)),
        counts,
        boxes_xywh,
        np.zeros(len(boxes_xywh), np.int64),
    )
    write_metadata(folder / "photographs.npy", "detector", MetadataInfo("."), [columns])
    return folder / "photographs.npy"


def _pieces() -> list[NDArray[np.uint8]]:
    """Return the colour photographs, cut to one size or continued by their mirror image."""
    import skimage.data

    names = ("astronaut", "chelsea", "coffee", "hubble_deep_field", "retina", "rocket")
    photographs = [getattr(skimage.data, name)() for name in names] + list(skimage.data.stereo_motorcycle()[:2])
    height, width = PHOTOGRAPH_HW
    cut = [photograph[:height, :width] for photograph in photographs]
    return [np.pad(p, ((0, height - p.shape[0]), (0, width - p.shape[1]), (0, 0)), "reflect") for p in cut]


def _epochs(dataset: LazyNPYDataset) -> Iterator[Figure]:
    """Compare epochs of a loader in this process with decoding the same files by the library itself."""
    decode_one = DECODERS[dataset.image_loader]
    paths = [dataset.get_metadata(index)["image_path"] for index in range(len(dataset))]
    name = f"640x480 JPEGs ({dataset.image_loader}) by a DataLoader without workers"

    def decode() -> None:
        for path in paths:
            decode_one(path)

    loader = make_dataloader(dataset, BATCH_SIZE)
    in_turn(lambda: _exhaust(loader), decode, 2)
    _, _, speedup = in_turn(lambda: _exhaust(loader), decode, EPOCHS)
    yield Figure(f"{name}, batches of {BATCH_SIZE}, time over bare decoding", 1 / speedup, "x", at_most=1.05)


def _decode_with_pillow(path: str) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def _decode_with_opencv(path: str) -> NDArray[np.uint8]:
    pixels = cv2.imread(path, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    return np.asarray(pixels, np.uint8)


DECODERS: Final[Mapping[ImageLoader, Callable[[str], NDArray[np.uint8]]]] = {
    "pil": _decode_with_pillow,
    "cv2": _decode_with_opencv,
}


def _exhaust(loader: Iterable[object]) -> None:
    for _ in loader:
        pass


if __name__ == "__main__":
    open_once(Path(sys.argv[1]))
