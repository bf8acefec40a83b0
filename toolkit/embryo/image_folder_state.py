"""What an image folder says of itself: which images it is for, so that another run can go on with it.

The file ``.mvtk-image-folder.json`` is written before the first image and stays. A folder that has none and is not
empty is somebody else's, and is left alone.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from toolkit.core.errors import MvtkError
from toolkit.core.files import explain_os_error, make_folder, read_bytes, write_bytes
from toolkit.core.listing import is_folder, visible_entries
from toolkit.embryo.image_copy import DESCRIPTIONS_FOLDER, IMAGES_FOLDER, STAGING_FOLDER

STATE_NAME: Final = ".mvtk-image-folder.json"
METADATA_NAME: Final = "metadata.csv"

_OURS: Final = {
    IMAGES_FOLDER: re.compile(r"(0|[1-9][0-9]*)\.jpeg"),
    DESCRIPTIONS_FOLDER: re.compile(r"(0|[1-9][0-9]*)\.txt"),
    STAGING_FOLDER: re.compile(r"(0|[1-9][0-9]*)\.(jpeg|txt)"),
}
"""The names that the files of a folder have: nothing else is ever removed."""


class ImageFolderState(BaseModel):
    """Which images a folder is for.

    Attributes:
        fingerprint: of the frames and their numbers.
        options: what they were chosen by, for people.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    fingerprint: str
    options: dict[str, Any]


def require_usable(folder: Path, state: ImageFolderState, *, overwrite: bool) -> None:
    """Check that images of ``state`` may be written into a folder.

    Raises:
        MvtkError: something that is no such image folder has the name, or it is for other images and ``overwrite`` is
            false; the line says what differs.
    """
    if not is_folder(folder):
        if os.path.lexists(folder):
            raise MvtkError(f"{folder}: not a folder", "give a new or an empty folder")
        return
    found = _read_state(folder)
    if found is None:
        if any(visible_entries(folder)):
            raise MvtkError(f"{folder}: not empty, and no image folder of mvtk", "give a new or an empty folder")
    elif found.fingerprint != state.fingerprint and not overwrite:
        hint = "use --overwrite to make it anew, or give another folder"
        raise MvtkError(f"{folder}: holds other images{_difference(found.options, state.options)}", hint)


def begin(folder: Path, state: ImageFolderState, *, overwrite: bool, alone: bool) -> None:
    """Make a folder ready for the images of ``state``: its subfolders are there, and nothing of other images is.

    Args:
        folder: an existing folder, which the caller holds.
        state: what it is for.
        overwrite: remove the images that are there.
        alone: no other run writes to it: what killed runs have not finished is removed.

    Raises:
        MvtkError: as :func:`require_usable`, or the folder cannot be written to.
    """
    require_usable(folder, state, overwrite=overwrite)
    if alone:
        clear_staging(folder)
    if overwrite:
        _clear(folder)
    if overwrite or _read_state(folder) is None:
        content = json.dumps(state.model_dump(), indent=2) + "\n"
        write_bytes(folder / STATE_NAME, content.encode(), overwrite=True)
    for name in _OURS:
        make_folder(folder / name)


def clear_staging(folder: Path) -> None:
    """Remove the files that are not finished, and the folder that they are in.

    Raises:
        MvtkError: something cannot be removed.
    """
    _remove_ours(folder, STAGING_FOLDER)


def existing_numbers(folder: Path) -> set[int]:
    """Return the numbers of the images that are there: files with such a name, linked ones included.

    Raises:
        MvtkError: the folder cannot be listed.
    """
    images = folder / IMAGES_FOLDER
    if not is_folder(images):
        return set()
    files = (entry for entry in visible_entries(images) if _OURS[IMAGES_FOLDER].fullmatch(entry.name))
    return {int(entry.name.partition(".")[0]) for entry in files if entry.is_file()}


def _clear(folder: Path) -> None:
    """Remove a folder's images; what says that they are complete goes first."""
    try:
        (folder / METADATA_NAME).unlink(missing_ok=True)
    except OSError as error:
        raise explain_os_error(error, folder / METADATA_NAME, "remove") from error
    for name in _OURS:
        _remove_ours(folder, name)


def _remove_ours(folder: Path, name: str) -> None:
    """Remove the files of ours in a subfolder, and the subfolder if nothing else is in it."""
    subfolder = folder / name
    if not is_folder(subfolder) or subfolder.is_symlink():
        return
    try:
        has_others = False
        for entry in list(visible_entries(subfolder)):
            if _OURS[name].fullmatch(entry.name):
                os.unlink(entry.path)  # noqa: PTH108 - the entry has its path
            else:
                has_others = True
        if not has_others:
            subfolder.rmdir()
    except OSError as error:
        raise explain_os_error(error, error.filename or subfolder, "remove") from error


def _read_state(folder: Path) -> ImageFolderState | None:
    path = folder / STATE_NAME
    if not os.path.lexists(path):
        return None
    try:
        return ImageFolderState.model_validate_json(read_bytes(path))
    except ValidationError as error:
        raise MvtkError(f"{path}: damaged", "remove the folder, or give another one") from error


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Return how the options differ, or that something else must have changed."""
    names = [name for name in wanted if found.get(name) != wanted[name]]
    if not names:
        return ", since the dataset or the split has changed"
    return ", made with " + ", ".join(f"{name}={json.dumps(found.get(name))}" for name in names)
