"""Help is quick: nothing heavy is imported for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from commands.main import COMMANDS, GROUPS

HEAVY = (
    *("torch", "torchvision", "transformers", "ultralytics", "monai", "sam2", "peft", "accelerate", "skimage"),
    *("cv2", "numpy", "PIL", "yaml", "pycocotools"),
)
"""Without pydantic: Typer imports it for every command where it is installed."""
PROBE = f"""
import sys
from commands.main import run
code = run(sys.argv[1:])
print("imported:", *(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("name", ["", *GROUPS, *COMMANDS])
def test_help_imports_nothing_heavy(name: str) -> None:
    arguments = [sys.executable, "-c", PROBE, *([name] if name else []), "--help"]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "Usage: mvtk" in result.stdout
    assert result.stderr == "imported:\n"
