"""Training datasets: image and mask pairs in NPZ files for mask-guided YOLO."""

from typing import TYPE_CHECKING

from toolkit.core.lazy import lazy_names

if TYPE_CHECKING:
    from toolkit.dataset.mask_attention import create_mask_attention_dataset
    from toolkit.dataset.verification import verify_npz_dataset

__all__ = ["create_mask_attention_dataset", "verify_npz_dataset"]

__getattr__ = lazy_names(
    __name__,
    {"mask_attention": ("create_mask_attention_dataset",), "verification": ("verify_npz_dataset",)},
)
