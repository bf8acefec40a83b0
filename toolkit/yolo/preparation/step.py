"""Putting one image with its label file into a dataset."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from toolkit.core.batch import Outcome, Step
from toolkit.core.errors import MvtkError
from toolkit.core.placing import LinkMode, adopt_time, has_content_of, is_made_from, place_file

ALREADY_THERE: Final = "exists already"
"""Why an image is skipped."""
COPIED: Final = "copied, since it cannot be linked"
OTHER_CONTENT: Final = "exists with other content; use --overwrite to replace it"


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """One image of the dataset; paths are POSIX style.

    Attributes:
        source: the image, relative to the source.
        label: its label file, relative to the source; "" where it has none.
        stem: ``<split>/<path below the split's folder, without suffix>``.
        suffix: of the image's name, with the dot.
    """

    source: str
    label: str
    stem: str
    suffix: str

    @property
    def image_target(self) -> str:
        """Where the image goes, relative to the dataset."""
        return f"images/{self.stem}{self.suffix}"

    @property
    def label_target(self) -> str:
        """Where its label file goes, relative to the dataset."""
        return f"labels/{self.stem}.txt"


class PlaceImage(Step[PreparedImage]):
    """Copy the label file, then link or copy the image: where an image is, all that belongs to it is.

    Label files are always copied: they are small, and people edit them.
    """

    def __init__(self, source: Path, output: Path, *, link: LinkMode, overwrite: bool) -> None:
        self._source = source
        self._output = output
        self._link = link
        self._overwrite = overwrite

    def process_one(self, item: PreparedImage) -> Outcome:
        """Put one image and its label file into the dataset; what is there is compared.

        Raises:
            StopRunError: the disk is full.
            MvtkError: a file cannot be read, something else has its name, or it cannot be written.
        """
        made = False
        if item.label:
            made = self._place(item.label, item.label_target, "copy") is not None
        mode = self._place(item.source, item.image_target, self._link)
        if mode is None and not made:
            return Outcome.skipped(item.source, ALREADY_THERE)
        warnings = (COPIED,) if mode == "copy" and self._link != mode else ()
        return Outcome.done(item.source, warnings=warnings, target=item.image_target, how=mode or ALREADY_THERE)

    def settled(self, item: PreparedImage) -> bool:
        """Tell, without reading them, whether image and label file are there as this step makes them."""
        places = [(item.source, item.image_target)]
        if item.label:
            places.append((item.label, item.label_target))
        for source, target in places:
            wanted, found = _status(self._source / source), _status(self._output / target)
            if wanted is None or found is None or not is_made_from(found, wanted):
                return False
        return True

    def _place(self, source: str, target: str, mode: LinkMode) -> LinkMode | None:
        """Make one file; return how it was made, None where it was there."""
        original, place = self._source / source, self._output / target
        if os.path.lexists(place) and not self._overwrite:
            if not has_content_of(place, original):
                raise MvtkError(f"{place} {OTHER_CONTENT}")
            adopt_time(place, original)
            return None
        return place_file(original, place, mode, overwrite=self._overwrite)


def _status(path: Path) -> os.stat_result | None:
    """Return what the system knows of a file; None where it tells nothing."""
    try:
        return os.stat(path)  # noqa: PTH116 - half the time of Path.stat, which counts here
    except OSError:
        return None
