"""Brush masks: what Label Studio has written, what a plain reading of its code says, and damage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from toolkit.annotations.brush_rle import decode_brush_rle, encode_brush_rle
from toolkit.core.errors import MvtkError

alphas = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=30),
    elements=st.sampled_from([0, 0, 0, 128, 255]),
    fill=st.sampled_from([0, 255]),
)


def read_plainly(data: bytes) -> list[int]:
    """Bit by bit, as the JavaScript does."""
    bits = "".join(f"{byte:08b}" for byte in data)
    place = 0

    def read(count: int) -> int:
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    count, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    samples: list[int] = []
    while len(samples) < count:
        repeated = read(1)
        length = read(sizes[read(2)]) + 1
        samples += [read(word)] * length if repeated else [read(word) for _ in range(length)]
    return samples


def packed(samples: list[int], runs: list[int], widths: tuple[int, int, int, int]) -> bytes:
    """Write samples in runs of given lengths, repeated where a run's samples are equal and it is odd in number."""
    text = f"{len(samples):032b}{7:05b}" + "".join(f"{width - 1:04b}" for width in widths)
    start = 0
    for number, length in enumerate(runs):
        run = samples[start : start + length]
        start += length
        choice = next(place for place, width in enumerate(widths) if length <= 2**width)
        repeats = len(set(run)) == 1 and number % 2 == 0
        text += f"{int(repeats)}{choice:02b}{length - 1:0{widths[choice]}b}"
        text += "".join(f"{sample:08b}" for sample in (run[:1] if repeats else run))
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


@given(alphas)
def test_what_is_encoded_is_decoded(alpha_hw: NDArray[np.uint8]) -> None:
    data = encode_brush_rle(alpha_hw)
    assert np.array_equal(decode_brush_rle(data, *alpha_hw.shape), alpha_hw)
    assert read_plainly(data) == np.repeat(alpha_hw.reshape(-1), 4).tolist()


@given(st.data())
def test_runs_of_any_kind_are_read_as_the_reference_reads_them(data: st.DataObject) -> None:
    height, width = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    count = 4 * height * width
    samples = data.draw(st.lists(st.sampled_from([0, 7, 255]), min_size=count, max_size=count))
    cuts = sorted(data.draw(st.sets(st.integers(1, count - 1), max_size=count // 2)))
    runs = np.diff([0, *cuts, count]).tolist()
    widths = data.draw(st.sampled_from([(3, 4, 8, 16), (1, 2, 5, 9), (16, 16, 16, 16), (2, 3, 4, 8)]))
    content = packed(samples, runs, widths) + data.draw(st.binary(max_size=3))
    assert read_plainly(content) == samples
    expected = np.array(samples, np.uint8).reshape(height, width, 4)[..., 3]
    assert np.array_equal(decode_brush_rle(content, height, width), expected)


def test_a_run_longer_than_a_length_can_say() -> None:
    alpha_hw = np.zeros((200, 300), np.uint8)
    alpha_hw[100:] = 255
    assert np.array_equal(decode_brush_rle(encode_brush_rle(alpha_hw), 200, 300), alpha_hw)


def test_real_masks(shared_data: Path) -> None:
    [prediction] = json.loads((shared_data / "label_studio/brush/test_brush_labels.json").read_bytes())
    areas_px = []
    for region in prediction["result"]:
        data = bytes(region["value"]["rle"])
        alpha_hw = decode_brush_rle(data, 576, 768)
        assert set(np.unique(alpha_hw)) == {0, 255}
        assert encode_brush_rle(alpha_hw) == data
        areas_px.append(int(np.count_nonzero(alpha_hw)))
    assert areas_px == [12104, 5716, 11709]


@given(alphas, st.integers(0, 40))
def test_a_mask_cut_short_is_refused(alpha_hw: NDArray[np.uint8], kept: int) -> None:
    data = encode_brush_rle(alpha_hw)
    with pytest.raises(MvtkError, match=r"cut short|less than its header"):
        decode_brush_rle(data[: min(kept, len(data) - 1)], *alpha_hw.shape)


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    header = (4 * 6).to_bytes(4, "big") + bytes([0b00111001, 0b00011011, 0b11111000])
    for content in (data, header + data):
        try:
            assert decode_brush_rle(content, 2, 3).shape == (2, 3)
        except MvtkError as error:
            assert "brush mask" in error.message  # noqa: PT017 - either outcome is right


def test_what_is_refused_says_why() -> None:
    data = encode_brush_rle(np.zeros((2, 3), np.uint8))
    with pytest.raises(MvtkError, match=r"has 24 samples, not 4 for each pixel of 2x4"):
        decode_brush_rle(data, 2, 4)
    with pytest.raises(MvtkError, match=r"has 4 bits a sample, not 8"):
        decode_brush_rle(data[:4] + bytes([data[4] & 0b111 | 3 << 3]) + data[5:], 2, 3)
    with pytest.raises(MvtkError, match=r"a run beyond its 24 samples"):
        decode_brush_rle(packed([0] * 24, [25], (3, 4, 8, 16)), 2, 3)
