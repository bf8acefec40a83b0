"""Worker processes: fresh Python processes at the end of a pipe.

This module imports little, so that a command can start its first workers before it imports what it needs itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, Pipe

from toolkit.core.errors import MvtkError

MAX_EARLY_WORKERS = 2
"""How many workers are started before it is known how much work there is."""
_CLOSE_TIMEOUT_S = 2.0

_BOOTSTRAP = (
    "import sys; from multiprocessing.connection import Connection; c = Connection(int(sys.argv[1]));"
    " sys.path[:] = c.recv(); from toolkit.core.worker import main; main(c, int(sys.argv[2]))"
)
_KEPT_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(256 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
"""Let glibc keep the memory of arrays for the next item: getting it anew from the kernel took a tenth of the time."""
_THREAD_COUNTS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)


class WorkerProcess:
    """One worker process, bound to a device, that waits at ``connection`` for :class:`toolkit.core.answers.Start`.

    Args:
        device: ``"cpu"`` hides all GPUs from the process; ``"cuda:N"`` all but GPU N of those that this process sees.
        own_machine: whether it is the only worker, whose libraries may use as many threads as they like.
        preload: a module to import while it waits.

    Attributes:
        device: the device as it was given.
        own_device: the same device as the process itself names it: a single visible GPU is ``"cuda:0"``.

    Raises:
        MvtkError: the system has no room for another process or pipe, or there is no such GPU.
    """

    def __init__(self, device: str, *, own_machine: bool, preload: str = "") -> None:
        environment = _environment(device, own_machine=own_machine)
        try:
            ours, theirs = Pipe()
        except OSError as error:
            raise _no_worker(error) from error
        self.device = device
        self.own_device = "cpu" if device == "cpu" else "cuda:0"
        self.connection: Connection = ours
        # Signals stay blocked until the worker ignores them: a Ctrl-C while it starts must not kill it.
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOTSTRAP, str(theirs.fileno()), str(os.getpid())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=2,  # standard output belongs to the command's data
                env=environment,
            )
        except OSError as error:
            ours.close()
            raise _no_worker(error) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
            theirs.close()
        with suppress(BrokenPipeError, ConnectionResetError):
            ours.send([path or os.getcwd() for path in sys.path])  # noqa: PTH109 - sys.path holds strings
            ours.send(preload)

    def end(self, *, at_once: bool) -> int:
        """Hang up, wait for the process, and return its exit status; one that does not end is killed."""
        self.connection.close()
        if at_once:
            self.process.kill()
        try:
            return self.process.wait(_CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class Crew:
    """Workers started early, of which a run takes what it needs; see :func:`early_crew`."""

    def __init__(self) -> None:
        self._waiting: list[WorkerProcess] = []

    def add(self, worker: WorkerProcess) -> None:
        """Keep a worker for a run to take."""
        self._waiting.append(worker)

    def take(self, device: str, *, own_machine: bool) -> WorkerProcess:
        """Return a waiting worker for ``device``, or a new one."""
        for worker in self._waiting:
            if worker.device == device:
                self._waiting.remove(worker)
                return worker
        return WorkerProcess(device, own_machine=own_machine)

    def dismiss(self) -> None:
        """End the workers that nobody took."""
        while self._waiting:
            self._waiting.pop().end(at_once=True)


@contextmanager
def early_crew(workers: int, preload: str) -> Iterator[Crew]:
    """Start the first CPU workers of a run at once, so that they import ``preload`` while this process does.

    Args:
        workers: how many the run will have.
        preload: the module of the run's step.
    """
    crew = Crew()
    try:
        for _ in range(min(workers, MAX_EARLY_WORKERS)):
            crew.add(WorkerProcess("cpu", own_machine=workers == 1, preload=preload))
        yield crew
    finally:
        crew.dismiss()


def _no_worker(error: OSError) -> MvtkError:
    return MvtkError(f"cannot start a worker process: {error.strerror}", "run with fewer --workers")


def _environment(device: str, *, own_machine: bool) -> dict[str, str]:
    environment = _KEPT_MEMORY | dict(os.environ) | {"OPENCV_LOG_LEVEL": "ERROR"}
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    else:
        environment |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": _visible_gpu(device)}
    return environment if own_machine else environment | dict.fromkeys(_THREAD_COUNTS, "1")


def _visible_gpu(device: str) -> str:
    """Return the entry of ``CUDA_VISIBLE_DEVICES`` (a number, a UUID or a MIG id) that ``cuda:N`` stands for."""
    prefix, _, digits = device.partition(":")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if prefix == "cuda" and digits.isdecimal():
        if visible is None:
            return digits
        entries = [entry.strip() for entry in visible.split(",")]
        if int(digits) < len(entries) and entries[int(digits)]:
            return entries[int(digits)]
    raise MvtkError(f"there is no device {device}: CUDA_VISIBLE_DEVICES is {visible!r}", "use --device cpu")
