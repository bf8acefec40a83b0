"""Convert image, mask and label files into a YOLO dataset of image and mask pairs in NPZ files.

Each pair becomes ``images/<split>/<stem>.npz`` (``image`` HxWx3 uint8 RGB, ``mask`` HxW uint8) and, byte for byte, its
label file ``labels/<split>/<stem>.txt``; the dataset gets a ``data.yaml`` that Ultralytics reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from toolkit.core.batch import Figures, Job, Outcome, Step
from toolkit.core.claims import claimed_folder
from toolkit.core.driver import run_to_end
from toolkit.core.errors import InputProblemsError, collected
from toolkit.core.files import explain_os_error, make_folder
from toolkit.core.options import ALL, BatchOptions
from toolkit.dataset.data_yaml import publish_data_yaml, read_class_names
from toolkit.dataset.pair_conversion import ALREADY_CONVERTED, ConvertPair, output_paths
from toolkit.dataset.pairing import IMAGE_NOT_FOUND, LABEL_NOT_FOUND, MASK_NOT_FOUND, Pair, PairIndex
from toolkit.images.policies import MAX_PIXELS, ExifPolicy, MaskValues
from toolkit.npz.pair_options import Compression, PairOptions

SPLITS = ("train", "val", "test")
_ZIP_END = b"PK\x05\x06"
_ZIP_END_BYTES = 22


class MaskAttentionOptions(BatchOptions):
    """The options of a conversion.

    Attributes:
        images_dataset_root: YOLO dataset with the images: ``images/<split>`` or ``<split>/images``.
        labels_dataset_root: YOLO dataset with the labels; may be the same.
        mask_folder: folder with the masks, named ``<image stem><mask_suffix><mask_extension>``.
        mapping_json: ``{"label_image.png": "dataset_image.png"}``; None: each image is its own label image.
        output_root: the dataset to make.
        splits: the splits of the images dataset to take.
        mask_suffix: what a mask's name adds to its image's stem.
        mask_extension: the masks' file suffix.
        names_yaml: the data YAML with the class names; None: the labels dataset's own.
        compression: "fast" (ISA-L or libdeflate), "zlib" (as ``np.savez_compressed``) or "none".
        mask_values: this and the next five: how a pair is read, as at :class:`PairOptions`.
        keep_mode: see there.
        exif: see there.
        to_8bit: see there.
        resize_mask: see there.
        max_pixels: see there.
        overwrite: replace what exists.
    """

    images_dataset_root: Path
    labels_dataset_root: Path
    mask_folder: Path
    mapping_json: Path | None = None
    output_root: Path = Path("mask_attention_yolo")
    splits: tuple[str, ...] = Field(default=SPLITS, min_length=1)
    mask_suffix: str = "_seg"
    mask_extension: str = ".png"
    names_yaml: Path | None = None
    compression: Compression = "fast"
    mask_values: MaskValues = "auto"
    keep_mode: bool = False
    exif: ExifPolicy = "ignore"
    to_8bit: bool = False
    resize_mask: bool = False
    max_pixels: int = Field(default=MAX_PIXELS, ge=1)
    overwrite: bool = False

    @field_validator("splits")
    @classmethod
    def _check_splits(cls, splits: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [split for split in splits if not split or "/" in split or split.startswith(".")]
        if wrong:
            raise ValueError(f"not a folder name: {', '.join(map(repr, wrong))}")
        return tuple(dict.fromkeys(splits))

    @field_validator("mask_extension")
    @classmethod
    def _add_dot(cls, extension: str) -> str:
        return extension if extension.startswith(".") else f".{extension}"

    @model_validator(mode="after")
    def _keep_inputs_apart(self) -> Self:
        output = os.path.realpath(self.output_root)
        for name in ("images_dataset_root", "labels_dataset_root", "mask_folder"):
            if os.path.realpath(getattr(self, name)) == output:
                raise ValueError(f"output_root is the {name}: inputs are never modified, name another folder")
        return self


class MaskAttentionJob(Job[Pair]):
    """The conversion of a whole dataset.

    Raises:
        InputProblemsError: everything that is missing or ambiguous among the inputs.
    """

    command: ClassVar[str] = "dataset convert-mask-attention"

    def __init__(self, options: MaskAttentionOptions) -> None:
        self._options = options
        problems: list[str] = []
        with collected(problems):
            self._names, self._remarks = read_class_names(options.labels_dataset_root, options.names_yaml)
        try:
            self._index = PairIndex(
                options.images_dataset_root,
                options.labels_dataset_root,
                options.mask_folder,
                options.mapping_json,
                splits=options.splits,
                mask_suffix=options.mask_suffix,
                mask_extension=options.mask_extension,
            )
            problems += _outputs_among_inputs(options, self._index)
        except InputProblemsError as error:
            problems += error.problems
        if problems:
            raise InputProblemsError("cannot convert", problems)

    @property
    def options(self) -> MaskAttentionOptions:
        """The options."""
        return self._options

    @property
    def size(self) -> int | None:
        """The number of mapping entries, where one shard does them all."""
        return len(self._index) if self._options.shard == ALL else None

    def plan(self) -> Iterator[Pair | Outcome]:
        """Yield each pair to convert, and why each other entry is not converted."""
        for entry in self._index:
            if self._options.shard.holds(entry.source):
                finished = self._finished(entry) if isinstance(entry, Pair) else None
                yield finished or entry

    def step(self) -> Step[Pair]:
        """Return the conversion of one pair."""
        options = self._options
        reading = PairOptions(
            mask_values=options.mask_values,
            keep_mode=options.keep_mode,
            exif=options.exif,
            to_8bit=options.to_8bit,
            resize_mask=options.resize_mask,
            max_pixels=options.max_pixels,
        )
        return ConvertPair(
            images_root=options.images_dataset_root,
            labels_root=options.labels_dataset_root,
            mask_folder=options.mask_folder,
            output_root=options.output_root,
            reading=reading,
            compression=options.compression,
            overwrite=options.overwrite,
        )

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the output folder and remove what killed runs, and workers of this one, left there."""
        options = self._options
        make_folder(options.output_root)
        with claimed_folder(options.output_root, self.command, options.shard):
            yield

    def finish(self, figures: Figures) -> None:
        """Write ``data.yaml``, if there is anything in the dataset."""
        for remark in self._remarks:
            figures.warnings[remark] = 1
        if figures.done or figures.skipped:
            pairs = [entry for entry in self._index if isinstance(entry, Pair)]
            remark = publish_data_yaml(
                self._options.output_root,
                pairs,
                names=self._names,
                labels_root=self._options.labels_dataset_root,
                splits=self._options.splits,
                keep_mode=self._options.keep_mode,
                overwrite=self._options.overwrite,
            )
            if remark:
                figures.warnings[remark] = 1

    def stats(self, figures: Figures) -> Mapping[str, Any]:
        """Return the documented statistics; each failed item is counted under its first reason."""
        kinds = figures.failure_kinds
        missing = {
            "masks_not_found": kinds.get(MASK_NOT_FOUND, 0),
            "images_not_found": kinds.get(IMAGE_NOT_FOUND, 0),
            "labels_not_found": kinds.get(LABEL_NOT_FOUND, 0),
        }
        return {
            "processed": figures.done,
            "labels_copied": figures.done,
            **missing,
            "errors": figures.failed - sum(missing.values()),
        }

    def _finished(self, pair: Pair) -> Outcome | None:
        """Return the outcome of a pair whose output exists; None for one that is to be converted."""
        npz_path, label_path = output_paths(self._options.output_root, pair.stem)
        if self._options.overwrite:
            return None
        try:
            if not npz_path.exists():
                return None
            if not _ends_whole(npz_path):
                reason = f"{npz_path} exists and is cut short or no NPZ file; use --overwrite to make it again"
                return Outcome.failed(pair.source, reason)
            return Outcome.skipped(pair.source, ALREADY_CONVERTED) if label_path.exists() else None
        except OSError as error:
            return Outcome.failed(pair.source, str(explain_os_error(error, npz_path, "look at")))


def _outputs_among_inputs(options: MaskAttentionOptions, index: PairIndex) -> list[str]:
    """Return which folders the conversion would write into although they are inputs, or lie in one."""
    inputs = [*index.split_folders.values(), options.labels_dataset_root / "labels", options.mask_folder]
    real_inputs = {os.path.realpath(folder): folder for folder in inputs}
    problems = []
    for split in index.split_folders:
        for kind in ("images", "labels"):
            target = options.output_root / kind / split
            for real, folder in real_inputs.items():
                if os.path.commonpath([real, os.path.realpath(target)]) == real:
                    problems.append(f"{target} lies in the input {folder}, and inputs are never modified")
    return problems


def _ends_whole(npz_path: Path) -> bool:
    """Tell in one short read whether a file ends like an NPZ file that mvtk wrote: with a ZIP end record."""
    with npz_path.open("rb") as stream:
        if stream.seek(0, os.SEEK_END) < _ZIP_END_BYTES:
            return False
        stream.seek(-_ZIP_END_BYTES, os.SEEK_END)
        return stream.read(len(_ZIP_END)) == _ZIP_END


def create_mask_attention_dataset(
    images_dataset_root: str | Path,
    labels_dataset_root: str | Path,
    mask_folder: str | Path,
    mapping_json: str | Path | None,
    output_root: str | Path = "mask_attention_yolo",
    splits: Sequence[str] = SPLITS,
    mask_suffix: str = "_seg",
    mask_extension: str = ".png",
    **options: Any,
) -> dict[str, int]:
    """Convert image, mask and label files into a dataset of image and mask pairs in NPZ files.

    Run again, it goes on where it stopped: pairs that are converted already are left as they are and not counted.

    Args:
        images_dataset_root: YOLO dataset with the images: ``images/<split>`` or ``<split>/images``.
        labels_dataset_root: YOLO dataset with the labels; may be the same.
        mask_folder: folder with the masks, named ``<image stem><mask_suffix><mask_extension>``.
        mapping_json: file with ``{"label_image.png": "dataset_image.png"}``; None: each image is its own label image.
        output_root: the dataset to make: ``images/<split>/<stem>.npz``, ``labels/<split>/<stem>.txt``, ``data.yaml``.
        splits: the splits of the images dataset to take.
        mask_suffix: what a mask's name adds to its image's stem.
        mask_extension: the masks' file suffix.
        **options: any further field of :class:`MaskAttentionOptions`.

    Returns:
        Counts: ``processed`` and ``labels_copied`` by this call; ``masks_not_found``, ``images_not_found``,
        ``labels_not_found`` and ``errors`` (every other reason) of entries that were not converted.

    Raises:
        InputProblemsError: folders or the mapping are missing or wrong; all problems together.
        pydantic.ValidationError: an option has a wrong value.
    """
    job = MaskAttentionJob(
        MaskAttentionOptions(
            images_dataset_root=Path(images_dataset_root),
            labels_dataset_root=Path(labels_dataset_root),
            mask_folder=Path(mask_folder),
            mapping_json=Path(mapping_json) if mapping_json else None,
            output_root=Path(output_root),
            splits=(splits,) if isinstance(splits, str) else tuple(splits),
            mask_suffix=mask_suffix,
            mask_extension=mask_extension,
            **options,
        )
    )
    stats = run_to_end(job).stats
    return {key: stats[key] for key in job.stats(Figures())}


__all__ = [
    "MaskAttentionJob",
    "MaskAttentionOptions",
    "create_mask_attention_dataset",
]
