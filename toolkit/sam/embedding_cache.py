"""Image embeddings on disk: computed once by a frozen encoder, read by every epoch of every run.

::

    <folder>/<model hash>-<dtype>/<first two digits>/<image hash>-<variant>.safetensors

A file is found by what it depends on and never changes: the encoder's weights, arithmetic and preprocessing (see
:attr:`toolkit.sam.trainable_sam.TrainableSam.model_hash`), the bytes of the image file, and the variant. It appears
whole or not at all, so several runs may fill one cache at once; at worst both compute the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from toolkit.core.errors import MvtkError
from toolkit.core.extras import require_extra
from toolkit.core.files import explain_os_error, make_folder, sweep_leftovers, write_bytes
from toolkit.sam.embedding import Embedding
from toolkit.sam.variants import IDENTITY

CacheDtype: TypeAlias = Literal["float32", "float16"]

DEFAULT_FOLDER: Final = ".mvtk-embeddings"
"""Name of a dataset's own cache, in the dataset's folder."""

_SUFFIX: Final = ".safetensors"


class EmbeddingKey(NamedTuple):
    """What an embedding is of.

    Attributes:
        image_hash: from :func:`hash_image`.
        variant: name of the mirrored or turned variant, one of :mod:`toolkit.sam.variants`.
    """

    image_hash: str
    variant: str = IDENTITY


@dataclass(frozen=True, slots=True)
class CacheSize:
    """What a cache, or a part of it, takes.

    Attributes:
        files: the number of embeddings.
        size_bytes: their size on disk.
    """

    files: int = 0
    size_bytes: int = 0

    def __add__(self, other: CacheSize) -> CacheSize:
        return CacheSize(self.files + other.files, self.size_bytes + other.size_bytes)


class EmbeddingCache:
    """The embeddings that one encoder makes, in a folder that other encoders and runs may share.

    Small and picklable. Threads and processes may use it at once.

    Args:
        folder: made when something is stored.
        model_hash: what the embeddings depend on besides the image.
        dtype: how they are stored; float16 halves the space and rounds to 3 digits.
    """

    def __init__(self, folder: Path, model_hash: str, dtype: CacheDtype = "float32") -> None:
        self.folder = folder
        self.model_hash = model_hash
        self.dtype = dtype

    def path(self, key: EmbeddingKey) -> Path:
        """Return where an embedding is or would be."""
        return self._own_folder / key.image_hash[:2] / f"{key.image_hash}-{key.variant}{_SUFFIX}"

    def __contains__(self, key: EmbeddingKey) -> bool:
        return self.path(key).is_file()

    def missing(self, keys: Iterable[EmbeddingKey]) -> list[EmbeddingKey]:
        """Return those of ``keys`` that are not there, each once, in order."""
        return [key for key in dict.fromkeys(keys) if key not in self]

    def get(self, key: EmbeddingKey) -> Embedding:
        """Return the embedding of one image, a batch of one on the CPU, in the cache's dtype.

        The file is mapped: what is not touched is not read.

        Raises:
            MvtkError: it is not there, or cannot be read; the line names the file.
        """
        require_extra("safetensors", "sam")
        from safetensors import SafetensorError, safe_open

        path = self.path(key)
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                return Embedding(tuple(file.get_tensor(str(index)) for index in range(len(file.keys()))))
        except FileNotFoundError as error:
            raise MvtkError(f"{path}: the embedding is gone", "run the command again: it is computed again") from error
        except OSError as error:
            raise explain_os_error(error, path, "read") from error
        except SafetensorError as error:
            raise MvtkError(
                f"{path}: not an embedding ({error})", "delete the file and run the command again: it is computed again"
            ) from error

    def put(self, key: EmbeddingKey, embedding: Embedding) -> int:
        """Store the embedding of one image; return the file's size in bytes.

        Args:
            key: what it is of.
            embedding: a batch of one, on any device.

        Raises:
            StopRunError: no space is left.
            MvtkError: it cannot be written, or holds an infinity or NaN (float16 ends at 65504).
        """
        require_extra("safetensors", "sam")
        import torch
        from safetensors.torch import save

        levels = embedding.to("cpu", getattr(torch, self.dtype)).levels
        if not all(bool(level.isfinite().all()) for level in levels):
            raise MvtkError(
                "the encoder's embedding is not finite numbers, and is not stored",
                "check the model's weights, and use float32 for the cache and the encoder",
            )
        content = save({str(index): level.contiguous() for index, level in enumerate(levels)})
        path = self.path(key)
        make_folder(path.parent)
        write_bytes(path, content, overwrite=True)
        return len(content)

    def size(self) -> CacheSize:
        """Return what this encoder's part of the cache takes."""
        return sum((_size_of(path) for path in _embeddings_in(self._own_folder)), CacheSize())

    def prune(self, keys: Iterable[EmbeddingKey]) -> CacheSize:
        """Remove all embeddings but this encoder's of ``keys``, those of other encoders too; return what is gone.

        Not while other runs use the folder: they would miss what is removed.

        Raises:
            MvtkError: a file cannot be removed.
        """
        kept = {self.path(key) for key in keys}
        removed = CacheSize()
        for path in list(_embeddings_in(self.folder)):
            if path not in kept:
                size = _size_of(path)
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise explain_os_error(error, path, "remove") from error
                removed += size
        sweep_leftovers(self.folder)
        _remove_empty_folders(self.folder)
        return removed

    @property
    def _own_folder(self) -> Path:
        return self.folder / f"{self.model_hash}-{self.dtype}"


def hash_image(path: Path) -> str:
    """Return the BLAKE2b of an image file's bytes: 32 hexadecimal digits.

    Raises:
        MvtkError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise explain_os_error(error, path, "read") from error


def _embeddings_in(folder: Path) -> Iterator[Path]:
    """Yield the embeddings in a cache's folder or one encoder's part of it: nothing that is named otherwise."""
    return (path for path in folder.rglob(f"*{_SUFFIX}") if path.is_file())


def _size_of(path: Path) -> CacheSize:
    with suppress(FileNotFoundError):  # another run may remove it at this moment
        return CacheSize(1, path.stat().st_size)
    return CacheSize()


def _remove_empty_folders(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), key=lambda path: len(path.parts), reverse=True):
        if path.is_dir():
            with suppress(OSError):  # it is not empty
                path.rmdir()
