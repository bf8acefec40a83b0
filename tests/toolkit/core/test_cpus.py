"""The CPUs a process may use: its affinity and its cgroup's quota."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from toolkit.core import cpus
from toolkit.core.cpus import available_cpus


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for /sys/fs/cgroup, on a machine of 16 CPUs, in no cgroup yet."""
    monkeypatch.setattr(cpus, "_CGROUP_ROOT", tmp_path)
    monkeypatch.setattr(cpus, "_CGROUP_MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(16)))
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_a_quota_the_affinity_counts(cgroups: Path) -> None:
    assert available_cpus() == 16


@pytest.mark.parametrize(
    ("limit", "count"),
    [("max 100000", 16), ("400000 100000", 4), ("250000 100000", 3), ("50000 100000", 1), ("9900000 100000", 16)],
)
def test_a_quota_of_version_2_is_rounded_up(cgroups: Path, limit: str, count: int) -> None:
    write(cgroups / "membership", "0::/slurm/job\n")
    write(cgroups / "slurm/job/cpu.max", f"{limit}\n")
    assert available_cpus() == count


def test_the_smallest_quota_on_the_way_up_counts(cgroups: Path) -> None:
    write(cgroups / "membership", "0::/slurm/job/step\n")
    write(cgroups / "slurm/job/step/cpu.max", "max 100000\n")
    write(cgroups / "slurm/job/cpu.max", "300000 100000\n")
    write(cgroups / "cpu.max", "800000 100000\n")
    assert available_cpus() == 3


def test_in_a_container_the_root_has_the_quota(cgroups: Path) -> None:
    write(cgroups / "membership", "0::/\n")
    write(cgroups / "cpu.max", "200000 100000\n")
    assert available_cpus() == 2


@pytest.mark.parametrize(("quota", "count"), [("-1", 16), ("600000", 6)])
def test_a_quota_of_version_1(cgroups: Path, quota: str, count: int) -> None:
    write(cgroups / "membership", "4:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n0::/\n")
    write(cgroups / "cpu,cpuacct/cpu.cfs_quota_us", quota)
    write(cgroups / "cpu,cpuacct/cpu.cfs_period_us", "100000")
    assert available_cpus() == count


@pytest.mark.parametrize("text", ["", "nonsense", "1:2", "0::/x"])
def test_what_cannot_be_understood_limits_nothing(cgroups: Path, text: str) -> None:
    write(cgroups / "membership", text)
    write(cgroups / "x/cpu.max", "what is this")
    assert available_cpus() == 16


def test_without_affinity_the_machine_s_count_is_taken(cgroups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert available_cpus() == 5
