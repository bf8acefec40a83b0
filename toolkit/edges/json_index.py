"""Which annotation JSON belongs to an image."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from toolkit.core.errors import MvtkError
from toolkit.core.file_index import FileIndex
from toolkit.core.files import explain_os_error
from toolkit.core.listing import require_folder

JSON_NOT_FOUND: Final = "annotation JSON not found"
TWO_JSONS: Final = "two annotation JSONs"

_SUFFIX: Final = ".json"


class JsonLookupError(MvtkError):
    """An image has no annotation JSON, or more than one.

    Args:
        kind: ``JSON_NOT_FOUND`` or ``TWO_JSONS``, under which the failure is counted.
        details: which image, and where.
        hint: what to do next.
    """

    def __init__(self, kind: str, details: str, hint: str) -> None:
        super().__init__(f"{kind}: {details}", hint)
        self.args = (kind, details, hint)
        self.kind = kind


class JsonIndex:
    """Finds the annotation JSON ``<image_id>.json`` of each image.

    The subfolders are listed once, when the first image's JSON is not directly in the folder. From then on about 110
    bytes are held for each JSON in them; JSONs directly in the folder are never listed.

    Args:
        json_dir: the folder with the annotations.

    Raises:
        MvtkError: ``json_dir`` is not a folder.
    """

    def __init__(self, json_dir: Path) -> None:
        require_folder(json_dir, "give the folder with the annotation JSONs")
        self._json_dir = json_dir
        self._below = FileIndex([json_dir], _key_of)

    def find(self, image_id: str, npz_path: Path) -> Path:
        """Return where the annotation JSON of an image is.

        It is looked for directly in the folder, then in its subfolders at any depth, then beside the features file;
        the first of these three that has it counts. In the subfolders the suffix may be in any case, and links are
        followed; links to one file are one file. Whether the file can be read is for whoever opens it to see.

        Args:
            image_id: the image's id, as it stands in the features file's name.
            npz_path: the features file.

        Raises:
            JsonLookupError: it is in none of these places, or several times in the subfolders.
            MvtkError: a folder may not be searched; the line names it.
            StopRunError: a subfolder cannot be listed, so that no image's JSON can be found there.
        """
        name = image_id + _SUFFIX
        direct = self._json_dir / name
        if _is_file(direct):
            return direct
        below = self._below.find(image_id)
        if len(below) > 1:
            more = f" and {len(below) - 2} more" if len(below) > 2 else ""
            details = f"image {image_id} has {below[0]} and {below[1]}{more}"
            raise JsonLookupError(TWO_JSONS, details, "keep the right one only")
        if below:
            return below[0]
        beside = npz_path.with_name(name)
        if _is_file(beside):
            return beside
        raise JsonLookupError(
            JSON_NOT_FOUND,
            f"image {image_id} has none in {self._json_dir}",
            f"{name} was looked for there, in the subfolders, and in {npz_path.parent}",
        )


def _key_of(prefix: str, name: str) -> str:
    """Return the stem of a JSON; "" for one that lies directly in the folder, which is found without an index."""
    stem, suffix = name[: -len(_SUFFIX)], name[-len(_SUFFIX) :]
    is_direct = not prefix and suffix == _SUFFIX
    return stem if suffix.lower() == _SUFFIX and not is_direct else ""


def _is_file(path: Path) -> bool:
    """Return whether there is a file or a link; a link that leads nowhere is an error for whoever opens it."""
    try:
        return path.is_file() or path.is_symlink()
    except OSError as error:
        raise explain_os_error(error, path, "look for the annotation JSON") from error
