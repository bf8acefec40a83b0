"""Names that a person types for a phase, a focal plane or a video, the error for one that is none, and counts."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from toolkit.core.errors import OptionError

_MOST_NAMES = 20


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 video``, ``2,400 videos``.

    >>> counted(2400, "video")
    '2,400 videos'
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def unknown_name(kind: str, text: str, known: Sequence[str]) -> OptionError:
    """Return the error for a name that is none of ``known``; it has the nearest ones, and all where they are few.

    Args:
        kind: what is named, such as ``"phase"``.
        text: what was given.
        known: the names that exist.
    """
    nearest = _nearest(text, known)
    hints = [f"did you mean {nearest}?"] if nearest else []
    if len(known) <= _MOST_NAMES:
        hints.append(f"the {kind}s are {', '.join(known)}")
    return OptionError(f"there is no {kind} {text!r}", "; ".join(hints))


def _nearest(text: str, known: Sequence[str]) -> str:
    """Return the name that is most likely meant: one that begins so, of several the most similar; empty for none."""
    begins_so = [name for name in known if text and name.lower().startswith(text.lower())]
    nearest = difflib.get_close_matches(text, begins_so or known, n=1, cutoff=0.0 if begins_so else 0.6)
    return nearest[0] if nearest else ""
