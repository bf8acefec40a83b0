"""Edge maps against the documented algorithm, and the update of features files."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tests.benchmarks.measuring import Figure, in_turn, peak_memory_mib, run_command
from tests.benchmarks.reading import write_features
from tests.documented_edges import documented_extract
from tests.sa1b_records import write_record
from toolkit.core import engines
from toolkit.core.batch import Outcome, Step
from toolkit.edges import extract_edges_method_b
from toolkit.npz import open_npz
from toolkit.npz.rewriting import rewrite_npz

RECORDS = 6
ROUNDS = 3
IMAGES_FOR_SCALING = 2400
PROCESSED_FILES = 10_000
UPDATED_FILES = 24
REAL_RECORDS = Path(__file__).resolve().parents[3] / "shared" / "data" / "sa1b" / "tfds_excerpt"


def measure(folder: Path) -> Iterator[Figure]:
    """Measure one core (both sides without threads), two workers, memory, an update and a second run."""
    os.environ["OPENCV_FOR_THREADS_NUM"] = "1"  # of the workers
    cv2.setNumThreads(1)
    records = [write_record(folder / f"sa_{number}.json", number) for number in range(RECORDS)]
    yield from _one_core("1500x2250, 100 masks", records)
    if real := sorted(REAL_RECORDS.rglob("*.json")):
        yield from _one_core("a real record of SA-1B, 17 of its masks", real * RECORDS)
    two_s, one_s, ratio = in_turn(lambda: _extract(records, workers=2), lambda: _extract(records, workers=1), ROUNDS)
    yield Figure("edge maps, images a second with 1 worker", IMAGES_FOR_SCALING / one_s, "")
    yield Figure("edge maps, images a second with 2 workers", IMAGES_FOR_SCALING / two_s, "")
    yield Figure("edge maps, 2 workers over 1", ratio, "x", at_least=1.8)
    yield from _update(folder, records)
    yield from _second_run(folder)


def _one_core(name: str, records: list[Path]) -> Iterator[Figure]:
    def ours() -> None:
        for record in records:
            extract_edges_method_b(record)

    def documented() -> None:
        for record in records:
            documented_extract(record)

    for record in records:
        maps, expected = extract_edges_method_b(record), documented_extract(record)
        assert all(np.array_equal(maps[key], expected[key]) for key in maps)
    our_s, documented_s, ratio = in_turn(ours, documented, ROUNDS)
    yield Figure(f"edge maps, {name}, documented, milliseconds", documented_s / len(records) * 1e3, " ms")
    yield Figure(f"edge maps, {name}, mvtk, milliseconds", our_s / len(records) * 1e3, " ms")
    yield Figure(f"edge maps, {name}, speed-up", ratio, "x", at_least=40)


@dataclass(frozen=True, slots=True)
class _Record:
    source: str


class _Extract(Step[_Record]):
    """Compute the maps of one record and forget them."""

    def process_one(self, item: _Record) -> Outcome:
        extract_edges_method_b(item.source)
        return Outcome.done(item.source)


def _extract(records: list[Path], workers: int) -> None:
    items = [_Record(str(records[number % len(records)])) for number in range(IMAGES_FOR_SCALING)]
    outcomes = list(engines.run(_Extract(), items, devices=("cpu",) * workers))
    assert all(outcome.status == "done" for outcome in outcomes)


def _mvtk(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "commands.main", "edges", *map(str, arguments), "--quiet"]


def _update(folder: Path, records: list[Path]) -> Iterator[Figure]:
    """Update real-sized features files with the command, and as the documented script does."""
    ours, documented = folder / "ours", folder / "documented"
    for tree in (ours, documented):
        tree.mkdir()
        for number in range(UPDATED_FILES):
            write_features(tree / f"sa_{number}_features.npz")
            (tree / f"sa_{number}.json").write_bytes(records[number % len(records)].read_bytes())
    start = time.perf_counter()
    for path in sorted(documented.glob("*.npz")):
        _documented_update(path)
    documented_s = time.perf_counter() - start
    command = _mvtk("update", "--npz-dir", ours, "--json-dir", ours)
    start = time.perf_counter()
    run_command([*command, "--workers", "2"])
    our_s = time.perf_counter() - start
    yield Figure(f"edges update of {UPDATED_FILES} files of 9.6 MB, seconds, documented script", documented_s, " s")
    yield Figure(f"edges update of {UPDATED_FILES} files of 9.6 MB, seconds, mvtk with 2 workers", our_s, " s")
    yield Figure(f"edges update of {UPDATED_FILES} files of 9.6 MB, speed-up", documented_s / our_s, "x")
    again = [*command, "--no-skip-if-processed", "--workers", "2"]
    yield Figure("edges update, memory of the largest process", peak_memory_mib(again), " MiB", at_most=250)


def _documented_update(npz_path: Path) -> None:
    with np.load(npz_path) as npz:
        arrays = dict(npz)
    edges = documented_extract(npz_path.with_name(npz_path.name.replace("_features.npz", ".json")))
    arrays |= {f"edge_{side}x{side}": edges[side] for side in (64, 32, 256)}
    arrays |= {"edge_flag": np.array(1, np.uint8), "edge_version": np.array("B_v1")}
    temporary = npz_path.with_suffix(".tmp.npz")
    np.savez(temporary, **arrays)
    temporary.replace(npz_path)


def _second_run(folder: Path) -> Iterator[Figure]:
    """Run the update over processed files: links to one file of real size under as many names."""
    tree = folder / "processed"
    tree.mkdir()
    first = tree / "sa_0_features.npz"
    write_features(first)
    with open_npz(first) as reader:
        rewrite_npz(reader, {"edge_flag": np.array(1, np.uint8), "edge_version": np.array("B_v1")})
    for number in range(1, PROCESSED_FILES):
        os.link(first, tree / f"sa_{number}_features.npz")
    report = folder / "report.json"
    command = _mvtk("update", "--npz-dir", tree, "--json-dir", folder, "--report", report)
    run_command(command)
    start = time.perf_counter()
    run_command(command)
    elapsed_s = time.perf_counter() - start
    assert json.loads(report.read_text())["skipped"] == {"already processed": PROCESSED_FILES}
    yield Figure("edges update, second run, a processed file", elapsed_s / PROCESSED_FILES * 1e3, " ms", at_most=0.3)
