"""Decoded images kept in memory, the least recently used given up first."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from toolkit.core.errors import OptionError

# One for all caches: it is held for a few dictionary operations. A fork waits for it, as a worker that began with a
# lock held by a thread that it does not have would stand still for ever.
_lock = threading.Lock()
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class ImageCache:
    """Images by path, limited in number, in bytes or in both; threads may share it.

    Args:
        max_images: most images to keep; 0: any number, if ``max_bytes`` is given.
        max_bytes: most bytes of pixels to keep; 0: any, if ``max_images`` is given. With 0 for both nothing is kept.

    Raises:
        OptionError: a limit is negative.
    """

    def __init__(self, max_images: int = 0, max_bytes: int = 0) -> None:
        for name, limit in (("cache_size", max_images), ("cache_bytes", max_bytes)):
            if limit < 0:
                raise OptionError(f"{name}={limit}: fewer than 0", f"give {name}=0 for none")
        self.max_images = max_images
        self.max_bytes = max_bytes
        self._images: OrderedDict[str, NDArray[np.uint8]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._images)

    @property
    def pixel_bytes(self) -> int:
        """Bytes of the images that are kept."""
        return self._bytes

    def get(self, path: str, load: Callable[[str], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return the image of ``path``, from ``load`` where it is not kept.

        Returns:
            A writable array of the caller's own, or a read-only one that is shared: copy it before handing it out.
        """
        with _lock:
            image = self._images.get(path)
            if image is not None:
                self._images.move_to_end(path)
                return image
        # Other threads go on meanwhile: two that miss the same image both decode it.
        image = load(path)
        if self._holds(1, image.nbytes):
            image.flags.writeable = False
            with _lock:
                self._keep(path, image)
        return image

    def _keep(self, path: str, image: NDArray[np.uint8]) -> None:
        replaced = self._images.pop(path, None)
        self._bytes += image.nbytes - (0 if replaced is None else replaced.nbytes)
        self._images[path] = image
        while not self._holds(len(self._images), self._bytes):
            _, oldest = self._images.popitem(last=False)
            self._bytes -= oldest.nbytes

    def _holds(self, images: int, pixel_bytes: int) -> bool:
        """Tell whether so much fits."""
        if not self.max_images and not self.max_bytes:
            return False
        return (not self.max_images or images <= self.max_images) and (
            not self.max_bytes or pixel_bytes <= self.max_bytes
        )
