"""What was predicted for one image, and by what: a JSON file an image, of which the list of all results is made.

A record is written last of all that belongs to its image, so that an image with a record is done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, TypeAlias

from toolkit.annotations.json_text import parse_json
from toolkit.core.errors import MvtkError
from toolkit.core.files import atomic_write, make_folder, read_bytes, write_bytes
from toolkit.core.listing import list_files

CocoResult: TypeAlias = dict[str, Any]
"""One object of COCO's list of results (https://cocodataset.org/#format-results), without its ``image_id``."""

RECORDS: Final = "records"
RESULTS_NAME: Final = "predictions.json"

_HINT: Final = "remove it, or use --overwrite to make it again"
_DIGEST_BYTES: Final = 16
_CHUNK_BYTES: Final = 2**22


@dataclass(frozen=True, slots=True)
class Record:
    """What was predicted for one image.

    Attributes:
        made_by: what tells the model, and the options that change its masks, from others.
        boxes: what tells the boxes from others: :func:`content_mark` of their file, or the detector's name.
        parts: the folders with other files of the image.
        results: what was found, an object a result.
    """

    made_by: str
    boxes: str
    parts: tuple[str, ...]
    results: Sequence[CocoResult]


_KEYS: Final = {field.name for field in fields(Record)}


def model_mark(model: str) -> str:
    """Return what tells a model from others: the BLAKE2b of its weights, or its name where there is no such path here.

    Args:
        model: a folder with weights as safetensors, one file of weights, or a name.

    Raises:
        MvtkError: the weights cannot be read.
    """
    named = Path(model)
    if not named.exists():
        return model
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for path in sorted(named.glob("*.safetensors")) if named.is_dir() else [named]:
        digest.update(path.name.encode())
        try:
            with path.open("rb") as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    digest.update(chunk)
        except OSError as error:
            raise MvtkError(f"{path}: cannot read: {error.strerror}", "check the permissions") from error
    return digest.hexdigest()


def content_mark(data: bytes) -> str:
    """Return what tells a file's content from others."""
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()


def write_record(path: Path, record: Record) -> None:
    """Write a record to its file below ``records``, replacing what was there; its folder is made.

    Raises:
        MvtkError: it cannot be written.
    """
    make_folder(path.parent)
    write_bytes(path, json.dumps(asdict(record), separators=(",", ":")).encode(), overwrite=True)


def read_record(path: Path) -> Record:
    """Read a record.

    Raises:
        MvtkError: the file cannot be read or is none.
    """
    content = parse_json(read_bytes(path), str(path), _HINT)
    if not isinstance(content, dict) or content.keys() != _KEYS:
        raise MvtkError(f"{path}: not the record of a prediction", _HINT)
    return Record(content["made_by"], content["boxes"], tuple(content["parts"]), content["results"])


def merge_records(output: Path, made_by: str) -> tuple[int, int]:
    """Write the results of all images as one JSON list; one image at a time is in memory.

    Args:
        output: the folder with ``records``; ``predictions.json`` is written there, replacing what was there.
        made_by: the records of other models are left out.

    Returns:
        how many images are in the list, and how many were left out.

    Raises:
        MvtkError: a record is damaged, or the list cannot be written.
    """
    names = [name.removesuffix(".json") for name in list_files(output / RECORDS, {".json"})]
    ids = image_ids(names)
    merged = 0
    with atomic_write(output / RESULTS_NAME, overwrite=True) as stream:
        separator = b"[\n"
        for name in names:
            record = read_record(output / RECORDS / f"{name}.json")
            if record.made_by != made_by:
                continue
            merged += 1
            for line in _lines(record.results, ids[name]):
                stream.write(separator + line)
                separator = b",\n"
        stream.write(b"\n]\n" if separator == b",\n" else b"[]\n")
    return merged, len(names) - merged


def _lines(results: Sequence[CocoResult], image_id: int | str) -> Iterator[bytes]:
    for result in results:
        yield json.dumps({"image_id": image_id, **result}, separators=(",", ":")).encode()


def image_ids(names: Iterable[str]) -> dict[str, int | str]:
    """Return the ``image_id`` of each image's name without its suffix.

    Where all last parts of the names are numbers, no two equal, those are the ids: COCO's own images are named so,
    with leading zeros. Otherwise the names themselves are.
    """
    known = list(names)
    stems = [name.rpartition("/")[2] for name in known]
    if all(stem.isascii() and stem.isdecimal() for stem in stems):
        numbers = [int(stem) for stem in stems]
        if len(set(numbers)) == len(numbers):
            return dict(zip(known, numbers, strict=True))
    return {name: name for name in known}
