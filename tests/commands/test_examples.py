"""Every example in the help texts runs as it stands, after `make demo` and, for features, `make demo-features`."""

from __future__ import annotations

import importlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from commands import main
from commands.main import run
from tests.conftest import PROJECT
from toolkit.dataset.demo import write_demo
from toolkit.edges.demo import write_demo as write_edges_demo


def examples() -> list[str]:
    """The example of each command's help."""
    found = []
    for name in (*main.GROUPS, *main.COMMANDS):
        for info in importlib.import_module(f"commands.{name}").app.registered_commands:
            assert info.epilog, f"{name} {info.callback.__name__} has no example"
            found.append(info.epilog.removeprefix("Example: "))
    return found


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `make demo` has run."""
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder / "demo-output")
    write_edges_demo(folder / "demo-output" / "sa1b")
    (folder / "configs").symlink_to(PROJECT / "configs")
    command = ["dataset", "convert-mask-attention", "--config", "configs/demo.yaml", "-q"]
    subprocess.run([sys.executable, "-m", "commands.main", *command], cwd=folder, check=True, env=_environment())
    # As `make demo-features` does.
    encoder = ["--weights", "random:0", "--model", "sam2.1_hiera_tiny"]
    folders = ["--images", "demo-output/sa1b", "--output", "demo-output/features"]
    command = ["features", "extract", *folders, *encoder, "-q"]
    subprocess.run([sys.executable, "-m", "commands.main", *command], cwd=folder, check=True, env=_environment())
    return folder


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PROJECT)}


@pytest.mark.parametrize("example", examples())
def test_example_runs(example: str, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo)
    program, *arguments = shlex.split(example)
    assert program == "mvtk"
    expanded = []
    for argument in arguments:
        expanded += sorted(map(str, Path().glob(argument))) if "*" in argument else [argument]
    assert run(expanded) == 0
