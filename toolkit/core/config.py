"""Configuration files: option values in YAML, checked against the options that the command has."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from toolkit.core.errors import InputProblemsError, MvtkError, OptionError
from toolkit.core.files import read_bytes

_MALFORMED_SCALAR = (ValueError, LookupError, AttributeError, TypeError)
"""What PyYAML itself raises for text that does not fit its tag, such as ``!!int x`` or the 30th of February."""


class ConfigError(InputProblemsError, OptionError):
    """A configuration file that is not valid for the command; all problems are listed."""


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, of which YAML's own rule would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


def load_yaml(path: Path) -> Any:
    """Return what a YAML file holds, without ever building anything but plain data.

    Raises:
        MvtkError: it cannot be read or parsed; the line names the file and the line in it.
    """
    data = read_bytes(path)
    try:
        return yaml.load(data, _StrictLoader)  # noqa: S506 - _StrictLoader is a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise MvtkError(f"{path}:{line}: not valid YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, *_MALFORMED_SCALAR, RecursionError) as error:
        raise MvtkError(f"{path}: not valid YAML: {error}".splitlines()[0]) from error


def load_config(path: Path, options: Collection[str]) -> dict[str, Any]:
    """Return the option values of a configuration file, by option name in snake case.

    Keys may be written as on the command line (``max-files``) or as in Python (``max_files``); a dot, or one level of
    nesting, separates words just as well: ``devices.exclude: [0]`` and ``devices: {exclude: [0]}`` both set
    ``devices_exclude``.

    Args:
        path: the YAML file: one mapping.
        options: the names that the command takes, in snake case.

    Raises:
        ConfigError: an unknown key (with the nearest valid one), one given twice in two spellings, or a value that is
            neither a scalar nor a list of scalars.
        MvtkError: the file cannot be read or parsed, or is not a mapping.
    """
    content = load_yaml(path)
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise ConfigError(str(path), [f"expected a mapping of options to values, found {_kind(content)}"])
    problems: list[str] = []
    values: dict[str, Any] = {}
    for key, value in _flattened(content, options):
        name = _snake_case(key)
        if name not in options:
            problems.append(_unknown(key, options))
        elif name in values:
            problems.append(f"{key!r} is given twice, in two spellings")
        elif not _is_flat(value):
            problems.append(f"{key!r}: expected a value or a list of values, found {_nesting(value)}")
        else:
            values[name] = value
    if problems:
        raise ConfigError(str(path), problems)
    return values


def _flattened(content: Mapping[Hashable, Any], options: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yield keys and values, those of a mapping that is no option's own value as ``outer.inner``."""
    for key, value in content.items():
        if isinstance(value, Mapping) and value and _snake_case(str(key)) not in options:
            yield from ((f"{key}.{inner}", inner_value) for inner, inner_value in value.items())
        else:
            yield str(key), value


def _snake_case(key: str) -> str:
    return key.replace("-", "_").replace(".", "_")


def _unknown(key: str, options: Collection[str]) -> str:
    nearest = difflib.get_close_matches(_snake_case(key), options, n=1, cutoff=0.5)
    suggestion = f"did you mean {nearest[0].replace('_', '-')!r}?" if nearest else "see --help for the options"
    return f"unknown key {key!r}; {suggestion}"


def _is_flat(value: object) -> bool:
    parts = value if isinstance(value, list) else [value]
    return not any(isinstance(part, Collection) and not isinstance(part, str) for part in parts)


def _nesting(value: object) -> str:
    return "a list that holds more than values" if isinstance(value, list) else _kind(value)


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list) else "text" if isinstance(value, str) else type(value).__name__
