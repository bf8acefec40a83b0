"""Memory that is used again: never while anyone holds a part of it."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from toolkit.metadata.batch_memory import BatchMemory


def address(array: NDArray[np.generic]) -> int:
    return int(array.__array_interface__["data"][0])


def test_memory_that_nobody_holds_is_used_again() -> None:
    memory = BatchMemory()
    first = memory.take((4, 5, 6, 3), np.uint8)
    place = address(first)
    del first
    second = memory.take((3, 5, 6, 3), np.uint8)
    assert address(second) == place
    assert second.shape == (3, 5, 6, 3)


@pytest.mark.parametrize("hold", [lambda a: a[1], lambda a: a[1][2:, ::-1], lambda a: a.view(np.uint32).T, memoryview])
def test_a_part_keeps_the_whole(hold: object) -> None:
    memory = BatchMemory()
    assert callable(hold)
    array = memory.take((4, 8, 4), np.uint8)
    place, part = address(array), hold(array)
    del array
    others = [memory.take((4, 8, 4), np.uint8) for _ in range(4)]
    assert place not in map(address, others)
    del part
    assert address(memory.take((4, 8, 4), np.uint8)) == place


def test_a_tensor_keeps_its_memory() -> None:
    torch = pytest.importorskip("torch")
    memory = BatchMemory()
    array = memory.take((4, 8), np.float32)
    place, part = address(array), torch.from_numpy(array)[1:].flip(0)[:1].view(-1)
    row = torch.from_numpy(array)[2]
    del array, part
    assert address(memory.take((4, 8), np.float32)) != place
    del row
    assert place in {address(array) for array in [memory.take((4, 8), np.float32) for _ in range(2)]}


@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from([np.uint8, np.float32]), st.booleans()), max_size=30))
def test_arrays_that_are_held_never_overlap(wishes: list[tuple[int, type, bool]]) -> None:
    memory = BatchMemory()
    held: list[tuple[NDArray[np.generic], int]] = []
    for number, (count, dtype, is_dropped) in enumerate(wishes):
        array = memory.take((count, 7), dtype)
        assert (array.shape, array.dtype) == ((count, 7), dtype)
        array[...] = number
        held.append((array[-1], number))
        if is_dropped:
            del held[0]
        del array
        assert all((row == value).all() for row, value in held)
    assert len(memory._free) <= 2


def test_much_too_large_memory_is_not_tied_up() -> None:
    memory = BatchMemory()
    memory.take((100,), np.uint8)
    small: Any = memory.take((10,), np.uint8)
    assert small.base.base.obj.nbytes == 10


def test_two_blocks_stay_allocated() -> None:
    memory = BatchMemory()
    arrays = [memory.take((100,), np.uint8) for _ in range(5)]
    arrays.clear()
    assert len(memory._free) == 2


def test_a_pickle_is_empty() -> None:
    memory = BatchMemory()
    memory.take((10_000,), np.uint8)
    assert len(pickle.dumps(memory)) < 200
    assert pickle.loads(pickle.dumps(memory)).take((2,), np.uint8).shape == (2,)
