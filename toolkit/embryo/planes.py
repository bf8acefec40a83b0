"""The seven focal planes of the embryo dataset (Gomez et al. 2022, Zenodo record 7912264)."""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import Enum
from typing import Final

from toolkit.embryo.names import unknown_name

FOLDER_PREFIX: Final = "embryo_dataset"
_SPELLING: Final = re.compile(r"(?:embryo_dataset)?_?F(?P<offset_um>[+-]?[0-9]{1,4})", re.IGNORECASE | re.ASCII)


class FocalPlane(Enum):
    """A focal plane; its value is the offset from the middle plane in micrometres, members run from low to high."""

    F_MINUS_45 = -45
    F_MINUS_30 = -30
    F_MINUS_15 = -15
    F_00 = 0
    F_PLUS_15 = 15
    F_PLUS_30 = 30
    F_PLUS_45 = 45

    @property
    def offset_um(self) -> int:
        """The offset from the middle plane in micrometres."""
        return self.value

    @property
    def index(self) -> int:
        """The place in the order of the planes, 0 (F-45) to 6 (F+45)."""
        return _INDICES[self]

    @property
    def label(self) -> str:
        """The name in prompts and image labels: ``F-45`` … ``F+00`` … ``F+45``."""
        return f"F{self.value:+03d}"

    @property
    def folder(self) -> str:
        """The folder of the extracted dataset; the middle plane's has no suffix, and F+15's is without its sign."""
        return f"{FOLDER_PREFIX}_F{self.value}" if self.value else FOLDER_PREFIX


PLANES: Final = tuple(FocalPlane)
_INDICES: Final = {plane: index for index, plane in enumerate(PLANES)}


def parse_plane(text: str) -> FocalPlane:
    """Return the plane that ``text`` names, in any case and in each spelling that is in use.

    These are the labels (``F+15``, ``F+00``), the folders and their suffixes (``embryo_dataset_F-15``, ``_F-15``,
    ``F15``, and ``embryo_dataset`` for the middle plane), and ``F0``.

    Raises:
        OptionError: there is no such plane; the line has all of them.
    """
    spelling = text.strip()
    match = _SPELLING.fullmatch(spelling)
    if match is not None:
        for plane in PLANES:
            if plane.value == int(match["offset_um"]):
                return plane
    if spelling.lower() == FOLDER_PREFIX:
        return FocalPlane.F_00
    raise unknown_name("focal plane", text, [plane.label for plane in PLANES])


def as_planes(chosen: Collection[FocalPlane | str] | FocalPlane | str | None) -> tuple[FocalPlane, ...] | None:
    """Return planes that are given as members or names, several or one; None, for no choice, stays None.

    Raises:
        OptionError: one of them is no plane.
    """
    if chosen is None:
        return None
    several = (chosen,) if isinstance(chosen, FocalPlane | str) else chosen
    return tuple(plane if isinstance(plane, FocalPlane) else parse_plane(plane) for plane in several)
