"""Text files of numbers: their text and their numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from toolkit.annotations.yolo import parse_number
from toolkit.core.errors import MvtkError


def decode_text(data: bytes, source: str) -> str:
    """Return the text of a file, without a byte-order mark.

    Args:
        data: UTF-8.
        source: names the file in errors.

    Raises:
        MvtkError: the data is not UTF-8, or holds a NUL (UTF-16 does); the line is named.
    """
    try:
        text = data.decode()
        wrong = data.find(b"\0")
    except UnicodeDecodeError as error:
        wrong = error.start
    if wrong >= 0:
        line = data.count(b"\n", 0, wrong) + 1
        raise MvtkError(f"{source}: line {line}: not UTF-8 text", "save the file as UTF-8")
    return text.removeprefix("\ufeff")


def parse_numbers(texts: Sequence[str]) -> NDArray[np.float64]:
    """Return the number that each text stands for, NaN for what is none; see :func:`parse_number`."""
    together = "".join(texts)
    if together.isascii() and "_" not in together:
        with suppress(ValueError):
            return np.array(list(map(float, texts)), np.float64)
    numbers = (parse_number(text) for text in texts)
    return np.array([math.nan if number is None else number for number in numbers], np.float64)
