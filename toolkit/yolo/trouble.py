"""What torch and Ultralytics raise for trouble that a user can mend, as one line."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from toolkit.core.errors import MvtkError, StopRunError, one_line
from toolkit.core.signals import StopRequest

_IN_WORKER: Final = re.compile(r"Caught \w+ in DataLoader worker process.*MvtkError: (?P<text>.*)", re.DOTALL)
_NO_MEMORY: Final = re.compile(r"out of memory|can't allocate memory|ALLOC_FAILED", re.IGNORECASE)
_DISK_FULL: Final = re.compile(r"No space left|file write failed|unexpected pos", re.IGNORECASE)
"""The last two are torch's words when its archive writer cannot write."""


class WorkStoppedError(Exception):
    """Somebody asked the work to stop; what was made before is on the disk."""


@dataclass(slots=True)
class Watch:
    """A callback for Ultralytics' batches: it stops the work where somebody asked for that.

    Attributes:
        stop: who asks.
        began: whether there was a batch yet.
    """

    stop: StopRequest
    began: bool = False

    def __call__(self, _: object) -> None:
        """Be told that a batch begins.

        Raises:
            WorkStoppedError: the work is to stop.
        """
        self.began = True
        if self.stop.requested:
            raise WorkStoppedError


@contextmanager
def explained(folder: Path, watch: Watch) -> Iterator[None]:
    """Turn exceptions of the block that a user can do something about into expected errors.

    Args:
        folder: where the results go.
        watch: knows whether there was a batch: what Ultralytics refuses before is a setting or the dataset, afterwards
            it would be a bug.

    Raises:
        StopRunError: the disk is full.
        MvtkError: the memory does not suffice, Ultralytics refuses a setting, or a data loading process met trouble.
    """
    try:
        yield
    except MvtkError as error:
        match = _IN_WORKER.search(str(error).replace("\\n", "\n"))
        raise MvtkError(match["text"].strip()) if match else error from error
    except MemoryError as error:
        raise _no_memory() from error
    except (ValueError, TypeError, AssertionError, SyntaxError, NotImplementedError) as error:
        if watch.began:
            raise
        raise MvtkError(f"Ultralytics: {_first_line(error)}", "change the setting that it names") from error
    except (RuntimeError, OSError) as error:
        if _DISK_FULL.search(str(error)) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise StopRunError(
                f"{folder}: no space left on the disk", "free some space, and go on with --resume"
            ) from error
        if _NO_MEMORY.search(str(error)):
            raise _no_memory() from error
        if watch.began or not isinstance(error, FileNotFoundError):
            raise
        raise MvtkError(_first_line(error)) from error


def _no_memory() -> MvtkError:
    return MvtkError("the memory does not suffice", "use a smaller --batch or --imgsz, or another device")


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return one_line(text[0]) if text else type(error).__name__
