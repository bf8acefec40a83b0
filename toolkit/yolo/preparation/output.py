"""What a prepared dataset says of itself: how it was made and which files are in it, so that another run can go on.

The file ``.mvtk-yolo-prepare.json`` is written before the first image and stays. Files that it does not name are
somebody's, and are never removed. A folder that has no such file and is not empty is left alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from toolkit.annotations.json_text import parse_json
from toolkit.annotations.marked_data_yaml import DATA_YAML, is_unedited
from toolkit.annotations.yolo_layout import LABEL_SUFFIXES
from toolkit.core.errors import MvtkError
from toolkit.core.files import explain_os_error, make_folder, read_bytes, write_bytes
from toolkit.core.listing import is_folder, visible_entries, walk_files
from toolkit.yolo.preparation.source import IMAGE_SUFFIXES, PAIR_SUFFIX

STATE_NAME: Final = ".mvtk-yolo-prepare.json"
FOLDERS: Final = ("images", "labels")

_NEW: Final = "give a new or an empty folder"
_SUFFIXES: Final = {"images": IMAGE_SUFFIXES | {PAIR_SUFFIX}, "labels": LABEL_SUFFIXES}


@dataclass(frozen=True, slots=True)
class OutputState:
    """How a dataset was made.

    Attributes:
        options: what decides which file goes where.
        files: the files of the dataset, relative to it, POSIX style.
    """

    options: Mapping[str, Any]
    files: frozenset[str]


@dataclass(frozen=True, slots=True)
class OutputContents:
    """What is in the folder of a dataset.

    Attributes:
        state: of an earlier run; None where there was none.
        stale: files of the earlier run that the dataset is not to have, sorted.
        foreign: images and labels that no run made, sorted: a model would be trained on them, too.
    """

    state: OutputState | None
    stale: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()


def look_into(folder: Path, planned: AbstractSet[str]) -> OutputContents:
    """Return what is in the folder of a dataset that is to have the ``planned`` files.

    Raises:
        MvtkError: something that is no such dataset has the name, or the folder cannot be read.
    """
    if not is_folder(folder):
        if os.path.lexists(folder):
            raise MvtkError(f"{folder}: not a folder", _NEW)
        return OutputContents(None)
    state = _read_state(folder)
    if state is None:
        if any(visible_entries(folder)):
            raise MvtkError(f"{folder}: not empty, and no dataset of mvtk yolo prepare", _NEW)
        return OutputContents(None)
    unplanned = [path for path in _list(folder) if path not in planned]
    return OutputContents(
        state,
        tuple(sorted(path for path in unplanned if path in state.files)),
        tuple(sorted(path for path in unplanned if path not in state.files)),
    )


def require_usable(folder: Path, contents: OutputContents, options: Mapping[str, Any]) -> None:
    """Check that a run with ``options`` may go on with a dataset without replacing anything.

    Raises:
        MvtkError: it was made otherwise, or has files that it is not to have any more.
    """
    if contents.state is None:
        return
    made = contents.state.options
    differing = [name for name in options if made.get(name) != options[name]]
    hint = "use --overwrite to make it anew, or give another folder"
    if differing:
        raise MvtkError(f"{folder}: was made {', '.join(_given(name, made.get(name)) for name in differing)}", hint)
    if contents.stale:
        some = f"{len(contents.stale)} files" if len(contents.stale) > 1 else "a file"
        raise MvtkError(f"{folder}: has {some} that it would not have now, such as {contents.stale[0]}", hint)


def begin(folder: Path, contents: OutputContents, state: OutputState, *, overwrite: bool) -> None:
    """Make a folder ready: it says how it is made, its subfolders are there, and stale files are not.

    Raises:
        MvtkError: the folder cannot be written to.
    """
    earlier = contents.state.files if contents.state is not None else frozenset()
    if contents.state != state:
        # What the earlier run made is named until it is gone: a killed run forgets nothing.
        save_state(folder, OutputState(state.options, state.files | earlier))
    if overwrite:
        _remove(folder, contents.stale)
    parents = sorted({path.rpartition("/")[0] for path in state.files})
    for parent in parents:
        make_folder(folder / parent)


def save_state(folder: Path, state: OutputState) -> None:
    """Write how a dataset is made, if it does not say so already.

    Raises:
        MvtkError: it cannot be written.
    """
    content = json.dumps({"options": state.options, "files": sorted(state.files)}, indent=1) + "\n"
    path = folder / STATE_NAME
    if not path.is_file() or read_bytes(path) != content.encode():
        write_bytes(path, content.encode(), overwrite=True)


def _remove(folder: Path, stale: Iterable[str]) -> None:
    """Remove files of the earlier run, and folders that this leaves empty; what says that they are there goes first."""
    target = folder / DATA_YAML
    try:
        if target.is_file() and is_unedited(target):
            target.unlink()
        for path in stale:
            (folder / path).unlink(missing_ok=True)
    except OSError as error:
        raise explain_os_error(error, error.filename or folder, "remove") from error
    for parent in sorted({above for path in stale for above in Path(path).parents}, key=lambda path: -len(path.parts)):
        if len(parent.parts) > 1:
            with suppress(OSError):
                (folder / parent).rmdir()


def _list(folder: Path) -> list[str]:
    """Return the images and labels that a model would be trained on."""
    found = []
    for kind in FOLDERS:
        if is_folder(folder / kind):
            for prefix, entry in walk_files(folder / kind, bool):
                if os.path.splitext(entry.name)[1].lower() in _SUFFIXES[kind]:  # noqa: PTH122 - a name
                    found.append(f"{kind}/{prefix}{entry.name}")
    return found


def _read_state(folder: Path) -> OutputState | None:
    path = folder / STATE_NAME
    if not os.path.lexists(path):
        return None
    hint = "remove the folder, or give another one"
    content = parse_json(read_bytes(path), str(path), hint)
    options = content.get("options") if isinstance(content, dict) else None
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(options, dict) or not isinstance(files, list) or not all(isinstance(each, str) for each in files):
        raise MvtkError(f"{path}: damaged", hint)
    return OutputState(options, frozenset(files))


def _given(option: str, value: Any) -> str:
    flag = f"--{option.replace('_', '-')}"
    if value is None or value is False:
        return f"without {flag}"
    return f"with {flag}" if value is True else f"with {flag} {value}"
