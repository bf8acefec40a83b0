"""Reading pickles without running them: what plain data become, and that nothing else happens."""

from __future__ import annotations

import copyreg
import functools
import os
import pathlib
import pickle
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from toolkit.metadata.restricted_pickle import PickleRefusedError, read_plain_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner) | st.tuples(inner, inner, inner, inner) | st.dictionaries(st.text(), inner)
    ),
    max_leaves=20,
)
NUMBERS = np_st.arrays(
    st.one_of(
        np_st.integer_dtypes(endianness="?"),
        np_st.unsigned_integer_dtypes(endianness="?"),
        np_st.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
        np_st.boolean_dtypes(),
        np_st.unicode_string_dtypes(endianness="?", min_len=1, max_len=4),
        np_st.byte_string_dtypes(min_len=1, max_len=4),
    ),
    np_st.array_shapes(min_dims=0, min_side=0, max_side=4),
)


@given(PLAIN, st.sampled_from(PROTOCOLS))
def test_plain_data_come_back(value: Any, protocol: int) -> None:
    read = read_plain_pickle(pickle.dumps(value, protocol))
    assert read == value
    assert type(read) is type(value)


@given(NUMBERS, st.sampled_from(PROTOCOLS), st.booleans())
def test_arrays_come_back(array: np.ndarray[Any, Any], protocol: int, is_fortran: bool) -> None:
    array = np.asfortranarray(array) if is_fortran else array
    read = read_plain_pickle(pickle.dumps([array, array], protocol))
    assert isinstance(read, list)
    for copy in read:
        assert copy.dtype == array.dtype
        np.testing.assert_array_equal(copy, array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_objects_are_nested_lists(protocol: int, order: Any) -> None:
    array = np.empty((2, 3), object, order=order)
    array[:] = [[1, "a", None], [[2], np.float32(0.5), np.str_("b")]]
    assert read_plain_pickle(pickle.dumps(array, protocol)) == [[1, "a", None], [[2], 0.5, "b"]]
    assert read_plain_pickle(pickle.dumps(np.array({"a": 1}, object), protocol)) == {"a": 1}
    assert read_plain_pickle(pickle.dumps(np.empty((0, 3), object), protocol)) == []
    assert read_plain_pickle(pickle.dumps(np.empty((2, 0), object), protocol)) == [[], []]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_1_and_2_name_their_modules_otherwise(protocol: int) -> None:
    array = np.arange(6, dtype=">i2").reshape(2, 3)
    data = pickle.dumps([array, np.float64(1.5)], protocol)
    new, old = b"numpy._core", b"numpy.core"
    if protocol >= 4:
        for module in (b".multiarray", b".numeric"):
            data = data.replace(
                b"\x8c" + bytes([len(new + module)]) + new + module,
                b"\x8c" + bytes([len(old + module)]) + old + module,
            )
        data = data[:2] + data[11:]  # without the frame, whose length is another now
    else:
        data = data.replace(new, old)
    assert old in data
    assert new not in data
    read = read_plain_pickle(data)
    assert isinstance(read, list)
    np.testing.assert_array_equal(read[0], array)
    assert read[1] == 1.5


def test_a_list_may_hold_itself() -> None:
    cyclic: list[Any] = [1]
    cyclic.append(cyclic)
    read = read_plain_pickle(pickle.dumps(cyclic))
    assert isinstance(read, list)
    assert read[1] is read


class Call:
    """An object whose pickle calls something."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self._reduced = (function, arguments, state) if state is not None else (function, arguments)

    def __reduce__(self) -> Any:
        return self._reduced


class Stateful:
    """An object whose pickle sets its state."""

    def __init__(self) -> None:
        self.name = "x"


def text(string: str) -> bytes:
    """The operation that pushes a short text."""
    encoded = string.encode()
    return b"\x8c" + bytes([len(encoded)]) + encoded


def name(module: str, qualified: str) -> bytes:
    """The operations that push what a module has by a name."""
    return text(module) + text(qualified) + b"\x93"


ARRAY = name("numpy", "ndarray")
RECONSTRUCT = name("numpy._core.multiarray", "_reconstruct")
NEW_ARRAY = RECONSTRUCT + ARRAY + b"K\x00\x85C\x01b\x87R"
DTYPE = name("numpy", "dtype")
BYTE_ORDER = b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def dtype(code: str) -> bytes:
    return DTYPE + text(code) + b"\x89\x88\x87R" + BYTE_ORDER


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_calls_are_refused(canary: Path, protocol: int) -> None:
    touch = f"touch {canary}"
    code = f"open({str(canary)!r}, 'w')"
    hostile: dict[Any, str] = {
        Call(os.system, touch): "refuses to build (posix|nt).system",
        Call(eval, code): r"refuses to build (builtins|__builtin__).eval",
        Call(exec, code): r"refuses to build (builtins|__builtin__).exec",
        Call(getattr, "a", "upper"): r"refuses to build (builtins|__builtin__).getattr",
        Call(open, str(canary), "w"): "refuses to build (io|_io).open",
        Call(np.load, "x.npy"): "refuses to build numpy.load",
        Call(np.fromfile, "x"): "refuses to build numpy.*fromfile",
        Call(functools.partial, os.system, touch): "refuses to build functools.partial",
        Call(bytes, "a", "utf-8"): "refuses to call .*bytes with these arguments",
        pathlib.PurePosixPath("a/b"): "refuses to build pathlib.*PurePosixPath",
        Stateful(): "refuses to build",
    }
    for value, refusal in hostile.items():
        for wrapped in (value, [value], {"image_paths": value}, np.array([value], object)):
            with pytest.raises(PickleRefusedError, match=refusal):
                read_plain_pickle(pickle.dumps(wrapped, protocol))
    assert not canary.exists()


@pytest.mark.parametrize(
    ("program", "refusal"),
    [
        (name("numpy", "core.os.system"), "refuses to build numpy.core.os.system"),
        (name("numpy.core.os", "system"), "refuses to build numpy.core.os.system"),
        (name("numpy", "ndarray.__reduce__"), "refuses to build numpy.ndarray.__reduce__"),
        (b"cos\nsystem\n", "refuses to build os.system"),
        (b"(ios\nsystem\n", "refuses the pickle operation INST"),
        (b"(" + ARRAY + b"o", "refuses the pickle operation OBJ"),
        (ARRAY + b")\x81", "refuses the pickle operation NEWOBJ"),
        (ARRAY + b")}\x92", "refuses the pickle operation NEWOBJ_EX"),
        (b"Pid\n", "refuses the pickle operation PERSID"),
        (b"NQ", "refuses the pickle operation BINPERSID"),
        (b"\x82\x01", "refuses the pickle operation EXT1"),
        (b"\x83\x01\x00", "refuses the pickle operation EXT2"),
        (b"\x84\x01\x00\x00\x00", "refuses the pickle operation EXT4"),
        (b"\x97", "refuses the pickle operation NEXT_BUFFER"),
        (b"C\x01a\x98", "refuses the pickle operation READONLY_BUFFER"),
        (b"\x8f", "refuses the pickle operation EMPTY_SET"),
        (b"NN\x93", "refuses to build what is not named by text"),
        # Calls of what is no name, and of names with what NumPy never gives them.
        (b"])R", "refuses to call anything but a name"),
        (RECONSTRUCT + b"]R", "refuses to call anything but a name with its arguments"),
        (ARRAY + b"K\x00\x85R", "refuses to call numpy.ndarray with these arguments"),
        (RECONSTRUCT + DTYPE + b"K\x00\x85C\x01b\x87R", "refuses to call numpy._core.multiarray._reconstruct"),
        (RECONSTRUCT + ARRAY + b"J\x00\x00\x00\x7f\x85C\x01b\x87R", "refuses to call numpy._core"),
        (name("_codecs", "encode") + text("a") + text("rot13") + b"\x86R", "refuses to call _codecs.encode"),
        (name("_codecs", "encode") + text("Ā") + text("latin1") + b"\x86R", "bytes are written as text that is none"),
        (name("_codecs", "decode"), "refuses to build _codecs.decode"),
        (DTYPE + text("V8") + b"\x89\x88\x87R", "refuses an array of type 'V8'"),
        (DTYPE + text("M8[ns]") + b"\x89\x88\x87R", "refuses an array of type"),
        (DTYPE + text("f8,O") + b"\x89\x88\x87R", "refuses an array of type"),
        (DTYPE + text("U0") + b"\x89\x88\x87R", "refuses an array of type 'U0'"),
        (DTYPE + text("f8") + b"\x89\x88\x87R(K\x03" + text("<") + b"N" + text("a") + b"NK\x08K\x08K\x00tb", "fields"),
        (name("numpy._core.multiarray", "scalar") + dtype("O8") + b"C\x01a\x86R", "an array of 1 objects has other"),
        (name("numpy._core.multiarray", "scalar") + dtype("f8") + b"C\x01a\x86R", "has other content"),
        # States.
        (b"]}b", "refuses to set the state of a list"),
        (b"](NNtb", "refuses to set the state of a list"),
        (ARRAY + b"}b", "refuses to set the state of a numpy.ndarray"),
        (RECONSTRUCT + b"N}" + text("__defaults__") + b")s\x86b", "refuses to set the state of a numpy._core"),
        (NEW_ARRAY + b"}b", "refuses to set the state"),
        (NEW_ARRAY + b")b", "refuses an array whose state is none"),
        (NEW_ARRAY + b"(K\x01K\x02\x85" + dtype("f8") + b"\x89C\x01atb", "has other content"),
        (NEW_ARRAY + b"(K\x01K\x02\x85" + dtype("O8") + b"\x89]tb", "an array of 2 objects has other content"),
        (NEW_ARRAY + b"(K\x01J\xff\xff\xff\xff\x85" + dtype("f8") + b"\x89C\x00tb", "refuses an array of shape"),
        (NEW_ARRAY + b"(K\x01\x88\x85" + dtype("f8") + b"\x89C\x00tb", "refuses an array of shape"),
        (NEW_ARRAY + b"(K\x01J\xff\xff\xff\x7fK\x00\x86" + dtype("f8") + b"\x89C\x00tb", "refuses an empty array"),
        (NEW_ARRAY + b"(K\x01)" + dtype("U1") + b"\x89C\x04\xff\xff\xff\xfftb", "numbers that are no characters"),
        # Damage.
        (b"", "the stack is empty|its stack is empty"),
        (b"a", "its stack is empty"),
        (b"(a", "its stack is empty"),
        (b"t", "a mark is missing"),
        (b"NN", "it ends too early"),
        (ARRAY, "it ends too early"),
        (NEW_ARRAY, "it ends too early"),
        (b"NNa", "refuses to append to anything but a list"),
        (b"NNNs", "refuses to set items of anything but a dict"),
        (b"}K\x01Ns", "refuses a dict key of type int"),
        (b"}(]Nu", "refuses a dict key of type list"),
        (b"}(Nu", "refuses to set items"),
        (b"h\x05", "nothing is memoised as 5"),
        (b"0", "the pickle is damaged"),
        (b"\x8d" + struct.pack("<Q", 2**63) + b"a", "the pickle is damaged"),
        (b"\x8e" + struct.pack("<Q", 2**40) + b"a", "the pickle is damaged"),
        (b"\x96" + struct.pack("<Q", 2**40) + b"a", "the pickle is damaged"),
        (b"I" + b"9" * 5000 + b"\n", "the pickle is damaged"),
        (b"\xfe", "the pickle is damaged"),
    ],
)
def test_programs_that_no_plain_data_need(program: bytes, refusal: str) -> None:
    with pytest.raises(PickleRefusedError, match=refusal):
        read_plain_pickle(b"\x80\x05" + program + b".")


def test_a_registered_extension_is_refused_even_once_cached(canary: Path) -> None:
    copyreg.add_extension("os", "system", 77)
    try:
        program = b"\x80\x02\x82\x4d" + b"U" + bytes([len(f"touch {canary}")]) + f"touch {canary}".encode() + b"\x85R."
        assert pickle.loads(b"\x80\x02\x82\x4d.") is os.system
        with pytest.raises(PickleRefusedError, match="EXT1"):
            read_plain_pickle(program)
    finally:
        copyreg.remove_extension("os", "system", 77)
        copyreg.clear_extension_cache()
    assert not canary.exists()


def test_memoising_far_ahead_costs_nothing() -> None:
    # pickle.Unpickler makes room for all that lies before: 64 GiB of it.
    assert read_plain_pickle(b"\x80\x02Nr\xff\xff\xff\xff.") is None


def test_copies_of_copies_are_refused() -> None:
    megabyte = b"\x8d" + struct.pack("<Q", 1 << 20) + b"a" * (1 << 20) + b"\x94"
    encode = name("_codecs", "encode") + b"\x940" + b"".join([b"h\x01h\x00" + text("latin1") + b"\x86R0"] * 1000)
    with pytest.raises(PickleRefusedError, match="copies its own content over and over"):
        read_plain_pickle(b"\x80\x04" + megabyte + b"0" + encode + b"N.")


@given(st.binary(max_size=40), st.integers(0, 400))
def test_no_bytes_lead_to_another_error(noise: bytes, position: int) -> None:
    data = pickle.dumps({"image_paths": ["a.png"], "bboxes": [np.zeros((1, 4)), [[1, 2.0, 3, 4]]]}, 4)
    for program in (noise, data[:position], data[:position] + noise + data[position:]):
        with suppress(PickleRefusedError):
            read_plain_pickle(program)
