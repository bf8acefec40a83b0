"""Encode images and put their features into files: what a worker does.

Images are read and preprocessed ahead in threads, encoded in batches, and the files are written behind.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core.batch import BatchStep, Outcome, Publishing
from toolkit.core.errors import MvtkError
from toolkit.features.feature_source import FLAG_KEY, SOURCE_KEY, FeatureMarks, FeatureSource, read_feature_marks
from toolkit.images.search import image_stem
from toolkit.npz.errors import NpzError
from toolkit.npz.feature_files import stored_image_size
from toolkit.npz.reading import NpzReader, open_npz
from toolkit.npz.rewriting import require_rewritable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from toolkit.features.options import EncoderDtype, StoredDtype
    from toolkit.features.sam2_encoder import Sam2Encoder
    from toolkit.features.weights import Weights

ALREADY_PROCESSED = "already processed"
STALE = "stale: made by another model, other weights or dtypes (--refresh-stale encodes it again)"
OTHER_SIZE = "image_shape is not the image's size"

P4_KEY, P5_KEY, P4_COPY_KEY = "P4_S16", "P5_S32", "IMAGE_EMB_S16"
FEATURE_SHAPES = {P4_KEY: (1, 256, 64, 64), P5_KEY: (1, 256, 32, 32), P4_COPY_KEY: (1, 256, 64, 64)}


@dataclass(frozen=True, slots=True)
class FeatureItem:
    """One features file and its image: the file's path as it is reported, and both as they are opened."""

    source: str
    npz_path: str
    image_path: str


@dataclass(frozen=True, slots=True)
class SkipRule:
    """Which features files need no work.

    Attributes:
        source: what this run would write.
        by_flag: a file whose flag is set counts as processed also where it does not say what made it.
        refresh_stale: encode again what was made otherwise.
    """

    source: FeatureSource
    by_flag: bool
    refresh_stale: bool

    def reason(self, marks: FeatureMarks) -> str:
        """Return why a features file with these marks needs no work; "" for one that does."""
        if self.by_flag and not marks.flag:
            return ""
        if marks.source is None:
            return ALREADY_PROCESSED if self.by_flag else ""
        if marks.source.same_features(self.source):
            return ALREADY_PROCESSED
        return "" if self.refresh_stale or not self.by_flag else STALE


@dataclass(frozen=True, slots=True)
class EncodingSettings:
    """How images are encoded, and how many at a time.

    Attributes:
        weights: the encoder's model and checkpoint.
        dtype: the encoder's arithmetic.
        store: the dtype of the features in the files.
        compiled: compile the encoder.
        to_8bit: take 16-bit images.
        batch_size: images encoded at once.
        threads: threads that read ahead.
    """

    weights: Weights
    dtype: EncoderDtype
    store: StoredDtype
    compiled: bool
    to_8bit: bool
    batch_size: int
    threads: int


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """An image ready to be encoded, and the features file, open, that its features belong to."""

    item: FeatureItem
    tensor: Any
    shape_hwc: tuple[int, int, int]
    reader: NpzReader | None
    warnings: tuple[str, ...]


class EncodingStep(BatchStep[FeatureItem, PreparedImage]):
    """Encode images in batches; what becomes of the features is up to the subclass.

    Args:
        settings: how images are encoded.
    """

    def __init__(self, settings: EncodingSettings) -> None:
        self._settings = settings
        self._encoder: Sam2Encoder | None = None
        self.batch_size = settings.batch_size
        self.threads = settings.threads

    def setup(self, device: str) -> None:
        """Load the encoder onto the device."""
        from toolkit.features.sam2_encoder import Sam2Encoder

        settings = self._settings
        self._encoder = Sam2Encoder(settings.weights, device, dtype=settings.dtype, compiled=settings.compiled)

    @property
    def encoder(self) -> Sam2Encoder:
        """The encoder, once the step is set up."""
        if self._encoder is None:
            raise RuntimeError("the step is not set up")
        return self._encoder

    def process_batch(self, batch: Sequence[PreparedImage]) -> Sequence[Outcome | Publishing]:
        """Encode a batch; where the memory does not suffice, its halves, and from then on smaller batches."""
        from toolkit.device_memory import OutOfMemoryError

        try:
            p4, p5 = self.encoder.encode([image.tensor for image in batch])
        except OutOfMemoryError:
            if len(batch) == 1:
                raise
            half = len(batch) // 2
            self.batch_size = min(self.batch_size, half)
            return [*self.process_batch(batch[:half]), *self.process_batch(batch[half:])]
        return [functools.partial(self._publish, image, p4[index], p5[index]) for index, image in enumerate(batch)]

    @abstractmethod
    def publish(self, image: PreparedImage, p4: npt.NDArray[Any], p5: npt.NDArray[Any]) -> Outcome:
        """Write the features, P4 (1, 256, 64, 64) and P5 (1, 256, 32, 32), of one image."""

    def read_image(self, path: str) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
        """Return an image as (H, W, 3) uint8 RGB, and remarks on how it was read.

        Raises:
            ImageError: it cannot be read.
        """
        from toolkit.images import load_image

        decoded = load_image(path, to_8bit=self._settings.to_8bit)
        return decoded.pixels, decoded.warnings

    def _publish(self, image: PreparedImage, p4: npt.NDArray[np.float32], p5: npt.NDArray[np.float32]) -> Outcome:
        # Here, not in the thread that encodes: it takes milliseconds, in which a GPU would wait.
        stored_p4, stored_p5 = self._stored(p4), self._stored(p5)
        _check_finite(stored_p4, stored_p5)
        return self.publish(image, stored_p4, stored_p5)

    def _stored(self, features: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Return the features of one image as they are stored, with an axis for the image before the others."""
        import numpy as np

        with np.errstate(over="ignore"):  # what float16 cannot hold becomes infinite, and is refused as such
            return features[None].astype(self._settings.store, copy=False)


class RepairStep(EncodingStep):
    """Replace the features inside features files.

    Args:
        settings: how images are encoded.
        rule: which files need no work, should another run have done it since the plan was made.
        set_flag: set ``feature_flag`` to 1.
        add_copy: write ``IMAGE_EMB_S16``, a copy of P4, also into files that have none.
    """

    def __init__(self, settings: EncodingSettings, rule: SkipRule, *, set_flag: bool, add_copy: bool) -> None:
        super().__init__(settings)
        self._rule = rule
        self._set_flag = set_flag
        self._add_copy = add_copy

    def prepare(self, item: FeatureItem) -> PreparedImage | Outcome:
        """Open the features file, and read and preprocess the image.

        Raises:
            MvtkError: one of them cannot be read, or the file's features have other shapes.
        """
        reader = open_npz(item.npz_path)
        try:
            reason = self._rule.reason(read_feature_marks(reader))
            if reason:
                reader.close()
                return Outcome.skipped(item.source, reason)
            require_rewritable(reader)
            _check_shapes(reader)
            pixels_hwc, warnings = self.read_image(item.image_path)
            height, width, channels = pixels_hwc.shape
            if stored_image_size(reader) not in (None, (height, width)):
                warnings = (*warnings, OTHER_SIZE)
            tensor = self.encoder.prepare(pixels_hwc)
        except BaseException:
            reader.close()
            raise
        return PreparedImage(item, tensor, (height, width, channels), reader, warnings)

    def publish(self, image: PreparedImage, p4: npt.NDArray[Any], p5: npt.NDArray[Any]) -> Outcome:
        """Replace the features and marks of one file."""
        import numpy as np

        from toolkit.npz.rewriting import ChangedMeanwhileError, rewrite_npz

        reader = image.reader
        if reader is None:
            raise RuntimeError("an image was prepared without its features file")
        with reader:
            arrays: dict[str, npt.NDArray[Any]] = {P4_KEY: p4, P5_KEY: p5}
            if self._add_copy or P4_COPY_KEY in reader.members:
                arrays[P4_COPY_KEY] = p4
            if self._set_flag:
                arrays[FLAG_KEY] = np.array(1)
            arrays[SOURCE_KEY] = self._rule.source.to_array()
            try:
                size_bytes = rewrite_npz(reader, arrays)
            except ChangedMeanwhileError:
                # The same file may have come under another name.
                reason = self._reason_now(image.item)
                if not reason:
                    raise
                return Outcome.skipped(image.item.source, reason)
        return Outcome.done(image.item.source, warnings=image.warnings, bytes=size_bytes)

    def _reason_now(self, item: FeatureItem) -> str:
        """Return why the file that is there by now needs no work; "" where it does, or cannot be read."""
        try:
            with open_npz(item.npz_path) as reader:
                return self._rule.reason(read_feature_marks(reader))
        except NpzError:
            return ""


class ExtractionStep(EncodingStep):
    """Make new features files.

    Args:
        settings: how images are encoded.
        source: what the files say made them.
        overwrite: replace files that exist.
    """

    def __init__(self, settings: EncodingSettings, source: FeatureSource, *, overwrite: bool) -> None:
        super().__init__(settings)
        self._source = source
        self._overwrite = overwrite

    def prepare(self, item: FeatureItem) -> PreparedImage:
        """Read and preprocess the image.

        Raises:
            MvtkError: it cannot be read.
        """
        pixels_hwc, warnings = self.read_image(item.image_path)
        height, width, channels = pixels_hwc.shape
        return PreparedImage(item, self.encoder.prepare(pixels_hwc), (height, width, channels), None, warnings)

    def publish(self, image: PreparedImage, p4: npt.NDArray[Any], p5: npt.NDArray[Any]) -> Outcome:
        """Write one features file."""
        import numpy as np

        from toolkit.core.files import TargetExistsError, make_folder
        from toolkit.npz.writing import save_npz

        path = Path(image.item.npz_path)
        make_folder(path.parent)
        arrays = {
            P4_KEY: p4,
            P5_KEY: p5,
            "image_id": np.array(image_stem(Path(image.item.image_path).name)),
            "image_shape": np.array(image.shape_hwc),
            "model_type": np.array(self._source.model),
            FLAG_KEY: np.array(1),
            SOURCE_KEY: self._source.to_array(),
        }
        try:
            size_bytes = save_npz(path, arrays, compression="none", overwrite=self._overwrite)
        except TargetExistsError:
            return Outcome.skipped(image.item.source, ALREADY_PROCESSED)
        return Outcome.done(image.item.source, warnings=image.warnings, bytes=size_bytes)


def _check_finite(*levels: npt.NDArray[Any]) -> None:
    """Check that features can be stored: weights that are damaged, or float16, may make numbers that are none.

    Raises:
        MvtkError: they hold an infinity or NaN.
    """
    import numpy as np

    if not all(np.isfinite(level).all() for level in levels):
        hint = "check the weights, and use float32 for --dtype and --store"
        raise MvtkError("the encoder's features are not finite numbers, and are not stored", hint)


def _check_shapes(reader: NpzReader) -> None:
    """Check that features which are to be replaced are features of the kind that replaces them.

    Raises:
        NpzError: they have another shape: the file is not what its name says.
    """
    for key, shape in FEATURE_SHAPES.items():
        header = reader.header(key) if key in reader.members else None
        if header is not None and (header.pickled or header.shape != shape):
            found = "pickled" if header.pickled else f"of shape {header.shape}"
            raise NpzError(reader.path, f"member '{key}' is {found}, not of shape {shape}", "remove or rename the file")
