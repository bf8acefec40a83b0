"""Prompts: the documented sentence, and what other sentences say of phase and plane."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.embryo.phases import PHASES, Phase
from toolkit.embryo.planes import PLANES, FocalPlane
from toolkit.embryo.prompts import prompt_conflicts, prompt_of


def test_the_documented_sentence() -> None:
    expected = "a microscopic image of a human embryo at phase t7 recorded at focal plane F+00"
    assert prompt_of(Phase.T7, FocalPlane.F_00) == expected


@given(st.sampled_from(PHASES), st.sampled_from(PLANES), st.sampled_from(PHASES), st.sampled_from(PLANES))
def test_a_sentence_conflicts_with_every_other_phase_and_plane(
    phase: Phase, plane: FocalPlane, other_phase: Phase, other_plane: FocalPlane
) -> None:
    conflicts = prompt_conflicts(prompt_of(phase, plane), other_phase, other_plane)
    assert len(conflicts) == (phase is not other_phase) + (plane is not other_plane)


@pytest.mark.parametrize(
    "prompt",
    [
        "a microscopic image of human embryo at phase t7 recorded at focal plane F+00",
        "An embryo, Focal Plane _F0, at Phase T7.",
        "an embryo with seven cells",
        "",
    ],
)
def test_wordings_that_agree(prompt: str) -> None:
    assert prompt_conflicts(prompt, Phase.T7, FocalPlane.F_00) == []


def test_conflicts_say_both_sides() -> None:
    conflicts = prompt_conflicts("phase t77, focal plane F+16.", Phase.T7, FocalPlane.F_00)
    assert conflicts == [
        "the prompt says phase t77, the phase is t7",
        "the prompt says focal plane F+16, the focal-plane is F+00",
    ]
