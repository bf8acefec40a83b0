"""The models of a training run: the tuned one in the run's folder, and the one that it began with."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import yaml

from toolkit.core.errors import MvtkError
from toolkit.core.files import read_bytes

_CONFIG: Final = "config.yaml"
_MODEL: Final = "model"


def tuned_model(model: str) -> str:
    """Return the model that a name stands for: of a training run's folder its best one, any other as it is.

    Raises:
        MvtkError: it is a run that has no model yet.
    """
    run = Path(model)
    if (run / "config.json").is_file() or not (run / _CONFIG).is_file():
        return model
    if not (run / _MODEL / "config.json").is_file():
        raise MvtkError(
            f"{run}: the training run has written no model",
            "let it end, or end it early with Ctrl-C, with the option that exports the best model",
        )
    return str(run / _MODEL)


def untuned_model(model: str) -> str | None:
    """Return the model that a training run began with; None for a model that lies in no run's folder.

    Args:
        model: a run's folder, or the folder ``model`` in it.

    Raises:
        MvtkError: the run's configuration cannot be read, or names no model.
    """
    for run in (Path(model), Path(model).parent):
        config = run / _CONFIG
        if (run / _MODEL).is_dir() and config.is_file():
            return _model_in(config)
    return None


def _model_in(config: Path) -> str:
    try:
        options = yaml.safe_load(read_bytes(config))
    except yaml.YAMLError as error:
        raise MvtkError(f"{config}: no YAML", "name the un-tuned model with --baseline") from error
    model = options.get("model") if isinstance(options, dict) else None
    if not isinstance(model, str):
        raise MvtkError(f"{config}: names no model", "name the un-tuned model with --baseline")
    return model
