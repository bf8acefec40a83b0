"""Standard output and standard error, as they are now: data goes to the one, everything else to the other."""

from __future__ import annotations

import json
import os
import sys
from typing import IO, Any

from rich.console import Console

from toolkit.core.errors import one_line

_FILE_WIDTH = 200
"""Columns of a table that goes to a file or a pipe: long names are not to be broken."""
_FIGURES_A_LINE = 7
"""As many as quantiles have."""


class _Console(Console):
    """A console that goes on in silence when its reader has gone: the work matters more than who reads about it."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        discard(self.file)


def discard(stream: IO[str]) -> None:
    """Lead ``stream`` nowhere: what it still holds would fail again at the end of the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def error_console() -> Console:
    """Return a console on standard error as it is now (tests and callers may replace the stream)."""
    return _Console(stderr=True, highlight=False, soft_wrap=True)


def output_console() -> Console:
    """Return a console on standard output as it is now."""
    console = _Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _FILE_WIDTH
    return console


def say(console: Console, text: str, style: str = "") -> None:
    """Print one line as it is: no markup, no wrapping, control characters escaped."""
    console.print(one_line(text), style=style, markup=False, emoji=False, highlight=False, soft_wrap=True)


def say_value(console: Console, name: str, value: Any, indent: str = "") -> None:
    """Print a value of JSON types under its name, what is nested indented below it; nothing for an empty one."""
    if value in (None, "", {}, []):
        return
    inner = f"{indent}  "
    if isinstance(value, dict) and not _is_short(value):
        say(console, f"{indent}{name}:")
        for key, item in value.items():
            say_value(console, str(key), item, inner)
    elif isinstance(value, list) and isinstance(value[0], dict):
        say(console, f"{indent}{name}:")
        for item in value:
            say(console, inner + _shown(item))
    else:
        say(console, f"{indent}{name}: {_shown(value)}")


def _is_short(values: dict[str, Any]) -> bool:
    """Tell whether a few figures fit on one line."""
    return len(values) <= _FIGURES_A_LINE and not any(isinstance(value, dict | list) for value in values.values())


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(part)}" for key, part in value.items())
    if isinstance(value, list):
        nested = any(isinstance(item, list) for item in value)
        return "; ".join(" ".join(map(str, item)) for item in value) if nested else ", ".join(map(_shown, value))
    return str(value)


def duration(seconds: float) -> str:
    """Return a time as a person reads it: 12.3 s, 4:05 min, 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02} min"


def print_json(value: Any) -> None:
    """Print JSON types to standard output."""
    write_output(json.dumps(value, indent=1) + "\n")


def write_output(text: str) -> None:
    """Write text to standard output as it is; a reader who has gone does not matter."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout)
