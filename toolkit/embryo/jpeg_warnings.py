"""What libjpeg warns of while it decodes: image data that are damaged, of which it makes grey or shifted blocks.

Pillow keeps these warnings to itself. OpenCV leaves them to libjpeg, which writes them to the process's standard error:
that is led into a file while an image is decoded, and what else was written meanwhile is passed on.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import cv2
import numpy as np

from toolkit.core.files import read_bytes

_DAMAGE: Final = (b"Corrupt JPEG data: ", b"Premature end of JPEG file")
"""How the warnings begin that concern image data (libjpeg, ``jerror.h``); others are about odd metadata."""
_STANDARD_ERROR: Final = 2

_lock = threading.Lock()


def jpeg_data_problem(path: str) -> str:
    """Decode a JPEG file; return what libjpeg warns of, empty where it warns of nothing.

    It warns where the coded data end too early or too late, or hold no code: of most damaged blocks, but only of one
    changed bit in four, as the Huffman code often falls into step again. Of several warnings it gives the first. It
    says nothing of what it cannot decode at all. It takes as long as decoding, and threads take turns.

    Raises:
        MvtkError: the file cannot be read.
    """
    content_bytes = np.frombuffer(read_bytes(Path(path)), np.uint8)
    with _lock, tempfile.TemporaryFile() as captured, _standard_error_in(captured):
        cv2.imdecode(content_bytes, cv2.IMREAD_UNCHANGED)
        captured.seek(0)
        lines = captured.read().splitlines(keepends=True)
    damage = [line for line in lines if line.startswith(_DAMAGE)]
    others = b"".join(line for line in lines if not line.startswith(_DAMAGE))
    if others:
        os.write(_STANDARD_ERROR, others)
    return damage[0].decode(errors="replace").strip().removeprefix("Corrupt JPEG data: ") if damage else ""


@contextmanager
def _standard_error_in(file: BinaryIO) -> Iterator[None]:
    """Lead what the process writes to standard error into a file inside the block."""
    kept = os.dup(_STANDARD_ERROR)
    try:
        os.dup2(file.fileno(), _STANDARD_ERROR)
        yield
    finally:
        os.dup2(kept, _STANDARD_ERROR)
        os.close(kept)
