"""Find a SAM or SAM2 on this machine or on Hugging Face, and load it: safetensors only, nothing unpickled."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from toolkit.core.errors import MvtkError
from toolkit.core.extras import require_extra
from toolkit.core.files import read_bytes
from toolkit.device_memory import within_memory
from toolkit.sam.lora import LoraOptions
from toolkit.sam.preprocessing import IMAGE_MEAN_RGB, IMAGE_STD_RGB
from toolkit.sam.train_options import DEFAULT_MODEL
from toolkit.sam.trainable_sam import Decoded, EncoderDtype, TrainableSam

__all__ = ["DEFAULT_MODEL", "Decoded", "EncoderDtype", "LoraOptions", "TrainableSam", "load_trainable_sam"]

_REPO_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_CLASSES: Final = {"sam": "SamModel", "sam2": "Sam2Model", "sam2_video": "Sam2Model"}
"""Class by ``model_type``; SAM2's own repositories say ``sam2_video``, of which an image needs a part."""
_FILES: Final = ("config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json")
_WHERE_TO_GET: Final = (
    "give a folder with config.json and model.safetensors, or a Hugging Face id such as facebook/sam-vit-base"
)


def load_trainable_sam(
    name_or_path: str | Path = DEFAULT_MODEL,
    device: str = "cpu",
    lora: LoraOptions | None = None,
    *,
    encoder_dtype: EncoderDtype = "float32",
) -> TrainableSam:
    """Return a SAM or SAM2 whose mask decoder can be trained.

    Args:
        name_or_path: a folder as ``save_pretrained`` writes it, or a Hugging Face id, which is fetched into the local
            cache. A folder that exists wins over an id of that name.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        lora: train adapters on the mask decoder instead of the decoder itself.
        encoder_dtype: the arithmetic of the image encoder.

    Raises:
        MvtkError: there is no such model, it cannot be read or fetched, it is no SAM, or weights are missing.
        OutOfMemoryError: it does not fit the device.
        MissingExtraError: torch or transformers is not installed.
    """
    require_extra("torch", "sam")
    transformers = require_extra("transformers", "sam")
    folder = _resolve(str(name_or_path))
    model_class = getattr(transformers, _CLASSES[_model_type(folder)])
    _check_preprocessing(folder)
    model = _load(model_class, folder)
    sam = TrainableSam(model, lora=lora, encoder_dtype=encoder_dtype)
    within_memory(lambda: sam.model.to(device), f"{name_or_path} does not fit the memory of {device}")
    return sam


def _resolve(name: str) -> Path:
    """Return the folder with the model's files, fetched where it is not here."""
    path = Path(name)
    if path.is_dir():
        return path
    if path.exists() or not _REPO_ID.fullmatch(name):
        raise MvtkError(f"{name}: no such folder, and no Hugging Face id", _WHERE_TO_GET)
    hub = require_extra("huggingface_hub", "sam")
    try:
        return Path(hub.snapshot_download(name, allow_patterns=list(_FILES)))
    except Exception as error:
        raise MvtkError(
            f"{name}: no such folder here, and no such model can be fetched from Hugging Face ({_first_line(error)})",
            _WHERE_TO_GET,
        ) from error


def _model_type(folder: Path) -> str:
    path = folder / "config.json"
    model_type = _read_json(path).get("model_type")
    if model_type not in _CLASSES:
        raise MvtkError(
            f"{path}: model_type is {model_type!r}, not one of {', '.join(_CLASSES)}",
            "only SAM and SAM2 can be trained",
        )
    return str(model_type)


def _check_preprocessing(folder: Path) -> None:
    """Check that the model wants images normalised as we do it."""
    path = folder / "preprocessor_config.json"
    if not path.exists():
        return
    facts = _read_json(path)
    for key, expected in (("image_mean", IMAGE_MEAN_RGB), ("image_std", IMAGE_STD_RGB)):
        if key in facts and facts[key] != list(expected):
            raise MvtkError(
                f"{path}: {key} is {facts[key]}, not ImageNet's {list(expected)}",
                "only models with SAM's own normalisation are supported",
            )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_bytes(path))
    except ValueError as error:
        raise MvtkError(f"{path}: not valid JSON ({error})", "get the model again") from error
    if not isinstance(content, dict):
        raise MvtkError(f"{path}: not a JSON object", "get the model again")
    return content


def _load(model_class: Any, folder: Path) -> Any:
    import torch

    if not any(folder.glob("*.safetensors")):
        raise MvtkError(
            f"{folder}: holds no *.safetensors",
            "pickled weights (.bin, .pt) are not loaded, as they can run code; convert them with transformers",
        )
    try:
        with _quiet_transformers():
            model, info = model_class.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True, dtype=torch.float32
            )
    except Exception as error:
        raise MvtkError(
            f"{folder}: cannot be loaded as {model_class.__name__} ({_first_line(error)})", _WHERE_TO_GET
        ) from error
    if missing := sorted(info["missing_keys"]):
        raise MvtkError(
            f"{folder}: {len(missing)} weights are missing, such as {missing[0]}", "get the model again, or another one"
        )
    return model


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep transformers from drawing progress bars and from printing reports of keys: errors say what matters."""
    logging: Any = require_extra("transformers.utils.logging", "sam")
    level, drawn = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if drawn:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
