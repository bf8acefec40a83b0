"""Training datasets: image and mask pairs in NPZ files for mask-guided YOLO.

The names are loaded when they are first used: a worker that converts does not wait for what verifies.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toolkit.dataset.mask_attention import create_mask_attention_dataset
    from toolkit.dataset.verification import verify_npz_dataset

__all__ = ["create_mask_attention_dataset", "verify_npz_dataset"]

_MODULES = {"create_mask_attention_dataset": "mask_attention", "verify_npz_dataset": "verification"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
