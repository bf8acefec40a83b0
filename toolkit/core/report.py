"""The machine-readable report of a run (``mvtk.report/1``) and the log with one line an item."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from toolkit.core.batch import Figure, Figures, Outcome
from toolkit.core.errors import OptionError, one_line
from toolkit.core.files import explain_os_error, write_bytes

SCHEMA = "mvtk.report/1"
MAX_FAILED_LISTED = 1000
_REPORT_BEGINNING = re.compile(rb'\s*\{\s*"schema": "mvtk\.report/')
_LOG_BEGINNING = re.compile(rb"\[(OK|SKIP|ERR)\] ")
_BEGINNING_BYTES = 64


@dataclass(slots=True)
class Report:
    """What a run did, as a value: the same for the terminal, the file and the exit code."""

    command: str
    options: Mapping[str, Any]
    figures: Figures = field(default_factory=Figures)
    failed: list[dict[str, str]] = field(default_factory=list)
    stats: dict[str, Any] = field(default_factory=dict)
    interrupted: bool = False
    exit_code: int = 0
    started: datetime = field(default_factory=lambda: datetime.now().astimezone())
    elapsed_s: float = 0.0
    _clock_s: float = field(default_factory=time.monotonic)

    def add(self, outcome: Outcome) -> None:
        """Count one outcome and list it if it failed."""
        self.figures.add(outcome)
        if outcome.status == "failed" and len(self.failed) < MAX_FAILED_LISTED:
            self.failed.append({"source": outcome.source, "reason": outcome.reason})

    def close(self) -> None:
        """Fix the elapsed time."""
        self.elapsed_s = round(time.monotonic() - self._clock_s, 3)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as it is written; JSON types only."""
        figures = self.figures
        return {
            "schema": SCHEMA,
            "command": self.command,
            "version": version("mvtk"),
            "host": socket.gethostname(),
            "started": self.started.isoformat(timespec="seconds"),
            "elapsed_s": self.elapsed_s,
            "options": dict(self.options),
            "counts": {
                "total": figures.total,
                "done": figures.done,
                "skipped": figures.skipped,
                "failed": figures.failed,
            },
            "skipped": figures.skip_reasons,
            "failed": self.failed,
            "failed_omitted": figures.failed - len(self.failed),
            "interrupted": self.interrupted,
            "exit_code": self.exit_code,
            "stats": {"warnings": figures.warnings, **self.stats},
        }

    def as_json(self) -> str:
        """Return the report as JSON text; names that are not UTF-8 are escaped, so that any reader takes it."""
        return json.dumps(self.as_dict(), indent=1) + "\n"

    def save(self, path: Path) -> None:
        """Write the report to ``path`` atomically, replacing an older one.

        Raises:
            MvtkError: it cannot be written.
        """
        write_bytes(path, self.as_json().encode(), overwrite=True)


def require_own_files(report: Path | None, log: Path | None) -> None:
    """Check that a report and a log replace and extend nothing but an earlier report and log.

    Raises:
        OptionError: both are one file, one of them names a file with other content, or the log no regular file (a pipe
            that nobody reads would be waited for; the null device and a terminal are taken).
        MvtkError: one of them cannot be read.
    """
    if report and log and os.path.realpath(report) == os.path.realpath(log):
        raise OptionError(f"--report and --log name one file, {report}", "name two")
    if report and report.is_file() and not _begins(report, _REPORT_BEGINNING):
        raise OptionError(f"--report {report} exists and is no report of mvtk", "name another file, or remove it")
    if log and log.exists() and not (log.is_file() or log.is_char_device()):
        raise OptionError(f"--log {log} is not a regular file", "name another file to write")
    if log and log.is_file() and not _begins(log, _LOG_BEGINNING):
        raise OptionError(f"--log {log} exists and is no log of mvtk", "name another file, or remove it")


def _begins(path: Path, pattern: re.Pattern[bytes]) -> bool:
    """Tell whether a file is empty or begins as ``pattern`` says."""
    try:
        with path.open("rb") as stream:
            beginning = stream.read(_BEGINNING_BYTES)
    except OSError as error:
        raise explain_os_error(error, path, "read") from error
    return not beginning or pattern.match(beginning) is not None


class ItemLog:
    """A log with one line an item, appended and flushed line by line.

    A line is ``[OK]``, ``[SKIP]`` or ``[ERR]``, then ``i/total`` (``i/?`` until the listing ends), the path and
    ``key=value`` details. The traceback of an unexpected exception follows its line, indented.

    Raises:
        MvtkError: the file cannot be opened or written.
    """

    _TAGS: Mapping[str, str] = {"done": "[OK]", "skipped": "[SKIP]", "failed": "[ERR]"}

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0
        try:
            self._stream: TextIO = path.open("a", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise explain_os_error(error, path, "write the log") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(OSError):  # every line was flushed when it was written, or its error raised then
            self._stream.close()

    def write(self, outcome: Outcome, total: int | None) -> None:
        """Append the line of one outcome; ``total`` is None while the listing goes on."""
        self._count += 1
        fields = [self._TAGS[outcome.status], f"{self._count}/{'?' if total is None else total}"]
        fields.append(one_line(outcome.source))
        if outcome.reason:
            fields.append(f"reason={json.dumps(outcome.reason)}")
        fields += [f"{key}={_value(value)}" for key, value in outcome.details.items()]
        fields += [f"warning={json.dumps(warning)}" for warning in outcome.warnings]
        lines = [" ".join(fields), *(f"    {one_line(line)}" for line in outcome.traceback.splitlines())]
        try:
            self._stream.write("".join(f"{line}\n" for line in lines))
            self._stream.flush()
        except OSError as error:
            raise explain_os_error(error, self._path, "write the log") from error


def _value(value: Figure) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if text.isprintable() and text and " " not in text and '"' not in text else json.dumps(text)
