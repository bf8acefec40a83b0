"""Features files and the annotation JSON of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from toolkit.core.batch import Outcome
from toolkit.core.errors import InputProblemsError, collected
from toolkit.core.listing import require_folder
from toolkit.edges.json_index import JsonIndex, JsonLookupError
from toolkit.npz.feature_files import image_id_of


@dataclass(frozen=True, slots=True)
class AnnotatedFile:
    """One features file and its annotation: the file's path as it is reported, and both as they are opened."""

    source: str
    npz_path: str
    json_path: str


def open_folders(npz_dir: Path, json_dir: Path) -> JsonIndex:
    """Return the index of the annotations, after checking that both folders are there.

    Raises:
        InputProblemsError: every folder that is not.
    """
    problems: list[str] = []
    with collected(problems):
        require_folder(npz_dir, "give the folder with the features files")
    with collected(problems):
        index = JsonIndex(json_dir)
    if problems:
        raise InputProblemsError("cannot begin", problems)
    return index


def pair_with_json(npz_dir: Path, source: str, index: JsonIndex) -> AnnotatedFile | Outcome:
    """Return the features file ``source`` below ``npz_dir`` with its annotation, or why it has none.

    Raises:
        StopRunError: the annotations cannot be listed.
    """
    npz_path = npz_dir / source
    try:
        json_path = index.find(image_id_of(npz_path.name), npz_path)
    except JsonLookupError as error:
        return Outcome.failed(source, str(error), error.kind)
    return AnnotatedFile(source, str(npz_path), str(json_path))
