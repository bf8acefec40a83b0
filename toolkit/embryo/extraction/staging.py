"""Where an extraction lies until it is whole: ``.mvtk-partial`` in the destination, and how it is published from there.

::

    .mvtk-partial/extracted/<archive>/<entry>   what comes out of each archive
    .mvtk-partial/finished/<archive>.json       it was read to its end, and all of it is on the disk
    .mvtk-partial/publishing                    everything is finished: from now on entries appear in the destination
    .mvtk-partial/discarded/                    what nobody wants any more
    .mvtk-partial/progress                      how far each archive is
    .mvtk-complete.json                         everything is published; it comes last

Every step is a rename or an atomic write, and may be done again: a run that is killed at any moment is continued.
What was begun and not finished is extracted anew, into an empty folder: that the name of every member is new there is
then the file system's to check. It is set aside for that, not removed: ext4 takes five minutes to reuse the inodes of
removed files and searches past every one of them meanwhile, which makes the next extraction six times as slow.

Whoever may write to the destination could put links there: what has one of these names and is not the real folder or
file that is made under it is refused before anything is written, or discarded by a restart, and never followed.
"""

from __future__ import annotations

import ctypes
import enum
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from toolkit.core.errors import MvtkError
from toolkit.core.files import explain_os_error, is_temporary, sync_folder, write_bytes
from toolkit.core.locks import LOCK_NAME
from toolkit.embryo.extraction.archive_extraction import Extracted
from toolkit.embryo.extraction.archive_files import ArchiveFile
from toolkit.embryo.extraction.progress_file import ProgressWriter, make_progress_file
from toolkit.embryo.layout import EXTRACTED_NAMES, GRADES_NAME

PARTIAL_NAME: Final = ".mvtk-partial"
COMPLETE_NAME: Final = ".mvtk-complete.json"

_SCHEMA: Final = "mvtk.embryo/1"
_EXTRACTED: Final = "extracted"
_FINISHED: Final = "finished"
_PUBLISHING: Final = "publishing"
_DISCARDED: Final = "discarded"
_PROGRESS: Final = "progress"
_OWN_NAMES: Final = frozenset({_EXTRACTED, _FINISHED, _PUBLISHING, _DISCARDED, _PROGRESS, COMPLETE_NAME})
_RESULT_KEYS: Final = frozenset({"files", "bytes", "md5"})
_SHOWN_NAMES: Final = 3
_FOLDERS: Final = frozenset({_EXTRACTED, _FINISHED, _DISCARDED})
_NOT_OURS: Final = "is not what an extraction leaves"
_EMPTY_HINT: Final = "give a folder that is empty or does not exist"


class State(enum.Enum):
    """What a destination is to an extraction."""

    EMPTY = enum.auto()
    UNFINISHED = enum.auto()
    PUBLISHING = enum.auto()
    COMPLETE = enum.auto()


class Staging:
    """The staging of one destination.

    Args:
        destination: the folder in which the dataset is to appear; it need not exist.
    """

    def __init__(self, destination: Path) -> None:
        self._destination = destination
        self._folder = destination / PARTIAL_NAME

    @property
    def progress_path(self) -> Path:
        """The file that says how far each archive is."""
        return self._folder / _PROGRESS

    @property
    def leaves_something(self) -> bool:
        """Whether there is anything in the destination that a run removes at its end."""
        return any(os.path.lexists(path) for path in (self._folder, self._destination / LOCK_NAME))

    def state(self, *, restart: bool = False) -> State:
        """Return what the destination is; nothing is written.

        Args:
            restart: what is unfinished will be discarded: it need not be what an extraction leaves.

        Raises:
            MvtkError: it is not a folder, cannot be listed, or holds what no extraction put there.
        """
        names = self._names(self._destination) - {LOCK_NAME}
        if COMPLETE_NAME in names:
            return State.COMPLETE
        if PARTIAL_NAME not in names:
            self._require_none(names)
            return State.EMPTY
        if self._folder.is_symlink():
            raise MvtkError(f"{self._folder}: {_NOT_OURS}", _EMPTY_HINT)
        own = self._names(self._folder)
        if not all(name in _OWN_NAMES or is_temporary(name) for name in own):
            raise MvtkError(f"{self._folder}: {_NOT_OURS}", _EMPTY_HINT)
        if not restart:
            self._require_sound(own)
        publishing = _PUBLISHING in own
        self._require_none(names - {PARTIAL_NAME} - (set(EXTRACTED_NAMES) if publishing else set()))
        return State.PUBLISHING if publishing else State.UNFINISHED

    def published(self) -> dict[str, tuple[int, str]]:
        """Return, of a complete destination, size and MD5 sum of each archive that it was made of, by name.

        The sum is empty where it was not asked for.

        Raises:
            MvtkError: the destination lacks an entry, or what it says of itself cannot be read.
        """
        missing = set(EXTRACTED_NAMES) - self._names(self._destination)
        hint = "give another folder, or restore it"
        if missing:
            raise MvtkError(f"{self._destination}: was complete and lacks {_some(missing)} now", hint)
        marker = _load(self._destination / COMPLETE_NAME)
        try:
            return {archive["name"]: (archive["size"], archive["md5"]) for archive in marker["archives"]}
        except (KeyError, TypeError) as error:
            raise MvtkError(f"{self._destination / COMPLETE_NAME}: cannot be understood", hint) from error

    def finished(self, archives: Sequence[ArchiveFile], md5s: Mapping[str, str]) -> dict[str, Extracted]:
        """Return what came out of those archives that are finished, by name.

        Args:
            archives: the archives as they are now: one that has changed since is not finished.
            md5s: the MD5 sums that they must have, by name, where they are known.
        """
        found = {}
        for archive in archives:
            mark = _load(self._mark(archive))
            expected = _mark(archive, Extracted(0, 0, md5s.get(archive.source, "")))
            known = ("name", "size", "mtime_ns", *(["md5"] if archive.source in md5s else []))
            is_there = any(os.path.lexists(path) for path in (self._staged(archive), self._published(archive)))
            if is_there and mark.keys() >= _RESULT_KEYS and all(mark.get(key) == expected[key] for key in known):
                found[archive.source] = Extracted(mark["files"], mark["bytes"], mark["md5"])
        return found

    def held_bytes(self, archives: Sequence[ArchiveFile]) -> int:
        """Return how much space is taken by what is discarded, and by what is there of ``archives``."""
        roots = [self._folder / _DISCARDED]
        for archive in archives:
            roots += [self._root(archive), self._published(archive)]
        return sum(
            512 * os.lstat(os.path.join(folder, name)).st_blocks  # noqa: PTH118 - as os.walk gives them
            for root in roots
            for folder, _, names in os.walk(root)
            for name in names
        )

    def prepare(self) -> None:
        """Make the staging, or what it lacks, and remove what an earlier run discarded.

        Raises:
            MvtkError: it cannot be written.
        """
        with self._writing("prepare"):
            for folder in (self._folder, self._folder / _EXTRACTED, self._folder / _FINISHED):
                _make_real_folder(folder)
            self._empty_discarded()

    def begin_progress(self, slots: Mapping[str, int], done: Mapping[str, tuple[int, int]]) -> None:
        """Make the progress file, in which the archives in ``done`` are as far as it says (bytes read, files)."""
        make_progress_file(self.progress_path, len(slots))
        for name, figures in done.items():
            writer = ProgressWriter(self.progress_path, slots[name])
            writer.write(*figures)
            writer.close()

    def restart(self) -> None:
        """Make the staging anew: discard everything, also what was published of an extraction that is not complete.

        Raises:
            MvtkError: it cannot be written.
        """
        with self._writing("restart"):
            _make_real_folder(self._folder)
            self._empty_discarded()
            if os.path.lexists(self._folder / _PUBLISHING):
                for name in EXTRACTED_NAMES:
                    self._discard(self._destination / name)
            for name in (_FINISHED, _PUBLISHING, _EXTRACTED, _PROGRESS, COMPLETE_NAME):
                self._discard(self._folder / name)
            for name in (_EXTRACTED, _FINISHED):
                (self._folder / name).mkdir()

    def begin(self, archive: ArchiveFile) -> Path:
        """Return an empty folder for the content of ``archive``; what is there of it is set aside.

        Raises:
            MvtkError: it cannot be written.
        """
        with self._writing("begin"):
            self._mark(archive).unlink(missing_ok=True)
            self._discard(self._root(archive))
            self._root(archive).mkdir()
        return self._root(archive)

    def abandon(self, archive: ArchiveFile) -> None:
        """Remove what is there of ``archive``: it was refused, or the space is needed.

        Raises:
            MvtkError: it cannot be removed.
        """
        with self._writing("remove"):
            self._mark(archive).unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                shutil.rmtree(self._root(archive))

    def finish(self, archive: ArchiveFile, extracted: Extracted) -> None:
        """Wait until everything written so far is on the disk, then note that ``archive`` is finished.

        Raises:
            StopRunError: no space is left.
            MvtkError: it cannot be written.
        """
        with self._writing("write"):
            _sync_file_system(self._folder)
        write_bytes(self._mark(archive), _json(_mark(archive, extracted)), overwrite=True)

    def publish(self, archives: Sequence[ArchiveFile], finished: Mapping[str, Extracted]) -> None:
        """Move the entries into the destination, one by one, then the note that it is complete; remove the staging.

        Args:
            archives: all ten.
            finished: what came out of each, by name.

        Raises:
            MvtkError: an entry was lost, or is there already; or something cannot be written.
        """
        write_bytes(self._folder / _PUBLISHING, b"", overwrite=True)
        with self._writing("publish"):
            for archive in archives:
                self._publish(archive)
            sync_folder(self._destination)
        marks = [_mark(archive, finished[archive.source]) for archive in archives]
        write_bytes(self._folder / COMPLETE_NAME, _json({"schema": _SCHEMA, "archives": marks}), overwrite=True)
        with self._writing("publish"):
            (self._folder / COMPLETE_NAME).rename(self._destination / COMPLETE_NAME)
            sync_folder(self._destination)
        self.remove()

    def remove(self) -> None:
        """Remove the staging, if it is there.

        Raises:
            MvtkError: it cannot be removed.
        """
        with self._writing("remove"), suppress(FileNotFoundError):
            shutil.rmtree(self._folder)

    def _publish(self, archive: ArchiveFile) -> None:
        source, target = self._staged(archive), self._published(archive)
        if not os.path.lexists(source):
            if os.path.lexists(target):
                return
            raise MvtkError(f"{self._destination}: {archive.entry} was lost", "use --restart to extract everything")
        if os.path.lexists(target):
            raise MvtkError(f"{target}: appeared meanwhile", "move it away and run the command again")
        source.rename(target)

    def _discard(self, path: Path) -> None:
        if os.path.lexists(path):
            path.rename(self._folder / _DISCARDED / f"{path.name}-{secrets.token_hex(4)}")

    def _root(self, archive: ArchiveFile) -> Path:
        return self._folder / _EXTRACTED / archive.source

    def _staged(self, archive: ArchiveFile) -> Path:
        return self._root(archive) / archive.entry

    def _published(self, archive: ArchiveFile) -> Path:
        return self._destination / archive.entry

    def _mark(self, archive: ArchiveFile) -> Path:
        return self._folder / _FINISHED / f"{archive.source}.json"

    def _empty_discarded(self) -> None:
        _remove(self._folder / _DISCARDED)
        (self._folder / _DISCARDED).mkdir()

    def _require_sound(self, own: set[str]) -> None:
        """Check that everything in the staging, down to the entries to be published, is what is made there.

        What is in a folder below those came out of an archive: it is moved as a whole, or removed.
        """
        for name in sorted(own):
            _require_real(self._folder / name, is_folder=name in _FOLDERS)
        for name in sorted(self._names(self._folder / _FINISHED)):
            _require_real(self._folder / _FINISHED / name, is_folder=False)
        for name in sorted(self._names(self._folder / _EXTRACTED)):
            folder = self._folder / _EXTRACTED / name
            _require_real(folder, is_folder=True)
            for entry in self._names(folder):
                _require_real(folder / entry, is_folder=entry != GRADES_NAME)

    def _names(self, folder: Path) -> set[str]:
        try:
            return set(os.listdir(folder))  # noqa: PTH208 - names
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise explain_os_error(error, folder, "list the folder") from error

    def _require_none(self, names: set[str]) -> None:
        if names:
            raise MvtkError(f"{self._destination}: is not empty; it holds {_some(names)}", _EMPTY_HINT)

    @contextmanager
    def _writing(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise explain_os_error(error, error.filename or self._folder, action) from error


def _require_real(path: Path, *, is_folder: bool) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:  # another run, which holds the destination, has done with it
        return
    except OSError as error:
        raise explain_os_error(error, path, "look at it") from error
    if not (stat.S_ISDIR(mode) if is_folder else stat.S_ISREG(mode)):
        raise MvtkError(f"{path}: {_NOT_OURS}", "remove it or use --restart")


def _make_real_folder(folder: Path) -> None:
    """Make a folder, where it is not there yet; a link to one is an error."""
    try:
        folder.mkdir()
    except FileExistsError:
        _require_real(folder, is_folder=True)


def _remove(path: Path) -> None:
    """Remove a folder with all that is in it, a file or a link; links are never followed."""
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()


def _mark(archive: ArchiveFile, extracted: Extracted) -> dict[str, Any]:
    return {
        "name": archive.source,
        "size": archive.size,
        "mtime_ns": archive.mtime_ns,
        "md5": extracted.md5,
        "files": extracted.files,
        "bytes": extracted.size,
    }


def _load(path: Path) -> dict[str, Any]:
    """Return the object in a small JSON file of ours; an empty one where there is none."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=1).encode() + b"\n"


def _some(names: set[str]) -> str:
    shown = sorted(names)[:_SHOWN_NAMES]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _sync_file_system(folder: Path) -> None:
    """Wait until everything that was written to the file system of ``folder`` is on the disk."""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.sync()
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if syncfs(descriptor):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), os.fspath(folder))
    finally:
        os.close(descriptor)
