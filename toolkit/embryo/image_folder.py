"""Make an image folder for training a text-to-image model from the frames of a dataset.

::

    OUTPUT/images/0.jpeg, 1.jpeg, ...       the frames, byte for byte
    OUTPUT/description/0.txt, 1.txt, ...    "a microscopic image of a human embryo at phase t7 recorded at focal ..."
    OUTPUT/metadata.csv                     filename,label,phase,file_name,text

``filename`` (``0.jpeg``) and ``label`` (``F+00_DML271-2_51``) are the documented columns; ``file_name``
(``images/0.jpeg``) and ``text`` are those with which Hugging Face's ``datasets.load_dataset("imagefolder",
data_dir=OUTPUT)`` loads the folder as it is. The table is written last, by a run that looked at every image: it has a
row for each image that is there, and such a run mends one that says otherwise. A frame that is damaged keeps its
number, which then has neither an image nor a row.

An image counts as made where it has the frame's size and time of writing (a copy gets them) or is the frame (a link);
where only the size agrees, the contents are compared.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field, PlainSerializer, PlainValidator

from toolkit.core.batch import Figures, Job, Outcome, Step
from toolkit.core.claims import claimed_folder
from toolkit.core.errors import MvtkError, OptionError
from toolkit.core.files import atomic_write, explain_os_error, make_folder
from toolkit.core.options import ALL, BatchOptions
from toolkit.core.placing import is_made_from
from toolkit.embryo.frame_index import open_frame_index
from toolkit.embryo.ground_truth import format_rows
from toolkit.embryo.image_choice import ChosenImage, ImageChoice, choose_images
from toolkit.embryo.image_copy import (
    ALREADY_THERE,
    DESCRIPTIONS_FOLDER,
    IMAGES_FOLDER,
    OTHER_CONTENT,
    CopyImage,
    FolderImage,
)
from toolkit.embryo.image_folder_state import (
    METADATA_NAME,
    ImageFolderState,
    begin,
    clear_staging,
    existing_numbers,
    require_usable,
)
from toolkit.embryo.phases import PHASES, Phase, parse_phase
from toolkit.embryo.planes import PLANES, FocalPlane, parse_plane
from toolkit.embryo.split import load_split

COLUMNS: Final = ("filename", "label", "phase", "file_name", "text")
EVERY: Final = "all"
"""What stands for all phases, or for all focal planes that are there."""
_TABLE_HINT: Final = "run the command again, without --shard and --max-files, to write it"
_ROWS_AT_ONCE: Final = 1000


def _names(value: object) -> list[str]:
    """Return what a list, or a text with commas, names."""
    if isinstance(value, str):
        return [name.strip() for name in value.split(",") if name.strip()]
    return [name for part in value for name in _names(part)] if isinstance(value, list | tuple) else []


def _phases(value: Any) -> tuple[Phase, ...]:
    if isinstance(value, tuple) and value and all(isinstance(phase, Phase) for phase in value):
        return value
    try:
        chosen = set(PHASES) if _names(value) == [EVERY] else set(map(parse_phase, _names(value)))
    except OptionError as error:
        raise ValueError(str(error)) from error
    if not chosen:
        raise ValueError(f"give {EVERY}, or labels such as t6,t7")
    return tuple(phase for phase in PHASES if phase in chosen)


def _planes(value: Any) -> tuple[FocalPlane, ...] | None:
    if value is None or (isinstance(value, tuple) and value and all(isinstance(plane, FocalPlane) for plane in value)):
        return value
    if _names(value) == [EVERY]:
        return None
    try:
        chosen = set(map(parse_plane, _names(value)))
    except OptionError as error:
        raise ValueError(str(error)) from error
    if not chosen:
        raise ValueError(f"give {EVERY}, or planes such as F+00,F-15")
    return tuple(plane for plane in PLANES if plane in chosen)


def _labels(members: tuple[Phase | FocalPlane, ...] | None) -> list[str] | str:
    return EVERY if members is None or members == PHASES else [member.label for member in members]


PhasesField = Annotated[tuple[Phase, ...], PlainValidator(_phases), PlainSerializer(_labels)]
PlanesField = Annotated[tuple[FocalPlane, ...] | None, PlainValidator(_planes), PlainSerializer(_labels)]


class ImageFolderOptions(BatchOptions):
    """The options of an image folder.

    Attributes:
        root: the extracted dataset.
        output: the folder to make, new or empty, or one that an earlier run began.
        split_file: a split as ``mvtk embryo split`` writes it; None: frames of all videos.
        set_name: the set of the split whose videos are taken.
        phases: members, labels, a text with commas, or ``"all"``; frames without a phase are never taken.
        focal_planes: members, names, a text with commas, or ``"all"`` (kept as None) for all that are there.
        median_only: only the middle frame of each phase of each video and plane.
        shuffle: number the images in an order that looks random.
        seed: another one shuffles otherwise.
        link: make hard links instead of copies: a link shares its content with the dataset's file.
        overwrite: remove the images of an earlier run and make all anew.
        index_path: where the frame index is kept; None: in the dataset's folder.
    """

    root: Path
    output: Path
    split_file: Path | None = None
    set_name: str | None = None
    phases: PhasesField = PHASES
    focal_planes: PlanesField = (FocalPlane.F_00,)
    median_only: bool = False
    shuffle: bool = True
    seed: int = Field(default=0)
    link: bool = False
    overwrite: bool = False
    index_path: Path | None = None


class ImageFolderJob(Job[FolderImage]):
    """The making of one image folder.

    Runs of shards fill it together; the table is written by a run of all, which then only looks.

    Raises:
        OptionError: options that contradict each other, or name what the dataset or the split has not.
        InputProblemsError: all problems of the split, or of the dataset's tables.
        MvtkError: there is nothing to do, an input cannot be read, or the output folder cannot be used.
    """

    command: ClassVar[str] = "embryo image-folder"

    def __init__(self, options: ImageFolderOptions) -> None:
        self._options = options
        _require_sound(options)
        index = open_frame_index(options.root, index_path=options.index_path, strict=True)
        self._remarks = index.remarks
        self._images = choose_images(
            index,
            planes=options.focal_planes,
            videos=_videos(options, index.videos),
            phases=options.phases,
            median_only=options.median_only,
            shuffle=options.shuffle,
            seed=options.seed,
        )
        if not len(self._images):
            raise MvtkError(f"{options.root}: no frame of these videos, phases and focal planes", "choose more of them")
        self._state = _state(options, self._images)
        require_usable(options.output, self._state, overwrite=options.overwrite)
        self._table_remark = f"{METADATA_NAME} is not written yet: {_TABLE_HINT}"

    @property
    def options(self) -> ImageFolderOptions:
        """The options."""
        return self._options

    @property
    def size(self) -> int | None:
        """The number of images; None for a shard."""
        return len(self._images) if self._options.shard == ALL else None

    def plan(self) -> Iterator[FolderImage | Outcome]:
        """Yield each image that is to be made, and why each other one is not."""
        there = set() if self._options.overwrite else existing_numbers(self._options.output)
        for image in self._images:
            item = image.item
            if self._options.shard.holds(item.source):
                yield (self._settled(item) if item.number in there else None) or item

    def step(self) -> Step[FolderImage]:
        """Return the copying, or linking, of one frame."""
        return CopyImage(self._options.root, self._options.output, link=self._options.link)

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the output folder and make it ready; remove what killed runs left there."""
        options = self._options
        make_folder(options.output)
        with claimed_folder(options.output, self.command, options.shard):
            alone = options.shard == ALL
            begin(options.output, self._state, overwrite=options.overwrite, alone=alone)
            try:
                yield
            finally:
                if alone:
                    clear_staging(options.output)

    def finish(self, figures: Figures) -> None:
        """Write the table of the images that are there, if every image was looked at and it says otherwise.

        Raises:
            MvtkError: it cannot be read or written.
        """
        table = self._options.output / METADATA_NAME
        if figures.total == self.size:
            present = existing_numbers(self._options.output)
            if not _is_content(table, self._table_pieces(present)):
                os.sync()  # the images before the table that says that they are there
                with atomic_write(table, overwrite=True) as stream:
                    stream.writelines(self._table_pieces(present))
            self._table_remark = ""
        elif table.exists():
            self._table_remark = f"{METADATA_NAME} lacks what was made now: {_TABLE_HINT}" if figures.done else ""

    def stats(self, figures: Figures) -> Mapping[str, Any]:
        """Return how many images the folder is for, and whether it is complete."""
        del figures
        remarks = list(self._remarks)
        if self._table_remark and not self._options.dry_run:
            remarks.append(self._table_remark)
        return {"images": len(self._images), **({"remarks": remarks} if remarks else {})}

    def _settled(self, item: FolderImage) -> Outcome | None:
        """Return the outcome of an image that is there; None where it has to be compared, or its description made."""
        output = self._options.output
        image = output / IMAGES_FOLDER / item.image_name
        wanted, found = _status(self._options.root / item.source), _status(image)
        if wanted is not None and found is not None and wanted.st_size != found.st_size:
            return Outcome.failed(item.source, f"{image} {OTHER_CONTENT}")
        description = _status(output / DESCRIPTIONS_FOLDER / item.description_name)
        if description is None or description.st_size != len(item.text.encode()):
            return None
        is_made = wanted is None or (found is not None and is_made_from(found, wanted))
        return Outcome.skipped(item.source, ALREADY_THERE) if is_made else None

    def _table_pieces(self, present: Collection[int]) -> Iterator[bytes]:
        """Yield the table of the images whose numbers are ``present``, piece by piece."""
        yield format_rows([COLUMNS])
        rows = (_row(image) for image in self._images if image.item.number in present)
        while some := list(itertools.islice(rows, _ROWS_AT_ONCE)):
            yield format_rows(some)


def _require_sound(options: ImageFolderOptions) -> None:
    """Check what can be checked of the options alone."""
    if (options.split_file is None) != (options.set_name is None):
        raise OptionError("a split file without a set, or the reverse", "give both --split-file and --set, or neither")
    if options.overwrite and options.shard != ALL:
        raise OptionError("--overwrite with --shard: each shard would remove the others' images", "give one of them")
    if Path(os.path.realpath(options.output)).is_relative_to(os.path.realpath(options.root)):
        raise OptionError(f"the output {options.output} lies in the dataset {options.root}", "name another folder")


def _videos(options: ImageFolderOptions, known: tuple[str, ...]) -> list[str] | None:
    """Return the videos of the set that was asked for; None for all."""
    if options.split_file is None or options.set_name is None:
        return None
    split = load_split(options.split_file, set(known))
    if options.set_name not in split:
        raise OptionError(f"{options.split_file} has no set {options.set_name!r}", f"it has {', '.join(split)}")
    return split[options.set_name]


def _state(options: ImageFolderOptions, images: ImageChoice) -> ImageFolderState:
    names = {"set_name", "phases", "focal_planes", "median_only", "shuffle", "seed"}
    chosen_by = options.model_dump(mode="json", include=names)
    return ImageFolderState(fingerprint=images.fingerprint, options=chosen_by)


def _row(image: ChosenImage) -> tuple[str, ...]:
    item = image.item
    return item.image_name, image.frame.label, image.phase.label, f"{IMAGES_FOLDER}/{item.image_name}", item.text


def _is_content(path: Path, pieces: Iterator[bytes]) -> bool:
    """Tell whether a file holds exactly ``pieces``, one after the other."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            return all(stream.read(len(piece)) == piece for piece in pieces) and not stream.read(1)
    except OSError as error:
        raise explain_os_error(error, path, "read") from error


def _status(path: Path) -> os.stat_result | None:
    """Return what the system knows of a file; None where it tells nothing."""
    try:
        return os.stat(path)  # noqa: PTH116 - half the time of Path.stat, which counts here
    except OSError:
        return None
