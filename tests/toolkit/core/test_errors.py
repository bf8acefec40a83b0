"""Errors: one printable line whatever they name, and whole after a journey between processes."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.core.config import ConfigError
from toolkit.core.errors import (
    BugError,
    InputProblemsError,
    MissingExtraError,
    MvtkError,
    OptionError,
    StopRunError,
    one_line,
)
from toolkit.core.files import TargetExistsError
from toolkit.core.locks import FolderInUseError

ERRORS = [
    MvtkError("a: bad", "mend it"),
    OptionError("a: bad"),
    StopRunError("a: full", "free some"),
    MissingExtraError("torch", "torch"),
    InputProblemsError("a.json", ["one", "two\n"], "mend both"),
    ConfigError("a.yaml", ["one"]),
    TargetExistsError(Path("a\nb")),
    FolderInUseError("a is in use", "wait"),
    BugError("what\never", "Traceback"),
]


@given(st.text(st.characters(codec=None)))
def test_any_text_becomes_one_printable_line(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    line.encode()
    if text.isprintable():
        assert line == text


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_travel_whole(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
    assert copy.args == error.args
    assert str(error).isprintable()


def test_all_problems_of_an_input_are_in_its_text() -> None:
    assert str(ERRORS[4]) == r"a.json: one; two\n; mend both"
    assert str(ERRORS[3]) == "torch is not installed; install it in mvtk's folder with: pip install '.[torch]'"
