"""Weights of a SAM2 encoder: which file, of which model, with which checksum, and what is in it.

A checkpoint is ``{"model": state_dict}`` or a bare state dict in torch's format, or a safetensors file; in each the
keys are SAM2's own (``image_encoder.trunk...``, ``image_encoder.neck...``, then parts that the encoder does not need).
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from toolkit.core.errors import MvtkError, OptionError
from toolkit.core.extras import require_extra
from toolkit.core.files import explain_os_error
from toolkit.features.sam2_models import MODELS, Sam2Model, find_model, infer_model, where_to_get

if TYPE_CHECKING:
    from torch import Tensor

_RANDOM: Final = re.compile(r"random:(?P<seed>0|[1-9][0-9]{0,8})")
_REPO_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILE_SUFFIXES: Final = (".pt", ".pth", ".safetensors")
_ENCODER_PREFIX: Final = "image_encoder."
_ONLY_IN_2_1: Final = "no_obj_embed_spatial"
_SHOWN_NAMES: Final = 3


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights that an encoder is to have; small, and can be sent to another process.

    Attributes:
        model: the model they belong to.
        path: the checkpoint file; None for random weights.
        identity: SHA-256 of the file in lower-case hexadecimal; ``random:SEED`` for random weights.
        random_seed: the seed of random weights; None for weights from a file.
    """

    model: Sam2Model
    path: Path | None
    identity: str
    random_seed: int | None = None


def resolve_weights(weights: str, model: str | None = None) -> Weights:
    """Return which checkpoint ``weights`` means, for which model, and its SHA-256 (the file is read once for it).

    Args:
        weights: a checkpoint file (``.pt``, ``.pth``, ``.safetensors``), or a Hugging Face repository ``org/name``,
            whose ``sam2*.pt`` is fetched into the local cache. A path that exists wins over a repository of that name.
            For tests only, and then said in every report: ``random:SEED`` for random weights.
        model: the model's name; None: inferred from the name of the file or repository.

    Raises:
        OptionError: ``model`` is no model, or must be given because it cannot be inferred.
        MvtkError: the file or the repository is not there or cannot be read.
        MissingExtraError: huggingface_hub is needed, and not installed.
    """
    stated = None if model is None else find_model(model)
    random = _RANDOM.fullmatch(weights)
    path = Path(weights)
    if not weights or (random is None and weights.startswith("random:") and not path.exists()):
        raise OptionError(
            f"--weights {weights!r}", "name a checkpoint or a repository; SEED in random:SEED is a number"
        )
    if random is not None and not path.exists():
        return Weights(_known(stated, weights), None, weights, int(random["seed"]))
    if not path.exists() and _REPO_ID.fullmatch(weights) and not weights.endswith(_FILE_SUFFIXES):
        found = stated or _inferred(weights)
        path = Path(_fetch(weights, found))
        return Weights(_known(found or _inferred(path.name), weights), path, _sha256(path, found))
    found = stated or _inferred(weights)
    checksum = _sha256(path, found)
    return Weights(_known(found, weights), path, checksum)


def _inferred(name: str) -> Sam2Model | None:
    found = infer_model(name)
    return None if found is None else MODELS[found]


def _known(model: Sam2Model | None, weights: str) -> Sam2Model:
    if model is None:
        raise OptionError(
            f"--weights {weights}: the name does not say which model it is", f"use --model, one of {', '.join(MODELS)}"
        )
    return model


def _sha256(path: Path, model: Sam2Model | None) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise MvtkError(f"{path}: no such file; --weights needs a SAM2 checkpoint", where_to_get(model)) from None
    except OSError as error:
        raise explain_os_error(error, path, "read the weights") from error


def _fetch(repo_id: str, model: Sam2Model | None) -> str:
    """Return the local path of a repository's ``sam2*.pt``; offline, of the official checkpoint in the cache."""
    hub = require_extra("huggingface_hub", "features")
    try:
        names = hub.list_repo_files(repo_id)
    except Exception as error:  # noqa: BLE001 - the client raises its own, the HTTP library's and system errors
        return _fetch_cached(repo_id, model, error)
    name = _only_checkpoint(repo_id, names, model)
    try:
        return str(hub.hf_hub_download(repo_id, name))
    except Exception as error:
        raise _hub_error(f"{repo_id}: cannot fetch {name}", error, model) from error


def _fetch_cached(repo_id: str, model: Sam2Model | None, reason: Exception) -> str:
    hub = require_extra("huggingface_hub", "features")
    message = f"{repo_id}: no such file here, and no such repository can be reached on Hugging Face"
    if model is None:
        raise _hub_error(message, reason, model) from reason
    try:
        return str(hub.hf_hub_download(repo_id, model.checkpoint, local_files_only=True))
    except Exception:  # noqa: BLE001 - whatever the cache's trouble, what went wrong first is what counts
        raise _hub_error(message, reason, model) from reason


def _hub_error(message: str, error: Exception, model: Sam2Model | None) -> MvtkError:
    return MvtkError(f"{message} ({_first_line(error)})", where_to_get(model))


def _only_checkpoint(repo_id: str, names: Iterable[str], model: Sam2Model | None) -> str:
    """Return the one ``sam2*.pt`` of a repository; of several, the one named like the model."""
    names = sorted(names)
    checkpoints = [name for name in names if fnmatch.fnmatchcase(name.rpartition("/")[2], "sam2*.pt")]
    if len(checkpoints) > 1 and model is not None:
        checkpoints = [name for name in checkpoints if infer_model(name) == model.name]
    if len(checkpoints) == 1:
        return checkpoints[0]
    found = f"it has {', '.join(checkpoints or names) or 'no files'}"
    raise MvtkError(
        f"{repo_id}: this Hugging Face repository must have one sam2*.pt; {found}",
        "download the checkpoint and give its path, or name the model with --model",
    )


def read_encoder_state(weights: Weights) -> dict[str, Tensor]:
    """Return the encoder's part of a checkpoint: its weights by their name below ``image_encoder.``, on the CPU.

    Tensors of torch's format are mapped, not read. Nothing but weights is unpickled (``weights_only``).

    Raises:
        MvtkError: the file is damaged, holds more than weights, holds no SAM2 encoder, or is the checkpoint of another
            model.
    """
    path = _path_of(weights)
    state = _state_in(path, _load_safetensors(path) if path.suffix == ".safetensors" else _load_torch(path))
    other = _another_model(state, weights.model)
    if other is not None:
        raise MvtkError(
            f"{path}: is a checkpoint of {other.name}, expected {weights.model.name}",
            f"use --model {other.name}, or the right file: {where_to_get(weights.model)}",
        )
    return {
        key.removeprefix(_ENCODER_PREFIX): tensor for key, tensor in state.items() if key.startswith(_ENCODER_PREFIX)
    }


def check_encoder_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], weights: Weights) -> None:
    """Hold the names and shapes of a checkpoint's encoder against those of the model.

    Args:
        state: what the checkpoint has, from :func:`read_encoder_state`.
        expected: the model's own state dict.
        weights: where ``state`` is from.

    Raises:
        MvtkError: they differ; one line with all kinds of difference, the first few of each by name.
    """
    missing = [key for key in expected if key not in state]
    unknown = [key for key in state if key not in expected]
    reshaped = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in state and state[key].shape != tensor.shape
    ]
    differences = [
        f"{len(names)} {kind} ({_first_few(names)})"
        for kind, names in (("missing", missing), ("unknown", unknown), ("of another shape", reshaped))
        if names
    ]
    if differences:
        raise MvtkError(
            f"{weights.path}: does not fit {weights.model.name}: of its {len(expected)} encoder weights "
            f"{'; '.join(differences)}",
            where_to_get(weights.model),
        )


def _path_of(weights: Weights) -> Path:
    if weights.path is None:
        raise ValueError("random weights have no file")
    return weights.path


def _load_torch(path: Path) -> Any:
    import torch

    def load() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a file that is refused in words of our own
            # Files of torch before 1.6 are no ZIP archives and cannot be mapped.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))

    return _loaded(path, load)


def _load_safetensors(path: Path) -> Any:
    require_extra("safetensors", "features")
    from safetensors.torch import load_file

    return _loaded(path, lambda: load_file(path))


def _loaded(path: Path, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except OSError as error:
        raise explain_os_error(error, path, "read the weights") from error
    except Exception as error:
        forbidden = re.search(r"GLOBAL (\S+)", str(error))
        if forbidden is not None:
            raise MvtkError(
                f"{path}: holds more than weights ({forbidden[1]}) and is not loaded: such a file can run code",
                "use a checkpoint from a source you trust that holds weights only",
            ) from error
        raise MvtkError(
            f"{path}: cannot be read as a checkpoint; it is damaged, cut short, or something else"
            f" ({_first_line(error)})",
            'expected is a .pt with {"model": weights}, or a .safetensors, with SAM2\'s key names',
        ) from error


def _state_in(path: Path, content: Any) -> dict[str, Tensor]:
    """Return the state dict of a checkpoint's content."""
    from torch import Tensor

    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise MvtkError(
            f"{path}: holds no state dict",
            'expected is {"model": weights}, or the weights alone, with SAM2\'s key names',
        )
    if not any(isinstance(key, str) and key.startswith(_ENCODER_PREFIX) for key in state):
        raise MvtkError(
            f"{path}: none of its {len(state)} weights is named {_ENCODER_PREFIX}*, as in SAM2's own checkpoints"
            f" ({_first_few(list(map(str, state)))})",
            "weights under other names, such as those for transformers, are not taken",
        )
    return {str(key): tensor for key, tensor in state.items()}


def _another_model(state: Mapping[str, Tensor], expected: Sam2Model) -> Sam2Model | None:
    """Return the stock model whose checkpoint this is, when it is not ``expected``; None when that cannot be told.

    Size and depth of the trunk tell the sizes apart. The encoders of SAM 2 and SAM 2.1 have the same shapes: other
    weights of the checkpoint tell them apart, where it has any.
    """
    first = state.get(f"{_ENCODER_PREFIX}trunk.patch_embed.proj.weight")
    embed_dim = first.shape[0] if first is not None and first.ndim else 0
    matches = (re.match(rf"{re.escape(_ENCODER_PREFIX)}trunk\.blocks\.(\d+)\.", key) for key in state)
    blocks = len({match[1] for match in matches if match})
    is_2_1 = _ONLY_IN_2_1 in state
    if all(key.startswith(_ENCODER_PREFIX) for key in state):
        is_2_1 = expected.is_2_1
    if (embed_dim, blocks, is_2_1) == (expected.embed_dim, expected.blocks, expected.is_2_1):
        return None
    fitting = (
        model
        for model in MODELS.values()
        if (model.embed_dim, model.blocks, model.is_2_1) == (embed_dim, blocks, is_2_1)
    )
    return next(fitting, None)


def _first_few(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN_NAMES]) + (", ..." if len(names) > _SHOWN_NAMES else "")


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
