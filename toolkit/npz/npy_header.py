"""The header of an NPY array: parsed without trust, written as NumPy writes it.

Source: NEP 1 and ``numpy.lib.format`` (versions 1.0, 2.0 and 3.0).
"""

from __future__ import annotations

import ast
import math
import re
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format

_MAGIC: Final = b"\x93NUMPY"
_MAGIC_SIZE: Final = len(_MAGIC) + 2
# NumPy's own limit (max_header_size of numpy.load): parsing a longer literal may exhaust the interpreter's stack.
_MAX_HEADER_TEXT: Final = 10_000
_MAX_DIMENSIONS: Final = 64
# version -> (layout of the header's length, text encoding)
_VERSIONS: Final = {
    (1, 0): (struct.Struct("<H"), "latin1"),
    (2, 0): (struct.Struct("<L"), "latin1"),
    (3, 0): (struct.Struct("<L"), "utf-8"),
}
# Array-protocol type strings ("<f4", "|S3", "<M8[ns]") and NumPy's plain names. numpy.dtype takes much more than any
# writer of NPY files uses, some of it under protest (a DeprecationWarning, before the CRC-32 has shown the damage).
_TYPE_STRING: Final = re.compile(
    r"[<>|=]?(?:[?bBhHiIlLqQefdgFDG]|b1|[iu][1248]|f(?:2|4|8|12|16)|c(?:8|16|24|32)|[SUV]\d*|[mM]8(?:\[[\w/]+\])?|O8?)"
    r"|bool|u?int(?:8|16|32|64)|float(?:16|32|64)|complex(?:64|128)"
)
# What ast and numpy raise for literals and dtypes that make no sense.
_NONSENSE: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)


class NotNpyError(ValueError):
    """The data do not begin like an NPY array."""


class NpyHeaderError(ValueError):
    """The data begin like an NPY array, but the header is not sound; the text says why."""


@dataclass(frozen=True, slots=True)
class ArrayHeader:
    """What an NPY header says.

    Attributes:
        shape: the array's shape.
        dtype: its dtype, byte order included.
        fortran_order: the data lie in column-major order.
        version: the NPY version, such as (1, 0).
        size_bytes: length of the header itself: the data begin there.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    version: tuple[int, int]
    size_bytes: int

    @property
    def pickled(self) -> bool:
        """Whether the data are pickled Python objects."""
        return self.dtype.hasobject

    @property
    def data_bytes(self) -> int:
        """Length in bytes of the data that must follow; without meaning where they are pickled."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(read: Callable[[int], bytes]) -> ArrayHeader:
    """Return the header at the start of an NPY array.

    Args:
        read: returns exactly the next n bytes, fewer only where the data end.

    Raises:
        NotNpyError: the data do not begin with NPY's magic string.
        NpyHeaderError: the header is cut short, of an unknown version, or says what no array can be.
    """
    start = read(_MAGIC_SIZE)
    if not start.startswith(_MAGIC):
        raise NotNpyError("is not an NPY array")
    version = (start[-2], start[-1]) if len(start) == _MAGIC_SIZE else (0, 0)
    if version not in _VERSIONS:
        raise NpyHeaderError(f"its NPY version {version[0]}.{version[1]} is unknown")
    length_layout, encoding = _VERSIONS[version]
    raw_length = read(length_layout.size)
    if len(raw_length) < length_layout.size:
        raise NpyHeaderError("its NPY header is cut short")
    (length,) = length_layout.unpack(raw_length)
    if length > _MAX_HEADER_TEXT:
        raise NpyHeaderError(f"its NPY header of {length} bytes is longer than {_MAX_HEADER_TEXT}")
    raw_text = read(length)
    if len(raw_text) < length:
        raise NpyHeaderError("its NPY header is cut short")
    shape, dtype, fortran_order = _parse(raw_text, encoding)
    return ArrayHeader(shape, dtype, fortran_order, version, _MAGIC_SIZE + length_layout.size + length)


def format_header(array: npt.NDArray[Any]) -> bytes:
    """Return the NPY header for ``array``, in the lowest version that can hold it.

    The data that follow it are those of :func:`flat_bytes`.

    Raises:
        ValueError: NPY has no description for the array's dtype, or it is longer than readers accept.
    """
    fields = {
        "descr": npy_format.dtype_to_descr(array.dtype),
        "fortran_order": _is_fortran(array),
        "shape": array.shape,
    }
    # Items sorted, a comma after the last one, data at a multiple of 64 bytes: byte for byte what NumPy writes, which
    # also leaves room for the growing axis of an array that is appended to.
    text = "{" + "".join(f"'{key}': {value!r}, " for key, value in sorted(fields.items())) + "}"
    if array.shape:
        growing_axis = array.shape[-1 if fields["fortran_order"] else 0]
        text += " " * (npy_format.GROWTH_AXIS_MAX_DIGITS - len(repr(growing_axis)))
    for version, (length_layout, encoding) in _VERSIONS.items():
        try:
            encoded = text.encode(encoding)
        except UnicodeEncodeError:
            continue
        unpadded = _MAGIC_SIZE + length_layout.size + len(encoded) + 1
        padding = npy_format.ARRAY_ALIGN - unpadded % npy_format.ARRAY_ALIGN
        length = len(encoded) + padding + 1
        if length <= _MAX_HEADER_TEXT:
            return _MAGIC + bytes(version) + length_layout.pack(length) + encoded + b" " * padding + b"\n"
    raise ValueError(f"its dtype needs a header longer than {_MAX_HEADER_TEXT} bytes")


def flat_bytes(array: npt.NDArray[Any]) -> memoryview:
    """Return the bytes of ``array``'s elements, in the order of an NPY file: a view, a copy only where scattered."""
    ordered = array.T if _is_fortran(array) else array
    if ordered.nbytes == 0:
        return memoryview(b"")
    return np.ascontiguousarray(ordered).reshape(-1).view(np.uint8).data


def empty_array(header: ArrayHeader) -> npt.NDArray[Any]:
    """Return a new, uninitialised, writable array of the header's shape, dtype and order."""
    # numpy.empty would turn the dtype S0 into S1.
    return np.ndarray(header.shape, header.dtype, order="F" if header.fortran_order else "C")


def _is_fortran(array: npt.NDArray[Any]) -> bool:
    return array.flags.f_contiguous and not array.flags.c_contiguous


# The members of a thousand files share a handful of headers. The dtype is made anew each time: its field names can be
# changed in place.
@lru_cache(maxsize=256)
def _literal(raw_text: bytes, encoding: str) -> object:
    try:
        return ast.literal_eval(raw_text.decode(encoding))
    except _NONSENSE as error:
        raise NpyHeaderError("its NPY header is not a Python literal") from error


def _parse(raw_text: bytes, encoding: str) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    fields = _literal(raw_text, encoding)
    if not isinstance(fields, dict) or fields.keys() != npy_format.EXPECTED_KEYS:
        raise NpyHeaderError("its NPY header does not hold exactly descr, fortran_order and shape")
    shape, fortran_order = fields["shape"], fields["fortran_order"]
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise NpyHeaderError(f"its shape {repr(shape)[:100]} is not a tuple of whole numbers >= 0")
    if not isinstance(fortran_order, bool):
        raise NpyHeaderError("its fortran_order is neither True nor False")
    descr = fields["descr"]
    try:
        dtype = npy_format.descr_to_dtype(descr) if _names_types(descr) else None
    except _NONSENSE:
        dtype = None
    if dtype is None:
        raise NpyHeaderError(f"its dtype {repr(descr)[:100]} is unknown")
    # The same limits numpy.ndarray sets, empty axes left out.
    if len(shape) > _MAX_DIMENSIONS or math.prod(map(_at_least_one, (*shape, dtype.itemsize))) > sys.maxsize:
        raise NpyHeaderError(f"its shape {repr(shape)[:100]} is larger than any array")
    return shape, dtype, fortran_order


def _names_types(descr: object) -> bool:
    """Tell whether ``descr`` is a type string, (descr, shape), or a list of fields (name, descr[, shape])."""
    if isinstance(descr, str):
        return _TYPE_STRING.fullmatch(descr) is not None
    if isinstance(descr, tuple):
        return len(descr) == 2 and _names_types(descr[0])
    return isinstance(descr, list) and all(
        isinstance(field, tuple) and len(field) in (2, 3) and _names_types(field[1]) for field in descr
    )


def _at_least_one(value: int) -> int:
    return max(value, 1)
