"""Names that do not exist, and counts in words."""

from __future__ import annotations

import pytest

from toolkit.embryo.names import counted, unknown_name


@pytest.mark.parametrize(
    ("text", "suggested"),
    [
        ("tPB", "did you mean tPB2?"),
        ("TPn", "did you mean tPNa?"),
        ("t77", "did you mean t7?"),
        ("AA8", "did you mean AA83-7?"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_a_name_that_begins_so_is_meant(text: str, suggested: str) -> None:
    known = ["tPB2", "tPNa", "t7", "A8", "AA83-7", "BAA8"]
    hint = unknown_name("phase", text, known).hint
    assert hint.partition(";")[0] == (suggested or f"the phases are {', '.join(known)}")


@pytest.mark.parametrize(("number", "text"), [(0, "0 videos"), (1, "1 video"), (2400, "2,400 videos")])
def test_counts(number: int, text: str) -> None:
    assert counted(number, "video") == text
