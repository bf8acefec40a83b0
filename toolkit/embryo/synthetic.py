"""Synthetic runs: folders of generated images, all made from the one prompt that a ``metadata.json`` beside them tells.

::

    all-synthetic-runs/<run>/metadata.json
    all-synthetic-runs/<run>/img0.jpg, img1.jpg, ...
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from toolkit.core.errors import InputProblemsError, MvtkError, OptionError, collected, one_line
from toolkit.core.files import explain_os_error, make_folder, sync_folder, write_bytes
from toolkit.core.listing import require_folder, visible_entries
from toolkit.embryo.phases import Phase
from toolkit.embryo.planes import FocalPlane
from toolkit.embryo.prompts import prompt_of
from toolkit.embryo.synthetic_metadata import (
    METADATA_NAME,
    SyntheticMetadata,
    format_synthetic_metadata,
    load_synthetic_metadata,
)
from toolkit.images.search import is_image

_ROOT_HINT = "give the folder that holds the folders of the runs"
_DIGITS = re.compile(r"([0-9]+)")


@dataclass(frozen=True, slots=True)
class SyntheticRun:
    """One run, as its folder has it.

    Attributes:
        folder: the run's folder.
        metadata: what its images were made from.
        image_names: the images' file names, sorted by the numbers in them.
    """

    folder: Path
    metadata: SyntheticMetadata
    image_names: tuple[str, ...]

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.name


@dataclass(frozen=True, slots=True)
class RunCheck:
    """What was found in the folder of one run.

    Attributes:
        name: the run's name.
        run: what was read; None where there are problems other than damaged images.
        problems: why it cannot be used as it is, one line each, which names the file.
        warnings: what is odd about it, likewise.
    """

    name: str
    run: SyntheticRun | None
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def list_runs(root: Path) -> list[SyntheticRun]:
    """Return the runs in a folder such as ``all-synthetic-runs``, sorted by name; no image is opened.

    Raises:
        InputProblemsError: all problems of all runs.
        MvtkError: there is no such folder, or no run in it.
    """
    runs: list[SyntheticRun] = []
    problems: list[str] = []
    for folder in _run_folders(root):
        with collected(problems):
            runs.append(read_run(folder))
    if problems:
        raise InputProblemsError("cannot use the synthetic runs", problems)
    return runs


def read_run(folder: Path) -> SyntheticRun:
    """Read one run's metadata and list its images, which are not opened.

    Raises:
        InputProblemsError: all problems of the run.
        MvtkError: its only problem, or the folder cannot be listed.
    """
    problems: list[str] = []
    found: list[SyntheticMetadata] = []
    with collected(problems):
        found.append(load_synthetic_metadata(folder / METADATA_NAME))
    names = _image_names(folder)
    if not names:
        problems.append("no images")
    if problems:
        raise InputProblemsError(str(folder), problems)
    return SyntheticRun(folder, found[0], tuple(names))


def verify_runs(root: Path, *, decode: bool = True) -> list[RunCheck]:
    """Check every run in a folder, sorted by name.

    Args:
        root: a folder such as ``all-synthetic-runs``.
        decode: whether to decode every image, too.

    Raises:
        MvtkError: there is no such folder, or no run in it.
    """
    return [_check_run(folder, decode=decode) for folder in _run_folders(root)]


def new_run(
    root: Path, name: str, phase: Phase, plane: FocalPlane, prompt: str | None = None, when: datetime | None = None
) -> Path:
    """Make the folder of a new run with its ``metadata.json``; return that file's path.

    Args:
        root: a folder such as ``all-synthetic-runs``, made if missing.
        name: the run's name, which no folder in ``root`` has.
        phase: what the images will show.
        plane: the focal plane that they will show.
        prompt: None: the text that image folders have for this phase and plane.
        when: None: now, in local time with its zone.

    Raises:
        OptionError: the name is not that of a visible folder.
        MvtkError: there is something of that name, or it cannot be written.
    """
    if name in {"", ".", ".."} or name.startswith(".") or "/" in name or one_line(name) != name:
        raise OptionError(f"run name {name!r}", "give a plain name without / and without a leading dot")
    folder = root / name
    make_folder(root)
    text = format_synthetic_metadata(
        phase,
        plane,
        prompt_of(phase, plane) if prompt is None else prompt,
        when or datetime.now().astimezone(),
    )
    try:
        folder.mkdir()
        sync_folder(root)
    except FileExistsError as error:
        raise MvtkError(f"{folder} exists already", "give the run another name") from error
    except OSError as error:
        raise explain_os_error(error, folder, "create the folder") from error
    path = folder / METADATA_NAME
    write_bytes(path, text.encode())
    return path


def _run_folders(root: Path) -> list[Path]:
    """Return the visible folders in ``root``, sorted by name."""
    require_folder(root, _ROOT_HINT)
    names = sorted(entry.name for entry in visible_entries(root) if entry.is_dir())
    if not names:
        raise MvtkError(f"{root}: there are no runs", _ROOT_HINT)
    return [root / name for name in names]


def _check_run(folder: Path, *, decode: bool) -> RunCheck:
    problems: list[str] = []
    warnings: list[str] = []
    run: SyntheticRun | None = None
    with collected(problems):
        run = read_run(folder)
        warnings += [f"{folder / METADATA_NAME}: {remark}" for remark in run.metadata.remarks]
        warnings += [f"{folder / name}: neither an image nor {METADATA_NAME}" for name in _other_names(folder)]
    if decode:
        with collected(problems):
            problems += _damaged(folder)
    return RunCheck(folder.name, run, tuple(problems), tuple(warnings))


def _damaged(folder: Path) -> list[str]:
    """Return why images cannot be read, one line for each that cannot."""
    from toolkit.images.decoding import decode

    problems: list[str] = []
    for name in _image_names(folder):
        with collected(problems):
            decode(folder / name)
    return problems


def _image_names(folder: Path) -> list[str]:
    return sorted((entry.name for entry in visible_entries(folder) if is_image(entry.name)), key=_by_number)


def _other_names(folder: Path) -> list[str]:
    names = (entry.name for entry in visible_entries(folder))
    return sorted(name for name in names if name != METADATA_NAME and not is_image(name))


def _by_number(name: str) -> tuple[list[tuple[str, int]], str]:
    """Return what to sort a name by so that ``img10`` comes after ``img9``."""
    pieces = _DIGITS.split(name)
    numbers = [int(digits) for digits in pieces[1::2]]
    return list(zip(pieces[::2], [*numbers, -1], strict=True)), name
