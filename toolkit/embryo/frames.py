"""The frames in one folder of the embryo dataset: their names, their numbers, and whatever else lies beside them.

A frame is named ``D2013.01.28_S0717_I132_WELL7_RUN123.jpeg``. The number after ``RUN`` orders the frames; it is not
padded with zeros, so that the order of the names is another one. Numbers may be missing.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from toolkit.core.files import explain_os_error
from toolkit.embryo.layout import NESTED_FOLDER

_FRAME_NAME: Final = re.compile(r"(?P<stem>.*RUN)(?P<number>[0-9]{1,9})(?P<suffix>\.jpe?g)", re.DOTALL | re.IGNORECASE)

_START_MARKER: Final = b"\xff\xd8"
_END_MARKER: Final = b"\xff\xd9"
_END_BYTES: Final = 64
"""The end marker is looked for in so many last bytes: some programs pad files. In image data it cannot occur."""


@dataclass(frozen=True, slots=True)
class FrameFolder:
    """What a folder of frames holds.

    Attributes:
        numbers: the frames' numbers, ascending, none twice.
        names: the file of each.
        repeated: files whose number another file has, which comes first by name and is the frame.
        has_nested_copy: whether there is a nested folder ``F0``.
        others: how many other entries there are that are neither frames nor hidden.
        hidden: how many entries begin with a dot.
    """

    numbers: tuple[int, ...]
    names: tuple[str, ...]
    repeated: tuple[str, ...] = ()
    has_nested_copy: bool = False
    others: int = 0
    hidden: int = 0


def split_frame_name(name: str) -> tuple[str, int, str] | None:
    """Return what stands before the number, the number, and the suffix; None where it is no frame's name.

    >>> split_frame_name("D2013.01.28_S0717_I132_WELL7_RUN123.jpeg")
    ('D2013.01.28_S0717_I132_WELL7_RUN', 123, '.jpeg')
    """
    match = _FRAME_NAME.fullmatch(name)
    return None if match is None else (match["stem"], int(match["number"]), match["suffix"])


def list_frames(folder: Path | str) -> FrameFolder:
    """List one folder of frames; folders in it are not entered.

    Raises:
        MvtkError: the folder cannot be listed.
    """
    files: list[tuple[int, str]] = []
    has_nested_copy, others, hidden = False, 0, 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    hidden += 1
                elif (parts := split_frame_name(name)) is not None and entry.is_file():
                    files.append((parts[1], name))
                elif name == NESTED_FOLDER and entry.is_dir():
                    has_nested_copy = True
                else:
                    others += 1
    except OSError as error:
        raise explain_os_error(error, folder, "list the folder") from error
    files.sort()
    numbers: list[int] = []
    names: list[str] = []
    repeated: list[str] = []
    for number, name in files:
        if numbers and numbers[-1] == number:
            repeated.append(name)
        else:
            numbers.append(number)
            names.append(name)
    return FrameFolder(tuple(numbers), tuple(names), tuple(repeated), has_nested_copy, others, hidden)


def frame_file_problem(path: str) -> str:
    """Return what is wrong with a frame's file as far as its first and last bytes tell; empty where nothing is.

    A JPEG file begins with the marker SOI and ends with EOI (ITU-T T.81, annex B), which a file cut short lacks. It
    costs five system calls a file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    try:
        size = os.fstat(descriptor).st_size
        start = os.pread(descriptor, len(_START_MARKER), 0)
        end = os.pread(descriptor, _END_BYTES, max(size - _END_BYTES, 0))
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    finally:
        os.close(descriptor)
    if not size:
        return "is empty"
    if start != _START_MARKER:
        return "is no JPEG file"
    return "" if _END_MARKER in end else "is cut short (no JPEG end marker)"
