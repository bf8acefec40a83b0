"""Which devices a job may use: what ``--device`` says, against the GPUs that exist and the rules for a shared server.

GPUs are counted from 0 in the order of the inherited ``CUDA_VISIBLE_DEVICES`` (unset: all of the machine) under
``CUDA_DEVICE_ORDER=PCI_BUS_ID``, and written ``cuda:0``, ``cuda:1``. The CUDA driver itself is asked for them, so that
GPU numbers, UUIDs, MIG ids and invalid entries of that list mean what they mean to every CUDA program. The question is
put in a process of its own: it needs no torch, this process is left without CUDA's state, and a driver that crashes or
hangs does no harm.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from toolkit.core.errors import MvtkError, OptionError

_DEVICE = re.compile(r"(?:cuda:)?([0-9]{1,4})")
_FORMS = "give auto, cpu, cuda, or GPUs by number, such as cuda:4, 4 or cuda:1,cuda:2"

_LIBRARY = "libcuda.so.1"
_PROBE = "import sys; sys.path[:] = sys.argv[1:]; from toolkit.core.devices import print_gpus; print_gpus()"
_PROBE_TIMEOUT_S = 60
"""Several servers' GPUs without persistence mode take seconds to wake."""
_NO_GPU = {34, 100}
"""CUDA_ERROR_STUB_LIBRARY and CUDA_ERROR_NO_DEVICE (cuda.h): a machine without a GPU, with the library installed."""
_NAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class DevicePolicy:
    """The rules of a shared server.

    Attributes:
        exclude: GPUs that must not be used.
        prefer: GPUs in the order in which ``auto`` and ``cuda`` take the first; then the others by number.
    """

    exclude: tuple[int, ...] = ()
    prefer: tuple[int, ...] = ()

    def usable(self, count: int) -> tuple[int, ...]:
        """Return those of the GPUs 0 to ``count`` - 1 that may be used, the preferred ones first."""
        ranked = dict.fromkeys((*self.prefer, *range(count)))
        return tuple(index for index in ranked if index < count and index not in self.exclude)


@dataclass(frozen=True, slots=True)
class Gpus:
    """The GPUs that this process may see.

    Attributes:
        names: their names, by number.
        trouble: why there are none, where the reason is known.
    """

    names: tuple[str, ...] = ()
    trouble: str = ""


def parse_devices(text: str) -> tuple[int, ...]:
    """Return the GPU numbers that ``text`` names, each once; none for ``auto``, ``cpu`` and ``cuda``.

    Raises:
        OptionError: ``text`` is not of a form that ``--device`` takes.
    """
    parts = [part.strip() for part in text.split(",")]
    if parts in (["auto"], ["cpu"], ["cuda"]):
        return ()
    matches = [_DEVICE.fullmatch(part) for part in parts]
    numbers = [int(match[1]) for match in matches if match]
    if len(numbers) < len(parts):
        raise OptionError(f"device {text!r}", _FORMS)
    return tuple(dict.fromkeys(numbers))


def resolve_devices(text: str, policy: DevicePolicy | None = None) -> tuple[str, ...]:
    """Return the devices that ``text`` stands for: ``("cpu",)``, or ``("cuda:1", "cuda:2")``.

    Args:
        text: ``auto`` (one GPU, else the CPU), ``cpu``, ``cuda`` (one GPU), or a list such as ``cuda:4``, ``4`` or
            ``cuda:1,cuda:2``; a GPU that is named twice is taken once.
        policy: which GPUs must not be used, and which ``auto`` and ``cuda`` prefer.

    Raises:
        OptionError: ``text`` is of no such form.
        MvtkError: a GPU does not exist or is excluded; the line lists those that may be used.
    """
    policy = policy or DevicePolicy()
    numbers = parse_devices(text)
    choice = text.strip()
    if choice == "cpu":
        return ("cpu",)
    gpus = find_gpus()
    usable = policy.usable(len(gpus.names))
    if not numbers:
        if choice == "cuda" and not usable:
            raise _refused(["there is no GPU that may be used"], gpus, usable)
        return (f"cuda:{usable[0]}",) if usable else ("cpu",)
    if problems := list(_problems(numbers, gpus, policy)):
        raise _refused(problems, gpus, usable)
    return tuple(f"cuda:{number}" for number in numbers)


def _problems(numbers: tuple[int, ...], gpus: Gpus, policy: DevicePolicy) -> Iterator[str]:
    for number in numbers:
        if number >= len(gpus.names):
            yield f"there is no device cuda:{number}"
        elif number in policy.exclude:
            yield f"device cuda:{number} ({gpus.names[number]}) is excluded by devices.exclude"


def _refused(problems: list[str], gpus: Gpus, usable: tuple[int, ...]) -> MvtkError:
    message = ", ".join(problems)
    if not gpus.names:
        message += f": {gpus.trouble or _none_visible()}"
    choices = [f"cuda:{number} ({gpus.names[number]})" for number in sorted(usable)]
    return MvtkError(message, f"--device takes {', '.join([*choices, 'cpu'])} here")


def _none_visible() -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "no GPU is found" if visible is None else f"no GPU is visible (CUDA_VISIBLE_DEVICES={visible})"


def find_gpus() -> Gpus:
    """Return the GPUs that this process may see, asking the CUDA driver in a process of its own."""
    environment = dict(os.environ) | {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    command = [sys.executable, "-P", "-c", _PROBE, *(os.path.abspath(path) for path in sys.path)]  # noqa: PTH100 - strings
    try:
        lines = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=_PROBE_TIMEOUT_S,
            check=True,
        ).stdout.splitlines()
    except subprocess.TimeoutExpired:
        return Gpus(trouble=f"the NVIDIA driver does not answer within {_PROBE_TIMEOUT_S} s")
    except (OSError, subprocess.SubprocessError) as error:
        return Gpus(trouble=f"the NVIDIA driver cannot be asked: {error.__class__.__name__}")
    return Gpus(names=tuple(lines[1:]), trouble=lines[0]) if lines else Gpus()


def print_gpus() -> None:
    """Print what is wrong with the CUDA driver (an empty line where nothing is), and one line a GPU: its name."""
    try:
        cuda = ctypes.CDLL(_LIBRARY)
    except OSError:
        return
    gpus = ask_driver(cuda)
    sys.stdout.write("\n".join([gpus.trouble, *gpus.names]))


def ask_driver(cuda: Any) -> Gpus:
    """Return the GPUs that the CUDA driver offers to the calling process.

    Args:
        cuda: the driver's library (CUDA Driver API, ``cuda.h``), as ctypes loads it.
    """
    count = ctypes.c_int()
    status = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
    if status:
        return Gpus(trouble="" if status in _NO_GPU else f"the NVIDIA driver fails with CUDA error {status}")
    return Gpus(names=tuple(_name(cuda, number) for number in range(count.value)))


def _name(cuda: Any, number: int) -> str:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
    if cuda.cuDeviceGet(ctypes.byref(device), number) or cuda.cuDeviceGetName(name, _NAME_BYTES, device):
        return "unnamed"
    return name.value.decode("utf-8", "replace")
