"""How many CPUs this process may really use."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path, PurePosixPath

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_CGROUP_MEMBERSHIP = Path("/proc/self/cgroup")


def available_cpus() -> int:
    """Return the number of CPUs this process may use: its affinity mask and its cgroup's quota, at least 1.

    The machine's own count is wrong on shared servers and in containers, where a scheduler grants a part of it.
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:
        count = os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(count, math.ceil(quota)) if quota is not None else count)


def _cgroup_quota() -> float | None:
    """Return the smallest CPU quota of this process's cgroups, in CPUs; None where there is no limit."""
    quotas: list[float] = []
    with suppress(OSError, ValueError):
        for line in _CGROUP_MEMBERSHIP.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                quotas += _quotas_v2(_CGROUP_ROOT, path)
            elif "cpu" in controllers.split(","):
                quotas += _quotas_v1(_CGROUP_ROOT / controllers, path)
    return min(quotas, default=None)


def _quotas_v2(root: Path, path: str) -> list[float]:
    quotas = []
    for folder in _folder_and_parents(root, path):
        with suppress(OSError, ValueError):
            limit, period = (folder / "cpu.max").read_text().split()
            if limit != "max":
                quotas.append(int(limit) / int(period))
    return quotas


def _quotas_v1(root: Path, path: str) -> list[float]:
    quotas = []
    for folder in _folder_and_parents(root, path):
        with suppress(OSError, ValueError):
            limit = int((folder / "cpu.cfs_quota_us").read_text())
            if limit > 0:
                quotas.append(limit / int((folder / "cpu.cfs_period_us").read_text()))
    return quotas


def _folder_and_parents(root: Path, path: str) -> list[Path]:
    parts = PurePosixPath(path.lstrip("/"))
    return [root / parts, *(root / parent for parent in parts.parents)]
