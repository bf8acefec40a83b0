"""The marks that say whether a features file was repaired, and by which encoder its features were made."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from typing import Final

import numpy as np
import numpy.typing as npt

from toolkit.features.weights import Weights
from toolkit.npz.marks import read_flag, read_text
from toolkit.npz.reading import NpzReader

FLAG_KEY: Final = "feature_flag"
SOURCE_KEY: Final = "feature_source"
PREPROCESSING: Final = "SAM2Transforms-1024"
"""The preprocessing of :meth:`toolkit.features.sam2_encoder.Sam2Encoder.prepare`."""


@dataclass(frozen=True, slots=True)
class FeatureSource:
    """Where the features of a file come from.

    Attributes:
        model: the model's name.
        weights_sha256: SHA-256 of the checkpoint file in lower-case hexadecimal; ``random:SEED`` for random weights.
        preprocessing: how an image became the encoder's input.
        dtype: the encoder's arithmetic: ``float32``, ``bfloat16`` or ``float16``.
        mvtk: the version of mvtk that wrote the features.
        stored: the dtype of the features in the file: ``float32`` or ``float16``.
    """

    model: str
    weights_sha256: str
    preprocessing: str
    dtype: str
    mvtk: str
    stored: str = "float32"

    @classmethod
    def of(cls, weights: Weights, dtype: str, stored: str = "float32") -> FeatureSource:
        """Return the source of features that this version of mvtk makes with ``weights``."""
        return cls(weights.model.name, weights.identity, PREPROCESSING, dtype, version("mvtk"), stored)

    @classmethod
    def parse(cls, text: str) -> FeatureSource | None:
        """Return the source that :meth:`to_json` wrote; None for any other text. Unknown keys are passed over."""
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(record, dict):
            return None
        values = [record.get(field.name, "float32" if field.name == "stored" else None) for field in fields(cls)]
        texts = [value for value in values if isinstance(value, str)]
        return cls(*texts) if len(texts) == len(values) else None

    def to_json(self) -> str:
        """Return the source as one line of JSON, the content of the member ``feature_source``."""
        return json.dumps(asdict(self))

    def to_array(self) -> npt.NDArray[np.str_]:
        """Return :meth:`to_json` as the 0-d string array that a features file holds under ``feature_source``."""
        return np.array(self.to_json())

    @property
    def is_random(self) -> bool:
        """Whether the weights were random: such features are for tests only."""
        return self.weights_sha256.startswith("random:")

    def same_features(self, other: FeatureSource) -> bool:
        """Tell whether both sources give the same features: they may differ in the version of mvtk only."""
        return replace(self, mvtk="") == replace(other, mvtk="")


@dataclass(frozen=True, slots=True)
class FeatureMarks:
    """What a features file says of its features.

    Attributes:
        flag: whether its ``feature_flag`` is 1: the features were repaired.
        source: its ``feature_source``; None where it has none, or one that was not written by mvtk.
    """

    flag: bool
    source: FeatureSource | None


def read_feature_marks(reader: NpzReader) -> FeatureMarks:
    """Return the marks of an open features file; of its data only the marks are read and checked.

    See :mod:`toolkit.npz.marks`.

    Raises:
        NpzError: a mark is damaged, or is not an NPY array.
    """
    source = read_text(reader, SOURCE_KEY)
    return FeatureMarks(
        flag=read_flag(reader, FLAG_KEY), source=None if source is None else FeatureSource.parse(source)
    )
