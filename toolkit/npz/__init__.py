"""NPZ files: strict reading, deterministic writing, checks, and the input of a YOLO model made from one.

The names are loaded when they are first used: a command that reads one array does not wait for OpenCV.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toolkit.npz.checks import NpzCheck, NpzKind, check_npz
    from toolkit.npz.describing import MemberDescription, NpzDescription, describe_npz
    from toolkit.npz.errors import NpzError, PickledMemberError
    from toolkit.npz.preprocess import preprocess_npz_for_yolo
    from toolkit.npz.reading import DEFAULT_MAX_BYTES, NpzReader, load_npz_data, open_npz, read_npz
    from toolkit.npz.writing import Compression, encode_npz, save_npz

__all__ = [
    "DEFAULT_MAX_BYTES",
    "Compression",
    "MemberDescription",
    "NpzCheck",
    "NpzDescription",
    "NpzError",
    "NpzKind",
    "NpzReader",
    "PickledMemberError",
    "check_npz",
    "describe_npz",
    "encode_npz",
    "load_npz_data",
    "open_npz",
    "preprocess_npz_for_yolo",
    "read_npz",
    "save_npz",
]

_MODULES = {
    "checks": ("NpzCheck", "NpzKind", "check_npz"),
    "describing": ("MemberDescription", "NpzDescription", "describe_npz"),
    "errors": ("NpzError", "PickledMemberError"),
    "preprocess": ("preprocess_npz_for_yolo",),
    "reading": ("DEFAULT_MAX_BYTES", "NpzReader", "load_npz_data", "open_npz", "read_npz"),
    "writing": ("Compression", "encode_npz", "save_npz"),
}


def __getattr__(name: str) -> object:
    module = next((module for module, names in _MODULES.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)
