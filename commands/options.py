"""The options that commands share, and how flags and a configuration file become an options model.

This module is imported for every ``--help``: it imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from toolkit.core.spawning import Crew

    ModelT = TypeVar("ModelT", bound=BaseModel)

BATCH_PANEL = "Batch options"
OUTPUT_PANEL = "Output options"


def _apply_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make the values of the configuration file the defaults of this command's options."""
    if path is None or context.resilient_parsing:
        return path
    from toolkit.core.config import load_config

    parameters = {
        name: parameter
        for parameter in context.command.params
        if parameter.name not in {"config", "help"}
        for name in _config_names(parameter)
    }
    values = load_config(path, parameters.keys())
    context.default_map = {
        str(parameters[name].name): _as_typed(value, several=bool(getattr(parameters[name], "multiple", False)))
        for name, value in values.items()
        if value is not None
    }
    return path


def _config_names(parameter: Any) -> set[str]:
    """Return what a configuration file may call an option, in snake case: its long flag, and its name in Python."""
    flags = [flag.removeprefix("--") for flag in parameter.opts if flag.startswith("--")]
    return {name.replace("-", "_") for name in (*flags[:1], str(parameter.name))}


def _as_typed(value: Any, *, several: bool) -> str | list[str]:
    """Return a YAML value as the command line gives it: text, or a list of it for an option that may be repeated.

    Text passes the option's own check; YAML's own ``2.7`` or ``yes`` would quietly become the whole number 2 or 1.
    """
    texts = [str(part) for part in value] if isinstance(value, list) else [str(value)]
    return texts if several else ",".join(texts)


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        readable=False,
        metavar="FILE.yaml",
        help="Option values from a YAML file; a value on the command line wins.",
        is_eager=True,
        callback=_apply_config,
        rich_help_panel=BATCH_PANEL,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        help="Parallel workers; 0 works in this process.",
        show_default="the CPUs this process may use",
        rich_help_panel=BATCH_PANEL,
    ),
]
DeviceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="auto (one GPU, else the CPU), cpu, cuda, cuda:4, 4; several, one worker each: cuda:1,cuda:2.",
        show_default="auto",
        rich_help_panel=BATCH_PANEL,
    ),
]
DevicesExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--devices-exclude",
        metavar="0,3",
        help="GPUs that are never used; in a configuration file devices.exclude.",
        rich_help_panel=BATCH_PANEL,
    ),
]
DevicesPreferOption = Annotated[
    list[str] | None,
    typer.Option(
        "--devices-prefer",
        metavar="1,2",
        help="GPUs that auto takes first; in a configuration file devices.prefer.",
        rich_help_panel=BATCH_PANEL,
    ),
]
MaxFilesOption = Annotated[
    int,
    typer.Option(
        "--max-files", metavar="N", help="Stop after N items that need work; 0: no limit.", rich_help_panel=BATCH_PANEL
    ),
]
ShardOption = Annotated[
    str,
    typer.Option("--shard", metavar="I/N", help="Only part I of N, 0 <= I < N.", rich_help_panel=BATCH_PANEL),
]
DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="Say what would be done and why the rest is skipped.", rich_help_panel=BATCH_PANEL),
]
OverwriteOption = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace what exists and do finished work again, as after a change of options."),
]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report", metavar="FILE.json", help="Write the machine-readable report.", rich_help_panel=OUTPUT_PANEL
    ),
]
LogOption = Annotated[
    Path | None,
    typer.Option("--log", metavar="FILE", help="Append one line an item.", rich_help_panel=OUTPUT_PANEL),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON instead of the table.", rich_help_panel=OUTPUT_PANEL)
]
QuietOption = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="No progress, no table; errors only.", rich_help_panel=OUTPUT_PANEL),
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="One line an item on stderr.", rich_help_panel=OUTPUT_PANEL)
]


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Where a command's results go and how much it says."""

    report: Path | None = None
    log: Path | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False


def early_workers(workers: int | None, preload: str, *, dry_run: bool) -> AbstractContextManager[Crew]:
    """Start a batch command's first workers while it still imports; they end with the block unless a run takes them."""
    from toolkit.core.cpus import available_cpus
    from toolkit.core.spawning import early_crew

    return early_crew(0 if dry_run else available_cpus() if workers is None else workers, preload)


def split_list(values: Iterable[str]) -> tuple[str, ...]:
    """Return the parts of an option that may be repeated or comma-separated, without duplicates, in order."""
    parts = (part.strip() for value in values for part in value.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def validated(model: type[ModelT], /, **values: Any) -> ModelT:
    """Return the options model built from ``values``; None stands for "not given".

    Raises:
        OptionError: every value that the model refuses, by option name.
    """
    from pydantic import ValidationError

    from toolkit.core.errors import OptionError

    try:
        return model(**{name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        problems = [
            f"{_option_name(problem['loc'])}: {problem['msg'].removeprefix('Value error, ')}{_given(problem)}"
            for problem in error.errors()
        ]
        raise OptionError("; ".join(problems), "see --help") from error


def _given(problem: Mapping[str, Any]) -> str:
    """Return the refused value, where it is short and pydantic's own line leaves it out."""
    value = problem["input"]
    return f" (not {value!r})" if problem["type"] != "value_error" and isinstance(value, int | float | str) else ""


def _option_name(location: tuple[int | str, ...]) -> str:
    return f"--{str(location[0]).replace('_', '-')}" if location else "options"
