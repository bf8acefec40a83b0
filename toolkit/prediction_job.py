"""What jobs share that predict something for every image below a folder and keep a record an image.

The results of an image are named by its path without the suffix; it is done when it has its record
(:mod:`toolkit.prediction_records`), made by the same model and options and from the same prompts.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from toolkit.core.batch import Figures, Item, Job, Outcome
from toolkit.core.claims import claimed_folder
from toolkit.core.errors import MvtkError, OptionError
from toolkit.core.files import make_folder
from toolkit.prediction_records import RECORDS, RESULTS_NAME, merge_records, read_record

ALREADY_PREDICTED: Final = "already predicted"
STALE: Final = "stale: predicted by another model, from other boxes or with other options (--overwrite does it again)"
TWO_IMAGES: Final = "two images of one name"


class NamedItem(Item, Protocol):
    """An image, whose results bear its name."""

    @property
    def name(self) -> str:
        """Its path relative to the folder of images, POSIX style, without the suffix."""


NamedT = TypeVar("NamedT", bound=NamedItem)


class PredictionJob(Job[NamedT], Generic[NamedT]):
    """A prediction for all images below a folder, which is listed while the work goes on.

    Args:
        output: the folder for the results; ``records`` and, of all of them, ``predictions.json`` are made there.
        parts: the folders of the files that are written for an image besides its record.
        overwrite: do images again that were done by another model or with other options.
    """

    def __init__(self, output: Path, parts: Sequence[str], *, overwrite: bool) -> None:
        self._output = output
        self._parts = parts
        self._overwrite = overwrite
        self._results = output / RESULTS_NAME
        self._merged, self._left_out, self._kept = 0, 0, False

    def require_apart_from(self, images: Path) -> None:
        """Check that the results do not go where images are looked for.

        Raises:
            OptionError: the output folder is that of the images, or lies below it.
        """
        output, folder = self._output.resolve(), images.resolve()
        if output == folder:
            raise OptionError(f"--output {self._output} is the folder of the images", "give another folder")
        if folder in output.parents:
            problem = f"--output {self._output} lies in {images}, which is searched for images"
            raise OptionError(problem, "give a folder elsewhere")

    @property
    @abstractmethod
    def made_by(self) -> str:
        """What the records of this run say made them."""

    @abstractmethod
    def sources(self) -> Iterator[str]:
        """Yield the images' relative paths, folder by folder, each folder's sorted."""

    @abstractmethod
    def item_of(self, source: str) -> NamedT | Outcome:
        """Return what is to be done for an image, or why nothing can be."""

    def prompts_mark(self, item: NamedT) -> str:
        """Return what tells the prompts of an image from others; none where the model has none.

        Raises:
            MvtkError: they cannot be read.
        """
        del item
        return ""

    def plan(self) -> Iterator[NamedT | Outcome]:
        """Yield each image that is to be done, and why each other one is not.

        Raises:
            MvtkError: a folder cannot be listed.
        """
        folder, owners = None, dict[str, str]()  # of the folder's images, by the name of their results
        for source in self.sources():
            if folder != (folder := source.rpartition("/")[0]):
                owners.clear()
            owner = owners.setdefault(name_of(source), source)
            if not self.options.shard.holds(source):
                continue
            if owner != source:
                yield Outcome.failed(source, f"{TWO_IMAGES}: {owner} has the same results; rename one", TWO_IMAGES)
                continue
            item = self.item_of(source)
            yield item if isinstance(item, Outcome) else self._settled(item) or item

    def _settled(self, item: NamedT) -> Outcome | None:
        """Return the outcome of an image that has its record; None for one that is to be done."""
        path = self._output / RECORDS / f"{item.name}.json"
        if not os.path.lexists(path):
            return None
        try:
            record = read_record(path)
            mark = self.prompts_mark(item)
        except MvtkError as error:
            return None if self._overwrite else Outcome.failed(item.source, str(error))
        if (record.made_by, record.boxes) != (self.made_by, mark):
            return None if self._overwrite else Outcome.skipped(item.source, STALE)
        is_complete = set(record.parts).issuperset(self._parts)
        return Outcome.skipped(item.source, ALREADY_PREDICTED) if is_complete else None

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the output folder and remove what killed runs, and workers of this one, left there."""
        make_folder(self._output)
        with claimed_folder(self._output, self.command, self.options.shard):
            yield

    def finish(self, figures: Figures) -> None:
        """Make the list of all results, those of earlier runs and other shards included.

        A run that found nothing but images of another model or other options leaves their list as it is.
        """
        if figures.total and figures.skip_reasons.get(STALE) == figures.total and self._results.exists():
            self._kept = True
            return
        make_folder(self._output / RECORDS)
        self._merged, self._left_out = merge_records(self._output, self.made_by)

    def results_remark(self) -> str:
        """Return how many images are in the list of results, and how many are not."""
        if self._kept:
            return f"{RESULTS_NAME}: left as it is, all its images are of another model or other options"
        left_out = f"; {self._left_out:,} of another model or other options are left out" if self._left_out else ""
        return f"{RESULTS_NAME}: {self._merged:,} images{left_out}"

    @property
    def images_in_results(self) -> int:
        """How many images are in the list of results."""
        return self._merged


def name_of(source: str) -> str:
    """Return an image's path without its suffix."""
    return source.rpartition(".")[0]
