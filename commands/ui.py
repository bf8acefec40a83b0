"""What a person sees of a batch job: progress while it runs, a table or JSON at its end, errors as they come.

Data goes to standard output; progress, warnings and errors go to standard error.
"""

from __future__ import annotations

import signal
from contextlib import closing, nullcontext
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from commands.bug_reports import save_traceback
from commands.consoles import duration, error_console, output_console, say, write_output
from commands.exit_codes import BUG, DONE, ITEMS_FAILED, SIGNAL_BASE, exit_code_of
from commands.options import OutputOptions
from commands.progress import shown_progress
from toolkit.core.batch import RUN_STOPPED, Job, Outcome
from toolkit.core.driver import JobRun
from toolkit.core.errors import one_line
from toolkit.core.files import require_writable
from toolkit.core.report import ItemLog, Report, require_own_files
from toolkit.core.signals import StopRequest, stop_on_signals
from toolkit.core.spawning import Crew

MAX_ERRORS_SHOWN = 20


def run_batch(job: Job[Any], output: OutputOptions, crew: Crew | None = None) -> NoReturn:
    """Run ``job``, show it, write its log and report, and exit with the code that the contract gives its result.

    Raises:
        typer.Exit: always, unless the job could not run.
        MvtkError: the job could not run or could not go on; the report is written first.
        BugError: an unexpected exception stopped the run; the report is written first.
        Exception: a bug outside the items; the report is written first.
    """
    errors = error_console()
    require_own_files(output.report, output.log)
    if output.report:
        require_writable(output.report)
    traceback = ""
    with stop_on_signals() as stop:
        run = JobRun(job, stop, crew)
        try:
            with ItemLog(output.log) if output.log else nullcontext() as log:
                traceback = _consume(run, stop, errors, output, log)
        except KeyboardInterrupt:
            run.report.interrupted = True
        except Exception as error:
            run.report.exit_code = exit_code_of(error)
            _save(run.report, output)
            raise
        run.report.exit_code = _exit_code(run.report, stop)
    _save(run.report, output)
    _show(run.report, errors, output, traceback, run.after_interrupt)
    raise typer.Exit(run.report.exit_code)


def _consume(run: JobRun[Any], stop: StopRequest, errors: Console, output: OutputOptions, log: ItemLog | None) -> str:
    """Run the job and show it; return the traceback of the first unexpected exception, if there was one."""
    shown_errors, traceback = 0, ""
    with shown_progress(errors, output, run) as progress, closing(run.outcomes()) as outcomes:
        for outcome in outcomes:
            traceback = traceback or outcome.traceback
            if log:
                log.write(outcome, run.total)
            if outcome.kind == RUN_STOPPED:
                pass  # the error that ends the run says it
            elif output.verbose:
                say(errors, _line(outcome), "red" if outcome.status == "failed" else "")
            elif outcome.status == "failed" and shown_errors < MAX_ERRORS_SHOWN:
                shown_errors += 1
                say(errors, f"error: {_line(outcome)}", "red")
                if shown_errors == MAX_ERRORS_SHOWN:
                    say(errors, "further errors are counted only; --log FILE has all of them", "dim")
            progress.advance(run.report.figures, run.total)
            if stop.requested:
                progress.stopping()
    return traceback


def _line(outcome: Outcome) -> str:
    if outcome.reason:
        return f"{outcome.source}: {outcome.reason}"
    return f"{outcome.source}: {outcome.details.get('dry_run', outcome.status)}"


def _exit_code(report: Report, stop: StopRequest) -> int:
    if report.interrupted:
        return SIGNAL_BASE + (stop.signum or signal.SIGINT)
    if report.figures.bugs:
        return BUG
    return ITEMS_FAILED if report.figures.failed else DONE


def _save(report: Report, output: OutputOptions) -> None:
    if output.report:
        report.save(output.report)


def _show(report: Report, errors: Console, output: OutputOptions, traceback: str, after_interrupt: str) -> None:
    for warning, count in report.figures.warnings.items():
        say(errors, f"warning: {warning} ({_items(count)})", "yellow")
    if report.interrupted:
        say(errors, f"interrupted: {after_interrupt}", "yellow")
    if report.figures.bugs:
        where = f"{output.log} has the tracebacks; please report them" if output.log else save_traceback(traceback)
        say(errors, f"bug: {_items(report.figures.bugs)} failed unexpectedly; {where}", "red")
    if output.json:
        write_output(report.as_json())
    elif not output.quiet:
        console = output_console()
        say(console, f"mvtk {report.command}" + (" (dry run)" if report.options.get("dry_run") else ""), "bold")
        console.print(_table(report))
        for remark in report.stats.get("remarks", ()):
            say(console, remark)


def _items(count: int) -> str:
    return "1 item" if count == 1 else f"{count:,} items"


def _table(report: Report) -> Table:
    """Return the counts as a table: what was done, what was skipped and failed and why."""
    figures = report.figures
    dry_run = bool(report.options.get("dry_run"))
    table = Table(box=None)
    table.add_column("result", no_wrap=True)
    table.add_column("items", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    table.add_row("would do" if dry_run else "done", f"{figures.done:,}", "" if dry_run else _speed(report))
    _add_reasons(table, "skipped", figures.skip_reasons, "")
    _add_reasons(table, "failed", figures.failure_kinds, "red")
    table.add_row("total", f"{figures.total:,}", "" if report.stats.get("complete") else "not complete", style="bold")
    return table


def _add_reasons(table: Table, result: str, reasons: dict[str, int], style: str) -> None:
    if not reasons:
        table.add_row(result, "0", "")
    for reason, count in sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0])):
        table.add_row(result, f"{count:,}", Text(one_line(reason)), style=style)


def _speed(report: Report) -> str:
    if not report.figures.done or not report.elapsed_s:
        return ""
    return f"in {duration(report.elapsed_s)}, {report.figures.done / report.elapsed_s:,.1f} a second"
