"""The exit codes of the command-line contract."""

from __future__ import annotations

from toolkit.core.errors import MvtkError, OptionError

DONE = 0
ITEMS_FAILED = 1
WRONG_USAGE = 2
COULD_NOT_RUN = 3
BUG = 4
SIGNAL_BASE = 128


def exit_code_of(error: Exception) -> int:
    """Return the exit code for an error that ended a command."""
    if isinstance(error, OptionError):
        return WRONG_USAGE
    return COULD_NOT_RUN if isinstance(error, MvtkError) else BUG
