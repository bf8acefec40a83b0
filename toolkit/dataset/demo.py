"""A small input for ``mvtk dataset convert-mask-attention``, made from real photographs.

``python -m toolkit.dataset.demo OUT`` writes into the new or empty folder OUT:

- ``photographs/images/<split>/``: an images dataset, grey and RGB, PNG and JPEG;
- ``annotations/labels/<split>/`` and ``annotations/data.yaml``: YOLO boxes, named after an annotation tool's tasks;
- ``masks/<stem>_seg.png``: one mask an image, 0 or 255;
- ``mapping.json``: label image -> dataset image.

The photographs are those that scikit-image carries inside its wheel, so that nothing is downloaded. Masks and boxes are
computed from the pixels (for the motorcycle from its measured stereo depth), with the methods of scikit-image's gallery
where it has one; they were looked at, and photographs on which no simple method was right are not used. Pieces of one
photograph stay in one split. There are too few images, and no class that is in both splits: the data set shows a
conversion and is no use for training.
"""

from __future__ import annotations

import io
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolkit.annotations.yolo import YoloBox, format_labels
from toolkit.annotations.yolo_data_yaml import format_data_yaml
from toolkit.core.errors import MissingExtraError, MvtkError
from toolkit.core.files import explain_os_error, make_folder, write_bytes

CLASS_NAMES = ("coin", "galaxy or star", "motorcycle", "text line", "cell", "optic disc")
SPLITS = ("train", "val")
MIN_REGION_AREA_PX = 60

Split = Literal["train", "val"]
Mask = NDArray[np.bool_]
BoxXyxy = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Scene:
    """A photograph, or a piece of one, with what is in it.

    Attributes:
        stem: the file name without its suffix.
        suffix: ``.png`` or ``.jpg``.
        image: HxW (grey) or HxWx3 (RGB) uint8.
        mask_hw: HxW bool.
        class_name: the class of all boxes, one of ``CLASS_NAMES``.
        boxes_xyxy: left, top, right, bottom in pixel edges: right and bottom are exclusive.
    """

    stem: str
    suffix: str
    image: NDArray[np.uint8]
    mask_hw: Mask
    class_name: str = ""
    boxes_xyxy: Sequence[BoxXyxy] = ()

    def labels(self) -> list[YoloBox]:
        """Return the boxes as fractions of the image."""
        height, width = self.mask_hw.shape
        return [
            YoloBox(
                CLASS_NAMES.index(self.class_name),
                (left + right) / 2 / width,
                (top + bottom) / 2 / height,
                (right - left) / width,
                (bottom - top) / height,
            )
            for left, top, right, bottom in self.boxes_xyxy
        ]


def write_demo(output: Path) -> int:
    """Write the demonstration input into ``output`` and return how many images it has.

    Raises:
        MissingExtraError: scikit-image is not installed.
        MvtkError: ``output`` is not an empty folder, or cannot be written.
    """
    _skimage()
    require_empty(output)
    for split in SPLITS:
        make_folder(output / "photographs" / "images" / split)
        make_folder(output / "annotations" / "labels" / split)
    make_folder(output / "masks")
    mapping: dict[str, str] = {}
    for number, (split, scene) in enumerate(scenes(), start=1):
        task = f"task-{number:04d}"
        image_name = scene.stem + scene.suffix
        write_bytes(output / "photographs" / "images" / split / image_name, encode_image(scene.image, scene.suffix))
        write_bytes(
            output / "masks" / f"{scene.stem}_seg.png", encode_image(scene.mask_hw.astype(np.uint8) * 255, ".png")
        )
        write_bytes(output / "annotations" / "labels" / split / f"{task}.txt", format_labels(scene.labels()).encode())
        mapping[task + scene.suffix] = image_name
    data_yaml = format_data_yaml(
        dict(enumerate(CLASS_NAMES)), SPLITS, channels=3, comment="Boxes computed from scikit-image's photographs"
    )
    write_bytes(output / "annotations" / "data.yaml", data_yaml.encode())
    write_bytes(output / "mapping.json", (json.dumps(mapping, indent=2) + "\n").encode())
    return len(mapping)


def scenes() -> Iterator[tuple[Split, Scene]]:
    """Yield every scene of the demonstration with its split, always in the same order.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    _skimage()
    sources: tuple[tuple[Split, Callable[[], Iterator[Scene]]], ...] = (
        ("train", _coins),
        ("train", _galaxies),
        ("train", _motorcycle),
        ("train", _grass),
        ("val", _page),
        ("val", _cell),
        ("val", _retina),
    )
    for split, source in sources:
        for scene in source():
            yield split, scene


def _coins() -> Iterator[Scene]:
    """Greek coins from Pompeii, grey: watershed of the gradient from sure coin and sure background.

    The method and both thresholds are those of scikit-image's "region-based segmentation" example.
    """
    skimage = _skimage()
    image = skimage.data.coins()
    markers = np.zeros(image.shape, np.int32)
    markers[image < 30] = 1
    markers[image > 150] = 2
    coin = skimage.segmentation.watershed(skimage.filters.sobel(image), markers) == 2
    between_rows = 147  # a line of pixels between the second and the third row of coins, through none of them
    height, width = image.shape
    photograph = Scene("coins", ".png", image, _filled(coin), "coin")
    yield from _pieces(photograph, rows=(0, between_rows, height), columns=(0, width))


def _galaxies() -> Iterator[Scene]:
    """Part of the Hubble eXtreme Deep Field, RGB: what is bright and not tiny, in four quarters."""
    skimage = _skimage()
    image = skimage.data.hubble_deep_field()
    mask = skimage.filters.gaussian(skimage.color.rgb2gray(image), sigma=1) > 0.25
    height, width = mask.shape
    photograph = Scene("deep_field", ".jpg", image, mask, "galaxy or star")
    yield from _pieces(photograph, rows=(0, height // 2, height), columns=(0, width // 2, width))


def _motorcycle() -> Iterator[Scene]:
    """The left image of the Middlebury 2014 "Motorcycle" pair, RGB: what stands nearer than the floor and the wall.

    The published disparity (pixels; larger is nearer) was measured with structured light. The floor is a plane, and so
    its disparity is linear in x and y: it is fitted to the floor left and right of the motorcycle.
    """
    skimage = _skimage()
    image, _, measured = skimage.data.stereo_motorcycle()
    disparity = np.where(np.isfinite(measured), measured, 0)
    y, x = np.mgrid[: disparity.shape[0], : disparity.shape[1]]
    is_floor = (disparity > 0) & (y > 380) & ((x < 100) | (x > 690))
    plane = np.stack((x, y, np.ones_like(x)), axis=-1)
    coefficients = np.linalg.lstsq(plane[is_floor], disparity[is_floor], rcond=None)[0]
    nearest_wall = 33
    is_nearer = disparity > np.maximum(plane @ coefficients + 1.5, nearest_wall)
    mask = skimage.morphology.opening(
        skimage.morphology.closing(is_nearer, skimage.morphology.disk(2)), skimage.morphology.disk(1)
    )
    yield _scene("motorcycle", ".png", image, _largest(mask), "motorcycle")


def _grass() -> Iterator[Scene]:
    """Grass, grey: a background image, without objects."""
    skimage = _skimage()
    image = skimage.data.grass()
    yield Scene("grass", ".jpg", image, np.zeros(image.shape, np.bool_))


def _page() -> Iterator[Scene]:
    """A printed page, grey, unevenly lit: Sauvola's local threshold; letters that nearly touch sideways make a line."""
    skimage = _skimage()
    image = skimage.data.page()
    ink = image < skimage.filters.threshold_sauvola(image, window_size=25, k=0.15)
    lines = skimage.measure.label(skimage.morphology.closing(ink, skimage.morphology.footprint_rectangle((1, 25))))
    # Ruled lines are lower than text, a broken one is also sparser; the last line is cut through by the border.
    is_text = [
        line.label
        for line in skimage.measure.regionprops(lines)
        if line.bbox[2] - line.bbox[0] >= 12 and line.extent > 0.3
    ]
    yield _scene("page", ".png", image, ink & np.isin(lines, is_text), "text line", lines)


def _cell() -> Iterator[Scene]:
    """A quantitative phase image of a cell, grey: Otsu's threshold of the smoothed image."""
    skimage = _skimage()
    image = skimage.data.cell()
    smooth = skimage.filters.gaussian(image, sigma=2)
    yield _scene("cell", ".png", image, smooth > skimage.filters.threshold_otsu(smooth), "cell")


def _retina() -> Iterator[Scene]:
    """A fundus photograph at half its size, RGB: the mask is the vessels, the box the optic disc.

    Vessels are dark and thin in the green channel: a black top-hat finds them, hysteresis keeps what hangs together.
    With them closed over, the optic disc is the brightest region.
    """
    import cv2

    skimage = _skimage()
    photograph = skimage.data.retina()
    image = np.asarray(cv2.resize(photograph, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
    green = image[..., 1]
    inside = skimage.morphology.erosion(image[..., 0] > 40, skimage.morphology.disk(8))
    dark_and_thin = cv2.morphologyEx(cv2.GaussianBlur(green, (0, 0), 1), cv2.MORPH_BLACKHAT, _ellipse(15))
    threshold = skimage.filters.threshold_otsu(dark_and_thin[inside])
    vessels = skimage.filters.apply_hysteresis_threshold(dark_and_thin, 0.8 * threshold, 1.5 * threshold) & inside
    bright = cv2.GaussianBlur(cv2.morphologyEx(green, cv2.MORPH_CLOSE, _ellipse(25)), (0, 0), 4)
    disc = _largest(inside & (bright > (np.median(bright[inside]) + bright[inside].max()) / 2))
    yield Scene("retina", ".jpg", image, _without_specks(vessels, 300), "optic disc", _boxes(disc))


def _scene(
    stem: str,
    suffix: str,
    image: NDArray[np.uint8],
    mask_hw: Mask,
    class_name: str,
    labels_hw: NDArray[Any] | None = None,
) -> Scene:
    """Return a scene with a box around each connected region of its mask, or each region of ``labels_hw`` in it."""
    regions = mask_hw if labels_hw is None else labels_hw * mask_hw
    return Scene(stem, suffix, image, mask_hw, class_name, _boxes(regions))


def _pieces(photograph: Scene, rows: Sequence[int], columns: Sequence[int]) -> Iterator[Scene]:
    """Yield the pieces of a photograph cut at ``rows`` and ``columns``, from the upper left one on.

    Regions too small to tell what they are, also those that a cut leaves, are taken out of the mask.
    """
    cuts = [
        (slice(top, bottom), slice(left, right))
        for top, bottom in itertools.pairwise(rows)
        for left, right in itertools.pairwise(columns)
    ]
    for number, cut in enumerate(cuts, start=1):
        mask = _without_specks(photograph.mask_hw[cut], MIN_REGION_AREA_PX)
        yield _scene(
            f"{photograph.stem}_{number}", photograph.suffix, photograph.image[cut], mask, photograph.class_name
        )


def _boxes(regions_hw: NDArray[Any]) -> list[BoxXyxy]:
    """Return a box around each connected region of a bool mask, or around each label of an integer image."""
    skimage = _skimage()
    labels = skimage.measure.label(regions_hw) if regions_hw.dtype == np.bool_ else regions_hw
    return [
        (left, top, right, bottom) for top, left, bottom, right in (r.bbox for r in skimage.measure.regionprops(labels))
    ]


def _largest(mask_hw: Mask) -> Mask:
    """Return the largest connected region of a mask."""
    skimage = _skimage()
    labels = skimage.measure.label(mask_hw)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest: Mask = labels == sizes.argmax()
    return largest


def _filled(mask_hw: Mask) -> Mask:
    """Return a mask without the holes in its regions."""
    return ~_largest(np.pad(~mask_hw, 1, constant_values=True))[1:-1, 1:-1]


def _without_specks(mask_hw: Mask, min_area_px: int) -> Mask:
    """Return a mask without its connected regions of fewer than ``min_area_px`` pixels."""
    skimage = _skimage()
    labels = skimage.measure.label(mask_hw)
    is_large = np.bincount(labels.ravel()) >= min_area_px
    is_large[0] = False
    large: Mask = is_large[labels]
    return large


def _skimage() -> ModuleType:
    """Return scikit-image, which has no types: as a module its functions count as untyped values, not as errors.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import skimage
    except ModuleNotFoundError as error:
        raise MissingExtraError("scikit-image", "demo") from error
    return skimage


def _ellipse(size_px: int) -> NDArray[np.uint8]:
    """Return a round structuring element."""
    import cv2

    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size_px, size_px)).astype(np.uint8)


def encode_image(pixels: NDArray[np.uint8], suffix: str) -> bytes:
    """Return pixels (HxW or HxWx3 RGB) as a PNG or JPEG file."""
    stream = io.BytesIO()
    if suffix == ".png":
        Image.fromarray(pixels).save(stream, "PNG")
    else:
        Image.fromarray(pixels).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def require_empty(folder: Path) -> None:
    """Raise an MvtkError if there is something at ``folder`` that is not an empty folder."""
    try:
        if any(folder.iterdir()):
            raise MvtkError(f"{folder}: not empty", "give a new or an empty folder")
    except FileNotFoundError:
        return
    except OSError as error:
        raise explain_os_error(error, folder, "list the folder") from error


def run_demo(arguments: Sequence[str], module: str, write: Callable[[Path], int], what: str) -> int:
    """Write a demonstration input into the folder given on the command line.

    Args:
        arguments: of the command line.
        module: which is run, for the usage line.
        write: writes the input into a folder and returns how many things it has.
        what: the things are, such as "photographs with masks".

    Returns:
        The exit code: 2 on wrong usage, 3 on failure.
    """
    if len(arguments) != 1:
        sys.stderr.write(f"usage: python -m {module} OUT\n")
        return 2
    output = Path(arguments[0])
    try:
        count = write(output)
    except MvtkError as error:
        sys.stderr.write(f"error: {error}\n")
        return 3
    sys.stdout.write(f"{count} {what}: {output}\n")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Write the demonstration input into the folder given; see :func:`run_demo`."""
    return run_demo(arguments, "toolkit.dataset.demo", write_demo, "photographs with masks, labels and a mapping")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
