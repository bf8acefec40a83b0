"""The cache of decoded images against a plain list of what was used last."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from toolkit.core.errors import OptionError
from toolkit.metadata import image_cache
from toolkit.metadata.image_cache import ImageCache


class Loader:
    """Makes an image of a path, whose number of pixels is the path; notes what was loaded."""

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def __call__(self, path: str) -> NDArray[np.uint8]:
        self.loaded.append(path)
        return np.full(int(path), int(path), np.uint8)


def reference_loads(paths: list[str], max_images: int, max_bytes: int) -> tuple[list[str], list[str]]:
    """What is loaded, and what is kept at the end, oldest first."""
    kept: list[str] = []
    loaded = []
    for path in paths:
        if path in kept:
            kept.remove(path)
        else:
            loaded.append(path)
        is_too_large = max_bytes and int(path) > max_bytes
        if (max_images or max_bytes) and not is_too_large:
            kept.append(path)
        while (max_images and len(kept) > max_images) or (max_bytes and sum(map(int, kept)) > max_bytes):
            kept.pop(0)
    return loaded, kept


@given(
    st.lists(st.integers(1, 9).map(str), max_size=30),
    st.integers(0, 4),
    st.integers(0, 20),
)
def test_loads_are_those_of_a_list_of_the_last_used(paths: list[str], max_images: int, max_bytes: int) -> None:
    cache, load = ImageCache(max_images, max_bytes), Loader()
    for path in paths:
        np.testing.assert_array_equal(cache.get(path, load), np.full(int(path), int(path)))
    loaded, kept = reference_loads(paths, max_images, max_bytes)
    assert load.loaded == loaded
    assert len(cache) == len(kept)
    assert cache.pixel_bytes == sum(map(int, kept))


def test_what_is_kept_cannot_be_changed_and_what_is_not_can() -> None:
    cache, load = ImageCache(max_bytes=5), Loader()
    small, large = cache.get("5", load), cache.get("6", load)
    with pytest.raises(ValueError, match="read-only"):
        small[0] = 1
    large[0] = 1
    assert cache.get("5", load) is small
    assert ImageCache().get("5", load).flags.writeable


def test_an_image_that_could_not_be_loaded_is_tried_again() -> None:
    cache = ImageCache(2)

    def fail(path: str) -> NDArray[np.uint8]:
        raise OSError(path)

    with pytest.raises(OSError, match="3"):
        cache.get("3", fail)
    assert len(cache) == 0
    assert len(cache.get("3", Loader())) == 3


def test_two_threads_that_miss_the_same_image_count_it_once() -> None:
    cache, both_load = ImageCache(max_bytes=100), threading.Barrier(2)

    def load(path: str) -> NDArray[np.uint8]:
        both_load.wait(timeout=10)
        return np.zeros(int(path), np.uint8)

    threads = [threading.Thread(target=cache.get, args=("7", load)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cache) == 1
    assert cache.pixel_bytes == 7


def test_threads_leave_the_sums_right() -> None:
    cache = ImageCache(max_images=5, max_bytes=30)

    def use(seed: int) -> None:
        for number in np.random.default_rng(seed).integers(1, 10, 500):
            assert len(cache.get(str(number), Loader())) == number

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.pixel_bytes == sum(image.nbytes for image in cache._images.values()) <= 30
    assert len(cache) <= 5


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_waits_for_a_thread_that_uses_the_cache() -> None:
    cache, is_held = ImageCache(2), threading.Event()

    def hold() -> None:
        with image_cache._lock:
            is_held.set()
            may_go.wait(timeout=0.2)

    may_go = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    is_held.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        os._exit(len(cache.get("3", Loader())))
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3


@pytest.mark.parametrize(("limits", "text"), [((-1, 0), "cache_size=-1"), ((0, -5), "cache_bytes=-5")])
def test_negative_limits_are_refused(limits: tuple[int, int], text: str) -> None:
    with pytest.raises(OptionError, match=f"^{text}: fewer than 0; give .*=0 for none$"):
        ImageCache(*limits)
