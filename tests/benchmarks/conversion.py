"""``mvtk dataset convert-mask-attention`` against the documented loop in one process."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.benchmarks.measuring import Figure, in_turn, peak_memory_mib, run_command

SIDE_PX = 512
PAIRS = 600
ANGIOGRAMS = Path(__file__).resolve().parents[3] / "shared/data/coronary/arcade_stenosis_nnunet"


def measure(folder: Path) -> Iterator[Figure]:
    """Convert real photographs and, where the sample data are, real angiograms."""
    sources = {"photographs": _photographs()}
    if ANGIOGRAMS.is_dir():
        sources["angiograms"] = _angiograms()
    for name, pictures in sources.items():
        inputs = folder / name
        _write_inputs(inputs, pictures, PAIRS)
        yield from _measure_conversion(inputs, name)
    small, large = folder / "small", folder / "large"
    _write_inputs(small, sources["photographs"], PAIRS // 4)
    _write_inputs(large, sources["photographs"], PAIRS * 4)
    memory_small, memory_large = (peak_memory_mib(_command(inputs, inputs / "out")) for inputs in (small, large))
    yield Figure(f"conversion, memory of the largest process, {PAIRS // 4} pairs", memory_small, " MiB")
    yield Figure("conversion, memory for 16 times as many pairs", memory_large / memory_small, "x", at_most=1.15)


def _measure_conversion(inputs: Path, name: str) -> Iterator[Figure]:
    ours, reference = inputs / "ours", inputs / "reference"

    def convert() -> None:
        shutil.rmtree(ours, ignore_errors=True)
        run_command(_command(inputs, ours))

    def documented_loop() -> None:
        shutil.rmtree(reference, ignore_errors=True)
        _documented_loop(inputs, reference)

    our_s, reference_s, speedup = in_turn(convert, documented_loop, rounds=3)
    decode_s = min(in_turn(lambda: _decode_only(inputs), lambda: None, rounds=1)[:1])
    for path in sorted(reference.rglob("*.npz")):
        with np.load(path) as expected, np.load(ours / path.relative_to(reference)) as found:
            assert all((expected[key] == found[key]).all() for key in ("image", "mask")), path
    size = _bytes(ours) / _bytes(reference)
    cpus = len(os.sched_getaffinity(0))
    yield Figure(f"conversion of {PAIRS} {name}, seconds, documented loop", reference_s, " s")
    yield Figure(f"conversion of {PAIRS} {name}, seconds, mvtk on {cpus} CPUs", our_s, " s")
    yield Figure(f"conversion of {PAIRS} {name}, speed-up", speedup, "x", at_least=4.5)
    yield Figure(f"conversion of {PAIRS} {name}, output size", size, "x", at_most=1.12)
    yield Figure(
        f"conversion of {PAIRS} {name}, time over decoding alone on {cpus} CPUs", our_s / (decode_s / cpus), "x"
    )


def _command(inputs: Path, output: Path) -> list[str]:
    return [
        str(Path(sys.executable).with_name("mvtk")), "dataset", "convert-mask-attention",
        "--images-dataset-root", str(inputs), "--labels-dataset-root", str(inputs),
        "--mask-folder", str(inputs / "masks"), "--output-root", str(output), "--quiet",
    ]  # fmt: skip


def _documented_loop(inputs: Path, output: Path) -> None:
    for kind in ("images", "labels"):
        (output / kind / "train").mkdir(parents=True)
    for path in sorted((inputs / "images/train").iterdir()):
        image = np.array(Image.open(path))
        mask = np.array(Image.open(inputs / "masks" / f"{path.stem}_seg.png"))
        np.savez_compressed(output / "images/train" / f"{path.stem}.npz", image=image, mask=mask)
        shutil.copy(inputs / "labels/train" / f"{path.stem}.txt", output / "labels/train")


def _decode_only(inputs: Path) -> None:
    for path in (inputs / "images/train").iterdir():
        np.array(Image.open(path))
        np.array(Image.open(inputs / "masks" / f"{path.stem}_seg.png"))


def _write_inputs(folder: Path, pictures: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]], count: int) -> None:
    """Write ``count`` different RGB PNGs with masks and labels: the pictures, turned and rolled."""
    for kind in ("images/train", "labels/train", "masks"):
        (folder / kind).mkdir(parents=True)
    (folder / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [object]\n")
    for index in range(count):
        image, mask = pictures[index % len(pictures)]
        turns, shift = index // len(pictures) % 4, index // (4 * len(pictures)) * 13
        image, mask = (np.roll(np.rot90(pixels, turns), shift, axis=1) for pixels in (image, mask))
        stem = f"frame_{index:05}"
        Image.fromarray(image).save(folder / f"images/train/{stem}.png", compress_level=6)
        Image.fromarray(mask).save(folder / f"masks/{stem}_seg.png")
        (folder / f"labels/train/{stem}.txt").write_text("0 0.5 0.5 0.25 0.25\n")


def _photographs() -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """512x512 pieces of the RGB photographs that scikit-image ships, with their bright parts as masks."""
    import skimage.data

    pictures = []
    for photograph in (skimage.data.retina(), skimage.data.astronaut(), skimage.data.hubble_deep_field()):
        for top in range(0, photograph.shape[0] - SIDE_PX + 1, SIDE_PX):
            for left in range(0, photograph.shape[1] - SIDE_PX + 1, SIDE_PX):
                piece = photograph[top : top + SIDE_PX, left : left + SIDE_PX]
                pictures.append((piece, _bright(piece.mean(axis=2))))
    return pictures


def _angiograms() -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Real 512x512 angiograms as RGB, with their real masks as 0/255."""
    pictures = []
    for mask_path in sorted((ANGIOGRAMS / "labelsTr").glob("*.png")):
        image = np.array(Image.open(ANGIOGRAMS / "imagesTr" / f"{mask_path.stem}_0000.png").convert("RGB"))
        pictures.append((image, np.array(Image.open(mask_path)) * np.uint8(255)))
    return pictures


def _bright(grey: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.where(grey > np.percentile(grey, 85), 255, 0).astype(np.uint8)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.npz"))
