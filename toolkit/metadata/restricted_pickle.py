"""Plain data out of a pickle that nobody vouches for: numbers, text, lists, tuples, dicts and NumPy arrays.

A pickle is a program. ``pickle.Unpickler`` runs it, and even with a ``find_class`` that refuses every name it commits
tens of gigabytes for a file of a dozen bytes that memoises far ahead. Here the program is only read: its operations
come from ``pickletools.genops``, names are never looked up, nothing is ever called, and what NumPy's own names stand
for is made here from bytes whose length was checked.

Source: the opcodes of PEP 307, 3154 and 574 as ``pickletools`` lists them; ``numpy.ndarray.__reduce_ex__`` and
``numpy.dtype.__reduce__`` of NumPy 1 and 2.
"""

from __future__ import annotations

import enum
import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray


class _Meaning(enum.Enum):
    """What an allowed name stands for in a pickle."""

    ARRAY = enum.auto()
    DTYPE = enum.auto()
    RECONSTRUCT = enum.auto()
    SCALAR = enum.auto()
    FROM_BUFFER = enum.auto()
    ENCODE = enum.auto()
    BYTES = enum.auto()


_ALLOWED: Final[dict[tuple[str, str], _Meaning]] = {
    ("numpy", "ndarray"): _Meaning.ARRAY,
    ("numpy", "dtype"): _Meaning.DTYPE,
    ("numpy.core.multiarray", "_reconstruct"): _Meaning.RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _Meaning.RECONSTRUCT,
    ("numpy.core.multiarray", "scalar"): _Meaning.SCALAR,
    ("numpy._core.multiarray", "scalar"): _Meaning.SCALAR,
    ("numpy.core.numeric", "_frombuffer"): _Meaning.FROM_BUFFER,
    ("numpy._core.numeric", "_frombuffer"): _Meaning.FROM_BUFFER,
    # Protocols 0 to 2 have no bytes: they are text that is encoded as Latin-1, and no bytes at all are `bytes()`.
    ("_codecs", "encode"): _Meaning.ENCODE,
    ("__builtin__", "bytes"): _Meaning.BYTES,
    ("builtins", "bytes"): _Meaning.BYTES,
}

_TYPE_CODE: Final = re.compile(r"b1|[iu][1248]|f[248]|[SU][1-9]\d{0,8}|O8?|O4")
_BYTE_ORDERS: Final = {"<", ">", "=", "|"}
_DTYPE_STATE_ITEMS: Final = (8, 9)
_MAX_DIMENSIONS: Final = 32
_MAX_EMPTY_SIDE: Final = 4096
_MAX_CODE_POINT: Final = 0x10FFFF
_WORK_FACTOR: Final = 16
_WORK_ALLOWANCE: Final = 1 << 20
_MARK: Final = object()


class PickleRefusedError(ValueError):
    """A pickle that is damaged, or that holds anything but plain data; the text says what, in one line."""


def read_plain_pickle(data: bytes) -> object:
    """Return what the pickle at the start of ``data`` holds.

    Args:
        data: a pickle of protocol 0 to 5, made by any version of Python and NumPy.

    Returns:
        None, bool, int, float, str, bytes, and lists, tuples and dicts (keys: str) of them. NumPy scalars are the
        Python numbers and texts that they are equal to, arrays of numbers and texts NumPy arrays (read-only), arrays
        of objects (nested) lists; one of shape ``()`` is its element. Lists can hold themselves, and what a pickle
        names without making anything of it is in them as an object of no plain type.

    Raises:
        PickleRefusedError: it asks for anything else, is damaged, or copies its own content over and over.
    """
    machine = _Machine(_WORK_FACTOR * len(data) + _WORK_ALLOWANCE)
    try:
        for opcode, argument, _ in pickletools.genops(data):
            machine.execute(opcode.name, argument)
    except PickleRefusedError:
        raise
    except MemoryError as error:
        raise PickleRefusedError("it needs more memory than there is") from error
    except (ValueError, LookupError, OverflowError) as error:
        raise PickleRefusedError(f"the pickle is damaged ({error})") from error
    return machine.result()


@dataclass(frozen=True, slots=True)
class _Name:
    """What a pickle names by module and name; it is never imported."""

    text: str
    means: _Meaning


@dataclass(eq=False, slots=True)
class _Unfinished:
    """A dtype without its byte order, or an array (``dtype`` None) without everything: its state follows.

    Nothing else can be made of it, so that a finished object is a fixed one. ``memo_keys``: where it is memoised.
    """

    dtype: np.dtype[Any] | None
    memo_keys: list[int]


class _Machine:
    """The stack and memo of a pickle under way."""

    def __init__(self, allowance: int) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._allowance = allowance
        self._operations: Final[dict[str, Callable[[Any], None]]] = {
            "MARK": lambda _: self._stack.append(_MARK),
            "POP": lambda _: self._pop_any(),
            "POP_MARK": lambda _: self._discard_to_mark(),
            "DUP": lambda _: self._stack.append(self._top()),
            "NONE": lambda _: self._stack.append(None),
            "NEWTRUE": lambda _: self._stack.append(True),
            "NEWFALSE": lambda _: self._stack.append(False),
            "EMPTY_LIST": lambda _: self._stack.append([]),
            "EMPTY_TUPLE": lambda _: self._stack.append(()),
            "EMPTY_DICT": lambda _: self._stack.append({}),
            "LIST": lambda _: self._stack.append(self._pop_to_mark()),
            "TUPLE": lambda _: self._stack.append(tuple(self._pop_to_mark())),
            "DICT": lambda _: self._make_dict(),
            "TUPLE1": lambda _: self._make_tuple(1),
            "TUPLE2": lambda _: self._make_tuple(2),
            "TUPLE3": lambda _: self._make_tuple(3),
            "APPEND": lambda _: self._extend([self._pop()]),
            "APPENDS": lambda _: self._extend(self._pop_to_mark()),
            "SETITEM": lambda _: self._update([self._pop(), self._pop()][::-1]),
            "SETITEMS": lambda _: self._update(self._pop_to_mark()),
            "MEMOIZE": lambda _: self._memoise(len(self._memo)),
            "GLOBAL": self._name_by_text,
            "STACK_GLOBAL": lambda _: self._name_by_stack(),
            "REDUCE": lambda _: self._reduce(),
            "BUILD": lambda _: self._build(),
            **dict.fromkeys(("PROTO", "FRAME", "STOP"), _nothing),
            **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"), self._stack.append),
            **dict.fromkeys(("FLOAT", "BINFLOAT"), self._stack.append),
            **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), self._stack.append),
            **dict.fromkeys(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), self._stack.append),
            **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), self._stack.append),
            "BYTEARRAY8": lambda array: self._stack.append(bytes(array)),
            **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), self._memoise),
            **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), self._recall),
        }

    def execute(self, operation: str, argument: Any) -> None:
        """Do one operation; its argument is what ``pickletools`` decoded."""
        execute = self._operations.get(operation)
        if execute is None:
            raise PickleRefusedError(f"refuses the pickle operation {operation}, which plain data have no use for")
        execute(argument)

    def result(self) -> object:
        """Return the one object that is left when the pickle ends."""
        result = self._pop()
        if self._stack or isinstance(result, (_Name, _Unfinished)):
            raise PickleRefusedError("the pickle is damaged (it ends too early)")
        return result

    def _top(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise PickleRefusedError("the pickle is damaged (its stack is empty)")
        return self._stack[-1]

    def _pop(self) -> Any:
        self._top()
        return self._stack.pop()

    def _pop_any(self) -> None:
        self._stack.pop()

    def _pop_to_mark(self) -> list[Any]:
        for index in range(len(self._stack) - 1, -1, -1):
            if self._stack[index] is _MARK:
                items = self._stack[index + 1 :]
                del self._stack[index:]
                return items
        raise PickleRefusedError("the pickle is damaged (a mark is missing)")

    def _discard_to_mark(self) -> None:
        self._pop_to_mark()

    def _make_tuple(self, size: int) -> None:
        self._stack.append(tuple([self._pop() for _ in range(size)][::-1]))

    def _make_dict(self) -> None:
        items = self._pop_to_mark()
        self._stack.append({})
        self._update(items)

    def _extend(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) is not list:
            raise PickleRefusedError("refuses to append to anything but a list")
        target.extend(items)

    def _update(self, keys_and_values: list[Any]) -> None:
        target = self._top()
        keys, values = keys_and_values[::2], keys_and_values[1::2]
        if type(target) is not dict or len(keys) != len(values):
            raise PickleRefusedError("refuses to set items of anything but a dict")
        for key, value in zip(keys, values, strict=True):
            if type(key) is not str:
                raise PickleRefusedError(f"refuses a dict key of type {_type_name(key)}: keys are text")
            target[key] = value

    def _memoise(self, key: int) -> None:
        value = self._top()
        self._memo[key] = value
        if isinstance(value, _Unfinished):
            value.memo_keys.append(key)

    def _recall(self, key: int) -> None:
        if key not in self._memo:
            raise PickleRefusedError(f"the pickle is damaged (nothing is memoised as {key})")
        self._stack.append(self._memo[key])

    def _name_by_text(self, module_and_name: str) -> None:
        module, _, name = module_and_name.partition(" ")
        self._stack.append(_allowed(module, name))

    def _name_by_stack(self) -> None:
        name, module = self._pop(), self._pop()
        if type(module) is not str or type(name) is not str:
            raise PickleRefusedError("refuses to build what is not named by text")
        self._stack.append(_allowed(module, name))

    def _reduce(self) -> None:
        arguments, name = self._pop(), self._pop()
        if not isinstance(name, _Name) or type(arguments) is not tuple:
            raise PickleRefusedError("refuses to call anything but a name with its arguments")
        self._stack.append(self._made(name, arguments))

    def _made(self, name: _Name, arguments: tuple[Any, ...]) -> Any:
        """Return what a call of ``name`` would; only the arguments that NumPy itself writes are accepted."""
        match name.means, arguments:
            case _Meaning.RECONSTRUCT, (_Name(means=_Meaning.ARRAY), (0,), b"b"):
                return _Unfinished(None, [])
            case _Meaning.DTYPE, (str(code), bool() | 0 | 1, bool() | 0 | 1):
                return _Unfinished(_dtype(code), [])
            case _Meaning.SCALAR, (np.dtype() as dtype, bytes(raw)):
                return self._array((), dtype, is_fortran=False, content=raw).item()
            case _Meaning.FROM_BUFFER, (bytes(raw), np.dtype() as dtype, tuple(shape), "C" | "F" as order):
                return self._array(shape, dtype, is_fortran=order == "F", content=raw)
            case _Meaning.ENCODE, (str(text), "latin1" | "latin-1"):
                self._charge(len(text))
                return _latin1(text)
            case _Meaning.BYTES, ():
                return b""
        raise PickleRefusedError(f"refuses to call {name.text} with these arguments")

    def _build(self) -> None:
        state, target = self._pop(), self._pop()
        if not isinstance(target, _Unfinished) or type(state) is not tuple:
            raise PickleRefusedError(f"refuses to set the state of a {_type_name(target)}")
        finished = self._array_of(state) if target.dtype is None else _ordered(target.dtype, state)
        for key in target.memo_keys:
            self._memo[key] = finished
        self._stack.append(finished)

    def _array_of(self, state: tuple[Any, ...]) -> Any:
        """Return the array of a pickled state."""
        match state:
            case int(), tuple(shape), np.dtype() as dtype, bool() | 0 | 1 as is_fortran, content:
                return self._array(shape, dtype, is_fortran=bool(is_fortran), content=content)
        raise PickleRefusedError("refuses an array whose state is none")

    def _array(self, shape: tuple[Any, ...], dtype: np.dtype[Any], *, is_fortran: bool, content: object) -> Any:
        """Return an array of numbers or text, or the nested lists of an array of objects."""
        count = _count(shape)
        if dtype.hasobject:
            if type(content) is not list or len(content) != count:
                raise PickleRefusedError(f"an array of {count} objects has other content")
            self._charge(2 * count)
            return _nested(content, shape)
        raw = _latin1(content) if type(content) is str else content
        if type(raw) is not bytes or len(raw) != count * dtype.itemsize:
            raise PickleRefusedError(f"an array of shape {shape} and type {dtype} has other content")
        self._charge(len(raw))
        array: NDArray[Any] = np.ndarray(shape, dtype, raw, order="F" if is_fortran else "C")
        if dtype.kind == "U" and np.frombuffer(raw, dtype.str[0] + "u4").max(initial=0) > _MAX_CODE_POINT:
            raise PickleRefusedError("an array of text holds numbers that are no characters")
        return array

    def _charge(self, amount: int) -> None:
        """Count what is copied: a few bytes must not make a large object again and again."""
        self._allowance -= amount
        if self._allowance < 0:
            raise PickleRefusedError("refuses a pickle that copies its own content over and over")


def _nothing(_: object) -> None:
    return


def _allowed(module: str, name: str) -> _Name:
    text = f"{module}.{name}"
    if (module, name) not in _ALLOWED:
        raise PickleRefusedError(f"refuses to build {text[:100]}")
    return _Name(text, _ALLOWED[module, name])


def _dtype(code: str) -> np.dtype[Any]:
    if _TYPE_CODE.fullmatch(code) is None:
        raise PickleRefusedError(f"refuses an array of type {code[:40]!r}")
    return np.dtype("O" if code.startswith("O") else code)


def _ordered(dtype: np.dtype[Any], state: tuple[Any, ...]) -> np.dtype[Any]:
    """Return ``dtype`` with the byte order of its pickled state."""
    match state:
        case (int(), str(order), None, None, None, *sizes) if order in _BYTE_ORDERS:
            if len(state) in _DTYPE_STATE_ITEMS and all(type(size) is int for size in sizes[:3]):
                return dtype.newbyteorder("<" if order in "<|=" else ">")
    raise PickleRefusedError(f"refuses an array of type {dtype} with fields, a shape or data of its own")


def _count(shape: tuple[Any, ...]) -> int:
    if len(shape) > _MAX_DIMENSIONS or not all(type(side) is int and side >= 0 for side in shape):
        raise PickleRefusedError(f"refuses an array of shape {repr(shape)[:60]}")
    count: int = math.prod(shape)
    if count == 0 and math.prod(max(side, 1) for side in shape) > _MAX_EMPTY_SIDE:
        raise PickleRefusedError(f"refuses an empty array of shape {shape}")
    return count


def _latin1(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise PickleRefusedError("bytes are written as text that is none") from error


def _nested(items: list[Any], shape: tuple[int, ...]) -> Any:
    """Return ``items`` as lists of lists; of shape ``()`` the one item."""
    if not items:
        return np.empty(shape, object).tolist()
    if not shape:
        return items[0]
    rows = items
    for side in shape[:0:-1]:
        rows = [rows[start : start + side] for start in range(0, len(rows), side)]
    return rows


def _type_name(value: object) -> str:
    return value.text if isinstance(value, _Name) else type(value).__name__
