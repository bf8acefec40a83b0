"""Option values: from the command line, from a file, from defaults, in this order; what is wrong is said at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from typer.testing import CliRunner

from commands.main import run
from commands.options import ConfigOption, DeviceOption, split_list, validated
from tests.commands.sample_app import app
from tests.toolkit.core.sample_jobs import SampleOptions
from toolkit.core.errors import OptionError
from toolkit.core.options import BatchOptions, DeviceBatchOptions, Shard

DEFAULTS = ("here", None, 0.5, 0, False, "_seg")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def shown(config: Path, *arguments: str) -> object:
    result = CliRunner().invoke(app, ["show", "--config", str(config), *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return eval(result.stdout)


@pytest.mark.parametrize(
    ("text", "position", "value"),
    [
        ("names: [a, b]", 1, ["a", "b"]),
        ("names: a", 1, ["a"]),
        ("names: [1, 2.5]", 1, ["1", "2.5"]),
        ("ratio: 2", 2, 2.0),
        ("ratio: 1.0e-05", 2, 1e-05),
        ("max-files: 7", 3, 7),
        ("max_files: '7'", 3, 7),
        ("overwrite: true", 4, True),
        ("overwrite: no", 4, False),
        ("mask-suffix: _m", 5, "_m"),
        ("mask-suffix: 007", 5, "7"),
        ("mask-suffix: [a, b]", 5, "a,b"),
        ("mask-suffix: ''", 5, ""),
        ("max-files:", 3, 0),
    ],
)
def test_the_file_wins_over_the_default(config: Path, text: str, position: int, value: object) -> None:
    config.write_text(f"folder: here\n{text}\n")
    expected = list(DEFAULTS)
    expected[position] = value
    assert shown(config) == tuple(expected)


def test_the_command_line_wins_over_the_file_wherever_it_stands(config: Path) -> None:
    config.write_text("folder: from-file\nmax-files: 1\nnames: [a]\noverwrite: true\n")
    arguments = ["--folder", "typed", "--max-files", "2", "--names", "b"]
    expected = ("typed", ["b"], 0.5, 2, True, "_seg")
    assert shown(config, *arguments) == expected
    result = CliRunner().invoke(app, ["show", *arguments, "--config", str(config)])
    assert eval(result.stdout) == expected


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("max-files: many", "--max-files"),
        ("max-files: 2.7", "--max-files"),
        ("max-files: yes", "--max-files"),
        ("max-files: [1, 2]", "--max-files"),
        ("ratio: much", "--ratio"),
        ("overwrite: maybe", "--overwrite"),
        ("overwrite: 2", "--overwrite"),
        ("max-files: 1", "--folder"),
    ],
)
def test_a_value_of_the_wrong_type_or_a_missing_one_is_wrong_usage(config: Path, text: str, option: str) -> None:
    config.write_text(text if option == "--folder" else f"folder: here\n{text}\n")
    result = CliRunner().invoke(app, ["show", "--config", str(config)])
    assert result.exit_code == 2
    assert option in result.stderr


def test_an_unknown_key_is_wrong_usage(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("commands.main.app", app)
    config.write_text("folder: here\nmax-flies: 1\nconfig: x\nhelp: true\n")
    assert run(["show", "--config", str(config)]) == 2
    assert capsys.readouterr().err == (
        f"error: {config}: unknown key 'max-flies'; did you mean 'max-files'?\n"
        f"error: {config}: unknown key 'config'; see --help for the options\n"
        f"error: {config}: unknown key 'help'; see --help for the options\n"
    )


_gpu_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@_gpu_app.command()
def _show_devices(
    device: DeviceOption = None,
    devices_exclude: Annotated[list[str] | None, typer.Option("--devices-exclude")] = None,
    devices_prefer: Annotated[list[str] | None, typer.Option("--devices-prefer")] = None,
    config: ConfigOption = None,
) -> None:
    lists = {"devices_exclude": devices_exclude, "devices_prefer": devices_prefer}
    parts = {name: split_list(values or []) for name, values in lists.items()}
    options = validated(DeviceBatchOptions, device=device or None, **parts)
    typer.echo(repr((options.device, options.devices_exclude, options.devices_prefer)))


@pytest.mark.parametrize(
    ("text", "arguments", "expected"),
    [
        ("", [], ("auto", (), ())),
        ("device: 4", [], ("4", (), ())),
        ("device: [cuda:1, cuda:2]", [], ("cuda:1,cuda:2", (), ())),
        ("device: cuda:1", ["--device", "2", "--device", "3,4"], ("2,3,4", (), ())),
        ("devices: {exclude: [0, 3], prefer: [1, 2]}", [], ("auto", (0, 3), (1, 2))),
        ("devices.exclude: 0\ndevices.prefer: [2, 1]", ["--devices-prefer", "5"], ("auto", (0,), (5,))),
    ],
)
def test_devices_come_from_the_command_line_or_the_file(
    config: Path, text: str, arguments: list[str], expected: object
) -> None:
    config.write_text(text)
    result = CliRunner().invoke(_gpu_app, ["--config", str(config), *arguments], catch_exceptions=False)
    assert eval(result.stdout) == expected


def test_devices_of_the_wrong_form_are_wrong_usage() -> None:
    with pytest.raises(OptionError) as caught:
        validated(DeviceBatchOptions, device="gpu", devices_exclude=("-1",), devices_prefer=("x",))
    message = str(caught.value)
    assert "--device: device 'gpu'; give auto, cpu, cuda, or GPUs by number" in message
    assert "--devices-exclude: Input should be greater than or equal to 0" in message
    assert "--devices-prefer: Input should be a valid integer" in message


@given(st.lists(st.text("ab ,", max_size=6), max_size=5))
def test_lists_are_comma_separated_or_repeated(values: list[str]) -> None:
    parts = split_list(values)
    assert len(set(parts)) == len(parts)
    assert parts == split_list([",".join(values)])
    assert all(part and part == part.strip() for part in parts)


def test_lists_keep_their_order() -> None:
    assert split_list(["b, a", "c", "a,,d"]) == ("b", "a", "c", "d")


def test_none_stands_for_not_given(tmp_path: Path) -> None:
    assert validated(SampleOptions, folder=tmp_path, workers=None).workers >= 1
    assert validated(SampleOptions, folder=tmp_path, shard="1/2").shard == Shard(1, 2)


class _Image(BatchOptions):
    image_size: int = Field(default=640, ge=32)


def test_every_refused_value_is_named_as_on_the_command_line() -> None:
    with pytest.raises(OptionError) as caught:
        validated(_Image, image_size=3, workers=-1, shard="2/2", max_files="many")
    message = str(caught.value)
    assert "--image-size: Input should be greater than or equal to 32" in message
    assert "--workers: Input should be greater than or equal to 0" in message
    assert "--shard: shard '2/2'; give it as I/N" in message
    assert "--max-files: Input should be a valid integer" in message
    assert message.endswith("; see --help")
