"""Where the traceback of a bug is kept."""

from __future__ import annotations

import sys
import tempfile


def save_traceback(text: str) -> str:
    """Write a traceback to a file of its own; return where it is and what to do with it, for the end of a line."""
    text = f"mvtk {' '.join(map(repr, sys.argv[1:]))}\n{text}"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="mvtk-bug-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(text)
    except OSError:
        sys.stderr.write(text)
        return "please report it with the traceback above"
    return f"the traceback is in {file.name}; please report it with that file"
