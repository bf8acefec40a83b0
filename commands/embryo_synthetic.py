"""``mvtk embryo synthetic``: runs of generated embryo images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.options import JsonOption

app = typer.Typer(
    help="Runs of generated images: verify, list and begin them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RunsArgument = Annotated[
    Path, typer.Argument(readable=False, metavar="DIR", help="Holds the folders of the runs: all-synthetic-runs.")
]


@app.command(epilog="Example: mvtk embryo synthetic verify demo-output/embryo/all-synthetic-runs")
def verify(
    runs: RunsArgument,
    decode: Annotated[
        bool, typer.Option("--decode/--no-decode", metavar=" ", help="Whether to decode every image.")
    ] = True,
    json: JsonOption = False,
) -> None:
    """Check every run: its metadata.json and its images. Exit code 1 when one has a problem."""
    from commands.consoles import error_console, output_console, print_json, say
    from commands.exit_codes import ITEMS_FAILED
    from toolkit.embryo.names import counted
    from toolkit.embryo.synthetic import verify_runs

    checks = verify_runs(runs, decode=decode)
    if json:
        print_json([{"run": check.name, "problems": check.problems, "warnings": check.warnings} for check in checks])
    else:
        for check in checks:
            for warning in check.warnings:
                say(error_console(), f"warning: {warning}", "yellow")
            for problem in check.problems:
                say(error_console(), f"error: {problem}", "red")
        sound = sum(not check.problems for check in checks)
        say(output_console(), f"{sound:,} of {counted(len(checks), 'run')} sound")
    if any(check.problems for check in checks):
        raise typer.Exit(ITEMS_FAILED)


@app.command("list", epilog="Example: mvtk embryo synthetic list demo-output/embryo/all-synthetic-runs")
def list_(runs: RunsArgument, json: JsonOption = False) -> None:
    """List the runs with phase, plane, number of images and prompt."""
    from commands.consoles import output_console, print_json
    from toolkit.embryo.synthetic import list_runs

    found = [
        {
            "run": run.name,
            "phase": run.metadata.phase.label,
            "focal-plane": run.metadata.plane.label,
            "images": len(run.image_names),
            "datetime": run.metadata.when.isoformat(),
            "prompt": run.metadata.prompt,
        }
        for run in list_runs(runs)
    ]
    if json:
        print_json(found)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    for name in found[0] if found else ():
        table.add_column(name, overflow="fold")
    for row in found:
        table.add_row(*(Text(str(value)) for value in row.values()))
    output_console().print(table)


@app.command(epilog="Example: mvtk embryo synthetic new-run all-synthetic-runs run1 --phase t7 --focal-plane F+00")
def new_run(
    runs: Annotated[
        Path, typer.Argument(readable=False, metavar="DIR", help="Holds the folders of the runs; made if missing.")
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The run's name, a new one.")],
    phase: Annotated[str, typer.Option(metavar="PHASE", help="What the images will show, such as t7.")],
    focal_plane: Annotated[str, typer.Option(metavar="PLANE", help="Such as F+00.")] = "F+00",
    prompt: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What they were made from.", show_default="the text of image folders"),
    ] = None,
) -> None:
    """Make the folder of a new run with a valid metadata.json."""
    from commands.consoles import error_console, say
    from toolkit.embryo.phases import parse_phase
    from toolkit.embryo.planes import parse_plane
    from toolkit.embryo.synthetic import new_run as make

    path = make(runs, name, parse_phase(phase), parse_plane(focal_plane), prompt)
    say(error_console(), f"{path}: written")
