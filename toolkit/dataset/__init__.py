"""Training datasets: image and mask pairs for mask-guided YOLO, and metadata files that images are read through."""

from typing import TYPE_CHECKING

from toolkit.core.lazy import lazy_names

if TYPE_CHECKING:
    from toolkit.dataset.mask_attention import create_mask_attention_dataset
    from toolkit.dataset.verification import verify_npz_dataset
    from toolkit.metadata.collating import collate_samples, make_dataloader
    from toolkit.metadata.combined import CombinedLazyDataset
    from toolkit.metadata.lazy import LazyNPYDataset
    from toolkit.metadata.processor import DataProcessor

__all__ = [
    "CombinedLazyDataset",
    "DataProcessor",
    "LazyNPYDataset",
    "collate_samples",
    "create_mask_attention_dataset",
    "make_dataloader",
    "verify_npz_dataset",
]

__getattr__ = lazy_names(
    __name__,
    {
        "mask_attention": ("create_mask_attention_dataset",),
        "verification": ("verify_npz_dataset",),
        ".metadata.collating": ("collate_samples", "make_dataloader"),
        ".metadata.combined": ("CombinedLazyDataset",),
        ".metadata.lazy": ("LazyNPYDataset",),
        ".metadata.processor": ("DataProcessor",),
    },
)
