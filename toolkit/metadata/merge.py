"""Several metadata files of one kind made one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.core.errors import InputProblemsError, OptionError, collected
from toolkit.core.files import require_apart
from toolkit.metadata.columns import Kind, SampleColumns
from toolkit.metadata.reading import MetadataFile, open_metadata
from toolkit.metadata.record import MetadataInfo
from toolkit.metadata.roots import common_root, stored_root
from toolkit.metadata.verification import path_problems, sample_paths
from toolkit.metadata.writing import write_metadata


@dataclass(frozen=True, slots=True)
class MergedMetadata:
    """What a merge wrote.

    Attributes:
        kind: of the samples.
        samples: how many there are.
        rows: boxes or keypoints in all.
        root: the folder that the merged image paths are relative to.
        class_names: of all inputs, in the order in which they first appear.
        duplicates: samples whose image and rows an earlier input has too; they are kept.
    """

    kind: Kind
    samples: int
    rows: int
    root: Path
    class_names: tuple[str, ...]
    duplicates: int


def merge_metadata(inputs: Sequence[Path], output: Path, *, overwrite: bool = False) -> MergedMetadata:
    """Write the samples of several files, one file after another, as one; return what was written.

    The new root is the deepest folder that holds all roots; the image paths get what lies between. Classes are united
    by name. Split and the way of splitting are kept where all files agree.

    Args:
        inputs: metadata files of one kind, at least one.
        output: the file to write, none of them.
        overwrite: replace ``output``.

    Raises:
        InputProblemsError: inputs that cannot be read, are damaged or of different kinds, all together.
        MetadataError: the samples are too many for one file.
        TargetExistsError: ``output`` exists and ``overwrite`` is false.
        MvtkError: the output cannot be written.
    """
    if not inputs:
        raise OptionError("there is nothing to merge", "give at least one metadata file")
    require_apart(output, inputs)
    files, chunks = _read(inputs)
    real_roots = [os.path.realpath(file.root) for file in files]
    root = common_root(real_roots)
    class_names = tuple(dict.fromkeys(name for file in files for name in file.info.class_names))
    prefixes = [_prefix(real_root, root) for real_root in real_roots]
    paths = [
        [prefix + path for path in sample_paths(file)] if prefix else sample_paths(file)
        for file, prefix in zip(files, prefixes, strict=True)
    ]
    merged = [
        replace(
            chunk,
            path_bytes=np.frombuffer(b"".join(chunk_paths), np.uint8),
            path_lengths=chunk.path_lengths + len(prefix),
            class_ids=_renumbered(chunk.class_ids, file.info.class_names, class_names),
        )
        for file, chunk, prefix, chunk_paths in zip(files, chunks, prefixes, paths, strict=True)
    ]
    write_metadata(output, files[0].kind, _info(files, root, class_names, output), merged, overwrite=overwrite)
    return MergedMetadata(
        files[0].kind,
        sum(map(len, files)),
        sum(len(file.rows) for file in files),
        Path(root),
        class_names,
        _count_duplicates(files, paths),
    )


def _read(inputs: Sequence[Path]) -> tuple[list[MetadataFile], list[SampleColumns]]:
    """Return the inputs and their samples; all that is wrong with any of them is one error."""
    problems: list[str] = []
    files: list[MetadataFile] = []
    chunks: list[SampleColumns] = []
    for path in inputs:
        with collected(problems):
            file = open_metadata(path)
            files.append(file)
            chunks.append(file.columns())
            problems += [f"{path}: {problem}" for problem in path_problems(file)]
            problems += _unknown_classes(file)
    if len({file.kind for file in files}) > 1:
        problems += [f"{file.path}: of kind {file.kind}" for file in files]
    if problems:
        raise InputProblemsError("cannot merge", problems, "give sound metadata files of one kind")
    return files, chunks


def _unknown_classes(file: MetadataFile) -> list[str]:
    lowest, highest = int(file.class_ids.min(initial=-1)), int(file.class_ids.max(initial=-1))
    if lowest < -1 or highest >= len(file.info.class_names):
        return [f"{file.path}: class ids {lowest} to {highest}, with {len(file.info.class_names)} class names"]
    return []


def _prefix(real_root: str, common: str) -> bytes:
    """Return what a path relative to ``real_root`` begins with when it is relative to ``common``."""
    inside = os.path.relpath(real_root, common)
    return b"" if inside == os.curdir else os.fsencode(inside) + b"/"


def _renumbered(class_ids: NDArray[np.int64], old: Sequence[str], new: Sequence[str]) -> NDArray[np.int64]:
    """Return the class ids as indices into the new names; -1 stays."""
    position = {name: index for index, name in enumerate(new)}
    # Indexed by -1, the last one answers: no class stays no class.
    renumbering = np.array([*(position[name] for name in old), -1], np.int64)
    renumbered: NDArray[np.int64] = renumbering[class_ids]
    return renumbered


def _info(files: Sequence[MetadataFile], root: str, class_names: tuple[str, ...], output: Path) -> MetadataInfo:
    infos = [file.info for file in files]
    return MetadataInfo(
        stored_root(root, output),
        _shared([info.split for info in infos], ""),
        class_names,
        tuple(source for info in infos for source in info.sources),
        _shared([info.written_by for info in infos], ""),
        _shared([info.split_by for info in infos], {}),
    )


def _shared(values: Sequence[Any], otherwise: Any) -> Any:
    """Return the value that all have, if they do."""
    return values[0] if all(value == values[0] for value in values) else otherwise


def _count_duplicates(files: Sequence[MetadataFile], paths: Sequence[Sequence[bytes]]) -> int:
    """Return how many samples have both their image and their rows in an earlier file too."""
    seen: set[bytes] = set()
    repeated: set[bytes] = set()
    for file_paths in paths:
        distinct = set(file_paths)
        repeated |= distinct & seen
        seen |= distinct
    if not repeated:
        return 0
    duplicates = 0
    earlier: set[tuple[bytes, bytes]] = set()
    for file, file_paths in zip(files, paths, strict=True):
        own = [
            (path, file.rows[file.rows_of(index)].tobytes())
            for index, path in enumerate(file_paths)
            if path in repeated
        ]
        duplicates += sum(sample in earlier for sample in own)
        earlier.update(own)
    return duplicates
