"""The sentence that describes an image to a text-to-image model, and what such a sentence says."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from toolkit.core.errors import MvtkError
from toolkit.embryo.phases import Phase, parse_phase
from toolkit.embryo.planes import FocalPlane, parse_plane

NameT = TypeVar("NameT", Phase, FocalPlane)

_PHASE = re.compile(r"\bphase\s+([^\s,;]+)", re.IGNORECASE)
_PLANE = re.compile(r"\bfocal\s+plane\s+([^\s,;]+)", re.IGNORECASE)


def prompt_of(phase: Phase, plane: FocalPlane) -> str:
    """Return the text of an image of a phase in a focal plane, in the words of the published image folders."""
    return f"a microscopic image of a human embryo at phase {phase.label} recorded at focal plane {plane.label}"


def prompt_conflicts(prompt: str, phase: Phase, plane: FocalPlane) -> list[str]:
    """Return where a prompt names another phase or focal plane than these, a line each.

    A prompt may be worded freely: only the words after "phase" and "focal plane" are looked at.
    """
    other_phases = [word for word in _words(_PHASE, prompt) if _parsed(parse_phase, word) is not phase]
    other_planes = [word for word in _words(_PLANE, prompt) if _parsed(parse_plane, word) is not plane]
    return [
        *(f"the prompt says phase {word}, the phase is {phase.label}" for word in other_phases),
        *(f"the prompt says focal plane {word}, the focal-plane is {plane.label}" for word in other_planes),
    ]


def _words(pattern: re.Pattern[str], prompt: str) -> list[str]:
    """Return what stands where the pattern says, without the full stop or the quotation mark behind it."""
    return [word.rstrip(".\"'") for word in pattern.findall(prompt)]


def _parsed(parse: Callable[[str], NameT], word: str) -> NameT | None:
    try:
        return parse(word)
    except MvtkError:
        return None
