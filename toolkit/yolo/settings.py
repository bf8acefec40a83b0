"""What Ultralytics takes besides mvtk's own options: ``--set key=value``, checked against its own list."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import yaml

from toolkit.core.errors import OptionError

Mode = Literal["train", "val"]
Setting = bool | int | float | str | list[Any] | None

_OWN_OPTIONS: Final[Mapping[Mode, Mapping[str, str]]] = {
    "train": {
        "batch": "--batch",
        "cache": "--cache",
        "data": "DATA",
        "device": "--device",
        "epochs": "--epochs",
        "imgsz": "--imgsz",
        "lr0": "--lr0",
        "model": "--model",
        "patience": "--patience",
        "pretrained": "--model FILE.pt",
        "resume": "--resume",
        "seed": "--seed",
        "verbose": "--verbose",
        "workers": "--workers",
    },
    "val": {
        "batch": "--batch",
        "conf": "--conf",
        "data": "DATA",
        "device": "--device",
        "imgsz": "--imgsz",
        "iou": "--iou",
        "model": "--model",
        "split": "--split",
        "verbose": "--verbose",
        "workers": "--workers",
    },
}
_FIXED: Final = {
    "augmentations": "it takes Python objects",
    "cfg": "mvtk's --config is the file of settings",
    "distill_model": "training towards another model is not supported",
    "exist_ok": "the results go where --output says",
    "mode": "the command decides it",
    "name": "the results go where --output says",
    "project": "the results go where --output says",
    "save_dir": "the results go where --output says",
    "split": "training validates on val",
    "task": "only detection is supported",
}


def parse_settings(texts: Iterable[str], mode: Mode) -> dict[str, Setting]:
    """Return the settings that ``key=value`` texts give, values read as YAML.

    Ultralytics is imported, as the list of keys and the ranges of values are its own; see
    :func:`toolkit.yolo.containment.contained_ultralytics`.

    Raises:
        OptionError: a text is of another form, or a key or value is not valid; all of them.
    """
    settings: dict[str, Setting] = {}
    problems: list[str] = []
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            problems.append(f"{text!r} is not of the form key=value")
            continue
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            problems.append(f"{key}: {value!r} is not a value")
    problems += _problems(settings, mode)
    if problems:
        raise OptionError(f"--set {'; '.join(problems)}", "https://docs.ultralytics.com/usage/cfg lists the settings")
    return settings


def _problems(settings: Mapping[str, Setting], mode: Mode) -> Sequence[str]:
    from ultralytics.cfg import DEFAULT_CFG_DICT, check_cfg

    problems = []
    for key, value in settings.items():
        own = _OWN_OPTIONS[mode].get(key)
        if own:
            problems.append(f"{key}: there is an option of its own, {own}")
        elif key in _FIXED and (key, mode) != ("split", "val"):
            problems.append(f"{key}: cannot be set: {_FIXED[key]}")
        elif key not in DEFAULT_CFG_DICT:
            nearest = difflib.get_close_matches(key, DEFAULT_CFG_DICT, n=1)
            problems.append(f"{key}: no setting of Ultralytics" + (f"; did you mean {nearest[0]}?" if nearest else ""))
        else:
            try:
                check_cfg({key: value})
            except (TypeError, ValueError) as error:
                problems.append(f"{key}: {_plain(str(error), key)}")
    return problems


def _plain(message: str, key: str) -> str:
    """Return what Ultralytics says of a value without its emphasis."""
    return " ".join(message.removeprefix(f"'{key}=").replace("'", "").split())
