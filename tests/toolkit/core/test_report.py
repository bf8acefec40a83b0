"""The report and the log: valid and complete whatever files are called."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.core.batch import Outcome
from toolkit.core.errors import MvtkError, StopRunError
from toolkit.core.report import MAX_FAILED_LISTED, ItemLog, Report

NAMES = st.text(st.characters(codec=None)) | st.binary().map(lambda name: name.decode("utf-8", "surrogateescape"))
LINE = re.compile(r"\[(OK|SKIP|ERR)\] \d+/(\d+|\?) ")


def report_of(*outcomes: Outcome) -> Report:
    report = Report("edges update", {"workers": 2})
    for outcome in outcomes:
        report.add(outcome)
    report.close()
    return report


@given(NAMES, NAMES)
def test_a_report_is_valid_json_for_any_name(source: str, reason: str) -> None:
    report = report_of(Outcome.failed(source, reason), Outcome.skipped(source, reason))
    text = report.as_json()
    assert text.isascii()
    content = json.loads(text)
    assert content["failed"][0]["source"] == source
    assert content["counts"] == {"total": 2, "done": 0, "skipped": 1, "failed": 1}


def test_a_report_has_the_contract_s_fields() -> None:
    content = report_of(Outcome.done("a", warnings=("odd mode",))).as_dict()
    assert list(content) == [
        *("schema", "command", "version", "host", "started", "elapsed_s", "options", "counts", "skipped"),
        *("failed", "failed_omitted", "interrupted", "exit_code", "stats"),
    ]
    assert content["schema"] == "mvtk.report/1"
    assert datetime.fromisoformat(content["started"]).tzinfo is not None
    assert content["stats"] == {"warnings": {"odd mode": 1}}


def test_a_report_lists_the_first_thousand_failures_and_counts_the_rest() -> None:
    content = report_of(*(Outcome.failed(str(number), "bad") for number in range(MAX_FAILED_LISTED + 7))).as_dict()
    assert len(content["failed"]) == 1000
    assert content["failed_omitted"] == 7
    assert content["counts"]["failed"] == 1007


def test_a_report_replaces_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    report_of().save(path)
    assert json.loads(path.read_text())["counts"]["total"] == 0


@given(NAMES, NAMES, NAMES)
def test_the_log_has_one_line_an_item_for_any_name(
    tmp_path_factory: pytest.TempPathFactory, source: str, reason: str, detail: str
) -> None:
    path = tmp_path_factory.mktemp("log") / "log.txt"
    outcomes = [
        Outcome.done(source, name=detail, warnings=(reason,)),
        Outcome.skipped(source, reason),
        Outcome(source, "failed", reason=reason, traceback=f"Traceback:\n  {reason}"),
    ]
    with ItemLog(path) as log:
        for outcome in outcomes:
            log.write(outcome, None)
    lines = path.read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    assert [bool(LINE.match(line)) for line in lines if not line.startswith("    ")] == [True] * 3
    assert all(line.isprintable() for line in lines)


def test_the_log_is_appended_and_flushed_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("before\n")
    with ItemLog(path) as log:
        log.write(Outcome.done("a b", bytes=1024, seconds=0.123456789, mode="has space"), 3)
        assert path.read_text() == 'before\n[OK] 1/3 a b bytes=1024 seconds=0.123457 mode="has space"\n'
        log.write(Outcome.skipped("c", "done before"), None)
        log.write(Outcome("d", "failed", reason="bad", traceback="Traceback\n  line 1"), 3)
    assert path.read_text().splitlines()[2:] == [
        '[SKIP] 2/? c reason="done before"',
        '[ERR] 3/3 d reason="bad"',
        "    Traceback",
        "      line 1",
    ]


def test_a_log_that_cannot_be_opened_is_an_expected_error(tmp_path: Path) -> None:
    with pytest.raises(MvtkError, match=r"log\.txt: cannot write the log: No such file or directory; check the path$"):
        ItemLog(tmp_path / "nowhere" / "log.txt")


def test_a_log_on_a_full_disk_stops_the_run() -> None:
    with (
        pytest.raises(StopRunError, match=r"^/dev/full: cannot write the log: No space left on device; free"),
        ItemLog(Path("/dev/full")) as log,
    ):
        log.write(Outcome.done("a"), 1)
