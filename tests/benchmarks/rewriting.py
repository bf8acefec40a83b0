"""Rewriting the edge maps of a features file against copying the file and waiting until it is on the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.benchmarks.measuring import Figure, in_turn
from tests.benchmarks.reading import write_features
from toolkit.npz import open_npz, rewrite_npz

ROUNDS = 60


def measure(folder: Path) -> Iterator[Figure]:
    """Rewrite a features file of 9.6 MB, as the extraction script wrote it; then see that it is done."""
    path, copy = folder / "sa_1_features.npz", folder / "copy.npz"
    write_features(path)
    generator = np.random.default_rng(1)
    arrays: dict[str, np.ndarray] = {
        f"edge_{size}x{size}": generator.integers(0, 2, (size, size), dtype=np.uint8) for size in (64, 32, 256)
    }
    arrays |= {"edge_flag": np.array(1, np.uint8), "edge_version": np.array("B_v1")}

    def rewrite() -> None:
        with open_npz(path) as npz:
            rewrite_npz(npz, arrays)

    def copy_and_sync() -> None:
        shutil.copyfile(path, copy)
        descriptor = os.open(copy, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    def read_marks() -> None:
        with open_npz(path) as npz:
            npz.read("edge_flag")
            npz.read("edge_version")

    def load_marks() -> None:
        with np.load(path) as npz:
            npz["edge_flag"]
            npz["edge_version"]

    in_turn(rewrite, copy_and_sync, 5)
    our_s, reference_s, speedup = in_turn(rewrite, copy_and_sync, ROUNDS)
    yield Figure("rewriting the edge maps in 9.6 MB, milliseconds", our_s * 1e3, " ms")
    yield Figure("copying the file and fsyncing it, milliseconds", reference_s * 1e3, " ms")
    yield Figure("rewriting, time over copying", 1 / speedup, "x", at_most=1.5)
    our_s, _, speedup = in_turn(read_marks, load_marks, ROUNDS)
    yield Figure("opening and reading edge_flag and edge_version, milliseconds", our_s * 1e3, " ms")
    yield Figure("opening and reading edge_flag and edge_version, speed-up over np.load", speedup, "x")
