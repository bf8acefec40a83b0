"""Decoding real files of every odd kind: right pixels, or one line that names the file."""

from __future__ import annotations

import errno
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from tests.builders import (
    PNG_SIGNATURE,
    blob_mask,
    encoded,
    gradient,
    png_chunk,
    write_bomb,
    write_frames,
    write_image,
    write_oriented,
    write_palette,
    write_png16,
    write_text_bomb,
    write_tiff16,
)
from toolkit.images import ImageError, load_image, load_mask, read_size, resize_mask

RGB = gradient()
GREY = RGB[..., 0]
RGB16 = RGB.astype(np.uint16) * 257 + 1  # no high byte stands for its low one
RGB16[RGB == 255] = 65535
ALPHA = blob_mask()

SAMPLE_FILES = {
    "grey.png": encoded(GREY, "PNG"),
    "rgb.png": encoded(RGB, "PNG"),
    "baseline.jpg": encoded(RGB, "JPEG"),
    "progressive.jpg": encoded(RGB, "JPEG", progressive=True),
    "plain.tif": encoded(RGB, "TIFF"),
    "deflate.tif": encoded(RGB, "TIFF", compression="tiff_deflate"),
    "jpeg.tif": encoded(RGB, "TIFF", compression="jpeg"),
    "rgb.bmp": encoded(RGB, "BMP"),
    "rgb.gif": encoded(RGB, "GIF"),
    "lossy.webp": encoded(RGB, "WEBP"),
    "lossless.webp": encoded(RGB, "WEBP", lossless=True),
}


def error_of(path: Path, **options: Any) -> str:
    with pytest.raises(ImageError) as caught:
        load_image(path, **options)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


class TestImages:
    def test_rgb_is_exact_and_writable(self, tmp_path: Path) -> None:
        decoded = load_image(write_image(tmp_path / "a.png", RGB))
        assert decoded.warnings == ()
        assert decoded.pixels.dtype == np.uint8
        assert decoded.pixels.flags.c_contiguous
        assert decoded.pixels.flags.writeable
        np.testing.assert_array_equal(decoded.pixels, RGB)

    @pytest.mark.parametrize(("name", "mode"), [("a.png", None), ("a.png", "LA"), ("a.tif", None), ("a.bmp", None)])
    def test_grey_is_replicated(self, tmp_path: Path, name: str, mode: str | None) -> None:
        pixels = load_image(write_image(tmp_path / name, GREY, mode)).pixels
        np.testing.assert_array_equal(pixels, np.stack([GREY] * 3, axis=2))

    def test_one_bit_becomes_black_and_white(self, tmp_path: Path) -> None:
        pixels = load_image(write_image(tmp_path / "a.png", ALPHA > 0)).pixels
        np.testing.assert_array_equal(pixels, np.stack([ALPHA] * 3, axis=2))

    def test_alpha_is_dropped_and_the_colours_under_it_kept(self, tmp_path: Path) -> None:
        rgba = np.dstack([RGB, np.zeros_like(GREY)])
        np.testing.assert_array_equal(load_image(write_image(tmp_path / "a.png", rgba)).pixels, RGB)

    @pytest.mark.parametrize("alphas", [None, b"\x00\x80\xff"])
    def test_palette_gives_its_colours(self, tmp_path: Path, alphas: bytes | None) -> None:
        colours = [(10, 20, 30), (200, 100, 0), (1, 2, 3)]
        indices = (GREY // 100).astype(np.uint8)
        path = write_palette(tmp_path / "a.png", indices, colours, alphas)
        np.testing.assert_array_equal(load_image(path).pixels, np.array(colours, np.uint8)[indices])
        assert load_image(path, keep_mode=True).pixels.shape == (*GREY.shape, 3 if alphas is None else 4)

    def test_adobe_cmyk_jpeg_is_not_inverted(self, tmp_path: Path) -> None:
        flat = np.full((16, 16, 3), (220, 40, 60), np.uint8)
        pixels = load_image(write_image(tmp_path / "a.jpg", flat, "CMYK", quality=100)).pixels
        assert np.abs(pixels.astype(int) - flat).max() <= 3

    def test_ycbcr_tiff_becomes_rgb(self, tmp_path: Path) -> None:
        flat = np.full((16, 16, 3), (220, 40, 60), np.uint8)
        path = write_image(tmp_path / "a.tif", flat, "YCbCr")
        assert np.abs(load_image(path).pixels.astype(int) - flat).max() <= 3

    @pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
    def test_only_the_first_frame_is_used_and_said_so(self, tmp_path: Path, name: str) -> None:
        second = np.ascontiguousarray(RGB[::-1])
        decoded = load_image(write_frames(tmp_path / name, [RGB, second]))
        assert decoded.warnings == ("only the first frame is used",)
        alone = load_image(write_image(tmp_path / f"alone-{name}", RGB)).pixels
        assert np.abs(decoded.pixels.astype(int) - alone).max() <= 12

    def test_keep_mode_keeps_channels_and_depth(self, tmp_path: Path) -> None:
        cases = {"grey.png": GREY, "rgba.png": np.dstack([RGB, ALPHA]), "bool.png": ALPHA > 0}
        for name, pixels in cases.items():
            kept = load_image(write_image(tmp_path / name, pixels), keep_mode=True).pixels
            assert kept.dtype == pixels.dtype
            np.testing.assert_array_equal(kept, pixels)


class TestSixteenBits:
    SAMPLES = (RGB16[..., 0], RGB16[..., :2], RGB16, np.dstack([RGB16, RGB16[..., 1]]))

    @pytest.mark.parametrize("samples", SAMPLES, ids=["grey", "grey and alpha", "rgb", "rgba"])
    def test_png(self, tmp_path: Path, samples: NDArray[np.uint16]) -> None:
        path = write_png16(tmp_path / "a.png", samples)
        np.testing.assert_array_equal(load_image(path, keep_mode=True).pixels, samples)
        assert error_of(path) == "16-bit samples; use --to-8bit to scale it to 8 bits"
        colours = samples if samples.ndim == 3 else samples[..., None]
        colours = colours[..., :3] if colours.shape[2] >= 3 else colours[..., :1].repeat(3, axis=2)
        np.testing.assert_array_equal(load_image(path, to_8bit=True).pixels, np.rint(colours / 257))

    def test_tiff_rgb(self, tmp_path: Path) -> None:
        path = write_tiff16(tmp_path / "a.tif", RGB16)
        np.testing.assert_array_equal(load_image(path, keep_mode=True).pixels, RGB16)
        assert error_of(path) == "16-bit samples; use --to-8bit to scale it to 8 bits"

    @pytest.mark.parametrize("dtype", ["<u2", ">u2"])
    def test_tiff_grey_of_both_byte_orders(self, tmp_path: Path, dtype: str) -> None:
        image = Image.frombytes("I;16" if dtype == "<u2" else "I;16B", (32, 24), RGB16[..., 0].astype(dtype).tobytes())
        image.save(tmp_path / "a.tif")
        pixels = load_image(tmp_path / "a.tif", keep_mode=True).pixels
        assert pixels.dtype == np.uint16
        np.testing.assert_array_equal(pixels, RGB16[..., 0])

    def test_every_value_is_rounded_exactly(self, tmp_path: Path) -> None:
        values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
        pixels = load_image(write_png16(tmp_path / "a.png", values), to_8bit=True).pixels[..., 0]
        np.testing.assert_array_equal(pixels, [[(int(v) * 2 + 257) // 514 for v in row] for row in values])

    def test_tiff_with_white_as_zero_is_refused(self, tmp_path: Path) -> None:
        image = Image.fromarray(RGB16[..., 0])
        image.save(tmp_path / "a.tif", tiffinfo={262: 0})
        assert "in which 0 is white" in error_of(tmp_path / "a.tif", to_8bit=True)

    @pytest.mark.parametrize(("dtype", "kind"), [(np.int32, "integer"), (np.float32, "float")])
    def test_32_bits_are_refused(self, tmp_path: Path, dtype: type, kind: str) -> None:
        path = write_image(tmp_path / "a.tif", GREY.astype(dtype))
        expected = f"32-bit {kind} samples, whose range is not known; scale it to 8 or 16 bits first"
        assert error_of(path, to_8bit=True) == expected
        np.testing.assert_array_equal(load_image(path, keep_mode=True).pixels, GREY.astype(dtype))


class TestExif:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp"])
    def test_ignore_and_apply(self, tmp_path: Path, name: str, orientation: int) -> None:
        lossless = {"lossless": True} if name == "a.webp" else {}
        path = write_oriented(tmp_path / name, RGB, orientation, **lossless)
        stored = RGB if name != "a.jpg" else load_image(write_image(tmp_path / "plain.jpg", RGB)).pixels
        ignored, applied = load_image(path), load_image(path, exif="apply")
        np.testing.assert_array_equal(ignored.pixels, stored)
        assert ignored.warnings == (() if orientation == 1 else ("EXIF orientation ignored",))
        upright = Image.fromarray(stored)
        upright.getexif()[0x0112] = orientation
        np.testing.assert_array_equal(applied.pixels, np.array(ImageOps.exif_transpose(upright)))
        assert applied.warnings == ()
        assert applied.pixels.flags.c_contiguous
        assert read_size(path) == ignored.pixels.shape[:2]
        assert read_size(path, "apply") == applied.pixels.shape[:2]

    @pytest.mark.parametrize("orientation", [0, 9, 77])
    def test_an_undefined_orientation_is_none(self, tmp_path: Path, orientation: int) -> None:
        path = write_oriented(tmp_path / "a.png", RGB, orientation)
        np.testing.assert_array_equal(load_image(path, exif="apply").pixels, RGB)
        assert load_image(path).warnings == ()

    def test_masks_turn_as_images_do(self, tmp_path: Path) -> None:
        path = write_oriented(tmp_path / "a.png", ALPHA, 6)
        np.testing.assert_array_equal(load_mask(path, exif="apply").pixels, np.rot90(ALPHA, -1))
        assert load_mask(path).warnings == ("EXIF orientation ignored",)


class TestMasks:
    @pytest.mark.parametrize("high", [1, 7, 255])
    @pytest.mark.parametrize("mode", ["L", "RGB", "LA", "RGBA"])
    def test_two_values_become_0_and_255(self, tmp_path: Path, mode: str, high: int) -> None:
        path = write_image(tmp_path / "a.png", blob_mask(high=high), mode)
        mask_hw = load_mask(path).pixels
        assert mask_hw.dtype == np.uint8
        np.testing.assert_array_equal(mask_hw, ALPHA)
        np.testing.assert_array_equal(load_mask(path, values="keep").pixels, blob_mask(high=high))

    @pytest.mark.parametrize(("value", "expected"), [(0, 0), (1, 255), (255, 255)])
    def test_a_constant_mask(self, tmp_path: Path, value: int, expected: int) -> None:
        path = write_image(tmp_path / "a.png", np.full((5, 6), value, np.uint8))
        assert (load_mask(path).pixels == expected).all()
        assert (load_mask(path, values="keep").pixels == value).all()

    def test_the_lower_of_two_values_becomes_0(self, tmp_path: Path) -> None:
        path = write_image(tmp_path / "a.png", np.where(ALPHA > 0, 40, 30).astype(np.uint8))
        np.testing.assert_array_equal(load_mask(path).pixels, ALPHA)

    def test_three_values_stay(self, tmp_path: Path) -> None:
        mask_hw = blob_mask(high=2)
        mask_hw[0, 0] = 1
        np.testing.assert_array_equal(load_mask(write_image(tmp_path / "a.png", mask_hw)).pixels, mask_hw)

    def test_one_bit(self, tmp_path: Path) -> None:
        path = write_image(tmp_path / "a.png", ALPHA > 0)
        np.testing.assert_array_equal(load_mask(path).pixels, ALPHA)
        np.testing.assert_array_equal(load_mask(path, values="keep").pixels, ALPHA > 0)

    def test_palette_gives_luminance_and_keep_mode_the_indices(self, tmp_path: Path) -> None:
        # Index 0 is the brightest colour: reading indices would turn the mask inside out.
        path = write_palette(tmp_path / "a.png", (ALPHA == 0).astype(np.uint8), [(255, 255, 255), (0, 0, 0)])
        np.testing.assert_array_equal(load_mask(path).pixels, ALPHA)
        np.testing.assert_array_equal(load_mask(path, keep_mode=True).pixels, ALPHA == 0)

    def test_luminance_is_pillows(self, tmp_path: Path) -> None:
        path = write_image(tmp_path / "a.png", RGB)
        np.testing.assert_array_equal(load_mask(path).pixels, np.array(Image.fromarray(RGB).convert("L")))

    @pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (9, 80, 3)])
    def test_alpha_is_the_mask_where_the_colour_is_constant(self, tmp_path: Path, colour: tuple[int, int, int]) -> None:
        rgba = np.dstack([np.broadcast_to(np.array(colour, np.uint8), RGB.shape), ALPHA])
        np.testing.assert_array_equal(load_mask(write_image(tmp_path / "a.png", rgba)).pixels, ALPHA)

    def test_alpha_of_a_palette(self, tmp_path: Path) -> None:
        colours = [(7, 7, 7), (7, 7, 7)]
        path = write_palette(tmp_path / "a.png", (ALPHA > 0).astype(np.uint8), colours, b"\x00\xff")
        np.testing.assert_array_equal(load_mask(path).pixels, ALPHA)

    def test_an_all_transparent_mask_is_empty(self, tmp_path: Path) -> None:
        rgba = np.full((4, 5, 4), 255, np.uint8)
        rgba[..., 3] = 0
        assert not load_mask(write_image(tmp_path / "a.png", rgba)).pixels.any()

    def test_alpha_is_ignored_where_colours_vary(self, tmp_path: Path) -> None:
        rgba = np.dstack([ALPHA, ALPHA, ALPHA, ALPHA[::-1, ::-1]])
        np.testing.assert_array_equal(load_mask(write_image(tmp_path / "a.png", rgba)).pixels, ALPHA)

    def test_opaque_alpha_is_ignored(self, tmp_path: Path) -> None:
        rgba = np.zeros((4, 5, 4), np.uint8)
        rgba[..., 3] = 255
        assert not load_mask(write_image(tmp_path / "a.png", rgba)).pixels.any()

    def test_16_bits(self, tmp_path: Path) -> None:
        two_valued = write_png16(tmp_path / "two.png", np.where(ALPHA > 0, 300, 0).astype(np.uint16))
        np.testing.assert_array_equal(load_mask(two_valued).pixels, ALPHA)
        small = write_png16(tmp_path / "small.png", GREY.astype(np.uint16))
        np.testing.assert_array_equal(load_mask(small).pixels, GREY)
        grey16 = GREY.astype(np.uint16) // 2 * 514 + 200  # values that round up: the high byte alone is wrong
        large = write_png16(tmp_path / "large.png", grey16)
        np.testing.assert_array_equal(load_mask(large).pixels, np.rint(grey16 / 257))

    def test_16_bit_colour_has_exact_luminance(self, tmp_path: Path) -> None:
        grey16 = RGB16[..., 0]
        path = write_png16(tmp_path / "a.png", np.dstack([grey16] * 3))
        np.testing.assert_array_equal(load_mask(path).pixels, np.rint(grey16 / 257))

    def test_32_bits(self, tmp_path: Path) -> None:
        path = write_image(tmp_path / "a.tif", GREY.astype(np.int32))
        np.testing.assert_array_equal(load_mask(path).pixels, GREY)
        path = write_image(tmp_path / "a.tif", GREY.astype(np.float32) / 255)
        np.testing.assert_array_equal(load_mask(path).pixels, GREY)
        path = write_image(tmp_path / "a.tif", (ALPHA > 0) * np.float32(900))
        np.testing.assert_array_equal(load_mask(path).pixels, ALPHA)

    @pytest.mark.parametrize(
        ("values", "options", "expected"),
        [
            (GREY.astype(np.float32), {}, "floats above 1 (up to 255.0); scale them to 0 to 1 first"),
            (GREY.astype(np.int32) * 9, {}, "32-bit values up to 2295; scale them to 0 to 255 first"),
            (-(ALPHA > 0).astype(np.int32), {}, "negative values (down to -1)"),
            (np.where(ALPHA > 0, np.nan, 0).astype(np.float32), {}, "values that are not finite"),
            (GREY.astype(np.int32) * 9, {"values": "keep"}, "(up to 2295) are not all whole numbers from 0 to 255"),
            (GREY.astype(np.float32) / 255, {"values": "keep"}, "(up to 1.0) are not all whole numbers from 0 to 255"),
        ],
    )
    def test_values_without_an_8_bit_meaning(
        self, tmp_path: Path, values: NDArray[Any], options: dict[str, Any], expected: str
    ) -> None:
        path = write_image(tmp_path / "a.tif", values)
        with pytest.raises(ImageError) as caught:
            load_mask(path, **options)
        assert str(path) in str(caught.value)
        assert expected in str(caught.value)

    @given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 90), st.integers(1, 90))
    def test_resize_takes_the_pixel_whose_centre_is_nearest(
        self, height: int, width: int, new_height: int, new_width: int
    ) -> None:
        position_hw = np.arange(height * width, dtype=np.uint16).reshape(height, width)
        resized = resize_mask(position_hw, new_height, new_width)
        assert resized.shape == (new_height, new_width)
        assert resized.dtype == np.uint16
        rows, columns = np.divmod(resized.astype(np.int64), width)
        # Distances in units of 1 / (2 old new) of the side; at an exact tie either neighbour is right.
        away_y = (2 * np.arange(new_height)[:, None] + 1) * height - (2 * rows + 1) * new_height
        away_x = (2 * np.arange(new_width)[None, :] + 1) * width - (2 * columns + 1) * new_width
        assert (np.abs(away_y) <= new_height).all()
        assert (np.abs(away_x) <= new_width).all()


class TestBadFiles:
    def test_what_is_no_file(self, tmp_path: Path) -> None:
        assert error_of(tmp_path / "none.png") == "no such file"
        assert error_of(tmp_path) == "a folder, not an image file"
        os.mkfifo(tmp_path / "pipe.png")
        assert error_of(tmp_path / "pipe.png") == "not a regular file"
        with pytest.raises(ImageError, match="not a file name"):
            load_image("a\0b.png")

    def test_what_is_no_image(self, tmp_path: Path) -> None:
        (tmp_path / "empty.png").touch()
        assert error_of(tmp_path / "empty.png") == "the file is empty"
        (tmp_path / "text.png").write_text("not an image")
        expected = "not a readable image; expected PNG, JPEG, TIFF, BMP, GIF or WebP"
        assert error_of(tmp_path / "text.png") == expected
        (tmp_path / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
        assert error_of(tmp_path / "script.png") == expected

    def test_no_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> int:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)  # a chmod would not stop root
        assert error_of(tmp_path / "a.png") == "cannot be opened (Permission denied)"

    def test_bombs(self, tmp_path: Path) -> None:
        path = write_bomb(tmp_path / "bomb.png", 30_000, 30_000)
        assert error_of(path).startswith("too many pixels")
        # Pillow warns of this one; the warning must not escape (warnings are errors here).
        path = write_bomb(tmp_path / "large.png", 10_000, 10_000)
        assert error_of(path, max_pixels=50_000_000) == "10000 x 10000 pixels are more than the limit of 50000000"
        assert error_of(write_text_bomb(tmp_path / "text.png")).startswith("damaged or of an unsupported kind (Decomp")

    def test_one_pixel_above_the_limit(self, tmp_path: Path) -> None:
        path = write_image(tmp_path / "a.png", RGB)
        assert load_image(path, max_pixels=24 * 32).pixels.shape == RGB.shape
        assert error_of(path, max_pixels=24 * 32 - 1) == "32 x 24 pixels are more than the limit of 767"

    def test_png_damage_that_pillow_does_not_see(self, tmp_path: Path) -> None:
        content = bytearray(SAMPLE_FILES["grey.png"])
        content[content.index(b"IEND") - 5] ^= 1  # the last byte of the pixel chunk's CRC
        path = tmp_path / "a.png"
        path.write_bytes(content)
        assert error_of(path) == "damaged PNG (wrong checksum in its IDAT chunk)"
        path.write_bytes(content[:-12])
        assert error_of(path).startswith("damaged PNG")
        path.write_bytes(SAMPLE_FILES["grey.png"][:-12])
        assert error_of(path) == "the file is truncated (a PNG chunk is cut short)"
        path.write_bytes(PNG_SIGNATURE + png_chunk(b"IEND", b""))
        assert error_of(path) == "damaged PNG (it does not begin with its header)"

    def test_what_follows_the_end_is_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(SAMPLE_FILES["grey.png"] + b"appended")
        np.testing.assert_array_equal(load_image(path).pixels[..., 0], GREY)
        jpeg = tmp_path / "a.jpg"
        jpeg.write_bytes(SAMPLE_FILES["baseline.jpg"] + b"\xff\xda appended")
        assert load_image(jpeg).pixels.shape == RGB.shape

    def test_a_jpegs_thumbnail_does_not_stand_for_its_end(self, tmp_path: Path) -> None:
        content = SAMPLE_FILES["baseline.jpg"]
        thumbnail = b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content
        path = tmp_path / "a.jpg"
        path.write_bytes(content[:2] + thumbnail + content[2:-2])
        assert error_of(path) == "the file is truncated (no JPEG end marker)"

    @pytest.mark.parametrize("name", SAMPLE_FILES)
    def test_truncated_files_fail(self, tmp_path: Path, name: str) -> None:
        content = SAMPLE_FILES[name]
        path = tmp_path / name
        path.write_bytes(content)
        whole = load_image(path).pixels
        for length in {*range(1, len(content), 7), *range(len(content) - 20, len(content))}:
            path.write_bytes(content[:length])
            try:
                pixels = load_image(path).pixels
            except ImageError:
                continue
            # Only what follows the last pixel may be missing: a GIF's trailer, a BMP row's padding.
            assert name in ("rgb.gif", "rgb.bmp")
            assert length >= len(content) - 2
            np.testing.assert_array_equal(pixels, whole)

    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.sampled_from(sorted(SAMPLE_FILES)), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 7)), min_size=1))
    def test_nothing_but_image_errors_escapes(self, tmp_path: Path, name: str, flips: list[tuple[float, int]]) -> None:
        content = bytearray(SAMPLE_FILES[name])
        for where, bit in flips:
            content[int(where * (len(content) - 1))] ^= 1 << bit
        path = tmp_path / name
        path.write_bytes(content)
        for attempt in (
            lambda: load_image(path, to_8bit=True, max_pixels=10**6),
            lambda: load_mask(path, exif="apply", max_pixels=10**6),
            lambda: read_size(path, "apply"),
        ):
            with suppress(ImageError):
                attempt()

    def test_pillows_globals_and_the_warning_filters_stay(self, tmp_path: Path) -> None:
        before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
        load_image(write_image(tmp_path / "a.png", RGB))
        error_of(write_bomb(tmp_path / "bomb.png"))
        assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))


class TestRealFiles:
    def test_arcade_masks_of_0_and_1(self, shared_data: Path) -> None:
        folder = shared_data / "coronary" / "arcade_stenosis_nnunet"
        for path in sorted((folder / "labelsTr").glob("*.png")):
            stored = np.array(Image.open(path))
            assert set(np.unique(stored)) == {0, 1}
            np.testing.assert_array_equal(load_mask(path).pixels, stored * 255)
            image_hwc = load_image(folder / "imagesTr" / f"{path.stem}_0000.png").pixels
            assert image_hwc.shape == (*stored.shape, 3)

    def test_organ_and_nuclei_masks(self, shared_data: Path) -> None:
        paths = [
            *sorted((shared_data / "sam_med2d" / "data_demo" / "masks").glob("*.png")),
            *sorted((shared_data / "dsb2018" / "stage1_train").glob("*/masks/*.png"))[:20],
        ]
        assert len(paths) > 20
        for path in paths:
            mask_hw = load_mask(path).pixels
            assert set(np.unique(mask_hw)) == {0, 255}
            assert mask_hw.shape == read_size(path)

    def test_nuclei_images_are_rgba(self, shared_data: Path) -> None:
        for path in (shared_data / "dsb2018" / "stage1_train").glob("*/images/*.png"):
            with Image.open(path) as image:
                np.testing.assert_array_equal(load_image(path).pixels, np.array(image)[..., :3])
