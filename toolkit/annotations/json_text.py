"""JSON files, read with an error that names the place."""

from __future__ import annotations

import codecs
import json

from toolkit.core.errors import MvtkError


def parse_json(data: bytes, source: str, hint: str) -> object:
    """Return the value that a JSON file holds.

    A byte-order mark is accepted, and so are ``NaN`` and ``Infinity``, which Python's own writer makes.

    Args:
        data: the file's content, UTF-8.
        source: names the file in errors.
        hint: what to do about a damaged file.

    Raises:
        MvtkError: the data is no JSON; one line with the line and the column, or the byte, and none of the content.
    """
    mark_bytes = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
    try:
        content: object = json.loads(data[mark_bytes:].decode())
    except UnicodeDecodeError as error:
        raise MvtkError(f"{source}: not UTF-8 text from byte {mark_bytes + error.start} on", hint) from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise MvtkError(f"{source}: cut short or no JSON: {where}: {error.msg}", hint) from error
    except RecursionError as error:
        raise MvtkError(f"{source}: its JSON is nested too deeply", hint) from error
    except ValueError as error:
        # Python limits how many digits it converts: what takes a quadratic time is no number that we look for.
        raise MvtkError(f"{source}: a number in it has thousands of digits", hint) from error
    return content
