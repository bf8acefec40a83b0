"""Preview drawings, by what must be where: never by the exact shape of a letter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.builders import blob_mask, gradient
from toolkit import preview
from toolkit.core.errors import MvtkError
from toolkit.preview import (
    CLASS_COLOURS,
    MASK_COLOUR,
    PreviewError,
    Tile,
    contact_sheet,
    display_image,
    draw_boxes,
    image_mask_overlay,
    overlay_mask,
    save_png,
)

BLACK = np.zeros((100, 140, 3), np.uint8)
BACKGROUND = (30, 31, 34)


def rows_and_columns_of(sheet: np.ndarray, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    where = (sheet == colour).all(axis=2)
    return np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))


class TestDisplay:
    def test_uint8_stays(self) -> None:
        rgb = gradient()
        np.testing.assert_array_equal(display_image(rgb), rgb)
        np.testing.assert_array_equal(display_image(rgb[..., 0]), rgb[..., :1].repeat(3, axis=2))
        np.testing.assert_array_equal(display_image(np.dstack([rgb, rgb[..., 0]])), rgb)
        np.testing.assert_array_equal(display_image(rgb[..., :2]), rgb[..., :1].repeat(3, axis=2))

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            (np.array([[False, True]]), [0, 255]),
            (np.array([[0.0, 0.5]]), [0, 128]),
            (np.array([[-1.0, 3.0]]), [0, 255]),
            (np.array([[1000, 1500, 2000]], np.uint16), [0, 128, 255]),
            (np.array([[7, 7]], np.int32), [0, 0]),
            (np.array([[np.nan, 1.0, np.inf, 0.0]]), [0, 255, 0, 0]),
            (np.array([[np.nan]]), [0]),
        ],
    )
    def test_other_ranges(self, values: np.ndarray, expected: list[int]) -> None:
        shown = display_image(values)
        assert shown.dtype == np.uint8
        np.testing.assert_array_equal(shown[0, :, 1], expected)

    @pytest.mark.parametrize("shape", [(0, 5), (4,), (2, 3, 4, 5), (3, 3, 0)])
    def test_what_is_no_picture(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(PreviewError, match="cannot be drawn; expected HxW or HxWxC, not empty"):
            display_image(np.zeros(shape))


class TestOverlay:
    def test_fill_outline_and_the_rest(self) -> None:
        image_hwc = np.full((60, 80, 3), 100, np.uint8)
        mask_hw = np.zeros((60, 80), np.uint8)
        mask_hw[20:40, 30:50] = 1
        drawn = overlay_mask(image_hwc, mask_hw, alpha=0.5)
        np.testing.assert_array_equal(drawn[30, 40], np.rint((100 + np.array(MASK_COLOUR)) / 2))
        assert tuple(drawn[19, 40]) == tuple(drawn[30, 50]) == MASK_COLOUR
        np.testing.assert_array_equal(drawn[:18], image_hwc[:18])
        assert (image_hwc == 100).all()

    def test_a_vessel_of_one_pixel_keeps_its_own_pixels(self) -> None:
        image_hwc = np.full((40, 40, 3), 100, np.uint8)
        mask_hw = np.zeros((40, 40), np.uint8)
        mask_hw[20, 5:35] = 255
        drawn = overlay_mask(image_hwc, mask_hw, alpha=0.4)
        assert (drawn[[19, 21], 10:30] == MASK_COLOUR).all()
        assert (drawn[20, 10:30] != MASK_COLOUR).any(axis=1).all()

    @pytest.mark.parametrize("high", [1, 0.25, 255, 40_000])
    def test_any_range_of_values_looks_the_same(self, high: float) -> None:
        image_hwc = gradient(50, 50)
        mask_hw = blob_mask(50, 50, high=1).astype(np.float64)
        expected = overlay_mask(image_hwc, mask_hw)
        np.testing.assert_array_equal(overlay_mask(image_hwc, (mask_hw * high)[..., None]), expected)

    def test_an_empty_mask_changes_nothing(self) -> None:
        image_hwc = gradient()
        np.testing.assert_array_equal(overlay_mask(image_hwc, np.zeros(image_hwc.shape[:2])), image_hwc)

    def test_a_mask_of_another_size(self) -> None:
        with pytest.raises(
            PreviewError, match=r"mask of shape \(5, 5\) cannot be laid over an image of shape \(24, 32"
        ):
            overlay_mask(gradient(), np.zeros((5, 5)))


class TestBoxes:
    def test_the_frame_lies_on_the_boxs_own_pixels(self) -> None:
        drawn = draw_boxes(BLACK, np.array([[20, 30, 90, 80]]), [""], [1])
        rows, columns = rows_and_columns_of(drawn, CLASS_COLOURS[1])
        assert (rows[0], rows[-1], columns[0], columns[-1]) == (30, 79, 20, 89)
        assert not drawn[35:75, 25:85].any()

    def test_classes_choose_colours_again_and_again(self) -> None:
        last = len(CLASS_COLOURS)
        drawn = draw_boxes(BLACK, np.array([[5, 5, 40, 40], [60, 5, 90, 40]]), ["", ""], [0, last])
        _, columns = rows_and_columns_of(drawn, CLASS_COLOURS[0])
        assert (columns[0], columns[-1]) == (5, 89)

    @pytest.mark.parametrize("box", [[-50, -50, 500, 500], [130, 90, 139.5, 99.5], [0, 0, 0, 0], [139, 99, 900, 900]])
    def test_boxes_and_chips_stay_inside(self, box: list[float]) -> None:
        drawn = draw_boxes(BLACK, np.array([box]), ["vessel"], [0])
        assert drawn.shape == BLACK.shape
        assert (drawn == CLASS_COLOURS[0]).all(axis=2).sum() > 100

    def test_a_frame_beyond_the_border_is_drawn_on_it(self) -> None:
        drawn = draw_boxes(BLACK, np.array([[-50, 10, 500, 500]]), [""], [0])
        for side in (drawn[10], drawn[99], drawn[10:, 0], drawn[10:, 139]):
            assert (side == CLASS_COLOURS[0]).all()

    def test_a_chip_has_legible_text(self) -> None:
        drawn = draw_boxes(BLACK + np.uint8(90), np.array([[20, 40, 90, 80]]), ["stenosis"], [0])
        chip = drawn[20:39, 18:90]
        assert (chip == CLASS_COLOURS[0]).all(axis=2).any()
        assert (chip.max(axis=2) < 60).sum() > 40  # black ink on a light chip
        dark = draw_boxes(BLACK + np.uint8(90), np.array([[20, 40, 90, 80]]), ["stenosis"], [6])
        assert (dark[20:39].min(axis=2) > 200).sum() > 40

    def test_chips_never_overlap(self) -> None:
        corners = np.random.default_rng(0).integers(0, 300, (60, 2))
        boxes = [(int(x), int(y), int(x) + 30, int(y) + 30) for x, y in corners]
        taken: list[preview.Rectangle] = []
        chips_here = np.zeros((340, 340), int)
        for index in range(len(boxes)):
            chip = preview._free_chip(index, boxes, "person", preview._font(12), taken, (340, 340))
            if chip is not None:
                assert 0 <= chip[0] < chip[2] <= 340
                assert 0 <= chip[1] < chip[3] <= 340
                chips_here[chip[1] : chip[3], chip[0] : chip[2]] += 1
                taken.append(chip)
        assert chips_here.max() == 1
        assert 10 < len(taken) < 60

    def test_a_chip_keeps_off_the_box_above(self) -> None:
        drawn = draw_boxes(BLACK, np.array([[20, 20, 90, 60], [20, 62, 90, 90]]), ["", "x"], [0, 1])
        assert not (drawn[22:58, 22:88] == CLASS_COLOURS[1]).all(axis=2).any()
        assert (drawn == CLASS_COLOURS[1]).all(axis=2).sum() > 300

    def test_no_boxes(self) -> None:
        np.testing.assert_array_equal(draw_boxes(gradient(), np.zeros((0, 4)), [], []), gradient())


class TestContactSheet:
    def test_tiles_lie_in_their_cells_with_their_aspect(self) -> None:
        red, green = np.full((50, 100, 3), (255, 0, 0), np.uint8), np.full((100, 50, 3), (0, 255, 0), np.uint8)
        sheet = contact_sheet([Tile(red, "red"), Tile(green, "green")], columns=2, tile_px=200)
        rows, columns = rows_and_columns_of(sheet, (255, 0, 0))
        assert (rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1) == (100, 200)
        green_rows, green_columns = rows_and_columns_of(sheet, (0, 255, 0))
        assert (green_rows[-1] - green_rows[0] + 1, green_columns[-1] - green_columns[0] + 1) == (200, 100)
        assert rows[-1] == green_rows[-1]
        assert columns[-1] < green_columns[0]
        for corner in (sheet[0, 0], sheet[-1, -1], sheet[0, -1]):
            assert tuple(corner) == BACKGROUND

    @pytest.mark.parametrize(("count", "columns", "grid"), [(1, None, (1, 1)), (5, None, (2, 3)), (100, 10, (10, 10))])
    def test_grids(self, count: int, columns: int | None, grid: tuple[int, int]) -> None:
        sheet = contact_sheet([Tile(np.full((9, 9), 255, np.uint8))] * count, columns=columns, tile_px=40)
        assert sheet.shape == (grid[0] * 52 + 12, grid[1] * 52 + 12, 3)
        assert (sheet == 255).all(axis=2).sum() == count * 40 * 40

    def test_captions_stay_in_their_strip(self) -> None:
        tiles = [Tile(np.zeros((10, 10), np.uint8), "a very long name\nof a file " * 9)] * 4
        sheet = contact_sheet(tiles, columns=2, tile_px=100, title="a title " * 50)
        ink = (sheet != BACKGROUND).any(axis=2)
        for gap in (slice(0, 12), slice(112, 124), slice(224, 236)):
            assert not ink[30:, gap].any()  # below the title
        assert not ink[-8:].any()

    @pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 2, 3), (2500, 2600)])
    def test_tiny_huge_and_thin(self, shape: tuple[int, ...]) -> None:
        mask = np.ones(shape[:2], np.uint8)
        tile = Tile(np.full(shape, 200, np.uint8), "x", mask, np.array([[0, 0, shape[1], shape[0]]]), ["label"], [0])
        assert contact_sheet([tile], tile_px=64).shape[1] == 64 + 24

    def test_boxes_and_masks_are_drawn_at_the_tiles_size(self) -> None:
        mask = np.zeros((1000, 1000), np.uint8)
        mask[503, :] = 1  # a hairline that taking every tenth row would lose
        boxes_xyxy = np.array([[250, 250, 750, 750]])
        sheet = contact_sheet([Tile(np.zeros((1000, 1000), np.uint8), "", mask, boxes_xyxy, [""], [0])], tile_px=100)
        rows, columns = rows_and_columns_of(sheet, CLASS_COLOURS[0])
        assert (rows[0], rows[-1], columns[0], columns[-1]) == (12 + 25, 12 + 74, 12 + 25, 12 + 74)
        rows, _ = rows_and_columns_of(sheet, MASK_COLOUR)
        assert set(rows) == {12 + 49, 12 + 51}

    def test_nothing_to_draw(self) -> None:
        with pytest.raises(PreviewError, match="there is nothing to draw"):
            contact_sheet([])

    @settings(max_examples=40)
    @given(st.text(max_size=60), st.integers(0, 300))
    def test_shortened_text_fits_and_keeps_both_ends(self, text: str, width_px: int) -> None:
        font = preview._font(13)
        shortened = preview._shorten(text, font, width_px)
        if shortened == text:
            assert font.getlength(text) <= width_px
        else:
            assert shortened == "…" or font.getlength(shortened) <= width_px
            head, tail = shortened.split("…")[0], shortened.split("…")[-1]
            assert text.startswith(head)
            assert text.endswith(tail)


def test_shortened_text_uses_the_room_there_is() -> None:
    font = preview._font(13)
    assert 200 - 2 * font.getlength("m") < font.getlength(preview._shorten("m" * 99, font, 200)) <= 200


def test_three_panels() -> None:
    image_hwc = np.full((24, 32, 3), 100, np.uint8)
    drawn = image_mask_overlay(image_hwc, blob_mask(high=1)[..., None], "a.npz", panel_px=96)
    assert drawn.shape[1] == 3 * 96 + 4 * 12
    cells = [drawn[:, 12 + k * 108 : 12 + k * 108 + 96] for k in range(3)]
    assert (cells[0] == 100).all(axis=2).sum() == 96 * 72
    assert (cells[1] == 255).all(axis=2).sum() == 9 * (blob_mask() > 0).sum()
    assert (cells[2] == MASK_COLOUR).all(axis=2).any()
    assert not (cells[0] == MASK_COLOUR).all(axis=2).any()


def test_png_is_written_whole_and_not_over_another(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    save_png(path, gradient())
    np.testing.assert_array_equal(np.array(Image.open(path)), gradient())
    with pytest.raises(MvtkError, match="exists already"):
        save_png(path, BLACK)
    save_png(path, BLACK, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_chips_leave_a_crowded_picture_visible() -> None:
    image_hwc = np.zeros((640, 640, 3), np.uint8)
    lefts, tops = (grid.ravel() for grid in np.meshgrid(np.arange(0, 640, 64), np.arange(0, 640, 32)))
    boxes_xyxy = np.stack([lefts, tops, lefts + 6, tops + 6], axis=1)
    drawn = draw_boxes(image_hwc, boxes_xyxy, ["a long class name"] * len(boxes_xyxy), [0] * len(boxes_xyxy))
    unlabelled = draw_boxes(image_hwc, boxes_xyxy, [""] * len(boxes_xyxy), [0] * len(boxes_xyxy))
    chips = (drawn != unlabelled).any(axis=2)
    assert 0.05 < chips.mean() < 0.11
