"""The stock SAM2 models: their names, configurations, official checkpoints, and how to tell them apart."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from toolkit.core.errors import OptionError

CHECKPOINTS_PAGE: Final = "https://github.com/facebookresearch/sam2#download-checkpoints"
"""Where SAM2's authors publish the checkpoints."""


@dataclass(frozen=True, slots=True)
class Sam2Model:
    """One SAM2 model.

    Attributes:
        name: such as ``sam2.1_hiera_base_plus``; the official checkpoint's name without its suffix.
        config: its configuration, a path below the folder of the package ``sam2``.
        repo_id: the Hugging Face repository of its official checkpoint.
        url: the address of its official checkpoint.
        embed_dim: channels of the encoder's first stage. With ``blocks`` it tells the four sizes apart.
        blocks: transformer blocks of the encoder's trunk.
    """

    name: str
    config: str
    repo_id: str
    url: str
    embed_dim: int
    blocks: int

    @property
    def checkpoint(self) -> str:
        """File name of the official checkpoint."""
        return f"{self.name}.pt"

    @property
    def is_2_1(self) -> bool:
        """Whether it is a SAM 2.1 model: those have weights outside the encoder that SAM 2.0 has not."""
        return self.name.startswith("sam2.1")


_SIZES: Final = {
    "tiny": ("t", 96, 12),
    "small": ("s", 96, 16),
    "base_plus": ("b+", 112, 24),
    "large": ("l", 144, 48),
}
"""Short name in the configurations, ``embed_dim`` and blocks of each size."""

_RELEASES: Final = {"sam2.1": "092824", "sam2": "072824"}
"""The folder of each release's official checkpoints (SAM2's README and ``checkpoints/download_ckpts.sh``)."""


def _stock_models() -> Iterator[Sam2Model]:
    for release, folder in _RELEASES.items():
        for size, (short, embed_dim, blocks) in _SIZES.items():
            name = f"{release}_hiera_{size}"
            yield Sam2Model(
                name=name,
                config=f"configs/{release}/{release}_hiera_{short}.yaml",
                repo_id=f"facebook/{name.replace('_', '-')}",
                url=f"https://dl.fbaipublicfiles.com/segment_anything_2/{folder}/{name}.pt",
                embed_dim=embed_dim,
                blocks=blocks,
            )


MODELS: Final = {model.name: model for model in _stock_models()}
"""The eight stock models by name, SAM 2.1 first, each release from small to large."""


def find_model(name: str) -> Sam2Model:
    """Return the model of that name.

    Raises:
        OptionError: there is none; the line has the nearest name, or all of them.
    """
    if name in MODELS:
        return MODELS[name]
    nearest = difflib.get_close_matches(name, MODELS, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"the models are {', '.join(MODELS)}"
    raise OptionError(f"--model: there is no SAM2 model {name!r}", hint)


_RELEASE_IN_NAME: Final = re.compile(r"(?<![a-z0-9])sam[-_]?2(?P<minor>[.p_-]?[01])?[-_]hiera(?=[-_])")
_SIZE_IN_NAME: Final = re.compile(
    r"(?<![a-z0-9])(?P<size>tiny|small|base[-_]?plus|large)(?![a-z0-9])"
    r"|(?<=hiera[-_])(?P<short>t|s|b\+|l)(?![a-z0-9+])"
)
_SIZE_OF_SHORT: Final = {short: size for size, (short, _, _) in _SIZES.items()}


def infer_model(name: str) -> str | None:
    """Return the name of the stock model that a checkpoint's file name or a repository id speaks of.

    Folders, prefixes, suffixes, case and ``-`` for ``_`` do not matter: ``facebook/sam2.1-hiera-base-plus``,
    ``sam2.1_hiera_b+.pt`` and ``my_sam2.1_hiera_large_ft.safetensors`` are recognised.

    Returns:
        The name; None where the last part of ``name`` speaks of no model or of several.
    """
    last_part = name.rstrip("/").rpartition("/")[2].lower()
    releases = {
        "sam2.1" if (match["minor"] or "").endswith("1") else "sam2" for match in _RELEASE_IN_NAME.finditer(last_part)
    }
    sizes = {
        _SIZE_OF_SHORT[match["short"]] if match["short"] else _long_size(match["size"])
        for match in _SIZE_IN_NAME.finditer(last_part)
    }
    if len(releases) != 1 or len(sizes) != 1:
        return None
    return f"{releases.pop()}_hiera_{sizes.pop()}"


def _long_size(text: str) -> str:
    return "base_plus" if text.startswith("base") else text


def where_to_get(model: Sam2Model | None) -> str:
    """Return where the official checkpoint of a model is, as a hint; of all models when it is not known which."""
    if model is None:
        return f"the official checkpoints are at {CHECKPOINTS_PAGE}"
    return f"the official checkpoint is at {model.url}; or use --weights {model.repo_id}"
