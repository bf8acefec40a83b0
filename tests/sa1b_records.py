"""Annotation files of the size and kind of SA-1B's, for tests and benchmarks."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.documented_edges import annotation_json, encoded

SMALLEST_SHARE, LARGEST_SHARE = 1e-4, 0.3
_HARMONICS = range(2, 40)


def write_record(path: Path, seed: int, *, height: int = 1500, width: int = 2250, masks: int = 100) -> Path:
    """Write a record with overlapping ragged blobs whose areas are spread, on a log scale, from 1e-4 to 0.3."""
    generator = np.random.default_rng(seed)
    shares = np.exp(generator.uniform(np.log(SMALLEST_SHARE), np.log(LARGEST_SHARE), masks))
    segmentations = [encoded(_blob(generator, height, width, share)) for share in shares]
    path.write_text(json.dumps(annotation_json(segmentations, height, width, path.stem)))
    return path


def _blob(generator: np.random.Generator, height: int, width: int, share: float) -> NDArray[np.uint8]:
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    radii = np.ones_like(angles)
    for harmonic in _HARMONICS:
        radii += generator.normal(0, 0.35 / harmonic**1.2) * np.cos(harmonic * angles + generator.uniform(0, 2 * np.pi))
    radii = np.maximum(radii, 0.15) * np.sqrt(share * height * width / np.pi)
    stretch, turn = np.exp(generator.normal(0, 0.4)), generator.uniform(0, np.pi)
    x, y = radii * np.cos(angles) * stretch, radii * np.sin(angles) / stretch
    outline_xy = np.stack((x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)), axis=1)
    outline_xy += generator.uniform((0, 0), (width, height))
    mask_hw = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask_hw, [outline_xy.round().astype(np.int32)], 1)
    return mask_hw
