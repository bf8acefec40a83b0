"""Optional dependencies and system libraries: what is missing, and how to install it."""

from __future__ import annotations

import importlib
import importlib.util
import re
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from toolkit.core.errors import MissingExtraError, MvtkError

EXTRAS: dict[str, tuple[str, ...]] = {
    "torch": ("torch",),
    "features": ("torch", "torchvision", "sam2", "huggingface_hub", "safetensors"),
    "sam": (
        "torch",
        "torchvision",
        "transformers",
        "monai",
        "accelerate",
        "peft",
        "huggingface_hub",
        "safetensors",
    ),
    "yolo": ("ultralytics",),
    "demo": ("scikit-image",),
}
"""The distribution's extras and the packages each brings, as declared in pyproject.toml."""

_MISSING_LIBRARY = re.compile(r"(?P<library>lib[\w.+-]+\.so[\w.]*): cannot open shared object file")
_DEBIAN_PACKAGES = {"libGL": "libgl1", "libgthread": "libglib2.0-0", "libglib": "libglib2.0-0", "libxcb": "libxcb1"}


def installed_version(package: str) -> str | None:
    """Return the installed version of a distribution, without importing it; None when it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def require_extra(module: str, extra: str) -> ModuleType:
    """Import and return ``module``, which the extra ``extra`` brings.

    Raises:
        MissingExtraError: it is not installed; the line has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        raise MissingExtraError(module, extra) from error


def require_installed(module: str, extra: str) -> None:
    """Check, without importing it, that ``module`` is there, which the extra ``extra`` brings.

    Raises:
        MissingExtraError: it is not installed; the line has the command that installs it.
    """
    if importlib.util.find_spec(module) is None:
        raise MissingExtraError(module, extra)


def explain_import_error(error: ImportError) -> MvtkError | None:
    """Return an import that failed for want of a system library as a line with the package that has it."""
    match = _MISSING_LIBRARY.search(str(error))
    if match is None:
        return None
    library = match["library"]
    package = next((name for prefix, name in _DEBIAN_PACKAGES.items() if library.startswith(prefix)), None)
    packages = "libgl1 libglib2.0-0 libxcb1" if package is None else package
    return MvtkError(
        f"the system library {library} is missing",
        f"install it (Debian, Ubuntu: apt-get install {packages}), or use opencv-python-headless",
    )
