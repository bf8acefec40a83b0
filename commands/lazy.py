"""Command groups that build a command only when it is called: ``--help`` stays fast however many there are."""

from __future__ import annotations

import inspect
from typing import Any

import typer
from typer.core import TyperGroup


class LazyGroup(TyperGroup):
    """A group that lists stubs; :meth:`load` replaces the stub of the command that is called."""

    def load(self, name: str) -> Any:
        """Return the command called ``name``, None where there is none to be built; subclasses know of some."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Build the command that the first argument names."""
        name = args[0] if args else ""
        command = self.load(name)
        if command is not None:
            command.name = name
            self.commands[name] = command
        return super().resolve_command(ctx, args)


def stub() -> None:
    """Stand for a command in the help of its group."""


def lazy_command(app: typer.Typer) -> Any:
    """Return ``app`` as a command; one with several commands builds each of them when it is called."""
    if len(app.registered_commands) == 1:
        return typer.main.get_command(app)
    infos = {info.name or _kebab(info.callback): info for info in app.registered_commands}

    class Group(LazyGroup):
        def load(self, name: str) -> Any:
            if name not in infos:
                return None
            single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            single.registered_commands.append(infos[name])
            return typer.main.get_command(single)

    listing = typer.Typer(
        cls=Group, help=app.info.help, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )
    for name, info in infos.items():
        listing.command(name, help=info.help or inspect.getdoc(info.callback))(stub)
    return typer.main.get_command(listing)


def _kebab(callback: Any) -> str:
    return str(callback.__name__).replace("_", "-")
