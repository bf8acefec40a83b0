"""A picture of one video: a frame of each phase in every focal plane, and below them the phases over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from toolkit.core.errors import MvtkError, OptionError, one_line
from toolkit.embryo.frames import list_frames
from toolkit.embryo.layout import EmbryoTree, open_tree
from toolkit.embryo.names import unknown_name
from toolkit.embryo.phase_bar import (
    FAINT_TEXT_COLOUR,
    GROUND_COLOUR,
    TEXT_COLOUR,
    Timeline,
    bar_height_px,
    draw_bar,
    font_of,
    phase_colour,
)
from toolkit.embryo.phases import PhaseRange, read_phase_ranges
from toolkit.embryo.planes import PLANES, FocalPlane
from toolkit.embryo.tables import TimeStamps, read_time_stamps
from toolkit.images.decoding import load_image
from toolkit.preview import save_png

MIN_TILE_PX = 48

_MARGIN_PX = 12
_GAP_PX = 4
_TITLE_PX = 18
_TITLE_HEIGHT_PX = 34
_LABEL_PX = 14
_LINE_PX = 17
_PLANE_LABEL_WIDTH_PX = 52
_LEAST_BAR_WIDTH_PX = 560
_NO_FRAME: tuple[int, int, int] = (48, 50, 54)


@dataclass(frozen=True, slots=True)
class _Column:
    """One phase of the strip: the frame that stands for it."""

    phase_range: PhaseRange
    frame: int


@dataclass(frozen=True, slots=True)
class _Video:
    """What there is of a video.

    Attributes:
        name: its name.
        files: its frames' files by number, for each plane.
        ranges: its phases.
        times: its time stamps; None where it has no table of them.
    """

    name: str
    files: Mapping[FocalPlane, Mapping[int, Path]]
    ranges: Sequence[PhaseRange]
    times: TimeStamps | None

    @property
    def frames(self) -> list[int]:
        """The numbers of the frames that any of the planes has."""
        return sorted(set().union(*self.files.values()))

    def hours_at(self, frame: int) -> float:
        return math.nan if self.times is None else float(self.times.hours_of(frame))

    def columns(self) -> list[_Column]:
        """Return the middle frame of each phase that has frames, one that all planes have where there is any."""
        in_all = set.intersection(*(set(files) for files in self.files.values()))
        frames = self.frames
        columns = []
        for phase_range in self.ranges:
            numbers = [number for number in frames if phase_range.first <= number <= phase_range.last]
            shared = [number for number in numbers if number in in_all] or numbers
            if shared:
                columns.append(_Column(phase_range, shared[len(shared) // 2]))
        return columns


def save_video_strip(
    root: Path,
    video: str,
    output: Path,
    *,
    planes: Sequence[FocalPlane] | None = None,
    tile_px: int = 140,
    overwrite: bool = False,
) -> list[str]:
    """Draw one frame of each phase in every focal plane, and a bar of the phases over time, as a PNG.

    Args:
        root: the extracted dataset.
        video: which video.
        output: the PNG to write.
        planes: the focal planes, a row each, the highest on top; None: all that are there.
        tile_px: a frame's longer side.
        overwrite: whether ``output`` may be replaced.

    Returns:
        remarks, one line each: frames that are missing in a plane or damaged, phases without a frame.

    Raises:
        OptionError: there is no such video or plane, or ``tile_px`` is too small.
        InputProblemsError: the tables of the video cannot be used.
        MvtkError: the video has no phases or no frames; ``output`` exists or cannot be written.
    """
    if tile_px < MIN_TILE_PX:
        raise OptionError(f"tile {tile_px}", f"give at least {MIN_TILE_PX} pixels")
    facts = _read_video(open_tree(root), video, planes)
    columns = facts.columns()
    if not columns:
        raise MvtkError(f"{root}: video {video} has no frame in any of its phases", "mvtk embryo inspect says more")
    drawn = {column.phase_range.phase for column in columns}
    remarks = [
        f"phase {part.phase.label}: no frame from {part.first} to {part.last}"
        for part in facts.ranges
        if part.phase not in drawn
    ]
    save_png(output, _draw_strip(facts, columns, tile_px, remarks), overwrite=overwrite)
    return remarks


def _read_video(tree: EmbryoTree, video: str, planes: Sequence[FocalPlane] | None) -> _Video:
    absent = [plane.label for plane in planes or () if plane not in tree.planes]
    if absent:
        raise OptionError(f"{tree.root}: focal plane {', '.join(absent)} is not there")
    files: dict[FocalPlane, dict[int, Path]] = {}
    for plane in tree.planes if planes is None else planes:
        folder = tree.video_folder(plane, video)
        listed = list_frames(folder) if video in tree.videos(plane) else None
        if listed is not None:
            files[plane] = {number: folder / name for number, name in zip(listed.numbers, listed.names, strict=True)}
    if not files:
        raise unknown_name("video", video, sorted({name for plane in tree.planes for name in tree.videos(plane)}))
    if not tree.phases_path(video).is_file():
        raise MvtkError(f"{tree.phases_path(video)}: no such file", "a strip needs the phases of the video")
    times_path = tree.times_path(video)
    times = read_time_stamps(times_path) if times_path.is_file() else None
    return _Video(video, files, read_phase_ranges(tree.phases_path(video)), times)


def _draw_strip(video: _Video, columns: Sequence[_Column], tile_px: int, remarks: list[str]) -> NDArray[np.uint8]:
    """Return the picture as HxWx3 uint8 RGB; what could not be drawn is added to ``remarks``."""
    rows = sorted(video.files, key=PLANES.index, reverse=True)
    timeline = Timeline(video.ranges, video.frames, video.hours_at)
    left = _MARGIN_PX + _PLANE_LABEL_WIDTH_PX
    pitch = tile_px + _GAP_PX
    bar_width = max(len(columns) * pitch - _GAP_PX, _LEAST_BAR_WIDTH_PX)
    tiles_top = _MARGIN_PX + _TITLE_HEIGHT_PX + 3 * _LINE_PX + _GAP_PX
    bar_top = tiles_top + len(rows) * pitch + _MARGIN_PX
    size_wh = (left + bar_width + _MARGIN_PX, bar_top + bar_height_px(timeline, bar_width) + _MARGIN_PX)
    canvas = Image.new("RGB", size_wh, GROUND_COLOUR)
    draw = ImageDraw.Draw(canvas)
    draw.text((_MARGIN_PX, _MARGIN_PX), _title(video), fill=TEXT_COLOUR, font=font_of(_TITLE_PX))
    for number, column in enumerate(columns):
        _draw_heading(draw, video, column, (left + number * pitch, _MARGIN_PX + _TITLE_HEIGHT_PX))
    for row, plane in enumerate(rows):
        top = tiles_top + row * pitch
        middle_left = (_MARGIN_PX, top + tile_px // 2)
        draw.text(middle_left, plane.label, fill=TEXT_COLOUR, font=font_of(_LABEL_PX), anchor="lm")
        for number, column in enumerate(columns):
            tile = _tile(video.files[plane].get(column.frame), plane, column.frame, tile_px, remarks)
            canvas.paste(tile, (left + number * pitch, top))
    draw_bar(draw, timeline, left, bar_top, bar_width)
    return np.array(canvas)


def _title(video: _Video) -> str:
    frames = video.frames
    planes = len(video.files)
    hours = video.hours_at(frames[-1])
    duration = "" if math.isnan(hours) else f", {hours:.1f} hours"
    return one_line(f"{video.name}: {len(frames)} frames in {planes} focal plane{'s' * (planes > 1)}{duration}")


def _draw_heading(draw: ImageDraw.ImageDraw, video: _Video, column: _Column, corner_xy: tuple[int, int]) -> None:
    """Draw a column's phase, frame number and hours."""
    left, top = corner_xy
    phase = column.phase_range.phase
    font = font_of(_LABEL_PX)
    draw.rectangle((left, top, left + 10, top + 10), fill=phase_colour(phase))
    draw.text((left + 15, top - 2), phase.label, fill=TEXT_COLOUR, font=font)
    draw.text((left, top + _LINE_PX - 2), f"frame {column.frame}", fill=FAINT_TEXT_COLOUR, font=font)
    hours = video.hours_at(column.frame)
    if not math.isnan(hours):
        draw.text((left, top + 2 * _LINE_PX - 2), f"{hours:.1f} h", fill=FAINT_TEXT_COLOUR, font=font)


def _tile(path: Path | None, plane: FocalPlane, frame: int, tile_px: int, remarks: list[str]) -> Image.Image:
    """Return a square with a frame in it, or with a word and a remark where there is none that can be read."""
    square = Image.new("RGB", (tile_px, tile_px), _NO_FRAME)
    word = "no frame"
    if path is None:
        remarks.append(f"{plane.label}: no frame {frame}")
    else:
        try:
            scaled = _scaled(load_image(path, to_8bit=True).pixels, tile_px)
        except MvtkError as error:
            remarks.append(str(error))
            word = "damaged"
        else:
            square.paste(scaled, ((tile_px - scaled.width) // 2, (tile_px - scaled.height) // 2))
            return square
    centre = (tile_px // 2, tile_px // 2)
    ImageDraw.Draw(square).text(centre, word, fill=FAINT_TEXT_COLOUR, font=font_of(_LABEL_PX), anchor="mm")
    return square


def _scaled(image_hwc: NDArray[np.uint8], long_side_px: int) -> Image.Image:
    height, width = image_hwc.shape[:2]
    scale = long_side_px / max(height, width)
    size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(image_hwc).resize(size_wh, Image.Resampling.LANCZOS)
