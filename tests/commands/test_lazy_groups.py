"""Groups that build a command when it is called: also groups of groups, with a name or without."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

import pytest
import typer

from commands.lazy import lazy_command


def group(**options: str) -> typer.Typer:
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, **options)


@pytest.fixture
def app() -> typer.Typer:
    """Commands of its own, those of a group without a name, and a named group with commands and a group."""
    top, nameless, named, inner = group(help="The top."), group(), group(help="A named group."), group(help="Deep.")

    @top.command()
    def first_thing(times: Annotated[int, typer.Option()] = 1) -> None:
        """Do the first thing."""
        typer.echo(f"first {times}")

    @nameless.command("renamed")
    def second() -> None:
        """Do the second thing."""
        typer.echo("second")

    @nameless.command()
    def other() -> None:
        """Do another thing."""
        typer.echo("other")

    @named.command()
    def third(what: str) -> None:
        """Do the third thing."""
        typer.echo(f"third {what}")

    @inner.command()
    def fourth() -> None:
        """Do the fourth thing."""
        typer.echo("fourth")

    @inner.command()
    def fifth() -> None:
        """Do the fifth thing."""
        raise typer.Exit(7)

    named.add_typer(inner, name="inner")
    top.add_typer(nameless)
    top.add_typer(named, name="named")
    return top


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(app: typer.Typer, capsys: pytest.CaptureFixture[str]) -> Run:
    def run_command(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            lazy_command(app)(args=list(arguments), prog_name="app")
        captured = capsys.readouterr()
        return int(end.value.code or 0), re.sub(r"\x1b\[[0-9;]*m", "", captured.out + captured.err)

    return run_command


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["first-thing"], "first 1\n"),
        (["first-thing", "--times", "3"], "first 3\n"),
        (["renamed"], "second\n"),
        (["other"], "other\n"),
        (["named", "third", "x"], "third x\n"),
        (["named", "inner", "fourth"], "fourth\n"),
    ],
)
def test_each_command_is_reached_by_its_path(run: Run, arguments: list[str], printed: str) -> None:
    assert run(*arguments) == (0, printed)


def test_an_exit_code_comes_through(run: Run) -> None:
    assert run("named", "inner", "fifth") == (7, "")


def test_the_help_of_a_group_lists_its_commands_and_groups(run: Run) -> None:
    code, text = run("--help")
    assert code == 0
    for line in ("first-thing", "renamed", "other", "named", "The top.", "Do the second thing.", "A named group."):
        assert line in text
    assert "third" not in text
    code, text = run("named", "--help")
    assert code == 0
    assert "Usage: app named " in text
    assert "Do the third thing." in text
    assert "Deep." in text
    assert "fourth" not in text


def test_the_help_of_a_command_names_its_path(run: Run) -> None:
    code, text = run("named", "inner", "fourth", "--help")
    assert code == 0
    assert "Usage: app named inner fourth" in text


@pytest.mark.parametrize("arguments", [["nothing"], ["named", "nothing"], ["named", "inner", "nothing"], ["second"]])
def test_an_unknown_command_is_wrong_usage(run: Run, arguments: list[str]) -> None:
    code, text = run(*arguments)
    assert code == 2
    assert f"No such command '{arguments[-1]}'" in text


def test_only_what_is_called_is_built(app: typer.Typer, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    get_command = typer.main.get_command

    def watched(single: typer.Typer) -> object:
        built.extend(info.callback.__name__ for info in single.registered_commands if info.callback)
        return get_command(single)

    monkeypatch.setattr(typer.main, "get_command", watched)
    run("named", "inner", "fourth")
    assert [name for name in built if name != "stub"] == ["fourth"]


def test_a_single_command_is_the_app_itself(capsys: pytest.CaptureFixture[str]) -> None:
    single = group()

    @single.command()
    def only(name: str) -> None:
        """Say a name."""
        typer.echo(name)

    with pytest.raises(SystemExit):
        lazy_command(single)(args=["x"], prog_name="app")
    assert capsys.readouterr().out == "x\n"
