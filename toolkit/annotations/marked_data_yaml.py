"""A ``data.yaml`` that mvtk writes: marked by a checksum, so that one that was edited is told from one that was not."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from toolkit.core.files import read_bytes, write_bytes

DATA_YAML: Final = "data.yaml"
KEPT: Final = "data.yaml exists with other content and was kept; --overwrite replaces it"
_MARK: Final = "# Written by mvtk; it is kept as it is once it was edited. Checksum: "


def publish_marked(target: Path, body: str, *, overwrite: bool) -> str:
    """Write a data YAML; return a remark for the user where it was not, or an empty string.

    A file that this function wrote and nobody edited is brought up to date; any other is kept unless ``overwrite``.

    Args:
        target: the file.
        body: what it is to say.
        overwrite: replace an edited file.

    Raises:
        MvtkError: the file cannot be read or written.
    """
    text = f"{_MARK}{_checksum(body)}\n{body}"
    if not target.exists():
        write_bytes(target, text.encode())
        return ""
    if read_bytes(target) == text.encode():
        return ""
    if not (overwrite or is_unedited(target)):
        return KEPT
    write_bytes(target, text.encode(), overwrite=True)
    return ""


def is_unedited(path: Path) -> bool:
    """Tell whether a file is one that :func:`publish_marked` wrote, as it wrote it.

    Raises:
        MvtkError: it cannot be read.
    """
    header, _, body = read_bytes(path).decode(errors="replace").partition("\n")
    return header == _MARK + _checksum(body)


def _checksum(body: str) -> str:
    return hashlib.blake2b(body.encode(errors="surrogatepass"), digest_size=8).hexdigest()
