"""Strict reading of an NPZ file against ``numpy.load`` of all its members."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.benchmarks.measuring import Figure, in_turn
from toolkit.npz import open_npz, read_npz

ROUNDS = 60


def measure(folder: Path) -> Iterator[Figure]:
    """Read a features file of 9.6 MB, as the extraction script wrote it."""
    path = folder / "sa_1_features.npz"
    write_features(path)

    def load_all() -> None:
        with np.load(path) as npz:
            for key in npz:
                npz[key]

    def read_flag() -> None:
        with open_npz(path) as npz:
            npz.read("feature_flag")

    def load_flag() -> None:
        with np.load(path) as npz:
            npz["feature_flag"]

    in_turn(lambda: read_npz(path), load_all, 5)
    our_s, reference_s, ratio = in_turn(lambda: read_npz(path), load_all, ROUNDS)
    yield Figure("strict reading of 9.6 MB, milliseconds", our_s * 1e3, " ms")
    yield Figure("np.load of all members, milliseconds", reference_s * 1e3, " ms")
    yield Figure("strict reading, speed-up over np.load", ratio, "x", at_least=1.0)
    our_s, _, ratio = in_turn(read_flag, load_flag, ROUNDS)
    yield Figure("opening and reading one flag, milliseconds", our_s * 1e3, " ms")
    yield Figure("opening and reading one flag, speed-up over np.load", ratio, "x")


def write_features(path: Path) -> None:
    """Write a features file of 9.6 MB, members and order as the extraction script wrote them."""
    generator = np.random.default_rng(0)
    p4 = generator.standard_normal((1, 256, 64, 64), dtype=np.float32)
    arrays: dict[str, np.ndarray] = {
        "P4_S16": p4,
        "P5_S32": generator.standard_normal((1, 256, 32, 32), dtype=np.float32),
        "IMAGE_EMB_S16": p4,
        "image_id": np.array("sa_1"),
        "model_type": np.array("sam2.1_hiera_base_plus"),
        "image_shape": np.array([1500, 2250, 3]),
        "feature_flag": np.array(1),
    }
    for size in (256, 64, 32):
        arrays[f"edge_{size}x{size}"] = generator.integers(0, 2, (size, size), dtype=np.uint8)
    for size in (128, 64, 32):
        for kind in ("fg", "bg"):
            arrays[f"{kind}_map_{size}x{size}"] = generator.random((size, size), dtype=np.float32)
    np.savez(path, **arrays)
