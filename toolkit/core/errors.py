"""Expected trouble, as values that say what is wrong, where, and what to do next.

Every error that a user can cause or mend is an :class:`MvtkError`. It is raised where the file is opened and
named; anything else that escapes is a bug. Only ``commands/main.py`` knows which exit code an error leads to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


def one_line(text: str) -> str:
    """Return ``text`` with control characters and undecodable bytes written as escapes.

    File names may hold line breaks, terminal escapes and bytes that are not UTF-8; a log line, an error and a
    table row must each stay one printable line whatever the name.
    """
    if text.isprintable() and text.isascii():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


class MvtkError(Exception):
    """Something a user can understand and mend.

    Args:
        message: what is wrong and where: the path, key or line number first.
        hint: what to do next, without a full stop; may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = one_line(message)
        self.hint = one_line(hint)

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class OptionError(MvtkError):
    """A wrong option, option value or configuration key."""


class MissingExtraError(MvtkError):
    """A command needs an optional dependency that is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed", f"install it in mvtk's folder with: pip install '.[{extra}]'")
        self.package = package
        self.extra = extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return type(self), (self.package, self.extra)


class StopRunError(MvtkError):
    """Trouble that no further item can escape, such as a full disk: the run stops instead of failing each item."""


class InputProblemsError(MvtkError):
    """All problems of one input, found together.

    Args:
        message: what was examined.
        problems: one line each: what is wrong, where, what was expected.
    """

    def __init__(self, message: str, problems: Sequence[str], hint: str = "") -> None:
        super().__init__(message, hint)
        self.args = (message, tuple(problems), hint)
        self.problems = tuple(one_line(problem) for problem in problems)

    def __str__(self) -> str:
        return f"{self.message}: {'; '.join(self.problems)}" + (f"; {self.hint}" if self.hint else "")


@contextmanager
def collected(problems: list[str]) -> Iterator[None]:
    """Add the expected error of the block, if there is one, to ``problems`` instead of raising it."""
    try:
        yield
    except InputProblemsError as error:
        problems.extend(f"{error.message}: {problem}" for problem in error.problems)
    except MvtkError as error:
        problems.append(str(error))


class BugError(Exception):
    """An unexpected exception, already described: the run cannot go on.

    Args:
        message: what happened, one line.
        traceback: the traceback of the original exception, as text.
    """

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message, traceback)
        self.message = one_line(message)
        self.traceback = traceback

    def __str__(self) -> str:
        return self.message
