"""The fast decoder of plain PNG files gives what Pillow gives, or leaves the file to Pillow."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.builders import blob_mask, encoded, gradient, png_bytes, png_chunk
from toolkit.images import ImageError, load_image
from toolkit.images.png import PNG_SIGNATURE, decode_plain_png

ANY = Path("a.png")
MAX_PIXELS = 10_000_000

pictures = st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(
    lambda size: st.sampled_from([size, (*size, 3)]).flatmap(lambda shape: hnp.arrays(np.uint8, shape))
)


@given(pictures, st.sampled_from([0, 1, 6, 9]))
@settings(max_examples=60, deadline=None)
def test_equals_pillow_for_any_picture(pixels: np.ndarray, level: int) -> None:
    content = encoded(pixels, "PNG", compress_level=level)
    assert np.array_equal(decode_plain_png(ANY, content, MAX_PIXELS), pixels)


@pytest.mark.parametrize("filters", range(8, 249, 48))
def test_equals_pillow_for_every_row_filter(filters: int) -> None:
    """libpng's filter flags are bits 3 to 7; OpenCV chooses among those that are set."""
    pixels = np.random.default_rng(filters).integers(0, 256, (33, 21, 3), np.uint8)
    for picture in (pixels, gradient(), pixels[..., 0]):
        options = [cv2.IMWRITE_PNG_FILTER, filters]
        content = cv2.imencode(".png", picture[..., ::-1] if picture.ndim == 3 else picture, options)[1].tobytes()
        expected = np.array(Image.open(io.BytesIO(content)))
        assert np.array_equal(decode_plain_png(ANY, content, MAX_PIXELS), expected)


def test_large_pictures_take_several_stored_blocks() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    assert np.array_equal(decode_plain_png(ANY, encoded(pixels, "PNG"), MAX_PIXELS), pixels)


def exif() -> bytes:
    picture = Image.Exif()
    picture[0x0112] = 6
    return encoded(gradient(), "PNG", exif=picture)


def profile_text() -> bytes:
    info = PngInfo()
    info.add_text("Raw profile type exif", "exif")
    return encoded(gradient(), "PNG", pnginfo=info)


@pytest.mark.parametrize(
    "content",
    [
        encoded(np.dstack([gradient(), blob_mask()]), "PNG"),
        encoded(gradient(), "PNG", transparency=(0, 0, 0)),
        exif(),
        profile_text(),
        png_bytes(2, 1, 16, 0, b"\0\1\2\3\4"),
        png_bytes(4, 1, 2, 0, b"\0\x1b"),
        png_bytes(2, 2, 8, 0, b"\0\1\2\0\3"),
        png_bytes(2, 1, 8, 0, b"\0\1\2\3"),
        png_bytes(2, 1, 8, 0, b"\0\1\2").replace(zlib.compress(b"\0\1\2"), b"not deflate"),
    ],
    ids=["alpha", "tRNS", "eXIf", "profile", "16-bit", "2-bit", "too few rows", "too many bytes", "damaged"],
)
def test_leaves_the_rest_to_pillow(content: bytes) -> None:
    assert decode_plain_png(ANY, content, MAX_PIXELS) is None


def test_leaves_pictures_above_the_limit_alone() -> None:
    assert decode_plain_png(ANY, encoded(gradient(), "PNG"), 24 * 32 - 1) is None
    assert decode_plain_png(ANY, encoded(gradient(), "PNG"), 24 * 32) is not None


def test_pixel_data_that_end_early_behind_right_checksums_fail(tmp_path: Path) -> None:
    header = encoded(gradient(), "PNG")[len(PNG_SIGNATURE) :][:25]
    half = zlib.compress(bytes(24 * 32 * 3 // 2))
    path = tmp_path / "half.png"
    path.write_bytes(PNG_SIGNATURE + header + png_chunk(b"IDAT", half) + png_chunk(b"IEND", b""))
    with pytest.raises(ImageError, match=r"half\.png"):
        load_image(path)
