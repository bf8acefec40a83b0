"""Focal planes: order, names, spellings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.core.errors import OptionError
from toolkit.embryo.planes import PLANES, FocalPlane, parse_plane


def test_the_planes_in_their_order() -> None:
    assert [plane.label for plane in PLANES] == ["F-45", "F-30", "F-15", "F+00", "F+15", "F+30", "F+45"]
    assert [plane.offset_um for plane in PLANES] == [-45, -30, -15, 0, 15, 30, 45]
    assert [plane.index for plane in PLANES] == list(range(7))


def test_folders_are_those_of_the_published_archives() -> None:
    assert [plane.folder for plane in PLANES] == [
        "embryo_dataset_F-45",
        "embryo_dataset_F-30",
        "embryo_dataset_F-15",
        "embryo_dataset",
        "embryo_dataset_F15",
        "embryo_dataset_F30",
        "embryo_dataset_F45",
    ]


@pytest.mark.parametrize(
    ("text", "plane"),
    [
        ("F+00", FocalPlane.F_00),
        ("F00", FocalPlane.F_00),
        ("F0", FocalPlane.F_00),
        ("f-0", FocalPlane.F_00),
        ("_F-15", FocalPlane.F_MINUS_15),
        ("F15", FocalPlane.F_PLUS_15),
        ("f+15", FocalPlane.F_PLUS_15),
        (" F-45 ", FocalPlane.F_MINUS_45),
        ("embryo_dataset", FocalPlane.F_00),
        ("embryo_dataset_F-30", FocalPlane.F_MINUS_30),
    ],
)
def test_spellings(text: str, plane: FocalPlane) -> None:
    assert parse_plane(text) is plane


@given(st.sampled_from(PLANES), st.sampled_from([str.lower, str.upper, str]))
def test_every_name_of_a_plane_names_it(plane: FocalPlane, change: type[str]) -> None:
    assert parse_plane(change(plane.label)) is plane
    assert parse_plane(change(plane.folder)) is plane


@pytest.mark.parametrize("text", ["F16", "", "F", "15", "F+15x", "F\u0661\u0665", "_F", "F+00000"])
def test_what_is_no_plane(text: str) -> None:
    with pytest.raises(OptionError, match="there is no focal plane") as caught:
        parse_plane(text)
    assert caught.value.hint.endswith("the focal planes are F-45, F-30, F-15, F+00, F+15, F+30, F+45")


def test_the_nearest_plane_is_named() -> None:
    with pytest.raises(OptionError, match=r"did you mean F\+15\?"):
        parse_plane("F+16")
