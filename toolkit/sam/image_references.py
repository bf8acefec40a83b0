"""Which image file a reference in an export stands for.

These are the references that Label Studio's exports hold (https://labelstud.io/guide/storage), and the part of each
that is looked for below the folder with the images:

====================================================  ====================
reference                                             path
====================================================  ====================
``/data/upload/3/0a1b2c3d-car.jpg``                   3/0a1b2c3d-car.jpg
``/data/local-files/?d=day1/car.jpg``                 day1/car.jpg
``s3://bucket/day1/car.jpg`` (``gs``, ``azure-blob``)  day1/car.jpg
``https://host/day1/car.jpg?signature=…``             day1/car.jpg
``/tasks/7/presign/?fileuri=<base64>``                that of what it holds
``/storage-data/uploaded/?filepath=upload/3/car.jpg``  upload/3/car.jpg
``day1/car.jpg``, ``/day1/car.jpg``                   day1/car.jpg
====================================================  ====================

A path never leads out of the folder: a reference with ``..`` in it is refused.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from toolkit.core.errors import MvtkError
from toolkit.core.file_index import FileIndex
from toolkit.core.listing import require_folder
from toolkit.images.search import IMAGE_NOT_FOUND, TWO_IMAGES, ImageLookupError, image_stem

ImageMatch = Literal["auto", "path", "name", "original-name"]
"""How a path is looked for below the folder with the images.

* ``path``: as it is.
* ``name``: its last part, at any depth.
* ``original-name``: its last part without what Label Studio puts before the names of uploaded files, at any depth.
* ``auto``: as it is; else without its first folders, as few as need be; else as ``name``, then ``original-name`` does.
  A reference without a suffix of images (``/image1``) finds the image of that stem.
"""

CLOUD_SCHEMES: Final = frozenset({"s3", "s3s", "gs", "azure-blob", "redis"})
_WEB_SCHEMES: Final = frozenset({"http", "https"})
_UPLOAD_PREFIX: Final = re.compile(r"[0-9a-f]{8}-(?=.)")
"""Eight digits of a random number, so that uploaded files of one name stay apart."""
_WRAPPED: Final = re.compile(r"/(?:tasks|projects)/[0-9]+/(?:presign|resolve)/?$")
_QUERIED: Final = (("/data/local-files", "d"), ("/storage-data/uploaded", "filepath"))
_UPLOADS: Final = "/data/upload/"
_SHOWN_CHARACTERS: Final = 200


def shown_reference(reference: str) -> str:
    """Return a reference for an error: without the query of a web address, which may hold a signature."""
    text = reference if len(reference) <= _SHOWN_CHARACTERS else f"{reference[:_SHOWN_CHARACTERS]}…"
    return repr(text.partition("?")[0] if text.startswith(("http://", "https://")) else text)


def unwrapped(reference: str) -> str:
    """Return what a reference through ``/tasks/<id>/presign/`` stands for; any other as it is.

    Raises:
        MvtkError: it holds no base64 text.
    """
    parts = _split(reference)
    if not _WRAPPED.search(parts.path):
        return reference
    [inner, *_] = parse_qs(parts.query).get("fileuri", [""])
    try:
        text = base64.b64decode(inner, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise MvtkError(f"the image reference {shown_reference(reference)} holds no base64 text") from error
    return unquote(text)


def path_parts(reference: str) -> tuple[str, ...]:
    """Return the parts of the path that a reference stands for; see the table of this module.

    Raises:
        MvtkError: there is none, or it would lead out of its folder.
    """
    path = _path(unwrapped(reference))
    parts = tuple(part for part in path.replace("\\", "/").split("/") if part not in {"", "."})
    if not parts:
        raise MvtkError(f"the image reference {shown_reference(reference)} names no file")
    if ".." in parts or any("\0" in part for part in parts):
        raise MvtkError(f"the image reference {shown_reference(reference)} would lead out of the folder of the images")
    return parts


def _path(reference: str) -> str:
    if reference.startswith("data:"):
        raise MvtkError("the image is inside of the export (a data: address)", "save it as a file, and refer to that")
    parts = _split(reference)
    for ending, key in _QUERIED:
        if parts.path.rstrip("/").endswith(ending):
            return parse_qs(parts.query).get(key, [""])[0]
    if _UPLOADS in parts.path and parts.scheme not in CLOUD_SCHEMES:
        return unquote(parts.path.partition(_UPLOADS)[2])
    if parts.scheme in _WEB_SCHEMES:
        return unquote(parts.path)
    # Elsewhere "?", "#" and "%" are characters of a file's name.
    return re.sub(r"^[a-z0-9-]+://[^/]*", "", reference) if parts.scheme in CLOUD_SCHEMES else reference


def _split(reference: str) -> SplitResult:
    try:
        return urlsplit(reference)
    except ValueError as error:
        raise MvtkError(f"the image reference {shown_reference(reference)} is no address: {error}") from error


class ImageFinder:
    """Finds images below a folder by references. It is listed at the first reference that no path leads to.

    Args:
        root: the folder with the images.
        match: how they are looked for.
        prefix: the folder of paths (right column of the table) that stands for ``root``, such as ``"day1"``; where
            it is given, what lies elsewhere is not found.

    Raises:
        MvtkError: there is no such folder.
    """

    def __init__(self, root: Path, match: ImageMatch = "auto", prefix: str = "") -> None:
        require_folder(root, "give the folder with the images")
        self._root = root
        self._match: ImageMatch = match
        self._prefix = path_parts(prefix) if prefix else ()
        self._by_stem = FileIndex([root], lambda _, name: image_stem(name))

    def find(self, reference: str, *alternatives: str) -> Path:
        """Return the image that a reference, or else one of its alternatives, stands for.

        Args:
            reference: as the export has it.
            alternatives: file names under which ``auto`` looks for the image besides.

        Raises:
            ImageLookupError: there is none, or several.
            MvtkError: the reference is none.
            StopRunError: the folder cannot be listed.
        """
        parts = self._parts(reference)
        for found in self._candidates(parts):
            return found
        for name in alternatives if self._match == "auto" else ():
            for found in self._candidates(path_parts(name)):
                return found
        looked_for = {"path": "/".join(parts), "original-name": _original(parts[-1])}.get(self._match, parts[-1])
        raise ImageLookupError(
            IMAGE_NOT_FOUND,
            f"{shown_reference(reference)} is not below {self._root} ({self._match}: looked for {looked_for!r})",
            "choose how references map to files with --image-match and --image-prefix, or download with --url",
        )

    def _parts(self, reference: str) -> tuple[str, ...]:
        parts = path_parts(reference)
        if parts[: len(self._prefix)] != self._prefix or len(parts) == len(self._prefix):
            raise ImageLookupError(
                IMAGE_NOT_FOUND,
                f"{shown_reference(reference)} stands for {'/'.join(parts)!r}, not below {'/'.join(self._prefix)!r}",
                "give what the paths of all references begin with as --image-prefix",
            )
        return parts[len(self._prefix) :]

    def _candidates(self, parts: tuple[str, ...]) -> Iterator[Path]:
        """Yield the images that are found, the one that counts first; most references need no further look."""
        if self._match in {"auto", "path"}:
            starts = range(len(parts)) if self._match == "auto" else (0,)
            paths = (self._root.joinpath(*parts[start:]) for start in starts)
            yield from (path for path in paths if _is_file(path))
        if self._match in {"auto", "name"}:
            yield from self._named(parts[-1])
        if self._match in {"auto", "original-name"}:
            yield from self._named(_original(parts[-1]))

    def _named(self, name: str) -> Iterator[Path]:
        """Yield the image of a name at any depth, or of a stem, for a name without a suffix of images."""
        stem = image_stem(name)
        found = [path for path in self._by_stem.find(stem or name) if not stem or path.name == name]
        if len(found) > 1:
            more = f" and {len(found) - 2} more" if len(found) > 2 else ""
            hint = "use --image-match path, with --image-prefix where paths begin otherwise"
            raise ImageLookupError(TWO_IMAGES, f"{name!r} may be {found[0]} or {found[1]}{more}", hint)
        yield from found


def _original(name: str) -> str:
    return _UPLOAD_PREFIX.sub("", name, count=1)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for this file system, for one
        return False
