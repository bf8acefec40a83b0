"""What the arrays of a features NPZ must be like (the project's format document, "Features NPZ")."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

REQUIRED_KEYS: Final = ("P4_S16", "P5_S32")
PICKLED_KEYS: Final = frozenset({"masks"})
"""Keys that real files hold pickled: such a member is allowed, and is not read."""

_SIZED_KEY: Final = re.compile(r"(?P<map>edge|fg_map|bg_map)_(?P<rows>\d{1,6})x(?P<columns>\d{1,6})")


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of dtype: what it is in words, and which dtypes are of it."""

    name: str
    includes: Callable[[np.dtype[Any]], bool]


@dataclass(frozen=True, slots=True)
class _Values:
    """What all values must be: in words, and as a test of an array that is not empty."""

    name: str
    hold: Callable[[npt.NDArray[Any]], bool]


@dataclass(frozen=True, slots=True)
class _Rule:
    """What one array must be like; an axis of None may have any length."""

    shape: tuple[int | None, ...]
    kind: _Kind
    values: _Values | None = None


_FLOAT: Final = _Kind("float32 or float16", lambda dtype: dtype.name in {"float32", "float16"})
_BYTE: Final = _Kind("uint8", lambda dtype: dtype.name == "uint8")
_WHOLE: Final = _Kind("a whole number or bool", lambda dtype: dtype.kind in "iub")
_TEXT: Final = _Kind("text", lambda dtype: dtype.kind == "U")

_FINITE: Final = _Values("finite", lambda array: bool(np.isfinite(array).all()))
_WEIGHTS: Final = _Values("finite and >= 0", lambda array: bool(np.isfinite(array).all() and array.min() >= 0))
_BINARY: Final = _Values("0 or 1", lambda array: bool(array.max() <= 1))

_FEATURE_16: Final = _Rule((1, 256, 64, 64), _FLOAT, _FINITE)
_FLAG: Final = _Rule((), _WHOLE)
_LABEL: Final = _Rule((), _TEXT)
_RULES: Final[Mapping[str, _Rule]] = {
    "P4_S16": _FEATURE_16,
    "P5_S32": _Rule((1, 256, 32, 32), _FLOAT, _FINITE),
    "IMAGE_EMB_S16": _FEATURE_16,
    "edge_original": _Rule((None, None), _BYTE, _BINARY),
    "image_id": _LABEL,
    "model_type": _LABEL,
    "image_shape": _Rule((3,), _WHOLE),
    "feature_flag": _FLAG,
    "edge_flag": _FLAG,
    "edge_version": _LABEL,
    "has_bbox": _FLAG,
    "num_bboxes": _FLAG,
    "bboxes": _Rule((None, 4), _FLOAT, _FINITE),
    "geometry_color_flag": _FLAG,
}


def has_rule(key: str) -> bool:
    """Return whether arrays of that name are looked at by :func:`feature_problems`."""
    return _rule(key) is not None


def feature_problems(arrays: Mapping[str, npt.NDArray[Any]]) -> list[str]:
    """Return what is wrong with the arrays of a features NPZ, one line each; keys without a rule are passed over.

    Every array is held against the key table of the format document (shape, dtype, values), and ``IMAGE_EMB_S16``
    must equal ``P4_S16``. That the required keys are there is not checked.
    """
    problems = []
    for key, array in arrays.items():
        rule = _rule(key)
        if rule is not None:
            problems += [f"member '{key}' {problem}" for problem in _rule_problems(rule, array)]
    p4, copy = arrays.get("P4_S16"), arrays.get("IMAGE_EMB_S16")
    if p4 is not None and copy is not None and not np.array_equal(p4, copy):
        problems.append("members 'IMAGE_EMB_S16' and 'P4_S16' differ: the one must be a copy of the other")
    return problems


def _rule(key: str) -> _Rule | None:
    sized = _SIZED_KEY.fullmatch(key)
    if sized is None:
        return _RULES.get(key)
    shape = (int(sized["rows"]), int(sized["columns"]))
    return _Rule(shape, _BYTE, _BINARY) if sized["map"] == "edge" else _Rule(shape, _FLOAT, _WEIGHTS)


def _rule_problems(rule: _Rule, array: npt.NDArray[Any]) -> list[str]:
    problems = []
    sides_fit = (want in (None, side) for want, side in zip(rule.shape, array.shape, strict=False))
    if array.ndim != len(rule.shape) or not all(sides_fit):
        wanted = ", ".join("n" if side is None else str(side) for side in rule.shape)
        problems.append(f"has shape {array.shape}, not ({wanted})")
    if not rule.kind.includes(array.dtype):
        problems.append(f"has dtype {array.dtype}, not {rule.kind.name}")
    elif rule.values is not None and array.size and not rule.values.hold(array):
        problems.append(f"holds values that are not {rule.values.name}")
    return problems
