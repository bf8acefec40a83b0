"""The documented Python interface of the processing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from toolkit.core.cpus import available_cpus
from toolkit.core.driver import run_to_end
from toolkit.core.errors import InputProblemsError
from toolkit.metadata.columns import KINDS, Kind
from toolkit.metadata.processing import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_OUTPUT_DIR,
    DEFAULT_RAW_DATA_DIR,
    DEFAULT_SEED,
    DEFAULT_TRAIN_SPLIT,
    ProcessJob,
    ProcessOptions,
)


class DataProcessor:
    """Turns raw annotations into metadata files; see :mod:`toolkit.metadata.processing`.

    Args:
        raw_data_dir: the folder that holds ``detector/`` and ``landmarker/``.
        output_dir: where ``{train,val}_{detector,landmarker,teacher}.npy`` go; made if missing.
        batch_size: images that are worked on together.
        num_workers: parallel worker processes, each with a dataset; None: the CPUs this process may use.
        flush_every: batches after which samples are handed to the disk, which writes while the next ones are read.
        seed: another one shares the images out differently.
        options: further options, as :class:`toolkit.metadata.processing.ProcessOptions` has them: ``boxes``,
            ``group_by``, ``keep_splits``, ``check_images``, ``shift_pts``, ``overwrite``.
    """

    def __init__(
        self,
        raw_data_dir: str | os.PathLike[str] = DEFAULT_RAW_DATA_DIR,
        output_dir: str | os.PathLike[str] = DEFAULT_OUTPUT_DIR,
        batch_size: int = DEFAULT_BATCH_SIZE,
        num_workers: int | None = None,
        flush_every: int = 1,
        seed: int = DEFAULT_SEED,
        **options: Any,
    ) -> None:
        self._options = ProcessOptions(
            raw_data_dir=Path(raw_data_dir),
            output_dir=Path(output_dir),
            batch_size=batch_size,
            workers=available_cpus() if num_workers is None else num_workers,
            flush_every=flush_every,
            seed=seed,
            **options,
        )

    def process_all(self, train_split: float = DEFAULT_TRAIN_SPLIT, include_teacher: bool = True) -> dict[str, Any]:
        """Make the files of all kinds of samples that the raw data has.

        Args:
            train_split: the part of the images that is for training, 0 to 1.
            include_teacher: whether to make the files with a sample a box, too.

        Returns:
            the report's figures: ``files`` with the samples of each, ``train_part``, ``findings`` and more.

        Raises:
            InputProblemsError: datasets that could not be read, all of them; the others' files are written first.
            MvtkError: the job could not run, or files exist with other content (``overwrite=True`` replaces them).
        """
        return self._process(tuple(kind for kind in KINDS if include_teacher or kind != "teacher"), train_split)

    def process_detector_data(self, train_split: float = DEFAULT_TRAIN_SPLIT) -> dict[str, Any]:
        """Make ``{train,val}_detector.npy``, a sample an image with all boxes; otherwise as :meth:`process_all`."""
        return self._process(("detector",), train_split)

    def process_landmarker_data(self, train_split: float = DEFAULT_TRAIN_SPLIT) -> dict[str, Any]:
        """Make ``{train,val}_landmarker.npy``, a sample an object with keypoints; otherwise as :meth:`process_all`."""
        return self._process(("landmarker",), train_split)

    def process_teacher_data(self, train_split: float = DEFAULT_TRAIN_SPLIT) -> dict[str, Any]:
        """Make ``{train,val}_teacher.npy``, a sample a box; otherwise as :meth:`process_all`."""
        return self._process(("teacher",), train_split)

    def _process(self, kinds: tuple[Kind, ...], train_split: float) -> dict[str, Any]:
        options = self._options.model_copy(update={"kinds": kinds})
        # Validated again: a copy is not.
        report = run_to_end(ProcessJob(ProcessOptions(**{**dict(options), "train_split": train_split})))
        if report.failed:
            problems = [f"{failure['source']}: {failure['reason']}" for failure in report.failed]
            raise InputProblemsError(f"{options.raw_data_dir}: datasets that could not be processed", problems)
        return report.stats
