"""The metadata files of a run: put together from the parts, compared with what is there, published."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit.core.errors import InputProblemsError
from toolkit.core.files import atomic_write, explain_os_error
from toolkit.core.options import ALL, Shard
from toolkit.metadata.columns import Kind, SampleColumns
from toolkit.metadata.errors import MetadataError
from toolkit.metadata.raw_sources import RawSource, kinds_of
from toolkit.metadata.reading import open_metadata
from toolkit.metadata.record import MetadataInfo, SourceInfo
from toolkit.metadata.spool import Part
from toolkit.metadata.writing import write_record
from toolkit.splitting import Split

WRITTEN_BY = "mvtk dataset process"
"""Without the version: the same annotations must give the same bytes after an update."""

_SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class MetadataOutput:
    """One metadata file that was made, not yet published.

    Attributes:
        target: where it will be.
        made: where it is.
        kind: what its samples are.
        split: which they are.
        samples: how many.
        rows: how many boxes or keypoints.
        size_bytes: of the file.
    """

    target: Path
    made: Path
    kind: Kind
    split: Split
    samples: int
    rows: int
    size_bytes: int

    @property
    def is_published(self) -> bool:
        """Whether the target has this content already.

        Raises:
            MvtkError: it cannot be read.
        """
        try:
            return self.target.is_file() and filecmp.cmp(self.made, self.target, shallow=False)
        except OSError as error:
            raise explain_os_error(error, self.target, "read") from error


def output_name(split: Split, kind: Kind, shard: Shard = ALL) -> str:
    """Return a metadata file's name, such as ``train_detector.npy`` or ``train_detector.shard-0-of-4.npy``."""
    part = "" if shard == ALL else f".shard-{shard.index}-of-{shard.count}"
    return f"{split}_{kind}{part}.npy"


def make_outputs(
    parts: Mapping[RawSource, Part],
    kinds: Sequence[Kind],
    *,
    raw_data_dir: Path,
    output_dir: Path,
    made_in: Path,
    shard: Shard,
    split_by: Mapping[str, Any],
) -> Iterator[MetadataOutput]:
    """Write the metadata files of all kinds that have samples, and yield each.

    A kind with samples gets a file for training and one for validation, one of which may be without samples, and one
    for testing where there are any.

    Args:
        parts: the raw datasets with their parts, in the order of the samples.
        kinds: what to make.
        raw_data_dir: the root of the image paths.
        output_dir: where the files will be.
        made_in: where they are written.
        shard: what part of the work this is.
        split_by: how images were shared out, for the files' description.

    Raises:
        MetadataError: the samples are too many for one file.
        MvtkError: a file cannot be written.
    """
    root = os.path.relpath(os.path.realpath(raw_data_dir), os.path.realpath(output_dir))
    for kind in kinds:
        # Only of the datasets that this kind is made of: a file is the same whatever other kinds are made with it.
        own = {source: part for source, part in parts.items() if kinds_of(source.branch, (kind,))}
        splits = {split for part in own.values() for split in part.splits(kind)}
        if not splits:
            continue
        class_names = tuple(dict.fromkeys(name for part in own.values() for name in part.notes["class_names"]))
        for split in (split for split in _SPLITS if split in splits | {"train", "val"}):
            chunks, sources = _collect(own, split, kind, class_names)
            info = MetadataInfo(root, split, class_names, tuple(sources), WRITTEN_BY, dict(split_by))
            name = output_name(split, kind, shard)
            made = made_in / name
            try:
                with made.open("wb") as stream:
                    write_record(stream, output_dir / name, kind, info, chunks)
            except OSError as error:
                raise explain_os_error(error, made, "write") from error
            samples, rows = (sum(map(len, columns)) for columns in (chunks, [chunk.rows for chunk in chunks]))
            yield MetadataOutput(output_dir / name, made, kind, split, samples, rows, made.stat().st_size)


def find_stale(outputs: Sequence[MetadataOutput], output_dir: Path, kinds: Sequence[Kind], shard: Shard) -> list[Path]:
    """Return the metadata files of these kinds that an earlier run wrote from the same raw data, and this one does not.

    Left beside the new files, such as a ``test_*.npy`` of a run with other splits, they would hold images that are for
    training now.

    Raises:
        MvtkError: one cannot be read.
    """
    made = {output.target for output in outputs}
    roots = {open_metadata(output.made).info.root for output in outputs}
    candidates = (output_dir / output_name(split, kind, shard) for kind in kinds for split in _SPLITS)
    return [path for path in candidates if path not in made and path.is_file() and _is_of_root(path, roots)]


def publish_outputs(
    outputs: Sequence[MetadataOutput], stale: Sequence[Path], *, complete: bool, overwrite: bool, hint: str
) -> dict[str, str]:
    """Publish the files, each atomically; one that exists with the same content is left alone.

    Args:
        outputs: what was made.
        stale: files of earlier runs that must not stay beside these.
        complete: whether all datasets are in the files: only then may others be replaced.
        overwrite: whether files with other content may be replaced; those that an incomplete run wrote always may.
        hint: what to do where they may not.

    Returns:
        by file name, ``"written"``, ``"unchanged"`` or ``"removed"``.

    Raises:
        InputProblemsError: files exist with other content and may not be replaced; nothing is published then.
        MvtkError: a file cannot be written or removed.
    """
    states = {output: "unchanged" if output.is_published else "written" for output in outputs}
    changed = [output for output, state in states.items() if state == "written"]
    if not (overwrite and complete):
        existing = [output.target for output in changed if os.path.lexists(output.target)]
        in_the_way = [f"{path} exists with other content" for path in existing if not (complete and _is_partial(path))]
        in_the_way += [f"{path} is of an earlier run, and no dataset has samples for it" for path in stale]
        if in_the_way:
            raise InputProblemsError("nothing was written", in_the_way, hint)
    for output in changed:
        with output.made.open("rb") as made, atomic_write(output.target, overwrite=complete) as stream:
            shutil.copyfileobj(made, stream, 1 << 20)
    for path in stale:
        try:
            path.unlink()
        except OSError as error:
            raise explain_os_error(error, path, "remove") from error
    return {output.target.name: state for output, state in states.items()} | {path.name: "removed" for path in stale}


def _is_of_root(path: Path, roots: Collection[str]) -> bool:
    """Tell whether an earlier run wrote a file from one of these raw data folders."""
    try:
        info = open_metadata(path).info
    except MetadataError:
        return False
    return info.written_by == WRITTEN_BY and info.root in roots


def _is_partial(path: Path) -> bool:
    """Tell whether a file was written by a run that did not get all datasets done."""
    try:
        return path.is_file() and bool(open_metadata(path).info.split_by.get("partial"))
    except MetadataError:
        return False


def _collect(
    parts: Mapping[RawSource, Part], split: Split, kind: Kind, class_names: Sequence[str]
) -> tuple[list[SampleColumns], list[SourceInfo]]:
    """Return the samples of a split and kind, with the class ids of all, and where they come from."""
    chunks: list[SampleColumns] = []
    sources: list[SourceInfo] = []
    for source, part in parts.items():
        own = [chunk for chunk in part.chunks(split, kind) if len(chunk)]
        if own:
            sources.append(SourceInfo(source.source, source.format, sum(map(len, own))))
            chunks += _with_classes(own, part.notes["class_names"], class_names)
    return chunks, sources


def _with_classes(chunks: list[SampleColumns], own: Sequence[str], common: Sequence[str]) -> list[SampleColumns]:
    if list(own) == list(common[: len(own)]):
        return chunks
    common_ids: NDArray[np.int64] = np.array([*map(common.index, own), -1], np.int64)  # -1 stays -1
    return [replace(chunk, class_ids=common_ids[chunk.class_ids]) for chunk in chunks]
