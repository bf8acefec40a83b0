"""Items that a thread makes ahead: their order, their number, their errors, and the thread's end."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from toolkit.embryo.extraction.read_ahead import ReadAhead


def test_all_items_in_order() -> None:
    with ReadAhead(iter(range(100)), 3) as items:
        assert list(items) == list(range(100))
        assert list(items) == []


def test_an_error_comes_after_what_was_made_before() -> None:
    def failing() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("broken")

    with ReadAhead(failing(), 5) as items:
        assert [next(items), next(items)] == [1, 2]
        for _ in range(2):
            with pytest.raises(ValueError, match="broken"):
                next(items)


def test_no_more_than_asked_for_is_made_ahead() -> None:
    made = []

    def counting() -> Iterator[int]:
        for number in itertools.count():
            made.append(number)
            yield number

    with ReadAhead(counting(), 4) as items:
        deadline = time.monotonic() + 10
        while len(made) < 4 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)
        assert len(made) == 4
        assert next(items) == 0


def test_leaving_ends_the_thread() -> None:
    before = threading.active_count()
    with ReadAhead(itertools.count(), 2) as items:
        next(items)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
