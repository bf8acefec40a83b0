"""Make a dataset that Ultralytics trains on from images and their label files.

::

    OUTPUT/images/train/…, val/…, test/…    the images, by hard link, symbolic link or copy
    OUTPUT/labels/train/…, val/…, test/…    their label files, copied
    OUTPUT/data.yaml                        written last: class names, splits, channels

Images of one group, such as a Roboflow image and its augmented copies, are never on two sides. A hash of the group
decides, so that images keep their side when others are added (:mod:`toolkit.yolo.preparation.split`). An image without
a label file is a background, as it is for Ultralytics.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

from toolkit.annotations.marked_data_yaml import DATA_YAML, publish_marked
from toolkit.annotations.yolo_data_yaml import format_data_yaml
from toolkit.core.batch import Figures, Job, Outcome
from toolkit.core.claims import claimed_folder
from toolkit.core.errors import OptionError
from toolkit.core.files import make_folder
from toolkit.core.options import ALL
from toolkit.yolo.preparation.inputs import examine
from toolkit.yolo.preparation.options import PrepareOptions
from toolkit.yolo.preparation.output import FOLDERS, OutputState, begin, look_into, require_usable, save_state
from toolkit.yolo.preparation.split import SPLITS
from toolkit.yolo.preparation.step import ALREADY_THERE, PlaceImage, PreparedImage
from toolkit.yolo.preparation.summary import counted, remarks, split_figures, split_lines

NO_IMAGE: Final = "label file without an image"
"""Why a label file is skipped."""

_STATE_OPTIONS: Final = {"val", "test", "seed", "group_by", "keep_splits", "link"}


class PrepareJob(Job[PreparedImage]):
    """The preparation of one dataset. All label files are read before anything is written.

    About two kilobytes an image are held in memory.

    Raises:
        OptionError: source and output lie in one another.
        InputProblemsError: all that is wrong in the source.
        MvtkError: there are no images or labels, or the output folder cannot be used.
    """

    command: ClassVar[str] = "yolo prepare"

    def __init__(self, options: PrepareOptions) -> None:
        self._options = options
        _require_apart(options)
        self._inputs = examine(options)
        images = self._inputs.images
        files = [image.image_target for image in images] + [image.label_target for image in images if image.label]
        self._state = OutputState(options.model_dump(mode="json", include=_STATE_OPTIONS), frozenset(files))
        self._contents = look_into(options.output, self._state.files)
        if not options.overwrite:
            require_usable(options.output, self._contents, self._state.options)
        self._yaml_remark = f"{DATA_YAML} is not written yet: run the command again"

    @property
    def options(self) -> PrepareOptions:
        """The options."""
        return self._options

    @property
    def size(self) -> int:
        """The number of images, and of label files without one."""
        return len(self._inputs.images) + len(self._inputs.source.orphans)

    def plan(self) -> Iterator[PreparedImage | Outcome]:
        """Yield each image that is not there yet, why others need no work, and the label files without an image."""
        step = self.step()
        for label in self._inputs.source.orphans:
            yield Outcome.skipped(label, NO_IMAGE)
        for image in self._inputs.images:
            is_there = not self._options.overwrite and step.settled(image)
            yield Outcome.skipped(image.source, ALREADY_THERE) if is_there else image

    def step(self) -> PlaceImage:
        """Return the linking, or copying, of one image with its label file."""
        options = self._options
        return PlaceImage(options.source, options.output, link=options.link, overwrite=options.overwrite)

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the output folder and make it ready; remove what killed runs left there."""
        options = self._options
        make_folder(options.output)
        with claimed_folder(options.output, self.command, ALL):
            contents = look_into(options.output, self._state.files)
            if not options.overwrite:
                require_usable(options.output, contents, self._state.options)
            begin(options.output, contents, self._state, overwrite=options.overwrite)
            yield

    def finish(self, figures: Figures) -> None:
        """Write ``data.yaml``, if every image is there.

        Raises:
            MvtkError: it cannot be written.
        """
        if figures.failed or figures.total < self.size:
            return
        if figures.done:
            os.sync()  # the images before the file that says that they are there
        save_state(self._options.output, self._state)
        splits = [split for split in SPLITS if split in self._inputs.shared.groups]
        body = format_data_yaml(self._inputs.class_names, splits, channels=self._inputs.channels)
        self._yaml_remark = publish_marked(self._options.output / DATA_YAML, body, overwrite=self._options.overwrite)

    def stats(self, figures: Figures) -> Mapping[str, Any]:
        """Return what each split has, and what a person should know."""
        del figures
        inputs = self._inputs
        lines = [*split_lines(inputs), *remarks(inputs, self._options)]
        foreign = self._contents.foreign
        if foreign:
            count = counted(len(foreign), "file")
            lines.append(f"{count} in {self._options.output} that mvtk did not put there, such as {foreign[0]}")
        if self._yaml_remark and not self._options.dry_run:
            lines.append(self._yaml_remark)
        return {
            "splits": split_figures(inputs),
            "groups": len(set(inputs.groups)),
            "channels": inputs.channels,
            "labels_without_image": len(inputs.source.orphans),
            "remarks": lines,
        }


def _require_apart(options: PrepareOptions) -> None:
    """Check that nothing is written into the source, not through a link in the output either."""
    source, output = Path(os.path.realpath(options.source)), options.output
    written = [output, *(output / kind for kind in FOLDERS)]
    written += [output / kind / split for kind in FOLDERS for split in SPLITS]
    for folder in written:
        if Path(os.path.realpath(folder)).is_relative_to(source):
            raise OptionError(f"the output {folder} lies in the source {options.source}", "name another folder")
    if source.is_relative_to(os.path.realpath(output)):
        raise OptionError(f"the source {options.source} lies in the output {output}", "name another folder")


__all__ = ["PrepareJob", "PrepareOptions"]
