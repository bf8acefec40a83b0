"""What an installation and a machine have, for ``mvtk doctor``."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import requires, version
from pathlib import Path

from toolkit.core.cpus import available_cpus
from toolkit.core.extras import EXTRAS, installed_version
from toolkit.core.files import explain_os_error

_DRIVER_TIMEOUT_S = 10
_PACKAGE_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def diagnose(folder: Path) -> dict[str, dict[str, str]]:
    """Return sections of named findings; no framework is imported, so this stays fast and works when one is broken.

    Args:
        folder: the folder whose file system's free space is shown.

    Raises:
        MvtkError: ``folder`` does not exist or cannot be read.
    """
    return {
        "versions": {"mvtk": version("mvtk"), "python": platform.python_version(), **_dependencies()},
        "extras": {extra: _extra(packages) for extra, packages in EXTRAS.items()},
        "devices": {"cpu": f"{available_cpus()} of {os.cpu_count()} CPUs usable", **_gpus()},
        "disk": {os.fspath(folder.absolute()): _free_space(folder)},
    }


def _dependencies() -> dict[str, str]:
    """Return the versions of the distribution's own dependencies."""
    lines = [line for line in requires("mvtk") or () if "extra ==" not in line]
    packages = [match.group() for line in lines if (match := _PACKAGE_NAME.match(line))]
    return {package: installed_version(package) or "missing" for package in packages}


def _extra(packages: tuple[str, ...]) -> str:
    found = {package: installed_version(package) for package in packages}
    missing = [package for package, installed in found.items() if installed is None]
    if missing:
        return f"not installed ({', '.join(missing)} missing)"
    return ", ".join(f"{package} {installed}" for package, installed in found.items())


def _gpus() -> dict[str, str]:
    """Return the CUDA devices as the driver's own tool lists them, by PCI bus order."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {"cuda": "none (no NVIDIA driver found)"}
    query = [tool, "--query-gpu=index,name,memory.total,memory.used", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, check=True, timeout=_DRIVER_TIMEOUT_S).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return {"cuda": f"the driver does not answer: {error}"}
    gpus = {}
    for line in lines.splitlines():
        index, name, total_mib, used_mib = (part.strip() for part in line.split(",", 3))
        gpus[f"cuda:{index}"] = f"{name}, {used_mib} of {total_mib} MiB used"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        gpus["CUDA_VISIBLE_DEVICES"] = visible
    return gpus or {"cuda": "none"}


def _free_space(folder: Path) -> str:
    try:
        usage = shutil.disk_usage(folder)
    except OSError as error:
        raise explain_os_error(error, folder, "read") from error
    writable = os.access(folder, os.W_OK)
    gibibyte = 2**30
    return f"{usage.free / gibibyte:.1f} of {usage.total / gibibyte:.1f} GiB free{'' if writable else ', not writable'}"
