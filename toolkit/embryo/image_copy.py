"""Putting one frame with its description into an image folder, by copy or by hard link."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from toolkit.core.batch import Outcome, Step
from toolkit.core.errors import MvtkError, StopRunError
from toolkit.core.files import explain_os_error, read_bytes
from toolkit.core.placing import CANNOT_LINK
from toolkit.images.files import JPEG_START, ImageError, check_jpeg

IMAGES_FOLDER: Final = "images"
DESCRIPTIONS_FOLDER: Final = "description"
STAGING_FOLDER: Final = ".mvtk-staging"
"""Where a file is filled before it gets its name; a leading dot hides it from those who load the folder."""

ALREADY_THERE: Final = "exists already"
"""Why an image is skipped."""
OTHER_CONTENT: Final = "exists with other content; use --overwrite to make the folder anew"
"""What is wrong with an image that is not the frame that it should be."""


@dataclass(frozen=True, slots=True)
class FolderImage:
    """One image of the folder.

    Attributes:
        source: the frame's path relative to the dataset's folder, POSIX style.
        number: the image's number, from 0, which names it.
        text: what describes it.
    """

    source: str
    number: int
    text: str

    @property
    def image_name(self) -> str:
        """The name of its file among the images."""
        return f"{self.number}.jpeg"

    @property
    def description_name(self) -> str:
        """The name of its file among the descriptions."""
        return f"{self.number}.txt"


class CopyImage(Step[FolderImage]):
    """Write the description, then the image: where an image is, all that belongs to it is.

    Nothing is decoded or encoded. Files appear whole under their names; they are not forced to the disk one by one,
    which would take ten times as long: the job does that once, before it writes the table of the images.
    """

    def __init__(self, root: Path, output: Path, *, link: bool) -> None:
        self._root = root
        self._output = output
        self._link = link

    def process_one(self, item: FolderImage) -> Outcome:
        """Put one image and its description into the folder; an image that is there is compared.

        Raises:
            StopRunError: no link can be made to files of the dataset, or the disk is full.
            MvtkError: the frame cannot be read, an image of other content has the name, or it cannot be written.
        """
        source = self._root / item.source
        try:
            content, modified_ns = _read_frame(source)
        except MvtkError as error:
            # The item is named by the frame: its path need not be said twice.
            return Outcome.failed(item.source, str(error).removeprefix(f"{source}: "))
        image = self._output / IMAGES_FOLDER / item.image_name
        is_there = os.path.lexists(image)
        if is_there and read_bytes(image) != content:
            return Outcome.failed(item.source, f"{image} {OTHER_CONTENT}")
        description = self._output / DESCRIPTIONS_FOLDER / item.description_name
        if is_there and _holds(description, item.text.encode()):
            _set_time(image, modified_ns)
            return Outcome.skipped(item.source, ALREADY_THERE)
        self._publish(item.text.encode(), description)
        if not is_there and self._link:
            _link(source, image)
        elif not is_there:
            self._publish(content, image, modified_ns)
        return Outcome.done(item.source, number=item.number, bytes=len(content))

    def _publish(self, content: bytes, target: Path, modified_ns: int | None = None) -> None:
        staged = self._output / STAGING_FOLDER / target.name
        try:
            with open(staged, "wb") as stream:  # noqa: PTH123 - half the time of Path.open, which counts here
                stream.write(content)
            if modified_ns is not None:
                _set_time(staged, modified_ns)
            os.replace(staged, target)  # noqa: PTH105 - likewise
        except OSError as error:
            raise explain_os_error(error, target, "write") from error


def _read_frame(path: Path) -> tuple[bytes, int]:
    """Return a frame's bytes, and when it was written, in nanoseconds since 1970.

    Raises:
        ImageError: it is no JPEG file, or is cut short.
        MvtkError: it cannot be read.
    """
    try:
        # Before it is read: what is written to it meanwhile makes it another one to the next run.
        modified_ns = path.stat().st_mtime_ns
    except FileNotFoundError as error:
        hint = "the frame index may be old: remove it and run the command again"
        raise ImageError(f"{path}: no such file", hint) from error
    except OSError as error:
        raise explain_os_error(error, path, "read") from error
    content = read_bytes(path)
    if not content.startswith(JPEG_START):
        raise ImageError(f"{path}: {'not a JPEG file' if content else 'the file is empty'}")
    check_jpeg(path, content)
    return content, modified_ns


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and read_bytes(path) == content


def _set_time(path: Path, modified_ns: int) -> None:
    """Give a copy its frame's time of writing; where that cannot be done, later runs compare it again.

    A file with several names is left alone: it may be a frame of another dataset.
    """
    with suppress(OSError):
        if os.stat(path, follow_symlinks=False).st_nlink == 1:  # noqa: PTH116 - half the time of Path.stat
            os.utime(path, ns=(modified_ns, modified_ns), follow_symlinks=False)


def _link(source: Path, target: Path) -> None:
    try:
        # A link to a link would not be the image; resolving every path would double the time.
        os.link(os.path.realpath(source) if source.is_symlink() else source, target)
    except OSError as error:
        if error.errno in CANNOT_LINK:
            reason = os.strerror(error.errno or 0)
            raise StopRunError(
                f"{target}: cannot link to {source}: {reason}", "copy the images instead, with --no-link"
            ) from error
        raise explain_os_error(error, target, "link") from error
