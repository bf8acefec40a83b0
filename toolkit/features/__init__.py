"""SAM2 features: the image encoder, its weights, and what a features file says of where its features come from."""

from typing import TYPE_CHECKING

from toolkit.core.lazy import lazy_names

if TYPE_CHECKING:
    from toolkit.device_memory import OutOfMemoryError
    from toolkit.features.feature_source import FeatureMarks, FeatureSource, read_feature_marks
    from toolkit.features.sam2_encoder import Sam2Encoder
    from toolkit.features.sam2_models import MODELS, Sam2Model, infer_model
    from toolkit.features.weights import Weights, resolve_weights

__all__ = [
    "MODELS",
    "FeatureMarks",
    "FeatureSource",
    "OutOfMemoryError",
    "Sam2Encoder",
    "Sam2Model",
    "Weights",
    "infer_model",
    "read_feature_marks",
    "resolve_weights",
]

__getattr__ = lazy_names(
    __name__,
    {
        "feature_source": ("FeatureMarks", "FeatureSource", "read_feature_marks"),
        ".device_memory": ("OutOfMemoryError",),
        "sam2_encoder": ("Sam2Encoder",),
        "sam2_models": ("MODELS", "Sam2Model", "infer_model"),
        "weights": ("Weights", "resolve_weights"),
    },
)
