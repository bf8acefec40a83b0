"""``--help`` against that of a Typer application with two commands."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from commands.main import GROUPS
from tests.benchmarks.measuring import Figure, in_turn, run_command

ROUNDS = 15
_TWO_COMMANDS = '''
import typer
app = typer.Typer()

@app.command()
def one(name: str) -> None:
    """Do one thing."""

@app.command()
def two(name: str) -> None:
    """Do another thing."""

app()
'''


def measure(folder: Path) -> Iterator[Figure]:
    """Time the help of the root and of every group."""
    script = folder / "two_commands.py"
    script.write_text(_TWO_COMMANDS)
    mvtk = str(Path(sys.executable).with_name("mvtk"))
    for arguments, bound in [([], 1.3), *(([group], 2.0) for group in GROUPS)]:
        _, _, ratio = in_turn(
            lambda arguments=arguments: run_command([mvtk, *arguments, "--help"]),
            lambda: run_command([sys.executable, str(script), "--help"]),
            ROUNDS,
        )
        yield Figure(" ".join(["mvtk", *arguments, "--help, time"]), 1 / ratio, "x", at_most=bound)
