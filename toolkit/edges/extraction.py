"""Extract edge maps from annotation files into NPZ files and PNG pictures, without features files (Method B).

Each annotation ``<stem>.json`` becomes ``<stem>_edges.npz`` with ``edge_original`` (H, W), ``edge_256x256``,
``edge_64x64`` and ``edge_32x32``, all uint8 of 0 and 1, and ``edge_version``; and each of the four maps becomes a grey
PNG of 0 and 255, such as ``<stem>_edge_64x64.png``. The NPZ file is published last: where it is, all of them are.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from pydantic import Field

from toolkit.annotations.sa1b import load_sa1b
from toolkit.core.batch import Job, Outcome, Publishing, Step
from toolkit.core.claims import claimed_folder
from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.core.files import TargetExistsError, atomic_write, make_folder, read_bytes, write_bytes
from toolkit.core.listing import is_folder, list_files
from toolkit.core.options import BatchOptions
from toolkit.edges.file_update import NO_MASKS
from toolkit.edges.marks import VERSION_KEY, edge_version, kernel_size_of, read_edge_marks
from toolkit.edges.method_b import DEFAULT_KERNEL_SIZE, SIDES, EdgeMap, EdgeMaps, edge_maps
from toolkit.npz.reading import open_npz
from toolkit.npz.writing import Buffer, encode_npz

EDGES_SUFFIX = "_edges.npz"
"""What the name of an NPZ file of edge maps adds to its annotation's stem."""
ALREADY_EXTRACTED = "exists already"

_JSON_SUFFIX = ".json"


class ExtractEdgesOptions(BatchOptions):
    """The options of an extraction.

    Attributes:
        paths: annotation files, and folders that are searched to any depth for ``*.json``.
        output: the folder to write to, made if missing; what was found in a folder keeps its subfolder there.
        kernel_size: side of the square kernel in pixels.
        overwrite: replace files that exist.
    """

    paths: tuple[Path, ...] = Field(min_length=1)
    output: Path
    kernel_size: int = Field(default=DEFAULT_KERNEL_SIZE, ge=1)
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class AnnotationFile:
    """One annotation file: its path, and its path relative to the folder that it was found in."""

    source: str
    name: str

    @property
    def stem(self) -> str:
        """What the names of its outputs begin with, relative to the output folder."""
        return self.name[: -len(_JSON_SUFFIX)]


class ExtractEdgesFile(Step[AnnotationFile]):
    """Make the edge maps of one annotation."""

    def __init__(self, options: ExtractEdgesOptions) -> None:
        self._output = options.output
        self._kernel_size = options.kernel_size
        self._overwrite = options.overwrite

    def process_one(self, item: AnnotationFile) -> Publishing:
        """Compute the maps of one annotation; what is returned publishes them.

        Raises:
            MvtkError: the annotation cannot be read or is not sound.
        """
        annotation = load_sa1b(Path(item.source))
        maps = edge_maps(annotation.masks, self._kernel_size)
        named = named_maps(maps)
        paths = _png_paths(self._output, item.stem)
        pngs = {path: _png(edge_map) for path, edge_map in zip(paths, named.values(), strict=True)}
        pieces = encode_npz({**named, VERSION_KEY: np.array(edge_version(self._kernel_size))})
        done = Outcome.done(
            item.source,
            warnings=() if len(annotation.masks) else (NO_MASKS,),
            masks=len(annotation.masks),
            size=f"{annotation.width}x{annotation.height}",
            edge_pixels=int(np.count_nonzero(maps["original"])),
        )
        return functools.partial(self._publish, item, pngs, pieces, done)

    def _publish(
        self, item: AnnotationFile, pngs: Mapping[Path, bytes], pieces: list[Buffer], done: Outcome
    ) -> Outcome:
        """Publish the pictures, and when all of them are there the NPZ file."""
        npz_path = _npz_path(self._output, item.stem)
        make_folder(npz_path.parent)
        # All are looked at before one is written: an item that fails leaves nothing behind.
        missing = {path: data for path, data in pngs.items() if not self._is_there(path, data)}
        for path, data in missing.items():
            write_bytes(path, data, overwrite=self._overwrite)
        try:
            with atomic_write(npz_path, overwrite=self._overwrite) as stream:
                stream.writelines(pieces)
        except TargetExistsError:
            return done if missing else Outcome.skipped(item.source, ALREADY_EXTRACTED)
        return done

    def _is_there(self, path: Path, data: bytes) -> bool:
        """Tell whether a killed run left the file that is to be written; a file with other content is an error."""
        if self._overwrite or not os.path.lexists(path):
            return False
        if read_bytes(path) != data:
            raise MvtkError(f"{path} exists with other content", "use --overwrite to replace it")
        return True


class ExtractEdgesJob(Job[AnnotationFile]):
    """The extraction from files and folders, which are listed first: a path or two a file are held in memory.

    Raises:
        InputProblemsError: every path that is missing or no JSON file, or all pairs of inputs with one output.
        MvtkError: there are no JSON files, or a folder cannot be listed.
    """

    command: ClassVar[str] = "edges extract"

    def __init__(self, options: ExtractEdgesOptions) -> None:
        self._options = options
        _require_inputs(options.paths)
        files = _list_annotations(options.paths, options.output)
        if not files:
            raise MvtkError(
                f"there are no JSON files in {', '.join(map(str, options.paths))}",
                "name annotation files, or folders that have some",
            )
        self._files = [file for file in files if options.shard.holds(file.name)]

    @property
    def options(self) -> ExtractEdgesOptions:
        """The options."""
        return self._options

    @property
    def size(self) -> int:
        """The number of files of this shard."""
        return len(self._files)

    def plan(self) -> Iterator[AnnotationFile | Outcome]:
        """Yield each file whose maps are to be made, and why each other one's are not."""
        for file in self._files:
            yield self._settled(file) or file

    def step(self) -> Step[AnnotationFile]:
        """Return the extraction from one file."""
        return ExtractEdgesFile(self._options)

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the output folder and remove what killed runs, and workers of this one, left there."""
        options = self._options
        make_folder(options.output)
        with claimed_folder(options.output, self.command, options.shard):
            yield

    def _settled(self, file: AnnotationFile) -> Outcome | None:
        """Return the outcome of a file whose NPZ file exists; None for one whose maps are to be made."""
        npz_path = _npz_path(self._options.output, file.stem)
        if self._options.overwrite or not os.path.lexists(npz_path):
            return None
        try:
            with open_npz(npz_path) as reader:
                version = read_edge_marks(reader).version
        except MvtkError as error:
            return Outcome.failed(file.source, f"{error.message}; use --overwrite to make it again")
        if version == edge_version(self._options.kernel_size):
            has_all = all(path.exists() for path in _png_paths(self._options.output, file.stem))
            return Outcome.skipped(file.source, ALREADY_EXTRACTED) if has_all else None
        return Outcome.failed(file.source, f"{npz_path} exists, {_origin(version)}; use --overwrite to replace it")


def named_maps(maps: EdgeMaps) -> dict[str, EdgeMap]:
    """Return edge maps by the names that features files have for them, such as ``edge_original`` and ``edge_64x64``."""
    return {f"edge_{key}" if key == "original" else f"edge_{key}x{key}": edge_map for key, edge_map in maps.items()}


def _require_inputs(paths: tuple[Path, ...]) -> None:
    problems = []
    for path in paths:
        if not os.path.lexists(path):
            problems.append(f"{path}: no such file or folder")
        elif not is_folder(path) and path.suffix.lower() != _JSON_SUFFIX:
            problems.append(f"{path}: not named like a JSON file")
    if problems:
        raise InputProblemsError("cannot extract", problems)


def _list_annotations(paths: tuple[Path, ...], output: Path) -> list[AnnotationFile]:
    """Return the given files, and those in each folder sorted; a file that is reached twice is taken once.

    Raises:
        InputProblemsError: every two files whose outputs would have one name.
        MvtkError: a folder cannot be listed.
    """
    files: dict[str, AnnotationFile] = {}
    sources: dict[str, str] = {}  # by stem
    problems = []
    for path in paths:
        folder = path if is_folder(path) else path.parent
        for name in list_files(path, {_JSON_SUFFIX}) if folder is path else [path.name]:
            file = AnnotationFile((folder / name).as_posix(), name)
            if files.setdefault(file.source, file) is not file:
                continue
            first = sources.setdefault(file.stem, file.source)
            if first != file.source:
                problems.append(f"{first} and {file.source} would both become {_npz_path(output, file.stem)}")
    if problems:
        raise InputProblemsError("cannot extract", problems, "extract into several folders")
    return list(files.values())


def _png_paths(output: Path, stem: str) -> list[Path]:
    names = ["edge_original", *(f"edge_{side}x{side}" for side in SIDES)]
    return [output / f"{stem}_{name}.png" for name in names]


def _npz_path(output: Path, stem: str) -> Path:
    return output / f"{stem}{EDGES_SUFFIX}"


def _png(edge_map: EdgeMap) -> bytes:
    # 8 bits a pixel: decoders hand out the ones of 1-bit files as 1, 255 or True. OpenCV's own settings for PNG take
    # half the time of an explicit compression level.
    return cv2.imencode(".png", edge_map * np.uint8(255))[1].tobytes()


def _origin(version: str) -> str:
    """Return what an NPZ file says of how its maps were made."""
    if not version:
        return f"without {VERSION_KEY}"
    kernel_size = kernel_size_of(version)
    return f"made with kernel size {kernel_size}" if kernel_size else f"with {VERSION_KEY} '{version}'"
