"""The ``metadata.json`` of a synthetic run: what its images were asked to show.

A JSON object with the keys ``datetime`` (ISO 8601), ``prompt``, ``phase`` (such as ``t7``) and ``focal-plane`` (such as
``F+00``; also spelt as the folders of planes are, ``_F-15``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from toolkit.annotations.json_text import parse_json
from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.core.files import read_bytes
from toolkit.embryo.phases import Phase, parse_phase
from toolkit.embryo.planes import FocalPlane, parse_plane
from toolkit.embryo.prompts import prompt_conflicts

METADATA_NAME = "metadata.json"

_JSON_HINT = "JSON allows no comma after the last entry; mvtk embryo synthetic new-run writes a valid file"


def _text_as(parse: Callable[[str], object]) -> BeforeValidator:
    """Return what turns the text of a JSON value into what it names."""

    def parsed(value: object) -> object:
        if not isinstance(value, str):
            raise ValueError("it is not a text")  # noqa: TRY004 - pydantic collects no TypeError
        try:
            return parse(value)
        except MvtkError as error:
            raise ValueError(str(error)) from error

    return BeforeValidator(parsed)


def _parse_when(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise MvtkError(f"{text!r} is no date and time", "write it as 2023-09-11T11:56:51 (ISO 8601)") from error


class SyntheticMetadata(BaseModel):
    """What a run's images were made from.

    Attributes:
        when: the key ``datetime``, with a zone only where it was written with one.
        prompt: the text given to the model.
        phase: what the images show.
        plane: the key ``focal-plane``.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    when: Annotated[datetime, _text_as(_parse_when)] = Field(alias="datetime")
    prompt: Annotated[str, _text_as(str)]
    phase: Annotated[Phase, _text_as(parse_phase)]
    plane: Annotated[FocalPlane, _text_as(parse_plane)] = Field(alias="focal-plane")

    @property
    def remarks(self) -> list[str]:
        """What is odd about it, one line each: unknown keys, and a prompt that says another phase or plane."""
        unknown = [f"unknown key {key!r}" for key in self.model_extra or ()]
        return unknown + prompt_conflicts(self.prompt, self.phase, self.plane)


def load_synthetic_metadata(path: Path) -> SyntheticMetadata:
    """Read a run's ``metadata.json``.

    Raises:
        InputProblemsError: all keys that are missing or whose value cannot be used.
        MvtkError: the file cannot be read or is no JSON object; the line says where.
    """
    content = parse_json(read_bytes(path), str(path), _JSON_HINT)
    if not isinstance(content, Mapping):
        raise MvtkError(f"{path}: not a JSON object", _JSON_HINT)
    try:
        return SyntheticMetadata.model_validate(content)
    except ValidationError as error:
        raise InputProblemsError(str(path), [_problem(entry) for entry in error.errors()]) from error


def format_synthetic_metadata(phase: Phase, plane: FocalPlane, prompt: str, when: datetime) -> str:
    """Return the text of a ``metadata.json`` with the documented keys, in their order."""
    content = {"datetime": when.isoformat(), "prompt": prompt, "phase": phase.label, "focal-plane": plane.label}
    return json.dumps(content, indent=4) + "\n"


def _problem(entry: Mapping[str, Any]) -> str:
    """Return one error of pydantic's as a line that names the key."""
    key = entry["loc"][0]
    if entry["type"] == "missing":
        return f"no key {key!r}"
    return f"{key}: {entry['ctx']['error']}"
