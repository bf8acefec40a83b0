"""Features files on disk: which names they have, and all those below a folder, in the order of the work."""

from __future__ import annotations

import hashlib
import heapq
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from toolkit.core.errors import MvtkError
from toolkit.core.files import explain_os_error
from toolkit.core.listing import walk_files, walk_sorted
from toolkit.core.options import ALL, Shard

if TYPE_CHECKING:
    from toolkit.npz.reading import NpzReader

SortBy: TypeAlias = Literal["name", "mtime"]

# The longer one first: X_sam2_features.npz belongs to image X, not to X_sam2.
_SUFFIXES: Final = ("_sam2_features.npz", "_features.npz")
_SHAPE_KEY: Final = "image_shape"
_NS_PER_S: Final = 10**9
_OLDEST_NS: Final = -(2**63)
_MTIME_DIGITS: Final = len(str(2**64))


def image_id_of(name: str) -> str:
    """Return the id of the image that a features file is about: X of ``X_features.npz`` and ``X_sam2_features.npz``.

    Args:
        name: the file's name, without folders; upper and lower case differ.

    Returns:
        the id; empty where ``name`` is not that of a features file, as in ``_features.npz``.
    """
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return ""


def stored_image_size(reader: NpzReader) -> tuple[int, int] | None:
    """Return the image's height and width as an open features file has them; None where it does not say.

    Raises:
        NpzError: the member is damaged.
    """
    header = reader.header(_SHAPE_KEY) if _SHAPE_KEY in reader.members else None
    if header is None or header.pickled or header.shape not in {(2,), (3,)} or header.dtype.kind not in "iu":
        return None
    height, width, *_ = reader.read(_SHAPE_KEY).tolist()
    return height, width


def list_feature_files(
    root: Path,
    *,
    sort_by: SortBy = "name",
    reverse: bool = False,
    only_mtime_after: float | None = None,
    shard: Shard = ALL,
) -> list[str]:
    """Return the features files below ``root`` as relative POSIX paths, in the order in which they are to be done.

    Folders and links are treated as by :func:`toolkit.core.listing.walk_files`. Both files of an image that has
    ``X_features.npz`` and ``X_sam2_features.npz`` are listed. Only this list grows with the number of files, by about
    60 bytes and the path's length for each; with ``sort_by="mtime"`` by 20 more until it is sorted.

    Args:
        root: where to search.
        sort_by: "name": by the relative paths, compared as strings; "mtime": by time of modification, oldest first,
            files of one time by name.
        reverse: turn the whole order round.
        only_mtime_after: list only files modified later than so many seconds after 1970-01-01 UTC, compared to the
            nanosecond with the decimal number as it is printed; must be finite.
        shard: list only its part of the files.

    A link's time is that of the file it leads to; its own where it leads nowhere.

    Raises:
        MvtkError: a folder cannot be listed, or a file's time cannot be read; the line names it.
    """
    if sort_by == "name" and only_mtime_after is None:
        return sorted((path for path, _ in _walk(root, shard)), reverse=reverse)
    dated = _walk_dated(root, shard, only_mtime_after)
    if sort_by == "name":
        return sorted((path for path, _ in dated), reverse=reverse)
    # One string a file sorts faster than a tuple, and takes half the memory.
    keys = [f"{mtime_ns - _OLDEST_NS:0{_MTIME_DIGITS}d}{path}" for path, mtime_ns in dated]
    keys.sort(reverse=reverse)
    for index, key in enumerate(keys):  # in place: a second list would double the memory
        keys[index] = key[_MTIME_DIGITS:]
    return keys


def iter_feature_files(root: Path, *, shard: Shard = ALL) -> Iterator[str]:
    """Yield the features files below ``root`` as relative POSIX paths, folder by folder, each folder's by name.

    Memory does not grow with the number of folders' files, as that of :func:`list_feature_files` does.

    Raises:
        MvtkError: a folder cannot be listed; or there are no features files at all.
    """
    is_empty = True
    for path in walk_sorted(root, lambda name: bool(image_id_of(name))):
        is_empty = False
        if shard.holds(path):
            yield path
    if is_empty:
        require_feature_files([], root)


def sample_of(sources: Iterable[str], count: int) -> list[str]:
    """Return ``count`` of the relative paths, spread over all of them and the same ones each time, sorted."""
    return sorted(heapq.nsmallest(count, sources, key=_place_in_sample))


def require_feature_files(sources: Sequence[str], root: Path) -> None:
    """Check that features files were found below ``root``.

    Raises:
        MvtkError: there are none.
    """
    if not sources:
        raise MvtkError(f"there are no *_features.npz files in {root}", "give the folder that holds them, at any depth")


def _place_in_sample(source: str) -> bytes:
    return hashlib.blake2b(os.fsencode(source), digest_size=8, person=b"sample").digest()


def _walk(root: Path, shard: Shard) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the relative path and the entry of each features file of the shard."""
    for prefix, entry in walk_files(root, lambda name: bool(image_id_of(name))):
        path = prefix + entry.name
        if shard.holds(path):
            yield path, entry


def _walk_dated(root: Path, shard: Shard, only_after_s: float | None) -> Iterator[tuple[str, int]]:
    """Yield the relative path and the time of modification, in ns, of each features file that is new enough."""
    after_ns = -math.inf if only_after_s is None else math.floor(Fraction(str(only_after_s)) * _NS_PER_S)
    for path, entry in _walk(root, shard):
        mtime_ns = _mtime_ns(entry)
        if mtime_ns is not None and mtime_ns > after_ns:
            yield path, mtime_ns


def _mtime_ns(entry: os.DirEntry[str]) -> int | None:
    """Return a file's time of modification; None where it has gone since its folder was listed."""
    try:
        return _status(entry).st_mtime_ns
    except FileNotFoundError:
        return None
    except OSError as error:
        raise explain_os_error(error, entry.path, "read the time of the file") from error


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    """Return the status of the file that ``entry`` leads to; of a link that leads nowhere its own."""
    try:
        return entry.stat()
    except OSError:
        return entry.stat(follow_symlinks=False)
