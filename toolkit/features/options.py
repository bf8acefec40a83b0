"""What the jobs that compute features have in common: their options, their devices, what they report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, PlainValidator

from toolkit.core.options import DeviceBatchOptions

EncoderDtype: TypeAlias = Literal["float32", "bfloat16", "float16"]
StoredDtype: TypeAlias = Literal["float32", "float16"]


def _batch_size(value: Any) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    try:
        size = int(str(value))
    except ValueError:
        size = 0
    if size < 1:
        raise ValueError(f"{value!r} is neither a whole number of at least 1 nor auto")
    return size


class EncodingOptions(DeviceBatchOptions):
    """The options of a job that encodes images.

    Attributes:
        weights: the encoder's checkpoint: a file, or a Hugging Face repository; see
            :func:`toolkit.features.weights.resolve_weights`.
        model: the model's name; None: inferred from the name of the weights.
        dtype: the encoder's arithmetic; "float32" is exact.
        store: the dtype of the features in the files.
        batch_size: images encoded at once; "auto": 1 on the CPU, 8 on a GPU. Halved when the memory does not suffice.
        compile: compile the encoder with torch.compile.
        to_8bit: take 16-bit images, scaled to 8 bits.
        refresh_stale: encode again what was made by another model, other weights or another dtype.
    """

    weights: str
    model: str | None = None
    dtype: EncoderDtype = "float32"
    store: StoredDtype = "float32"
    batch_size: Annotated[int | Literal["auto"], PlainValidator(_batch_size)] = "auto"
    compile: bool = False
    to_8bit: bool = False
    refresh_stale: bool = False


class BulkFixOptions(EncodingOptions):
    """The options of the repair of a whole tree.

    Attributes:
        root: folder with the features files and images, searched to any depth.
    """

    root: Path


class FixInplaceOptions(EncodingOptions):
    """The options of the repair of listed samples.

    Attributes:
        samples: text file with the path of one image a line.
        npz_dirs: folders that are searched to any depth for features files which do not lie beside their image.
        set_flag: set ``feature_flag`` to 1.
    """

    samples: Path
    npz_dirs: tuple[Path, ...] = ()
    set_flag: bool = False


class FixSplitsOptions(EncodingOptions):
    """The options of the repair of split folders.

    Attributes:
        extracted_dirs: folders with features files, whose images lie in the folder above each.
    """

    extracted_dirs: tuple[Path, ...] = Field(min_length=1)


class ExtractFeaturesOptions(EncodingOptions):
    """The options of an extraction of new features files.

    Attributes:
        images: folder with the images, searched to any depth.
        output: folder for the features files, made if missing.
        overwrite: replace features files that exist.
    """

    images: Path
    output: Path
    overwrite: bool = False
