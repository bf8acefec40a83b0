"""The ``mvtk`` application: its groups, imported when they are used, and the one place that catches errors."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from commands.lazy import LazyGroup, lazy_command, stub

GROUPS = {
    "npz": "Inspect, verify, pack, preprocess and preview NPZ files.",
    "dataset": "Build, verify and preview training datasets.",
    "edges": "Edge maps of instance masks: update, verify, extract and preview.",
    "features": "SAM2 features in NPZ files: repair, extract, verify and preview.",
    "sam": "Fine-tune SAM on boxes and masks: verify, train, evaluate, predict.",
    "yolo": "YOLO on pairs of image and mask, and on plain images: prepare, train, validate, predict.",
    "embryo": "The embryo time-lapse dataset: extract, check, split and prepare.",
}
"""Each group's help line, here so that ``mvtk --help`` imports none of them."""

COMMANDS = {"doctor": "Show versions, extras, devices and free space."}


class _Root(LazyGroup):
    """The root group: the module of a group is imported when that group is called."""

    def load(self, name: str) -> Any:
        if name in GROUPS or name in COMMANDS:
            return lazy_command(importlib.import_module(f"commands.{name}").app)
        return None


app = typer.Typer(
    name="mvtk",
    cls=_Root,
    help="Machine-vision toolkit for training data on GPU servers.",
    epilog="Example: mvtk dataset convert-mask-attention --help",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"mvtk {version('mvtk')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Machine-vision toolkit for training data on GPU servers."""


for _name, _help in {**GROUPS, **COMMANDS}.items():
    app.command(_name, help=_help)(stub)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line ``arguments`` (default: those of the process) and return the exit code."""
    try:
        app(args=arguments, prog_name="mvtk")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception as error:  # noqa: BLE001 - the one error boundary
        return _explain(error)
    return 0


def main() -> NoReturn:
    """Run the process's command line and exit."""
    _replace_closed_streams()
    code = run()
    try:
        sys.stdout.flush()
    except OSError as error:
        from commands.consoles import discard
        from toolkit.core.files import explain_os_error

        discard(sys.stdout)
        if code == 0 and not isinstance(error, BrokenPipeError):
            code = _explain(explain_os_error(error, "standard output", "write"))
    sys.exit(code)


def _replace_closed_streams() -> None:
    """Open the null device for standard streams that the caller closed: no file of ours may take their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - a descriptor, for good
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _explain(error: Exception) -> int:
    """Print what is wrong in one line and return the exit code."""
    from commands.bug_reports import save_traceback
    from commands.consoles import error_console, say
    from commands.exit_codes import BUG, exit_code_of
    from toolkit.core.errors import BugError, InputProblemsError, MvtkError
    from toolkit.core.extras import explain_import_error
    from toolkit.core.files import STORAGE_EXHAUSTED, explain_os_error

    if os.environ.get("MVTK_DEBUG") == "1":
        sys.stderr.write(_traceback_of(error))
    if isinstance(error, ImportError):
        error = explain_import_error(error) or error
    elif isinstance(error, MemoryError):
        error = MvtkError("there is not enough memory", "use smaller sizes or fewer workers")
    elif isinstance(error, FileNotFoundError) and not os.path.isdir(os.curdir):  # noqa: PTH112
        error = MvtkError("the current folder does not exist any more", "change to one that does")
    elif isinstance(error, OSError) and error.errno in STORAGE_EXHAUSTED:
        error = explain_os_error(error, error.filename or "standard output", "write")
    console = error_console()
    if isinstance(error, InputProblemsError):
        for problem in error.problems:
            say(console, f"error: {error.message}: {problem}", "red")
        if error.hint:
            say(console, error.hint)
        return exit_code_of(error)
    if isinstance(error, MvtkError):
        say(console, f"error: {error}", "red")
        return exit_code_of(error)
    text = str(error) if isinstance(error, BugError) else f"{type(error).__name__}: {error}"
    say(console, f"bug: {text}; {save_traceback(_traceback_of(error))}", "red")
    return BUG


def _traceback_of(error: Exception) -> str:
    import traceback

    from toolkit.core.errors import BugError

    text = "".join(traceback.format_exception(error))
    return f"{text}\nWhere it happened:\n{error.traceback}" if isinstance(error, BugError) else text


if __name__ == "__main__":
    main()
