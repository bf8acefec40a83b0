"""Devices: what ``--device`` names, what may be used, and what a worker that is bound to one sees."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.toolkit.core.sample_batches import Located
from tests.toolkit.core.sample_jobs import items
from toolkit.core import devices, engines
from toolkit.core.devices import DevicePolicy, Gpus, ask_driver, find_gpus, parse_devices, resolve_devices
from toolkit.core.errors import MvtkError, OptionError

FOUR = ("H200", "H200", "A100", "A100")
SERVER = DevicePolicy(exclude=(0, 3), prefer=(2, 1, 7))
DRIVER = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int cuInit(unsigned flags) { return getenv("FAKE_STATUS") ? atoi(getenv("FAKE_STATUS")) : 0; }
int cuDeviceGetCount(int *count) { *count = getenv("CUDA_VISIBLE_DEVICES") ? 1 : 2; return 0; }
int cuDeviceGet(int *device, int number) { *device = 40 + number; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
  return snprintf(name, length, "Fake %d %s", device, getenv("CUDA_DEVICE_ORDER")) < 0;
}
"""


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "find_gpus", lambda: Gpus(FOUR))


@pytest.fixture
def none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "find_gpus", Gpus)


@pytest.mark.parametrize(
    ("text", "policy", "expected"),
    [
        ("auto", DevicePolicy(), ("cuda:0",)),
        ("auto", SERVER, ("cuda:2",)),
        ("auto", DevicePolicy(exclude=(0,)), ("cuda:1",)),
        ("auto", DevicePolicy(exclude=(2,), prefer=(9, 2, 3)), ("cuda:3",)),
        ("auto", DevicePolicy(exclude=(0, 1, 2, 3)), ("cpu",)),
        ("cuda", SERVER, ("cuda:2",)),
        ("cpu", SERVER, ("cpu",)),
        ("1", SERVER, ("cuda:1",)),
        ("cuda:1", SERVER, ("cuda:1",)),
        (" cuda:2, 1,cuda:2,2", SERVER, ("cuda:2", "cuda:1")),
    ],
)
@pytest.mark.usefixtures("four")
def test_devices_are_taken_by_name_or_by_policy(text: str, policy: DevicePolicy, expected: tuple[str, ...]) -> None:
    assert resolve_devices(text, policy) == expected


@pytest.mark.usefixtures("none")
def test_without_a_gpu_the_work_is_for_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_devices("auto") == ("cpu",)
    with pytest.raises(
        MvtkError, match=r"^there is no GPU that may be used: no GPU is found; --device takes cpu here$"
    ):
        resolve_devices("cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(MvtkError, match=r"^there is no device cuda:1: no GPU is visible \(CUDA_VISIBLE_DEVICES=\);"):
        resolve_devices("1")
    monkeypatch.setattr(devices, "find_gpus", lambda: Gpus(trouble="the NVIDIA driver fails with CUDA error 803"))
    with pytest.raises(
        MvtkError, match=r"cuda:1: the NVIDIA driver fails with CUDA error 803; --device takes cpu here$"
    ):
        resolve_devices("1")


@pytest.mark.usefixtures("four")
def test_what_does_not_exist_or_is_excluded_is_refused_with_what_may_be_used() -> None:
    with pytest.raises(MvtkError) as caught:
        resolve_devices("0,1,cuda:4", SERVER)
    assert not isinstance(caught.value, OptionError)
    assert str(caught.value) == (
        "device cuda:0 (H200) is excluded by devices.exclude, there is no device cuda:4; "
        "--device takes cuda:1 (H200), cuda:2 (A100), cpu here"
    )
    with pytest.raises(MvtkError, match=r"^there is no GPU that may be used; --device takes cpu here$"):
        resolve_devices("cuda", DevicePolicy(exclude=(0, 1, 2, 3)))


@pytest.mark.parametrize(
    "text", ["", ",", "gpu", "cuda:", "cuda:x", "-1", "1,", "cpu,1", "auto,cuda", "1.0", "CUDA:1", "٣", "cuda:1 cuda:2"]
)
def test_text_of_another_form_is_wrong_usage(text: str) -> None:
    with pytest.raises(OptionError, match=r"^device '.*'; give auto, cpu, cuda, or GPUs by number"):
        resolve_devices(text)


@example("1,cuda:1")
@given(st.text("acdputo:0123,-. ", max_size=12))
def test_any_text_is_devices_or_wrong_usage(text: str) -> None:
    try:
        numbers = parse_devices(text)
    except OptionError:
        return
    assert len(set(numbers)) == len(numbers)
    assert bool(numbers) == (text.strip() not in {"auto", "cpu", "cuda"})


@given(st.lists(st.integers(0, 9)), st.lists(st.integers(0, 9)), st.integers(0, 8))
def test_a_policy_orders_what_it_does_not_exclude(exclude: list[int], prefer: list[int], count: int) -> None:
    usable = DevicePolicy(tuple(exclude), tuple(prefer)).usable(count)
    assert sorted(usable) == [index for index in range(count) if index not in exclude]
    ranks = [prefer.index(index) if index in prefer else len(prefer) + index for index in usable]
    assert ranks == sorted(ranks)


class FakeCuda:
    """The four functions of the driver's library that are used."""

    def __init__(self, *names: bytes, status: int = 0) -> None:
        self._names, self._status = names, status

    def cuInit(self, flags: int) -> int:  # noqa: N802 - the library's name
        return self._status + flags

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802 - the library's name
        count._obj.value = len(self._names)
        return 0

    def cuDeviceGet(self, device: Any, number: int) -> int:  # noqa: N802 - the library's name
        device._obj.value = number
        return 0 if self._names[number] else 101

    def cuDeviceGetName(self, name: Any, length: int, device: ctypes.c_int) -> int:  # noqa: N802 - the library's name
        name.value = self._names[device.value][: length - 1]
        return 0


def test_the_driver_is_asked_for_names() -> None:
    assert ask_driver(FakeCuda(b"NVIDIA H200", b"", b"\xff")) == Gpus(("NVIDIA H200", "unnamed", "\ufffd"))
    assert ask_driver(FakeCuda(b"a", status=100)) == ask_driver(FakeCuda(b"a", status=34)) == Gpus()
    assert ask_driver(FakeCuda(b"a", status=803)) == Gpus(trouble="the NVIDIA driver fails with CUDA error 803")


def test_another_process_asks_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("there is no C compiler to make a driver with")
    (tmp_path / "driver.c").write_text(DRIVER)
    library = tmp_path / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "driver.c"], check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)

    assert find_gpus() == Gpus(("Fake 40 PCI_BUS_ID", "Fake 41 PCI_BUS_ID"))
    assert "CUDA_DEVICE_ORDER" not in os.environ
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert find_gpus() == Gpus(("Fake 40 PCI_BUS_ID",))
    monkeypatch.setenv("FAKE_STATUS", "999")
    assert find_gpus() == Gpus(trouble="the NVIDIA driver fails with CUDA error 999")


def test_a_driver_that_hangs_or_crashes_is_trouble_and_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_PROBE", "import os; os.abort()")
    assert find_gpus() == Gpus(trouble="the NVIDIA driver cannot be asked: CalledProcessError")
    monkeypatch.setattr(devices, "_PROBE", "import time; time.sleep(600)")
    monkeypatch.setattr(devices, "_PROBE_TIMEOUT_S", 0.2)
    assert find_gpus() == Gpus(trouble="the NVIDIA driver does not answer within 0.2 s")


@pytest.mark.parametrize(
    ("visible", "device", "seen"),
    [
        (None, "cuda:3", "3"),
        ("4,5", "cuda:1", "5"),
        ("GPU-8f3c, MIG-77aa", "cuda:1", "MIG-77aa"),
        ("GPU-8f3c,1", "cuda:0", "GPU-8f3c"),
    ],
)
def test_a_worker_sees_its_gpu_only(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, device: str, seen: str
) -> None:
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    outcome = next(engines.run(Located(), items("a"), devices=(device,)))
    assert outcome.details == {
        "device": "cuda:0",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": seen,
        "OMP_NUM_THREADS": "-",
    }


def test_each_worker_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,4")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    outcomes = engines.run(Located(), items("abcdefgh"), devices=("cuda:0", "cuda:1"))
    seen = {(outcome.details["CUDA_VISIBLE_DEVICES"], outcome.details["OMP_NUM_THREADS"]) for outcome in outcomes}
    assert seen == {("6", "1"), ("4", "1")}


@pytest.mark.parametrize(("visible", "device"), [("4", "cuda:1"), ("", "cuda:0"), ("0", "cuda:x"), ("0", "mps")])
def test_a_worker_cannot_be_bound_to_what_is_not_there(
    monkeypatch: pytest.MonkeyPatch, visible: str, device: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(MvtkError, match=rf"^there is no device {device}: CUDA_VISIBLE_DEVICES is '{visible}'; use "):
        list(engines.run(Located(), items("a"), devices=(device,)))
