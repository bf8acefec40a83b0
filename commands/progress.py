"""How a running job is shown: a bar on a terminal, lines at a bounded rate elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from commands.consoles import duration, say
from commands.options import OutputOptions
from toolkit.core.batch import Figures, Gauge
from toolkit.core.driver import JobRun

_BAR_WIDTH = 60
"""Columns below which a terminal has no room for a bar and the time left."""
_PLAIN_INTERVAL_S = 10.0
"""The shortest time between two progress lines where standard error is not a terminal."""


class ProgressView:
    """How a running job is shown; this one shows nothing."""

    def advance(self, figures: Figures, total: int | None) -> None:
        """Show the counts after one more outcome."""

    def stopping(self) -> None:
        """Say that a signal was seen."""


class _PlainProgress(ProgressView):
    """Lines at a bounded rate, for log files."""

    def __init__(self, console: Console, name: str) -> None:
        self._console = console
        self._name = name
        self._start_s = self._last_s = time.monotonic()

    def advance(self, figures: Figures, total: int | None) -> None:
        now_s = time.monotonic()
        if now_s - self._last_s < _PLAIN_INTERVAL_S:
            return
        self._last_s = now_s
        rate = figures.total / (now_s - self._start_s)
        left = f", {duration((total - figures.total) / rate)} left" if total and rate else ""
        say(
            self._console,
            f"{self._name}: {figures.total:,}/{'?' if total is None else f'{total:,}'}"
            f" ({figures.skipped:,} skipped, {figures.failed:,} failed), {rate:,.1f} a second{left}",
        )


class _LiveProgress(ProgressView):
    """A bar on a terminal."""

    def __init__(self, progress: Progress, name: str, total: int | None) -> None:
        self._progress = progress
        self._name = name
        self._task = progress.add_task(name, total=total, note="")

    def advance(self, figures: Figures, total: int | None) -> None:
        note = f"[red]{figures.failed:,} failed[/]" if figures.failed else ""
        self._progress.update(self._task, completed=figures.total, total=total, note=note)

    def stopping(self) -> None:
        self._progress.update(self._task, description=f"{self._name}: stopping (Ctrl-C again: at once)")


class _GaugeProgress(Progress):
    """A bar that follows a job's gauge: it moves while the items, few and large, are under way."""

    def __init__(self, run: JobRun[Any], *columns: ProgressColumn, console: Console) -> None:
        self._run = run
        super().__init__(*columns, console=console, transient=True, expand=True)

    def get_renderables(self) -> Iterable[RenderableType]:
        gauge = self._run.gauge()
        if gauge is not None:
            for task in self.task_ids:
                self.update(task, completed=gauge.done_bytes, total=gauge.total_bytes, files=f"{gauge.files:,} files")
        return super().get_renderables()


class _LiveGauge(ProgressView):
    """A bar of bytes on a terminal."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._name = name
        self._task = progress.add_task(name, total=None, files="")

    def stopping(self) -> None:
        self._progress.update(self._task, description=f"{self._name}: stopping (Ctrl-C again: at once)")


class _PlainGauge(ProgressView):
    """Lines about bytes and files at a bounded rate, for log files, from a thread of its own."""

    def __init__(self, console: Console, run: JobRun[Any]) -> None:
        self._console = console
        self._run = run
        self._start_s = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._report, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _report(self) -> None:
        while not self._ended.wait(_PLAIN_INTERVAL_S):
            gauge = self._run.gauge()
            if gauge is not None:
                say(self._console, self._line(gauge))

    def _line(self, gauge: Gauge) -> str:
        rate = gauge.done_bytes / (time.monotonic() - self._start_s)
        left = f", {duration((gauge.total_bytes - gauge.done_bytes) / rate)} left" if rate else ""
        return (
            f"{self._run.report.command}: {decimal(gauge.done_bytes)}/{decimal(gauge.total_bytes)},"
            f" {gauge.files:,} files, {decimal(int(rate))} a second{left}"
        )


@contextmanager
def _gauge_progress(console: Console, run: JobRun[Any]) -> Iterator[ProgressView]:
    name = run.report.command
    if not console.is_terminal:
        with _PlainGauge(console, run) as view:
            yield view
        return
    wide = console.width >= _BAR_WIDTH
    columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}")]
    columns += [BarColumn(bar_width=None)] if wide else []
    columns += [DownloadColumn(), TextColumn("{task.fields[files]}")]
    columns += [TransferSpeedColumn(), TimeRemainingColumn(compact=True)] if wide else []
    with _GaugeProgress(run, *columns, console=console) as progress:
        yield _LiveGauge(progress, name if wide else name.split()[-1])


@contextmanager
def shown_progress(console: Console, output: OutputOptions, run: JobRun[Any]) -> Iterator[ProgressView]:
    """Show a run on ``console`` while the block lasts, as its terminal and the options ask for."""
    name = run.report.command
    if output.quiet:
        yield ProgressView()
    elif run.has_gauge and not run.report.options.get("dry_run"):
        with _gauge_progress(console, run) as view:
            yield view
    elif not console.is_terminal:
        yield _PlainProgress(console, name)
    else:
        bar = (BarColumn(bar_width=None),) if console.width >= _BAR_WIDTH else ()
        time_left = (TimeRemainingColumn(compact=True),) if console.width >= _BAR_WIDTH else ()
        count, note = MofNCompleteColumn(), TextColumn("{task.fields[note]}")
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            *bar,
            count,
            *time_left,
            note,
            console=console,
            transient=True,
            expand=True,
        ) as progress:
            yield _LiveProgress(progress, name if bar else name.split()[-1], run.total)
