"""What is wrong with one annotation file, said together."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.core.errors import InputProblemsError

EXPORT_AGAIN = "correct the file, or export it again"
"""The hint for a file whose content is wrong."""

SHOWN_PROBLEMS = 20
"""How many are said in words: a file whose every record is wrong has a million of them."""


def raise_problems(source: str, problems: Sequence[str], hint: str = EXPORT_AGAIN) -> None:
    """Raise what is wrong with a file, if anything is.

    Args:
        source: names the file.
        problems: one line each, in order of their places in the file.
        hint: what to do next.

    Raises:
        InputProblemsError: the first 20 problems in words and the number of the others.
    """
    if problems:
        hidden = len(problems) - SHOWN_PROBLEMS
        more = [f"and {hidden} more"] if hidden > 0 else []
        raise InputProblemsError(source, [*problems[:SHOWN_PROBLEMS], *more], hint)
