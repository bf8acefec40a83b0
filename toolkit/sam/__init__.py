"""Fine-tuning of SAM on boxes and instance masks; the names of the yolo-sam-training package are here too."""

from typing import TYPE_CHECKING

from toolkit.core.lazy import lazy_names

if TYPE_CHECKING:
    from toolkit.sam.documented_data import (
        SAMDataset,
        create_dataloaders,
        load_dataset_from_summary,
        process_dataset_with_sam,
        split_dataset,
    )
    from toolkit.sam.documented_steps import (
        compute_batch_loss,
        save_prediction_visualization,
        train_one_epoch,
        validate_batch_shapes,
        validate_one_epoch,
        validate_pred_masks,
    )
    from toolkit.sam.documented_training import train_sam_model
    from toolkit.sam.train_options import TrainOptions
    from toolkit.sam.training import SamTraining

__all__ = [
    "SAMDataset",
    "SamTraining",
    "TrainOptions",
    "compute_batch_loss",
    "create_dataloaders",
    "load_dataset_from_summary",
    "process_dataset_with_sam",
    "save_prediction_visualization",
    "split_dataset",
    "train_one_epoch",
    "train_sam_model",
    "validate_batch_shapes",
    "validate_one_epoch",
    "validate_pred_masks",
]

__getattr__ = lazy_names(
    __name__,
    {
        "documented_data": (
            "SAMDataset",
            "create_dataloaders",
            "load_dataset_from_summary",
            "process_dataset_with_sam",
            "split_dataset",
        ),
        "documented_steps": (
            "compute_batch_loss",
            "save_prediction_visualization",
            "train_one_epoch",
            "validate_batch_shapes",
            "validate_one_epoch",
            "validate_pred_masks",
        ),
        "documented_training": ("train_sam_model",),
        "train_options": ("TrainOptions",),
        "training": ("SamTraining",),
    },
)
