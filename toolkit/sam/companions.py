"""Further processes of one run on several GPUs, started by the first; or one of those that a launcher started.

``mvtk sam train --device cuda:0,cuda:1`` starts one process a GPU. ``accelerate launch -m commands.main sam train`` and
``accelerate launch -m toolkit.sam.companions config.yaml`` do the same where the launcher knows better, such as on
several machines.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from toolkit.core.config import load_config
from toolkit.core.cpus import available_cpus
from toolkit.core.errors import MvtkError
from toolkit.sam.processes import Processes, is_launched, join_processes
from toolkit.sam.train_options import TrainOptions

_LOOPBACK: Final = "127.0.0.1"
_END_TIMEOUT_S: Final = 20.0


@contextmanager
def training_processes(options: TrainOptions, devices: Sequence[str]) -> Iterator[Processes]:
    """Yield this process as one of those that train together; those that are started here end with the block.

    Args:
        options: of the run.
        devices: of this machine, one a process; a launcher that started this process decides itself.

    Raises:
        MvtkError: a process cannot be started, or one that was started failed.
    """
    if is_launched():
        with _joined(devices) as processes:
            yield processes
    elif len(devices) == 1:
        yield Processes(devices[0])
    else:
        with _companions(options, devices) as companions:
            try:
                with _joined(devices) as processes:
                    yield processes
            except Exception as error:
                failed = [rank for rank, process in enumerate(companions, start=1) if process.poll()]
                if failed and not isinstance(error, MvtkError):
                    raise MvtkError(
                        f"the process on {devices[failed[0]]} failed",
                        "what it said stands above",
                    ) from error
                raise


@contextmanager
def _joined(devices: Sequence[str]) -> Iterator[Processes]:
    processes = join_processes(on_cpu=devices[0] == "cpu")
    try:
        yield processes
    finally:
        processes.leave()


@contextmanager
def _companions(options: TrainOptions, devices: Sequence[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start the processes of the second and further devices, and make this one the first."""
    shared = _environment(devices)
    before = {name: os.environ.get(name) for name in (*shared, *_rank(0), "LOCAL_WORLD_SIZE")}
    companions: list[subprocess.Popen[bytes]] = []
    try:
        ranks = range(1, len(devices))
        companions.extend(_start(options, dict(os.environ) | shared | _rank(rank)) for rank in ranks)
        os.environ.update(shared | _rank(0))
        yield companions
        for companion in companions:
            with suppress(subprocess.TimeoutExpired):
                companion.wait(_END_TIMEOUT_S)
    finally:
        for companion in companions:
            if companion.poll() is None:
                companion.kill()
                companion.wait()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _start(options: TrainOptions, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "toolkit.sam.companions", "-"]
    try:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    except OSError as error:
        raise MvtkError(f"cannot start a process for a GPU: {error.strerror}", "use one --device") from error
    if process.stdin is not None:
        with process.stdin as stream:
            stream.write(options.model_dump_json().encode())
    return process


def _environment(devices: Sequence[str]) -> dict[str, str]:
    """Return what all processes of a run on ``devices`` must be told."""
    shared = {"WORLD_SIZE": str(len(devices)), "MASTER_ADDR": _LOOPBACK, "MASTER_PORT": str(_free_port())}
    if devices[0] == "cpu":
        threads = max(1, available_cpus() // len(devices))
        return shared | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": str(threads)}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    numbers = [int(device.partition(":")[2]) for device in devices]
    entries = [str(number) if visible is None else visible.split(",")[number] for number in numbers]
    return shared | {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(entries)}


def _rank(rank: int) -> dict[str, str]:
    return {"RANK": str(rank), "LOCAL_RANK": str(rank)}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((_LOOPBACK, 0))
        return int(listener.getsockname()[1])


def main(arguments: Sequence[str]) -> int:
    """Run one process of a training run, without a word; the first process of a run says what there is to say.

    Args:
        arguments: a configuration file, or ``-`` for options in JSON on standard input.

    Returns:
        The exit code: 3 when the run failed.
    """
    from toolkit.sam.training import SamTraining

    try:
        if list(arguments) == ["-"]:
            options = TrainOptions.model_validate_json(sys.stdin.read())
        else:
            options = TrainOptions.model_validate(load_config(Path(arguments[0]), TrainOptions.model_fields))
        for _ in SamTraining(options).run():
            pass
    except MvtkError as error:
        sys.stderr.write(f"error: {error}\n")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
