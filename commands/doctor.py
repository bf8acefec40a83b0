"""``mvtk doctor``: what this installation and this machine have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.options import JsonOption

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(epilog="Example: mvtk doctor --json")
def doctor(
    folder: Annotated[Path, typer.Argument(help="The folder whose free space is shown.", metavar="FOLDER")] = Path(),
    json: JsonOption = False,
) -> None:
    """Show versions, extras, devices and free space."""
    from rich.table import Table
    from rich.text import Text

    from commands.consoles import output_console, print_json
    from toolkit.core.diagnosis import diagnose
    from toolkit.core.errors import one_line

    diagnosis = diagnose(folder)
    if json:
        print_json(diagnosis)
        return
    table = Table(box=None, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for section, rows in diagnosis.items():
        for index, (name, value) in enumerate(rows.items()):
            table.add_row(section if index == 0 else "", Text(one_line(f"{name}: {value}")))
    output_console().print(table)
