"""Training datasets: image and mask pairs in NPZ files for mask-guided YOLO."""

from toolkit.dataset.mask_attention import create_mask_attention_dataset
from toolkit.dataset.verification import verify_npz_dataset

__all__ = ["create_mask_attention_dataset", "verify_npz_dataset"]
