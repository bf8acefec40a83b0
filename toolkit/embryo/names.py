"""Names that a person types for a phase, a focal plane or a video, and the error for one that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from toolkit.core.errors import OptionError

_MOST_NAMES = 20


def unknown_name(kind: str, text: str, known: Sequence[str]) -> OptionError:
    """Return the error for a name that is none of ``known``; it has the nearest ones, and all where they are few.

    Args:
        kind: what is named, such as ``"phase"``.
        text: what was given.
        known: the names that exist.
    """
    nearest = difflib.get_close_matches(text, known, n=1)
    hints = [f"did you mean {nearest[0]}?"] if nearest else []
    if len(known) <= _MOST_NAMES:
        hints.append(f"the {kind}s are {', '.join(known)}")
    return OptionError(f"there is no {kind} {text!r}", "; ".join(hints))
