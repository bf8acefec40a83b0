"""Migration of the old layout, a pickled dict of ``image_paths`` and ``bboxes`` or ``keypoints``."""

from __future__ import annotations

import io
import itertools
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from toolkit.core.errors import InputProblemsError
from toolkit.core.files import explain_os_error, read_bytes, require_apart
from toolkit.metadata.columns import ROW_WIDTHS, Kind, SampleColumns
from toolkit.metadata.errors import MetadataError
from toolkit.metadata.record import MetadataInfo, SourceInfo
from toolkit.metadata.restricted_pickle import PickleRefusedError, read_plain_pickle
from toolkit.metadata.roots import common_root, stored_root
from toolkit.metadata.writing import write_metadata
from toolkit.npz.npy_header import NotNpyError, NpyHeaderError, read_header

MAX_OLD_BYTES: Final = 4 * 1024**3
"""An old file is read as a whole; its content takes several times as much memory."""

_NPY_START: Final = b"\x93NUMPY"
_PICKLE_START: Final = b"\x80"
_ZIP_START: Final = b"PK"
_MAX_LISTED: Final = 20
_MAX_PATH_LENGTH: Final = 4096
_MAX_ROW_WIDTH: Final = max(ROW_WIDTHS.values())
_REPETITION_FACTOR: Final = 4
_REPETITION_ALLOWANCE: Final = 1_000_000
_NUMBER_TYPES: Final = frozenset({int, float})
_SPLITS: Final = ("train", "val", "test")
_REPROCESS_HINT: Final = "make the file again from the raw annotations: mvtk dataset process"
_OLD_LAYOUT: Final = "a dict with `image_paths` and `bboxes` or `keypoints`, or a list with one such dict a sample"

_OldRows = list[tuple[NDArray[np.float64], bool]]
"""The rows of each sample, and whether they stood there as one box instead of a list."""


@dataclass(frozen=True, slots=True)
class Migration:
    """What became of an old file.

    Attributes:
        kind: of the samples.
        samples: how many there are.
        rows: boxes or keypoints in all.
        root: the folder that the new file's image paths are relative to.
        left_out: keys of the old file that the new layout has no place for.
    """

    kind: Kind
    samples: int
    rows: int
    root: Path
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _OldContent:
    """What an old file holds: a path and rows a sample, not yet checked; the key that the rows have."""

    image_paths: Sequence[Any]
    rows: Sequence[Any]
    row_key: str
    left_out: tuple[str, ...]


def migrate_metadata(old: Path, new: Path, *, root: Path | None = None, overwrite: bool = False) -> Migration:
    """Write the samples of a file of the old layout as a metadata file; the old file is only read.

    The old layout is what ``np.save(path, {"image_paths": …, "bboxes": …})`` writes, or a pickle of such a dict. It is
    read without unpickling: only numbers, text, lists, dicts and NumPy arrays come out of it. Samples with keypoints
    become a landmarker file, with lists of boxes a detector file, with one box each a teacher file. Keypoints without
    a visibility are visible. Class ids and image sizes, which old files do not have, are unknown.

    Args:
        old: the file; its image paths are absolute or relative to the working directory.
        new: the metadata file to write.
        root: the folder that the new image paths are relative to; None: the deepest that holds all images.
        overwrite: replace ``new``.

    Raises:
        MetadataError: ``old`` has another layout, is damaged, or asks for more than plain data.
        InputProblemsError: samples that cannot be what they should be; the first 20 are listed.
        TargetExistsError: ``new`` exists and ``overwrite`` is false.
        MvtkError: a file cannot be read or written.
    """
    require_apart(new, [old])
    data = _read(old)
    content = _content(old, _plain_object(old, data))
    problems: list[str] = []
    paths = _checked(content.image_paths, _path, problems)
    _require_no_repetition(old, content.rows, len(data))
    old_rows = _checked(content.rows, _rows, problems)
    _raise_if_any(old, problems)
    kind = _kind(old, content.row_key, old_rows)
    rows = [_as_wide_as(kind, sample_rows, index, problems) for index, (sample_rows, _) in enumerate(old_rows)]
    _raise_if_any(old, problems)
    real_root, relative_paths = _relative(old, paths, root)
    columns = _columns(kind, relative_paths, rows)
    info = MetadataInfo(
        stored_root(real_root, new),
        next((split for split in _SPLITS if old.name.startswith(f"{split}_")), ""),
        sources=(SourceInfo(old.name, "migrated", len(columns)),),
    )
    write_metadata(new, kind, info, [columns], overwrite=overwrite)
    return Migration(kind, len(columns), len(columns.rows), Path(real_root), content.left_out)


def _read(old: Path) -> bytes:
    """Return an old file's pickle."""
    try:
        status = old.stat()
    except OSError as error:
        raise explain_os_error(error, old, "read") from error
    if stat.S_ISREG(status.st_mode) and status.st_size > MAX_OLD_BYTES:
        raise MetadataError(old, f"{status.st_size} bytes; more than {MAX_OLD_BYTES} are not read", _REPROCESS_HINT)
    data = read_bytes(old)
    if data.startswith(_NPY_START):
        return data[_pickle_offset(old, data) :]
    if data.startswith(_ZIP_START):
        raise MetadataError(old, "an NPZ file: those hold images, not paths", _REPROCESS_HINT)
    if not data.startswith(_PICKLE_START):
        raise MetadataError(old, "neither a NumPy file nor a pickle", "give a metadata file of the old layout")
    return data


def _plain_object(old: Path, data: bytes) -> object:
    """Return what the pickle of an old file holds."""
    try:
        return read_plain_pickle(data)
    except PickleRefusedError as error:
        raise MetadataError(old, str(error), _REPROCESS_HINT) from error


def _pickle_offset(old: Path, data: bytes) -> int:
    """Return where the pickle in a NumPy file begins."""
    try:
        header = read_header(io.BytesIO(data).read)
    except (NotNpyError, NpyHeaderError) as error:
        raise MetadataError(old, str(error), _REPROCESS_HINT) from error
    if header.pickled and header.dtype.names is None:
        return header.size_bytes
    if header.dtype.names is not None and "format" in header.dtype.names:
        raise MetadataError(old, "of the present layout already", "use it as it is")
    problem = f"a NumPy array of shape {header.shape} and type {header.dtype}, no metadata file of the old layout"
    raise MetadataError(old, problem, _REPROCESS_HINT)


def _content(old: Path, stored: object) -> _OldContent:
    """Return the samples of an old file's object, whichever of the old forms it has."""
    if isinstance(stored, list) and len(stored) == 1 and isinstance(stored[0], dict) and "image_paths" in stored[0]:
        stored = stored[0]
    if isinstance(stored, list) and stored and all(isinstance(sample, dict) for sample in stored):
        stored = _transposed(old, stored)
    if not isinstance(stored, dict) or "image_paths" not in stored:
        raise MetadataError(old, f"{_called(stored)}, not {_OLD_LAYOUT}", _REPROCESS_HINT)
    row_keys = [key for key in ("bboxes", "keypoints") if key in stored]
    if len(row_keys) != 1:
        problem = "`bboxes` and `keypoints` together" if row_keys else "neither `bboxes` nor `keypoints`"
        raise MetadataError(old, f"it holds {problem}: its kind cannot be told", _REPROCESS_HINT)
    paths = _sequence(old, "image_paths", stored["image_paths"])
    rows = _sequence(old, row_keys[0], stored[row_keys[0]])
    if len(paths) != len(rows):
        problem = f"{len(paths)} `image_paths`, but {len(rows)} `{row_keys[0]}`"
        raise MetadataError(old, problem, _REPROCESS_HINT)
    if not len(paths):
        raise MetadataError(old, "it holds no samples: there is nothing to migrate", _REPROCESS_HINT)
    return _OldContent(paths, rows, row_keys[0], tuple(sorted(stored.keys() - {"image_paths", row_keys[0]})))


def _called(stored: object) -> str:
    """Return what an object is called that is none of the old forms."""
    if isinstance(stored, dict):
        return f"a dict with the keys {', '.join(list(stored)[:_MAX_LISTED])}" if stored else "an empty dict"
    return f"a {type(stored).__name__}"


def _transposed(old: Path, samples: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return dicts of one sample each as one dict of all."""
    keys = samples[0].keys()
    odd = next((index for index, sample in enumerate(samples) if sample.keys() != keys), None)
    if odd is not None:
        raise MetadataError(old, f"sample {odd}: other keys than those of sample 0", _REPROCESS_HINT)
    plural = {"image_path": "image_paths", "bbox": "bboxes"}
    return {plural.get(key, key): [sample[key] for sample in samples] for key in keys}


def _sequence(old: Path, key: str, value: object) -> Sequence[Any]:
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, np.ndarray) and value.ndim:
        return list(value) if value.ndim > 1 else value.tolist()
    raise MetadataError(old, f"`{key}` is no list", _REPROCESS_HINT)


def _require_no_repetition(old: Path, rows: Sequence[Any], pickle_bytes: int) -> None:
    """Refuse a few bytes that stand for a great many rows, all of them the same list."""
    allowance = _REPETITION_FACTOR * pickle_bytes + _REPETITION_ALLOWANCE
    for sample_rows in rows:
        allowance -= len(sample_rows) if isinstance(sample_rows, (list, tuple, np.ndarray)) else 0
        if allowance < 0:
            raise MetadataError(old, "it repeats its own content over and over", _REPROCESS_HINT)


class _ProblemError(ValueError):
    """What is wrong with one sample's path or rows."""


def _checked(values: Sequence[Any], check: Callable[[Any], Any], problems: list[str]) -> list[Any]:
    """Return what ``check`` makes of each value; what is wrong with them goes to ``problems``."""
    checked = []
    for index, value in enumerate(values):
        try:
            checked.append(check(value))
        except _ProblemError as error:
            problems.append(f"sample {index}: {error}")
    return checked


def _path(value: object) -> str:
    if not isinstance(value, (str, bytes)):
        raise _ProblemError("its image path is no text")
    path = os.fsdecode(value)
    if "\0" in path or os.path.split(path)[1] in {"", ".", ".."} or len(path) > _MAX_PATH_LENGTH:
        raise _ProblemError(f"its image path {path[:100]!r} names no file")
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise _ProblemError(f"its image path {path!r} cannot be a file's name") from error
    return path


def _rows(value: object) -> tuple[NDArray[np.float64], bool]:
    """Return a sample's rows, (k, width), and whether ``value`` is a single flat one."""
    if isinstance(value, np.ndarray):
        numbers, is_flat = value, value.ndim == 1 and value.size > 0
    elif isinstance(value, (list, tuple)):
        is_flat = 0 < len(value) <= _MAX_ROW_WIDTH and all(type(number) in _NUMBER_TYPES for number in value)
        numbers = _from_lists([value] if is_flat else value)
    else:
        raise _ProblemError("its boxes or keypoints are no list")
    if numbers.size == 0:
        return np.zeros((0, 0)), False
    if numbers.dtype.kind not in "iuf" or numbers.ndim not in (1, 2) or numbers.shape[-1] > _MAX_ROW_WIDTH:
        raise _ProblemError(f"its boxes or keypoints are an array of shape {numbers.shape} and type {numbers.dtype}")
    with np.errstate(over="ignore"):
        rows = np.atleast_2d(numbers).astype(np.float64)
        if not np.isfinite(rows.astype(np.float32)).all():
            raise _ProblemError("a number is not finite, or too large")
    return rows, is_flat


def _from_lists(rows: Sequence[Any]) -> NDArray[Any]:
    """Return rows of equally many numbers as one array. Types are checked first: NumPy would take much more."""
    plain = [row.tolist() if isinstance(row, np.ndarray) and row.ndim == 1 else row for row in rows]
    for row in plain:
        if not isinstance(row, (list, tuple)):
            raise _ProblemError("its boxes or keypoints are not lists of numbers")
        if len(row) > _MAX_ROW_WIDTH:
            raise _ProblemError(f"a row of {len(row)} numbers")
        if not all(type(number) in _NUMBER_TYPES for number in row):
            raise _ProblemError("its boxes or keypoints are not lists of numbers")
        if len(row) != len(plain[0]):
            raise _ProblemError(f"rows of {len(plain[0])} and of {len(row)} numbers")
    try:
        return np.array(plain, np.float64)
    except OverflowError as error:
        raise _ProblemError("a number is not finite, or too large") from error


def _kind(old: Path, row_key: str, rows: _OldRows) -> Kind:
    """Return the kind that the samples are of."""
    flat = [index for index, (_, is_flat) in enumerate(rows) if is_flat]
    if row_key == "keypoints":
        if flat:
            _raise_if_any(old, [f"sample {index}: its keypoints are one flat list" for index in flat])
        return "landmarker"
    if not flat:
        return "detector"
    if len(flat) < len(rows):
        is_flat = set(flat)
        nested = next(index for index in range(len(rows)) if index not in is_flat)
        problem = f"sample {flat[0]} has a single box, sample {nested} a list of boxes: the kind cannot be told"
        raise MetadataError(old, problem, _REPROCESS_HINT)
    return "teacher"


def _as_wide_as(kind: Kind, rows: NDArray[np.float64], index: int, problems: list[str]) -> NDArray[np.float64]:
    """Return rows of the width that those of a kind have; points without a visibility are visible."""
    width = ROW_WIDTHS[kind]
    if not rows.size:
        return np.zeros((0, width))
    if kind == "landmarker" and rows.shape[1] == width - 1:
        return np.pad(rows, ((0, 0), (0, 1)), constant_values=2)
    if rows.shape[1] != width:
        problems.append(f"sample {index}: rows of {rows.shape[1]} numbers, not {width}")
    return rows


def _raise_if_any(old: Path, problems: list[str]) -> None:
    if problems:
        listed = problems[:_MAX_LISTED]
        if len(problems) > _MAX_LISTED:
            listed.append(f"{len(problems) - _MAX_LISTED} more samples")
        raise InputProblemsError(f"{old}: cannot migrate", listed, _REPROCESS_HINT)


def _relative(old: Path, paths: Sequence[str], root: Path | None) -> tuple[str, list[bytes]]:
    """Return the resolved root, and the image paths relative to it."""
    folders_and_names = [os.path.split(path) for path in paths]
    resolved = {folder: os.path.realpath(folder) for folder in {folder for folder, _ in folders_and_names}}
    real_root = common_root(resolved.values()) if root is None else os.path.realpath(root)
    inside = {folder: os.path.relpath(real_folder, real_root) for folder, real_folder in resolved.items()}
    outside = {folder for folder, relative in inside.items() if relative.split("/", 1)[0] == os.pardir}
    problems = [
        f"sample {index}: {paths[index]} is not below the root {real_root}"
        for index, (folder, _) in enumerate(folders_and_names)
        if folder in outside
    ]
    _raise_if_any(old, problems)
    prefixes = {folder: "" if relative == os.curdir else f"{relative}/" for folder, relative in inside.items()}
    return real_root, [os.fsencode(prefixes[folder] + name) for folder, name in folders_and_names]


def _columns(kind: Kind, paths: Sequence[bytes], rows: Sequence[NDArray[np.float64]]) -> SampleColumns:
    row_counts = np.fromiter(map(len, rows), np.int64, len(rows))
    classes = len(rows) if kind == "landmarker" else int(row_counts.sum())
    numbers = itertools.chain.from_iterable(sample_rows.ravel() for sample_rows in rows)
    return SampleColumns.build(
        kind,
        paths,
        np.zeros((len(paths), 2), np.int64),
        row_counts,
        np.fromiter(numbers, np.float64).reshape(-1, ROW_WIDTHS[kind]),
        np.full(classes, -1, np.int64),
    )
