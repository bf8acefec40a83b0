"""Label Studio's code for brush masks: bit-packed run lengths of RGBA samples, whose alpha channel is the mask.

The code is that of ``@thi.ng/rle-pack``
(https://github.com/thi-ng/umbrella/blob/develop/packages/rle-pack/src/index.ts), and is not COCO's. Highest bits come
first::

    32 bits  the number of samples: 4 a pixel (red, green, blue, alpha), row by row
     5 bits  bits a sample, less 1
     4 x 4 bits  the four widths, in bits and less 1, that a length may have
    runs:   1 bit whether one sample follows, that is repeated, or as many samples as the run is long
            2 bits which of the four widths the length has
            the length, less 1
            the sample or samples

Padding at the end is of any length and is not looked at, as Label Studio does.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from toolkit.core.errors import MvtkError

_CHANNELS: Final = 4
_ALPHA: Final = 3
_SAMPLE_BITS: Final = 8
_HEADER_BITS: Final = 32 + 5 + 4 * 4
_LENGTH_BITS: Final = (3, 4, 8, 16)
"""The widths that Label Studio writes."""
_LONGEST_RUN: Final = 2 ** _LENGTH_BITS[-1]
_WINDOW_BYTES: Final = 8
"""Enough for the 27 bits of the longest run of one sample, wherever in a byte it begins."""


def decode_brush_rle(data: bytes, height: int, width: int) -> NDArray[np.uint8]:
    """Return the alpha channel of a brush mask.

    Args:
        data: the numbers of a region's ``rle`` as bytes.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Returns:
        (height, width) uint8: 0 outside, 255 inside, values between them on the soft edge of a brush.

    Raises:
        MvtkError: the data is cut short, or is not that of an image of this size with 8 bits a sample.
    """
    samples = _decode(data, height, width)
    return np.ascontiguousarray(samples.reshape(height, width, _CHANNELS)[..., _ALPHA])


def encode_brush_rle(alpha_hw: NDArray[np.uint8]) -> bytes:
    """Return the code of a brush mask; red, green and blue equal alpha, as in masks that Label Studio's tools make.

    Args:
        alpha_hw: (height, width) uint8, 0 outside and 255 inside.
    """
    samples = np.repeat(alpha_hw.reshape(-1), _CHANNELS)
    starts = np.flatnonzero(np.diff(samples, prepend=samples[:1] ^ 1))
    bits = [f"{len(samples):032b}{_SAMPLE_BITS - 1:05b}", *(f"{width - 1:04b}" for width in _LENGTH_BITS)]
    for start, stop in pairwise([*starts.tolist(), len(samples)]):
        for first in range(start, stop, _LONGEST_RUN):
            length = min(stop - first, _LONGEST_RUN)
            choice = next(place for place, width in enumerate(_LENGTH_BITS) if length <= 2**width)
            bits.append(f"1{choice:02b}{length - 1:0{_LENGTH_BITS[choice]}b}{samples[start]:08b}")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def _decode(data: bytes, height: int, width: int) -> NDArray[np.uint8]:
    """Return all samples of a brush mask, 4 a pixel."""
    end = 8 * len(data)
    if end < _HEADER_BITS:
        raise MvtkError(f"the brush mask has {len(data)} bytes, which is less than its header")
    padded = data + bytes(_WINDOW_BYTES)
    header = int.from_bytes(padded[:_WINDOW_BYTES], "big") >> (8 * _WINDOW_BYTES - _HEADER_BITS)
    count, sample_bits = header >> 21, (header >> 16 & 31) + 1
    length_bits = [(header >> shift & 15) + 1 for shift in (12, 8, 4, 0)]
    if sample_bits != _SAMPLE_BITS:
        raise MvtkError(f"the brush mask has {sample_bits} bits a sample, not {_SAMPLE_BITS}")
    if count != _CHANNELS * height * width:
        size = f"{height}x{width} (height x width)"
        raise MvtkError(f"the brush mask has {count} samples, not {_CHANNELS} for each pixel of {size}")
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    samples = np.empty(count, np.uint8)
    position, filled = _HEADER_BITS, 0
    while filled < count:
        first, offset = divmod(position, 8)
        window = int.from_bytes(padded[first : first + _WINDOW_BYTES], "big") << offset & 2**64 - 1
        length_width = length_bits[window >> 61 & 3]
        length = (window >> 61 - length_width & (1 << length_width) - 1) + 1
        position += 3 + length_width
        repeats = window >> 63
        stop = position + (_SAMPLE_BITS if repeats else _SAMPLE_BITS * length)
        if stop > end:
            raise MvtkError(f"the brush mask is cut short: {filled} of its {count} samples are there")
        if filled + length > count:
            raise MvtkError(f"the brush mask has a run beyond its {count} samples")
        if repeats:
            samples[filled : filled + length] = window >> 53 - length_width & 255
        else:
            samples[filled : filled + length] = np.packbits(bits[position:stop])
        position, filled = stop, filled + length
    return samples
