"""YOLO by Ultralytics, on mask-attention NPZ datasets and on plain ones: prepare, train, validate, predict, export."""

from typing import TYPE_CHECKING

from toolkit.core.lazy import lazy_names

if TYPE_CHECKING:
    from toolkit.yolo.detections import DetectionOptions, Detections
    from toolkit.yolo.detector import YoloDetector
    from toolkit.yolo.export import ExportYoloOptions, export_yolo
    from toolkit.yolo.options import TrainYoloOptions, ValYoloOptions
    from toolkit.yolo.training import TrainingResult, train_yolo
    from toolkit.yolo.validation import ValidationResult, validate_yolo

__all__ = [
    "DetectionOptions",
    "Detections",
    "ExportYoloOptions",
    "TrainYoloOptions",
    "TrainingResult",
    "ValYoloOptions",
    "ValidationResult",
    "YoloDetector",
    "export_yolo",
    "train_yolo",
    "validate_yolo",
]

__getattr__ = lazy_names(
    __name__,
    {
        "detections": ("DetectionOptions", "Detections"),
        "detector": ("YoloDetector",),
        "export": ("ExportYoloOptions", "export_yolo"),
        "options": ("TrainYoloOptions", "ValYoloOptions"),
        "training": ("TrainingResult", "train_yolo"),
        "validation": ("ValidationResult", "validate_yolo"),
    },
)
