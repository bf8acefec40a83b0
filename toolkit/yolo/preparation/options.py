"""The options of the making of a YOLO dataset."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from toolkit.core.options import BatchOptions
from toolkit.core.placing import LinkMode
from toolkit.yolo.preparation.source import LabelFolder
from toolkit.yolo.preparation.split import Shares


class PrepareOptions(BatchOptions):
    """The options of a preparation.

    Attributes:
        source: a folder with ``images/`` and ``labels/``, with ``<split>/images`` and ``<split>/labels``, or with
            ``images/`` and ``boxes/``.
        output: the dataset to make: a new or empty folder, or one that an earlier run began.
        val: the part of the groups for validation.
        test: the part for testing.
        seed: another one shares the images out differently.
        group_by: a regular expression; what it captures in an image's path relative to ``source`` is its group.
        keep_splits: images in a split's folder stay in that split; otherwise all images are shared out anew.
        labels_from: which folder holds the labels where there are both; None: whichever there is.
        link: how images get their second place.
        names_yaml: a data YAML, or a text file with one name a line; None: the source's own.
        workers: parallel worker processes; 0, the default, links faster than workers are started.
        overwrite: make a dataset of an earlier run anew.
    """

    source: Path
    output: Path
    val: float = Field(default=0.2, ge=0, lt=1)
    test: float = Field(default=0.0, ge=0, lt=1)
    seed: int = 0
    group_by: str | None = None
    keep_splits: bool = False
    labels_from: LabelFolder | None = None
    link: LinkMode = "hard"
    names_yaml: Path | None = None
    workers: int = Field(default=0, ge=0)
    overwrite: bool = False

    @field_validator("group_by")
    @classmethod
    def _check_expression(cls, expression: str | None) -> str | None:
        try:
            re.compile(expression or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return expression or None

    @model_validator(mode="after")
    def _leave_something_for_training(self) -> Self:
        if self.val + self.test >= 1:
            raise ValueError(f"--val {self.val:g} and --test {self.test:g} leave nothing for training")
        return self

    @property
    def pattern(self) -> re.Pattern[str] | None:
        """What finds the group in an image's path."""
        return re.compile(self.group_by) if self.group_by else None

    @property
    def shares(self) -> Shares:
        """How images are shared out."""
        return Shares(self.val, self.test, self.seed)
