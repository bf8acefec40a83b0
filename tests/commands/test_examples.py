"""Every example in the help texts runs as it stands, after `make demo` and its siblings."""

from __future__ import annotations

import importlib
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from commands import main
from commands.main import run
from tests.conftest import PROJECT
from toolkit.dataset.demo import write_demo
from toolkit.edges.demo import write_demo as write_edges_demo
from toolkit.embryo.demo import write_demo as write_embryo_demo
from toolkit.metadata.demo import write_demo as write_metadata_demo
from toolkit.sam.demo import write_demo as write_sam_demo
from toolkit.sam.demo_model import write_demo_model

# Two short trainings and a feature extraction are made once for all examples, and count as the first one's time.
pytestmark = pytest.mark.timeout(1200)

SHORT = ["--epochs", "1", "--imgsz", "64", "--device", "cpu"]


def examples() -> list[str]:
    """The example of each command's help."""
    return [
        example
        for name in (*main.GROUPS, *main.COMMANDS)
        for example in _examples_of(importlib.import_module(f"commands.{name}").app)
    ]


def _examples_of(app: typer.Typer) -> Iterator[str]:
    for info in app.registered_commands:
        assert info.epilog, f"{info.callback} has no example"
        yield info.epilog.removeprefix("Example: ")
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from _examples_of(group.typer_instance)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `make demo`, `make demo-embryo` and `make demo-features` have run."""
    folder = tmp_path_factory.mktemp("demo")
    output = folder / "demo-output"
    write_demo(output)
    write_edges_demo(output / "sa1b")
    write_metadata_demo(output / "metadata")
    write_embryo_demo(output / "embryo")
    write_sam_demo(output / "sam")
    write_demo_model(output / "sam-tiny")
    (folder / "configs").symlink_to(PROJECT / "configs")
    encoder = ["--weights", "random:0", "--model", "sam2.1_hiera_tiny"]
    for command in (
        ["dataset", "convert-mask-attention", "--config", "configs/demo.yaml"],
        ["dataset", "process", "--config", "configs/dataset-process.yaml"],
        ["embryo", "extract", "demo-output/embryo/archives", "demo-output/embryo/extracted"],
        ["sam", "train", "--config", "configs/sam-train.yaml", "demo-output/sam", "--epochs", "1"],
        ["yolo", "train", "demo-output/mask_attention_yolo", "--output", "demo-output/yolo-run", *SHORT],
        ["features", "extract", "--images", "demo-output/sa1b", "--output", "demo-output/features", *encoder],
    ):
        line = [sys.executable, "-m", "commands.main", *command, "-q"]
        subprocess.run(line, cwd=folder, check=True, env=_environment())
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
