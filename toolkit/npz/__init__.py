"""NPZ files: strict reading, deterministic writing, rewriting, checks, and the input of a YOLO model made from one."""

from typing import TYPE_CHECKING

from toolkit.core.lazy import lazy_names

if TYPE_CHECKING:
    from toolkit.npz.checks import NpzCheck, NpzKind, check_npz
    from toolkit.npz.describing import MemberDescription, NpzDescription, describe_npz
    from toolkit.npz.errors import NpzError, PickledMemberError
    from toolkit.npz.packing import load_pair
    from toolkit.npz.pair_options import Compression, PairOptions
    from toolkit.npz.preprocess import preprocess_npz_array, preprocess_npz_for_yolo
    from toolkit.npz.reading import DEFAULT_MAX_BYTES, NpzReader, load_npz_data, open_npz, read_npz
    from toolkit.npz.rewriting import rewrite_npz
    from toolkit.npz.writing import encode_npz, save_npz

__all__ = [
    "DEFAULT_MAX_BYTES",
    "Compression",
    "MemberDescription",
    "NpzCheck",
    "NpzDescription",
    "NpzError",
    "NpzKind",
    "NpzReader",
    "PairOptions",
    "PickledMemberError",
    "check_npz",
    "describe_npz",
    "encode_npz",
    "load_npz_data",
    "load_pair",
    "open_npz",
    "preprocess_npz_array",
    "preprocess_npz_for_yolo",
    "read_npz",
    "rewrite_npz",
    "save_npz",
]

__getattr__ = lazy_names(
    __name__,
    {
        "checks": ("NpzCheck", "NpzKind", "check_npz"),
        "describing": ("MemberDescription", "NpzDescription", "describe_npz"),
        "errors": ("NpzError", "PickledMemberError"),
        "packing": ("load_pair",),
        "pair_options": ("Compression", "PairOptions"),
        "preprocess": ("preprocess_npz_array", "preprocess_npz_for_yolo"),
        "reading": ("DEFAULT_MAX_BYTES", "NpzReader", "load_npz_data", "open_npz", "read_npz"),
        "rewriting": ("rewrite_npz",),
        "writing": ("encode_npz", "save_npz"),
    },
)
