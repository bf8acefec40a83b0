"""What a features file says of its features: the flag, the source, and members that are neither."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.toolkit.npz.npz_builders import npy_bytes, npy_with_header, savez, savez_compressed, write, zip_of
from toolkit.features import MODELS, FeatureMarks, FeatureSource, Weights, read_feature_marks
from toolkit.npz import NpzError, open_npz

SOURCE = FeatureSource("sam2.1_hiera_tiny", "ab" * 32, "SAM2Transforms-1024", "float32", "0.1.0")
UNMARKED = FeatureMarks(flag=False, source=None)
TEXTS = st.text(st.characters(exclude_characters="\0"), max_size=20)


def marks_of(path: Path) -> FeatureMarks:
    with open_npz(path) as reader:
        return read_feature_marks(reader)


def test_the_source_of_weights() -> None:
    weights = Weights(MODELS["sam2_hiera_large"], Path("w.pt"), "0f" * 32)
    source = FeatureSource.of(weights, "bfloat16")
    assert source == FeatureSource("sam2_hiera_large", "0f" * 32, "SAM2Transforms-1024", "bfloat16", version("mvtk"))
    assert not source.is_random
    assert FeatureSource.of(Weights(MODELS["sam2_hiera_large"], None, "random:7", 7), "float32").is_random


def test_the_json_of_a_source() -> None:
    assert json.loads(SOURCE.to_json()) == {
        "model": "sam2.1_hiera_tiny",
        "weights_sha256": "ab" * 32,
        "preprocessing": "SAM2Transforms-1024",
        "dtype": "float32",
        "mvtk": "0.1.0",
        "stored": "float32",
    }
    assert "\n" not in SOURCE.to_json()


@given(st.builds(FeatureSource, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS))
def test_a_source_comes_back_from_its_json_and_from_its_array(source: FeatureSource) -> None:
    assert FeatureSource.parse(source.to_json()) == source
    array = source.to_array()
    assert array.shape == ()
    assert array.dtype.kind == "U"
    assert FeatureSource.parse(str(array)) == source


@given(
    st.one_of(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["model", "dtype", "x"]), inner),
        ).map(json.dumps),
    )
)
def test_other_text_is_no_source(text: str) -> None:
    assert FeatureSource.parse(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "{}",
        "[" * 100_000,
        "1" * 10_000,
        SOURCE.to_json()[:-1],
        SOURCE.to_json().replace('"float32"', "32"),
        SOURCE.to_json().replace("weights_sha256", "weights_md5"),
    ],
)
def test_texts_that_are_almost_a_source_are_none(text: str) -> None:
    assert FeatureSource.parse(text) is None


def test_keys_of_a_later_version_are_passed_over() -> None:
    assert FeatureSource.parse(json.dumps({**json.loads(SOURCE.to_json()), "later": [1]})) == SOURCE


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"mvtk": "9.9"}, True),
        ({"model": "sam2_hiera_tiny"}, False),
        ({"weights_sha256": "cd" * 32}, False),
        ({"preprocessing": "other"}, False),
        ({"dtype": "bfloat16"}, False),
    ],
)
def test_the_same_features_whatever_the_version(change: dict[str, str], same: bool) -> None:
    other = FeatureSource(**{**json.loads(SOURCE.to_json()), **change})
    assert SOURCE.same_features(other) == other.same_features(SOURCE) == same


@pytest.mark.parametrize("writer", [savez, savez_compressed])
def test_a_repaired_file(tmp_path: Path, writer: Any) -> None:
    arrays = {"P4_S16": np.zeros(9, "f4"), "feature_flag": np.array(1), "feature_source": SOURCE.to_array()}
    assert marks_of(write(tmp_path, writer(arrays))) == FeatureMarks(flag=True, source=SOURCE)


def test_a_file_without_marks(tmp_path: Path) -> None:
    assert marks_of(write(tmp_path, savez({"P4_S16": np.zeros(9, "f4")}))) == UNMARKED


@pytest.mark.parametrize(
    ("flag", "is_set"),
    [
        (np.array(1, ">u4"), True),
        (np.array(True), True),
        (np.array([1]), True),
        (np.array(0), False),
        (np.array(1.0), False),
        (np.array("1"), False),
        (np.array([1, 1]), False),
        (np.ones(5000, "u1"), False),
    ],
)
def test_a_flag_is_one_whole_number_and_set_when_it_is_1(tmp_path: Path, flag: Any, is_set: bool) -> None:
    assert marks_of(write(tmp_path, savez({"feature_flag": flag}))).flag == is_set


@pytest.mark.parametrize(
    "source",
    [
        np.array(SOURCE.to_json().encode()),
        np.array([SOURCE.to_json()] * 2),
        np.array(SOURCE.to_json() + " " * 1000),
        np.array("made by hand"),
        np.array(1),
    ],
)
def test_a_source_is_one_text_that_mvtk_wrote(tmp_path: Path, source: Any) -> None:
    path = write(tmp_path, savez({"feature_flag": np.array(1), "feature_source": source}))
    assert marks_of(path) == FeatureMarks(flag=True, source=None)


def test_numbers_that_are_no_code_points_are_replaced(tmp_path: Path) -> None:
    text = replace(SOURCE, model="??").to_json()
    data = text.encode("utf-32-le").replace("??".encode("utf-32-le"), b"\xff" * 4 + b"\x00\xd8\x00\x00")
    header = f"{{'descr': '<U{len(text)}', 'fortran_order': False, 'shape': ()}}"
    path = write(tmp_path, zip_of({"feature_source.npy": npy_with_header(header, data)}))
    assert marks_of(path).source == replace(SOURCE, model="\ufffd\ufffd")


def test_pickled_marks_are_none(tmp_path: Path) -> None:
    pickled = npy_bytes(np.array(SOURCE.to_json(), dtype=object), allow_pickle=True)
    path = write(tmp_path, zip_of({"feature_source.npy": pickled, "feature_flag.npy": pickled}))
    assert marks_of(path) == UNMARKED


def test_a_damaged_mark_is_an_error_that_names_it(tmp_path: Path) -> None:
    data = bytearray(savez({"feature_source": SOURCE.to_array()}))
    data[data.index("float32".encode("utf-32-le"))] ^= 1
    with pytest.raises(NpzError, match=r"sample\.npz: member 'feature_source': its checksum"):
        marks_of(write(tmp_path, bytes(data)))
