"""Rows of a small CSV file with their line numbers, and all problems of the file collected into one error."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from toolkit.core.errors import InputProblemsError
from toolkit.core.files import read_bytes

MAX_FRAME_DIGITS: Final = 9
"""A longer number is no frame's: it would not fit 32 bits."""
_FRAME_NUMBER: Final = re.compile(rf"[0-9]{{1,{MAX_FRAME_DIGITS}}}(\.0+)?", re.ASCII)


class CsvTable:
    """A CSV file that is being read: its rows, and what is wrong with them.

    Raises:
        MvtkError: the file cannot be read.
        InputProblemsError: it is not UTF-8 text.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._problems: list[str] = []
        content = read_bytes(path)
        try:
            self._text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise InputProblemsError(str(path), [f"line {line}: not UTF-8 text"], "save the file as UTF-8") from error

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each row that is not blank as its line number, from 1, and its fields without surrounding blanks.

        A row that is no CSV is a problem, and the last.
        """
        reader = csv.reader(io.StringIO(self._text, newline=""), strict=True)
        try:
            for row in reader:
                fields = [field.strip() for field in row]
                if any(fields):
                    yield reader.line_num, fields
        except csv.Error as error:
            self.problem(reader.line_num, f"not CSV ({error})")

    def records(self, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
        """Yield the line number and the fields of the named columns of each row below the header, which is the first.

        A header without one of the columns, or with one twice, is a problem, and nothing is yielded; a row with more or
        fewer fields than the header is a problem, and is left out.
        """
        rows = self.rows()
        line, header = next(rows, (1, []))
        if any(header.count(name) != 1 for name in columns):
            found = ",".join(header) or "missing"
            self.problem(line, f"the header must have the columns {','.join(columns)}; it is {found}")
            return
        places = [header.index(name) for name in columns]
        for line, fields in rows:
            if len(fields) == len(header):
                yield line, [fields[place] for place in places]
            else:
                self.problem(line, f"{len(fields)} fields, not {len(header)} as in the header")

    def frame_number(self, line: int, text: str, name: str) -> int | None:
        """Return a frame number; None, and a problem, where ``text`` is none. ``7.0`` is 7, as tables are exported."""
        if _FRAME_NUMBER.fullmatch(text):
            return int(text.partition(".")[0])
        self.problem(line, f"{name} {text!r} is not a frame number")
        return None

    def quantity(self, line: int, text: str, name: str) -> float | None:
        """Return a finite number of at least 0; None, and a problem, where ``text`` is none."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if math.isfinite(value) and value >= 0:
            return value
        self.problem(line, f"{name} {text!r} is not a number of at least 0")
        return None

    def problem(self, line: int, text: str) -> None:
        """Note what is wrong with a line."""
        self._problems.append(f"line {line}: {text}")

    def require_sound(self, hint: str) -> None:
        """Raise all problems that were noted.

        Raises:
            InputProblemsError: there are some.
        """
        if self._problems:
            raise InputProblemsError(str(self.path), self._problems, hint)
