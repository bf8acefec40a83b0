"""SA-1B annotation files: one JSON file an image, with the image's facts and its masks.

The layout is ``{"image": {"image_id", "width", "height", "file_name"}, "annotations": [{"segmentation", "id", …}]}``:
https://ai.meta.com/datasets/segment-anything-downloads/. What nobody needs here (boxes, areas, scores) is not looked
at; COCO's other forms of a segmentation are read as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from toolkit.annotations.json_text import parse_json
from toolkit.annotations.rle import MAX_MASK_PIXELS, RunLengths, parse_segmentations, whole_number
from toolkit.core.errors import InputProblemsError, MvtkError
from toolkit.core.files import explain_os_error, read_bytes
from toolkit.images.policies import MAX_PIXELS

MAX_BYTES = 32 * 2**20
"""The largest file to read: real ones have some 100 KB."""

_SHOWN_PROBLEMS = 5
_FETCH_AGAIN = "a damaged file must be fetched or exported again"


@dataclass(frozen=True, slots=True, eq=False)
class ImageAnnotation:
    """The content of one annotation file.

    Attributes:
        image_id: the image's number or name; None where the file does not say.
        file_name: the image's; empty where the file does not say.
        height: of the image, in pixels.
        width: of the image, in pixels.
        masks: one an annotation, in file order; an image may have none.
    """

    image_id: int | str | None
    file_name: str
    height: int
    width: int
    masks: RunLengths


def load_sa1b(path: Path | str, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> ImageAnnotation:
    """Read an annotation file.

    Args:
        path: the JSON file.
        max_pixels: largest height times width of the image.
        max_bytes: largest size of the file.

    Raises:
        MvtkError: the file is missing, unreadable, too large or wrong; one line that names it and what is wrong.
    """
    try:
        size_bytes = Path(path).stat().st_size
    except OSError as error:
        raise explain_os_error(error, path, "read") from error
    if size_bytes > max_bytes:
        raise MvtkError(f"{path}: {size_bytes} bytes are more than the limit of {max_bytes}")
    return parse_sa1b(read_bytes(path), str(path), max_pixels=max_pixels)


def parse_sa1b(data: bytes, source: str, *, max_pixels: int = MAX_PIXELS) -> ImageAnnotation:
    """Read the content of an annotation file.

    Args:
        data: UTF-8 JSON; a byte-order mark is accepted.
        source: names the file in errors.
        max_pixels: largest height times width of the image; none is above `MAX_MASK_PIXELS`.

    Raises:
        MvtkError: the data is no JSON object, or no annotation of one image.
        InputProblemsError: everything else that is wrong, the first problems in words and the number of the others.
    """
    content = _parse_object(data, source)
    problems: list[str] = []
    size_hw = _read_size(content, min(max_pixels, MAX_MASK_PIXELS), problems)
    segmentations = _find_segmentations(content, problems)
    masks = _read_masks(segmentations, size_hw, problems) if size_hw else None
    if problems or masks is None:
        hidden = len(problems) - _SHOWN_PROBLEMS
        more = [f"and {hidden} more"] if hidden > 0 else []
        raise InputProblemsError(source, problems[:_SHOWN_PROBLEMS] + more, _FETCH_AGAIN)
    image_id, file_name = content["image"].get("image_id"), content["image"].get("file_name")
    return ImageAnnotation(
        whole_number(image_id) if not isinstance(image_id, str) else image_id,
        file_name if isinstance(file_name, str) else "",
        masks.height,
        masks.width,
        masks,
    )


def _parse_object(data: bytes, source: str) -> dict[str, Any]:
    """Return the JSON object that a file holds, which is not a COCO file of many images."""
    content = parse_json(data, source, _FETCH_AGAIN)
    if not isinstance(content, dict):
        raise MvtkError(f"{source}: no annotation file: an object is expected, not {shortened(content)}", _FETCH_AGAIN)
    if "images" in content and "image" not in content:
        raise MvtkError(
            f"{source}: a COCO file of many images (it has `images`); one JSON file an image is expected",
            "write each image's annotations to a file in SA-1B's layout",
        )
    return content


def _read_size(content: dict[str, Any], limit: int, problems: list[str]) -> tuple[int, int] | None:
    """Return the image's height and width, or None, with the reasons added to ``problems``."""
    if "image" not in content:
        problems.append("it has no `image`")
        return None
    image = content["image"]
    if not isinstance(image, dict):
        problems.append(f"`image` is {shortened(image)}, not an object")
        return None
    height, width = (_read_side(image, name, problems) for name in ("height", "width"))
    if height is None or width is None:
        return None
    if height * width > limit:
        size = f"{shortened(height)}x{shortened(width)}"
        problems.append(f"the image's {size} pixels (height x width) are more than the limit of {limit}")
        return None
    return height, width


def _read_side(image: dict[str, Any], name: str, problems: list[str]) -> int | None:
    side = whole_number(image.get(name))
    if side is not None and side > 0:
        return side
    found = f"is {shortened(image[name])}, not a whole number above 0" if name in image else "is missing"
    problems.append(f"image.{name} {found}")
    return None


def _find_segmentations(content: dict[str, Any], problems: list[str]) -> dict[int, dict[str, Any]]:
    """Return the annotations that have a segmentation, by index; what is wrong with the others goes to ``problems``."""
    annotations = content.get("annotations")
    if not isinstance(annotations, list):
        found = f"`annotations` is {shortened(annotations)}, not a list"
        problems.append(found if "annotations" in content else "it has no `annotations`")
        return {}
    usable = {}
    for index, annotation in enumerate(annotations):
        if not isinstance(annotation, dict):
            problems.append(f"annotations[{index}] is {shortened(annotation)}, not an object")
        elif "segmentation" not in annotation:
            problems.append(f"{_name(index, annotation)} has no `segmentation`")
        else:
            usable[index] = annotation
    return usable


def _read_masks(
    annotations: dict[int, dict[str, Any]], size_hw: tuple[int, int], problems: list[str]
) -> RunLengths | None:
    """Return the masks of annotations by index, or None, with the reasons added to ``problems``."""
    named = list(annotations.items())
    segmentations = [annotation["segmentation"] for annotation in annotations.values()]
    try:
        return parse_segmentations(segmentations, *size_hw, name_of=lambda place: _name(*named[place]))
    except InputProblemsError as error:
        problems.extend(error.problems)
        return None


def _name(index: int, annotation: dict[str, Any]) -> str:
    return f"annotations[{index}] (id {shortened(annotation['id'])})" if "id" in annotation else f"annotations[{index}]"
