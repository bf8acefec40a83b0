"""Configuration files: strict, plain data only, all problems at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.core.config import ConfigError, load_config, load_yaml
from toolkit.core.errors import MvtkError, collected

OPTIONS = ("workers", "max_files", "splits", "mask_suffix", "device", "devices_exclude", "devices_prefer")
YAML_SIGNS = "&*!|>%@`'\"[]{},:?-# \n\t0a~"
YAML_TAGS = [
    f"!!{tag} " for tag in ("int", "float", "timestamp", "bool", "binary", "set", "omap", "python/object:os.system")
]
YAML_WORDS = ["<<: ", "2024-02-30", "1:99", "0x", "&a ", "*a", "---\n", "...\n", "\x00", "\ud800"]
YAML_PIECES = st.sampled_from([*YAML_SIGNS, *YAML_TAGS, *YAML_WORDS])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def test_keys_may_be_written_as_on_the_command_line_or_as_in_python(config: Path) -> None:
    config.write_text("max-files: 3\nmask_suffix: _m\nsplits: [train, val]\nworkers:\n")
    assert load_config(config, OPTIONS) == {
        "max_files": 3,
        "mask_suffix": "_m",
        "splits": ["train", "val"],
        "workers": None,
    }


@pytest.mark.parametrize(
    "text",
    [
        "devices: {exclude: [0, 3], prefer: [1, 2]}",
        "devices.exclude: [0, 3]\ndevices.prefer: [1, 2]",
        "devices-exclude: [0, 3]\ndevices_prefer: [1, 2]",
        "devices: {exclude: [0, 3]}\ndevices.prefer: [1, 2]",
    ],
)
def test_a_dot_and_one_level_of_nesting_separate_words(config: Path, text: str) -> None:
    config.write_text(f"device: cuda\n{text}\n")
    assert load_config(config, OPTIONS) == {"device": "cuda", "devices_exclude": [0, 3], "devices_prefer": [1, 2]}


def test_problems_of_nested_keys_are_named_in_full(config: Path) -> None:
    config.write_text(
        "devices: {exlude: [0], prefer: {a: 1}, exclude: [[1]], max: 1}\ndevices.exclude: [1]\n"
        "devices_exclude: [2]\nqqq: {}\nmax: {files: {}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(config, OPTIONS)
    assert caught.value.problems == (
        "unknown key 'devices.exlude'; did you mean 'devices-exclude'?",
        "'devices.prefer': expected a value or a list of values, found a mapping",
        "'devices.exclude': expected a value or a list of values, found a list that holds more than values",
        "unknown key 'devices.max'; did you mean 'device'?",
        "'devices_exclude' is given twice, in two spellings",
        "unknown key 'qqq'; see --help for the options",
        "'max.files': expected a value or a list of values, found a mapping",
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}"])
def test_an_empty_file_sets_nothing(config: Path, text: str) -> None:
    config.write_text(text)
    assert load_config(config, OPTIONS) == {}


def test_all_problems_are_reported_together(config: Path) -> None:
    config.write_text("wokers: 1\nmax-files: 1\nmax_files: 2\nqqq: 1\n3: 4\nsplits: {a: b}\nmask_suffix: [[a]]\n")
    with pytest.raises(ConfigError) as caught:
        load_config(config, OPTIONS)
    assert caught.value.message == str(config)
    assert caught.value.problems == (
        "unknown key 'wokers'; did you mean 'workers'?",
        "'max_files' is given twice, in two spellings",
        "unknown key 'qqq'; see --help for the options",
        "unknown key '3'; see --help for the options",
        "'splits': expected a value or a list of values, found a mapping",
        "'mask_suffix': expected a value or a list of values, found a list that holds more than values",
    )


@pytest.mark.parametrize(("text", "kind"), [("- a", "a list"), ("text", "text"), ("3", "int")])
def test_what_is_not_a_mapping_is_refused(config: Path, text: str, kind: str) -> None:
    config.write_text(text)
    with pytest.raises(ConfigError, match=f"expected a mapping of options to values, found {kind}$"):
        load_config(config, OPTIONS)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("workers: 1\nworkers: 2\n", 2, "the key 'workers' is given twice"),
        ("a: {b: 1, b: 2}", 1, "the key 'b' is given twice"),
        ("a: 1\nb: [1, 2\n", 3, "expected ',' or ']'"),
        ("a: 1\n\tb: 2\n", 2, "found character '.t' that cannot start any token"),
        ("a: !!python/object/apply:os.system [id]", 1, "could not determine a constructor for the tag"),
        ("a: !mine x", 1, "could not determine a constructor for the tag '!mine'"),
        ("a: *nobody", 1, "found undefined alias 'nobody'"),
        ("? [a]\n: 1", 1, "found unhashable key"),
        ("a: 1\n---\nb: 2\n", 2, "but found another document"),
    ],
)
def test_bad_yaml_is_one_line_with_file_and_line(config: Path, text: str, line: int, problem: str) -> None:
    config.write_text(text)
    with pytest.raises(MvtkError, match=f"config.yaml:{line}: not valid YAML: .*{problem}") as caught:
        load_yaml(config)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text", ["a: !!int ''", "a: !!timestamp x", "a: !!bool x", "a: 2024-02-30", "[" * 5000, "a: \x00"]
)
def test_values_that_yaml_itself_stumbles_over_are_expected_errors(config: Path, text: str) -> None:
    config.write_text(text)
    with pytest.raises(MvtkError, match=r"config\.yaml: not valid YAML"):
        load_yaml(config)


def test_bytes_that_are_not_utf_8_are_an_expected_error(config: Path) -> None:
    config.write_bytes(b"a: \xff\xfe")
    with pytest.raises(MvtkError, match=r"config\.yaml: not valid YAML"):
        load_yaml(config)


@given(st.lists(YAML_PIECES, max_size=12).map("".join))
def test_any_text_is_data_or_an_expected_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("yaml") / "config.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    problems: list[str] = []
    with collected(problems):
        load_config(path, OPTIONS)
    assert all(map(str.isprintable, problems))


def test_a_bomb_of_aliases_stays_small(config: Path) -> None:
    lines = ["workers: &a0 [x, x]"]
    names = ["max_files", "splits", "mask_suffix"]
    levels = [f"  - &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 40)]
    config.write_text("\n".join([*lines, f"{names[0]}:", *levels]))
    with pytest.raises(ConfigError, match="found a list that holds more than values"):
        load_config(config, OPTIONS)


def test_a_bomb_of_merges_is_refused(config: Path) -> None:
    levels = [f"a{level}: &a{level}\n  <<: [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 40)]
    config.write_text("\n".join(["a0: &a0 {x: 1}", *levels]))
    with pytest.raises(MvtkError, match=r"config\.yaml:3: not valid YAML"):
        load_yaml(config)


def test_a_missing_file_is_named(config: Path) -> None:
    with pytest.raises(MvtkError, match=r"config\.yaml: cannot read: No such file or directory; check the path$"):
        load_config(config, OPTIONS)
