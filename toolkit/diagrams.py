"""Diagrams with axes, drawn with Pillow: bars, lines, points and cells on white paper. 8-bit RGB arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from toolkit.preview import Colour

Span = tuple[float, float]

INK: Final[Colour] = (40, 40, 44)
LINE_COLOURS: Final[tuple[Colour, ...]] = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167))
"""Blue, vermilion, bluish green, reddish purple: stay apart for colour-blind readers (Okabe and Ito, 2008)."""

_BACKGROUND: Final[Colour] = (255, 255, 255)
_GRID: Final[Colour] = (226, 226, 230)
_LEFT_PX: Final = 64
_RIGHT_PX: Final = 24
_TOP_PX: Final = 40
_BOTTOM_PX: Final = 52
_TEXT_PX: Final = 13
_TITLE_PX: Final = 15
_LINE_PX: Final = 2
_POINT_RADIUS_PX: Final = 2.5
_POINT_ALPHA: Final = 110
_LEGEND_SWATCH_PX: Final = 14
_LEGEND_STEP_PX: Final = 18


class Diagram:
    """White paper with axes; data are drawn between them, in their own units.

    Args:
        title: above the axes.
        x_label: below the x axis.
        y_label: beside the y axis, written upwards.
        x_range: the values at the left and the right end; they differ.
        y_range: the values at the bottom and the top; they differ.
        size_px: width and height of the whole picture.
    """

    def __init__(
        self,
        title: str,
        x_label: str,
        y_label: str,
        x_range: Span,
        y_range: Span,
        size_px: tuple[int, int] = (460, 460),
    ) -> None:
        self._width_px, self._height_px = size_px
        self._image = Image.new("RGB", size_px, _BACKGROUND)
        self._draw = ImageDraw.Draw(self._image, "RGBA")
        self._font = ImageFont.load_default(_TEXT_PX)
        self._x_range, self._y_range = x_range, y_range
        self._legend_top_px = _TOP_PX + 8
        middle_px = (_LEFT_PX + self._width_px - _RIGHT_PX) / 2
        title_font = ImageFont.load_default(_TITLE_PX)
        self._draw.text((middle_px, _TOP_PX / 2), title, fill=INK, font=title_font, anchor="mm")
        self._draw.text((middle_px, self._height_px - 8), x_label, fill=INK, font=self._font, anchor="ms")
        self._write_upwards(y_label)

    @property
    def picture_hwc(self) -> NDArray[np.uint8]:
        """The diagram, (H, W, 3) uint8 RGB."""
        corners = (_LEFT_PX, _TOP_PX, self._width_px - _RIGHT_PX, self._height_px - _BOTTOM_PX)
        self._draw.rectangle(corners, outline=INK)
        return np.array(self._image)

    def x_ticks(self, values: Sequence[float], labels: Sequence[str]) -> None:
        """Write labels below the x axis."""
        y = self._height_px - _BOTTOM_PX
        for value, label in zip(values, labels, strict=True):
            x, _ = self._pixel(value, self._y_range[0])
            self._draw.line((x, y, x, y + 4), fill=INK)
            self._draw.text((x, y + 6), label, fill=INK, font=self._font, anchor="ma", align="center")

    def y_ticks(self, values: Sequence[float], labels: Sequence[str], *, with_grid: bool = True) -> None:
        """Write labels left of the y axis, with lines across where ``with_grid``."""
        for value, label in zip(values, labels, strict=True):
            _, y = self._pixel(self._x_range[0], value)
            end = self._width_px - _RIGHT_PX if with_grid else _LEFT_PX
            self._draw.line((_LEFT_PX - 4, y, end, y), fill=_GRID if with_grid else INK)
            self._draw.text((_LEFT_PX - 7, y), label, fill=INK, font=self._font, anchor="rm")

    def bar(self, left: float, right: float, height: float, colour: Colour = LINE_COLOURS[0]) -> None:
        """Draw a bar that stands on the x axis."""
        if height > 0:
            x0, y0 = self._pixel(left, height)
            x1, y1 = self._pixel(right, 0)
            self._draw.rectangle((x0, min(y0, y1 - 1), max(x0, x1 - 1), y1), fill=colour)

    def cells(self, counts_hw: NDArray[np.float64]) -> None:
        """Colour the whole plane by the logarithm of counts: row 0 on top, white where there is nothing."""
        width = self._width_px - _LEFT_PX - _RIGHT_PX
        height = self._height_px - _TOP_PX - _BOTTOM_PX
        # A logarithm: a few crowded cells must not make all others look empty.
        levels_hw = np.log1p(counts_hw) / max(np.log1p(counts_hw.max(initial=0)), 1e-9)
        heat_hwc = cv2.applyColorMap(np.rint((1 - levels_hw) * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
        heat_hwc = np.where(counts_hw[..., None] > 0, heat_hwc, 255).astype(np.uint8)
        enlarged_hwc = cv2.resize(heat_hwc, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        self._image.paste(Image.fromarray(np.asarray(enlarged_hwc, np.uint8)), (_LEFT_PX, _TOP_PX))

    def line(self, points_xy: Sequence[tuple[float, float]], colour: Colour = LINE_COLOURS[0]) -> None:
        """Draw a line through points; a point whose value is not finite interrupts it.

        A point without finite neighbours is drawn as a dot.
        """
        piece: list[tuple[float, float]] = []
        for x, y in [*points_xy, (np.nan, np.nan)]:
            if np.isfinite(x) and np.isfinite(y):
                piece.append(self._pixel(x, y))
                continue
            if len(piece) > 1:
                self._draw.line(piece, fill=colour, width=_LINE_PX, joint="curve")
            elif piece:
                self._dot(*piece[0], colour)
            piece = []

    def points(self, points_xy: Sequence[tuple[float, float]], colour: Colour = LINE_COLOURS[0]) -> None:
        """Draw a translucent dot at each point, so that many of them together look darker."""
        for x, y in points_xy:
            self._dot(*self._pixel(x, y), (*colour, _POINT_ALPHA))

    def diagonal(self) -> None:
        """Draw the line on which x and y are equal, from the lower left to the upper right corner."""
        low, high = max(self._x_range[0], self._y_range[0]), min(self._x_range[1], self._y_range[1])
        self._draw.line((*self._pixel(low, low), *self._pixel(high, high)), fill=INK)

    def legend(self, name: str, colour: Colour) -> None:
        """Name a colour in the upper left corner, below the names before it."""
        left, top = _LEFT_PX + 10, self._legend_top_px
        width_px = self._font.getlength(name)
        # On paper of its own, so that lines behind it do not cross the text.
        right = left + _LEGEND_SWATCH_PX + 6 + width_px
        self._draw.rectangle((left - 4, top - 2, right + 4, top + _LEGEND_STEP_PX - 3), fill=_BACKGROUND)
        self._draw.rectangle((left, top + 3, left + _LEGEND_SWATCH_PX, top + 10), fill=colour)
        self._draw.text((left + _LEGEND_SWATCH_PX + 6, top + 6), name, fill=INK, font=self._font, anchor="lm")
        self._legend_top_px += _LEGEND_STEP_PX

    def note(self, text: str) -> None:
        """Write in the middle, where there is nothing to draw."""
        middle_xy = (
            (_LEFT_PX + self._width_px - _RIGHT_PX) / 2,
            (_TOP_PX + self._height_px - _BOTTOM_PX) / 2,
        )
        self._draw.text(middle_xy, text, fill=INK, font=self._font, anchor="mm")

    def _dot(self, x_px: float, y_px: float, colour: tuple[int, ...]) -> None:
        radius = _POINT_RADIUS_PX
        self._draw.ellipse((x_px - radius, y_px - radius, x_px + radius, y_px + radius), fill=colour)

    def _pixel(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self._x_range[0]) / (self._x_range[1] - self._x_range[0])
        up = (y - self._y_range[0]) / (self._y_range[1] - self._y_range[0])
        width, height = self._width_px - _LEFT_PX - _RIGHT_PX, self._height_px - _TOP_PX - _BOTTOM_PX
        return _LEFT_PX + across * width, self._height_px - _BOTTOM_PX - up * height

    def _write_upwards(self, text: str) -> None:
        left, top, right, bottom = (round(edge) for edge in self._font.getbbox(text))
        label = Image.new("RGB", (right - left + 2, bottom - top + 2), _BACKGROUND)
        ImageDraw.Draw(label).text((1 - left, 1 - top), text, fill=INK, font=self._font)
        turned = label.rotate(90, expand=True)
        self._image.paste(turned, (4, (_TOP_PX + self._height_px - _BOTTOM_PX - turned.height) // 2))


def round_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return about ``count`` values of 1, 2 or 5 times a power of ten between two different finite values."""
    least = (high - low) / count
    magnitude = 10.0 ** np.floor(np.log10(least))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= least * (1 - 1e-9))
    first, last = np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9)
    return [float(tick * step) + 0.0 for tick in np.arange(first, last + 1)]  # 0.0: a zero without a sign
