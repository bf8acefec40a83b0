"""Command groups that build a command only when it is called: ``--help`` stays fast however many there are."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

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
    """Return ``app`` as a command; one with several commands, or groups of them, builds each when it is called."""
    if len(app.registered_commands) == 1 and not app.registered_groups:
        return typer.main.get_command(app)
    entries = dict(_entries(app))

    class Group(LazyGroup):
        def load(self, name: str) -> Any:
            return entries[name].build() if name in entries else None

    listing = typer.Typer(
        cls=Group, help=app.info.help, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )
    listing.callback(help=app.info.help)(stub)  # with it, a group of one command stays a group
    for name, entry in entries.items():
        listing.command(name, help=entry.help)(stub)
    return typer.main.get_command(listing)


class _Entry(NamedTuple):
    """What a group lists under a name: its help, and what builds it."""

    help: str | None
    build: Callable[[], Any]


def _entries(app: typer.Typer) -> Iterator[tuple[str, _Entry]]:
    """Yield what ``app`` lists: its commands, those of its groups without a name, and its groups with one."""
    for info in app.registered_commands:
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        single.registered_commands.append(info)
        build = functools.partial(typer.main.get_command, single)
        yield info.name or _kebab(info.callback), _Entry(info.help or inspect.getdoc(info.callback), build)
    for group in app.registered_groups:
        inner = group.typer_instance
        if inner is None:
            continue
        if not group.name:
            yield from _entries(inner)
        else:
            yield group.name, _Entry(inner.info.help, functools.partial(lazy_command, inner))


def _kebab(callback: Any) -> str:
    return str(callback.__name__).replace("_", "-")
