from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch

from toolkit.device_memory import OutOfMemoryError, within_memory


def _raising(error: Exception) -> Callable[[], object]:
    def work() -> object:
        raise error

    return work


def test_the_result_of_the_work_is_returned() -> None:
    assert within_memory(lambda: 3, "not enough") == 3


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_each_way_of_running_out_is_one_expected_error(error: Exception) -> None:
    with pytest.raises(OutOfMemoryError, match=r"^no room for 4; take fewer$") as caught:
        within_memory(_raising(error), "no room for 4", "take fewer")

    assert caught.value.__context__ is None, "its frames would keep the tensors alive"


def test_what_the_work_took_is_free_when_the_error_is_caught() -> None:
    taken: list[weakref.ref[torch.Tensor]] = []

    def work() -> None:
        tensor = torch.zeros(4)
        taken.append(weakref.ref(tensor))
        raise MemoryError

    gc.disable()
    try:
        with pytest.raises(OutOfMemoryError) as caught:
            within_memory(work, "no room")
        assert taken[0]() is None, f"held by {caught.value!r}"
    finally:
        gc.enable()


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"):
        within_memory(_raising(RuntimeError("shapes differ")), "no room")
