"""How image and mask files are read: the choices, without what reads them."""

from __future__ import annotations

from typing import Literal

MAX_PIXELS = 178_956_970
"""Width times height above which a file counts as a decompression bomb: Pillow's own error limit. A higher limit has
no effect, as Pillow refuses the file first."""

ExifPolicy = Literal["ignore", "apply"]
MaskValues = Literal["auto", "keep"]
