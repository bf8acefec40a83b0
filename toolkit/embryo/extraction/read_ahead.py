"""A thread that makes the next items while the caller is busy with those before."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class _End:
    """No further item comes: the iterator ended, or raised ``error``."""

    error: BaseException | None = None


class ReadAhead(Generic[ItemT]):
    """The items of an iterator, made in a thread of its own; an exception there is raised here, in its turn.

    Use it as a context manager: leaving the block ends the thread.

    Args:
        items: what to read; it is used by the thread alone.
        depth: how many items may wait at most.
    """

    def __init__(self, items: Iterator[ItemT], depth: int) -> None:
        self._items = items
        self._waiting: queue.SimpleQueue[ItemT | _End] = queue.SimpleQueue()
        self._room = threading.Semaphore(depth)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="read ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        self._room.release()
        self._thread.join()

    def __iter__(self) -> Iterator[ItemT]:
        return self

    def __next__(self) -> ItemT:
        item = self._waiting.get()
        if isinstance(item, _End):
            self._waiting.put(item)
            raise item.error or StopIteration
        self._room.release()
        return item

    def _run(self) -> None:
        end = _End()
        try:
            self._room.acquire()
            while not self._closed:
                self._waiting.put(next(self._items))
                self._room.acquire()
        except StopIteration:
            pass
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that wants the item
            end = _End(error)
        self._waiting.put(end)
