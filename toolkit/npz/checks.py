"""Checking a whole NPZ file: its structure, every member's data, and what its kind asks of the arrays."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy.typing as npt

from toolkit.npz.errors import NpzError
from toolkit.npz.features import PICKLED_KEYS, REQUIRED_KEYS, feature_problems, has_rule
from toolkit.npz.mask_attention import pair_problems
from toolkit.npz.reading import DEFAULT_MAX_BYTES, NpzReader, image_and_mask_keys, open_npz

NpzKind: TypeAlias = Literal["auto", "mask-attention", "features", "any"]


@dataclass(frozen=True, slots=True)
class NpzCheck:
    """What :func:`check_npz` found.

    Attributes:
        path: the file.
        kind: what it was checked as; "auto" only where the file could not be opened.
        problems: all that is wrong, one line each, without the path; empty for a sound file.
        members: how many members the file has, 0 where it could not be opened.
        size_bytes: the file's length, 0 where it could not be opened.
    """

    path: Path
    kind: NpzKind
    problems: tuple[str, ...]
    members: int = 0
    size_bytes: int = 0


def check_npz(path: str | os.PathLike[str], kind: NpzKind = "auto", *, max_bytes: int = DEFAULT_MAX_BYTES) -> NpzCheck:
    """Read an NPZ file in full and return all its problems; nothing that is wrong with the file raises.

    Args:
        path: the file.
        kind: what its arrays must be; "auto" decides by the keys (:func:`detect_kind`), "any" asks only for a sound
            file of plain arrays.
        max_bytes: limit on the decoded size of all members together.
    """
    try:
        with open_npz(path, max_bytes=max_bytes) as reader:
            resolved = detect_kind(reader.members.keys()) if kind == "auto" else kind
            problems = tuple(_problems(reader, resolved))
            return NpzCheck(reader.path, resolved, problems, len(reader.members), reader.size_bytes)
    except NpzError as error:
        return NpzCheck(error.path, kind, (error.problem,))


def detect_kind(keys: Collection[str]) -> NpzKind:
    """Return what a file with those keys is: "features", "mask-attention" or "any"."""
    if any(key in keys for key in REQUIRED_KEYS):
        return "features"
    return "any" if image_and_mask_keys(keys) is None else "mask-attention"


def _problems(reader: NpzReader, kind: NpzKind) -> list[str]:
    keys = reader.members.keys()
    if kind == "features":
        missing = [f"member '{key}' is missing" for key in REQUIRED_KEYS if key not in keys]
        arrays, damage = _read(reader, {key for key in keys if has_rule(key)}, PICKLED_KEYS)
        return missing + damage + feature_problems(arrays)
    if kind != "mask-attention":
        return _read(reader, ())[1]
    pair = image_and_mask_keys(keys)
    if pair is None:
        return ["holds no image with its mask: neither image and mask nor arr_0 and arr_1", *_read(reader, ())[1]]
    arrays, damage = _read(reader, pair)
    if len(arrays) < len(pair):
        return damage
    image_key, mask_key = pair
    return damage + pair_problems(image_key, arrays[image_key], mask_key, arrays[mask_key])


def _read(
    reader: NpzReader, wanted: Collection[str], may_be_pickled: Collection[str] = ()
) -> tuple[dict[str, npt.NDArray[Any]], list[str]]:
    """Read every member to its end; return the sound arrays among ``wanted``, and all problems of all members."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    problems: list[str] = []
    try:
        reader.check_total_size()
    except NpzError as error:
        return arrays, [error.problem]
    for key in reader.members:
        try:
            if key in wanted:
                arrays[key] = reader.read(key)
            elif reader.verify(key).pickled and key not in may_be_pickled:
                problems.append(f"member '{key}' is pickled and is not read")
        except NpzError as error:
            problems.append(error.problem)
    return arrays, problems
