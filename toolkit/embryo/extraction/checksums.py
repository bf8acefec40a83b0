"""Lists of MD5 sums, as ``md5sum`` writes them."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

from toolkit.core.errors import InputProblemsError
from toolkit.core.files import read_bytes

_LINE: Final = re.compile(r"(?P<md5>[0-9a-fA-F]{32}) [ *](\./)?(?P<name>[^/\\]+)")
_HINT: Final = "write it with: md5sum *"


def read_checksums(path: Path, names: Collection[str]) -> dict[str, str]:
    """Return the MD5 sum, in lower-case hexadecimal digits, of each of ``names`` that the list at ``path`` gives.

    A line holds the sum, two spaces (or a space and an asterisk) and the name, before which may be ``./``. Empty lines
    are passed over, and sums of other names are not used.

    Raises:
        InputProblemsError: every line of another form, every name with two different sums, every one without a sum.
        MvtkError: the list cannot be read.
    """
    sums: dict[str, str] = {}
    problems = []
    for number, line in enumerate(read_bytes(path).decode(errors="surrogateescape").splitlines(), start=1):
        match = _LINE.fullmatch(line.rstrip())
        if match and sums.setdefault(match["name"], match["md5"].lower()) != match["md5"].lower():
            problems.append(f"line {number}: a second, different sum of {match['name']}")
        elif line.strip() and not match:
            problems.append(f"line {number} is not an MD5 sum, two spaces and a name")
    problems += [f"{name} is not in it" for name in names if name not in sums]
    if problems:
        raise InputProblemsError(f"{path} is not a list of the archives' MD5 sums", problems, _HINT)
    return {name: sums[name] for name in names}
