"""Package names that are loaded when they are first used: who needs one does not wait for the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module


def lazy_names(package: str, modules: Mapping[str, Sequence[str]]) -> Callable[[str], object]:
    """Return the ``__getattr__`` of a package whose public names live in its modules (PEP 562).

    Args:
        package: the package's name.
        modules: the names by the module that holds them; one beside the package begins with a dot.
    """
    holders = {name: module for module, names in modules.items() for name in names}

    def get(name: str) -> object:
        if name not in holders:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f".{holders[name]}", package), name)

    return get
