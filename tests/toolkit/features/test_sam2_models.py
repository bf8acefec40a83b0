"""The table of SAM2's models, and which of them a name speaks of."""

from __future__ import annotations

from importlib.resources import files

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from toolkit.core.errors import OptionError
from toolkit.features import MODELS, infer_model
from toolkit.features.sam2_models import find_model, where_to_get

DEFAULT_STAGES = [2, 3, 16, 3]
"""Of sam2's Hiera trunk, where a configuration says nothing."""


def test_the_eight_stock_models() -> None:
    assert list(MODELS) == [
        "sam2.1_hiera_tiny",
        "sam2.1_hiera_small",
        "sam2.1_hiera_base_plus",
        "sam2.1_hiera_large",
        "sam2_hiera_tiny",
        "sam2_hiera_small",
        "sam2_hiera_base_plus",
        "sam2_hiera_large",
    ]
    model = MODELS["sam2.1_hiera_base_plus"]
    assert model.checkpoint == "sam2.1_hiera_base_plus.pt"
    assert model.config == "configs/sam2.1/sam2.1_hiera_b+.yaml"
    assert model.repo_id == "facebook/sam2.1-hiera-base-plus"
    assert model.url == "https://dl.fbaipublicfiles.com/segment_anything_2/092824/sam2.1_hiera_base_plus.pt"
    assert MODELS["sam2_hiera_tiny"].url.endswith("/segment_anything_2/072824/sam2_hiera_tiny.pt")


@pytest.mark.parametrize("name", MODELS)
def test_size_and_depth_are_those_of_the_packaged_configuration(name: str) -> None:
    model = MODELS[name]
    config = yaml.safe_load((files("sam2") / model.config).read_text())["model"]
    trunk = config["image_encoder"]["trunk"]
    assert (trunk["embed_dim"], sum(trunk.get("stages", DEFAULT_STAGES))) == (model.embed_dim, model.blocks)
    assert config.get("no_obj_embed_spatial", False) == model.is_2_1
    assert config["image_size"] == 1024


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("sam2.1_hiera_base_plus.pt", "sam2.1_hiera_base_plus"),
        ("facebook/sam2.1-hiera-base-plus", "sam2.1_hiera_base_plus"),
        ("facebook/sam2-hiera-small", "sam2_hiera_small"),
        ("sam2.1_hiera_b+.pt", "sam2.1_hiera_base_plus"),
        ("sam2_hiera_t.pt", "sam2_hiera_tiny"),
        ("sam2_hiera_l.safetensors", "sam2_hiera_large"),
        ("my_sam2.1_hiera_large_ft.safetensors", "sam2.1_hiera_large"),
        ("weights/sam2_hiera_tiny/SAM2.1_Hiera_Small-epoch3.pth", "sam2.1_hiera_small"),
        ("sam2_1_hiera_tiny.pt", "sam2.1_hiera_tiny"),
        ("sam2p1-hiera-tiny.pt", "sam2.1_hiera_tiny"),
        ("sam2.0_hiera_tiny.pt", "sam2_hiera_tiny"),
        ("sam-2.1-hiera-baseplus.pt", "sam2.1_hiera_base_plus"),
        ("sam2.1_hiera_base.pt", None),
        ("sam2.1_hiera_b.pt", None),
        ("sam2.1_hiera.pt", None),
        ("sam2.1_hiera_student.pt", None),
        ("sam2.2_hiera_tiny.pt", None),
        ("sam2.10_hiera_tiny.pt", None),
        ("sam3_hiera_tiny.pt", None),
        ("sam2.1_hiera_large_to_tiny.pt", None),
        ("sam2_hiera_tiny_from_sam2.1_hiera_tiny.pt", None),
        ("sam_vit_b_01ec64.pth", None),
        ("checkpoint.pt", None),
        ("sam2.1_hiera_tiny/checkpoint.pt", None),
        ("", None),
    ],
)
def test_the_model_that_a_name_speaks_of(name: str, model: str | None) -> None:
    assert infer_model(name) == model


@given(
    st.sampled_from([*MODELS]),
    st.sampled_from(["", "my_", "epoch-3_", "weights/v2/", "2024."]),
    st.sampled_from(["", "_ft", "-v2.1", ".best", "_100_images"]),
    st.sampled_from(["", ".pt", ".pth", ".safetensors"]),
    st.booleans(),
    st.booleans(),
)
def test_prefixes_suffixes_case_and_dashes_do_not_matter(
    model: str, prefix: str, suffix: str, ending: str, dashes: bool, upper: bool
) -> None:
    name = model.replace("_", "-") if dashes else model
    assert infer_model(prefix + (name.upper() if upper else name) + suffix + ending) == model


@given(st.text())
def test_any_text_speaks_of_a_stock_model_or_of_none(name: str) -> None:
    assert infer_model(name) in {None, *MODELS}


def test_a_wrong_model_name_is_told_the_nearest() -> None:
    assert find_model("sam2_hiera_tiny") is MODELS["sam2_hiera_tiny"]
    with pytest.raises(OptionError, match=r"no SAM2 model 'sam2.1_hiera_larg'; did you mean sam2\.1_hiera_large\?$"):
        find_model("sam2.1_hiera_larg")
    with pytest.raises(OptionError, match=r"'x'; the models are sam2\.1_hiera_tiny, .*, sam2_hiera_large$"):
        find_model("x")


def test_where_the_official_checkpoints_are() -> None:
    assert where_to_get(None) == (
        "the official checkpoints are at https://github.com/facebookresearch/sam2#download-checkpoints"
    )
    assert where_to_get(MODELS["sam2_hiera_large"]) == (
        "the official checkpoint is at https://dl.fbaipublicfiles.com/segment_anything_2/072824/sam2_hiera_large.pt; "
        "or use --weights facebook/sam2-hiera-large"
    )
