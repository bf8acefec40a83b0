from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import toolkit.npz
from tests.toolkit.npz.npz_builders import npy_bytes, savez, savez_compressed, write, zip_of
from toolkit.npz import NpzKind, check_npz, describe_npz


def image() -> np.ndarray[Any, Any]:
    return np.arange(36, dtype="u1").reshape(3, 4, 3)


def features(**changes: Any) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a sound features file, some of them changed, or left out where a change is None."""
    p4 = np.linspace(-1, 1, 256 * 64 * 64, dtype="f4").reshape(1, 256, 64, 64)
    arrays: dict[str, Any] = {
        "P4_S16": p4,
        "P5_S32": np.ones((1, 256, 32, 32), "f2"),
        "IMAGE_EMB_S16": p4,
        "edge_64x64": np.eye(64, dtype="u1"),
        "edge_original": np.zeros((50, 70), "u1"),
        "fg_map_32x32": np.full((32, 32), 1 / 1024, "f4"),
        "bg_map_32x32": np.zeros((32, 32), "f4"),
        "image_id": np.array("sa_1"),
        "model_type": np.array("sam2"),
        "image_shape": np.array([50, 70, 3]),
        "feature_flag": np.array(1),
        "edge_flag": np.array(1, "u1"),
        "edge_version": np.array("B_v1"),
        "has_bbox": np.array(False),
        "num_bboxes": np.array(0),
        "bboxes": np.zeros((0, 4), "f4"),
        "geometry_color_flag": np.array(0),
        "something_else": np.zeros((2, 2), "c8"),
    }
    return {key: value for key, value in (arrays | changes).items() if value is not None}


def problems(folder: Path, arrays: dict[str, Any], kind: NpzKind = "auto") -> list[str]:
    return list(check_npz(write(folder, savez(arrays)), kind).problems)


@pytest.mark.parametrize(
    ("arrays", "kind"),
    [
        ({"image": image(), "mask": image()[..., 0]}, "mask-attention"),
        ({"image": image()[..., 0], "mask": image()[..., :1]}, "mask-attention"),
        ({"image": image()[..., :1], "mask": image()[..., 0] > 3}, "mask-attention"),
        ({"arr_0": image().astype(">u2"), "arr_1": np.ones((3, 4))}, "mask-attention"),
        ({"image": np.zeros((3, 4, 4), "f2"), "mask": np.zeros((3, 4), "f4"), "x": np.zeros(3)}, "mask-attention"),
        (features(), "features"),
        (features(IMAGE_EMB_S16=None, image_id=None), "features"),
        ({"image": image()}, "any"),
        ({}, "any"),
    ],
)
def test_sound_files(tmp_path: Path, arrays: dict[str, Any], kind: NpzKind) -> None:
    path = write(tmp_path, savez_compressed(arrays))
    check = check_npz(path)
    assert (check.problems, check.kind, check.members) == ((), kind, len(arrays))
    assert (check.path, check.size_bytes) == (path, path.stat().st_size)
    assert check_npz(path, "any").problems == ()
    assert describe_npz(path).kind == kind


def test_all_problems_of_a_pair_are_reported_together(tmp_path: Path) -> None:
    mask = np.full((4, 5), 255.0, "f4")
    mask[0, 0] = -2
    assert problems(tmp_path, {"image": image().astype("i4"), "mask": mask}) == [
        "members 'image' and 'mask' differ in height x width: 3x4 and 4x5",
        "member 'image' has dtype int32, not one of uint8, uint16, float16, float32, float64",
        "member 'mask' holds floats from -2 to 255, outside [0, 1]",
    ]
    assert problems(tmp_path, {"image": image(), "mask": np.full((3, 4), 255.0)}) == [
        "member 'mask' holds floats from 255 to 255, outside [0, 1]"
    ]
    assert problems(tmp_path, {"arr_0": np.zeros((3, 4, 2), "u1"), "arr_1": np.full((1, 3, 4), np.nan)}) == [
        "member 'arr_0' has shape (3, 4, 2), not (H, W) or (H, W, C) with C = 1, 3 or 4",
        "member 'arr_1' has shape (1, 3, 4), not (H, W) or (H, W, 1)",
        "member 'arr_1' holds values that are not finite",
    ]
    assert problems(tmp_path, {"image": np.zeros((0, 4, 3)), "mask": np.zeros((0, 4), bool)}) == [
        "member 'image' has shape (0, 4, 3), not (H, W) or (H, W, C) with C = 1, 3 or 4",
        "member 'mask' has shape (0, 4), not (H, W) or (H, W, 1)",
    ]


def test_a_kind_that_is_asked_for(tmp_path: Path) -> None:
    arrays = {"image": image()}
    assert problems(tmp_path, arrays, "mask-attention") == [
        "holds no image with its mask: neither image and mask nor arr_0 and arr_1"
    ]
    assert problems(tmp_path, arrays, "features") == ["member 'P4_S16' is missing", "member 'P5_S32' is missing"]


@pytest.mark.parametrize(
    ("key", "array", "problem"),
    [
        ("P5_S32", None, "member 'P5_S32' is missing"),
        ("P5_S32", np.ones((256, 32, 32), "f4"), "has shape (256, 32, 32), not (1, 256, 32, 32)"),
        ("P5_S32", np.ones((1, 256, 32, 32)), "has dtype float64, not float32 or float16"),
        ("P5_S32", np.full((1, 256, 32, 32), np.inf, "f4"), "holds values that are not finite"),
        (
            "IMAGE_EMB_S16",
            np.zeros((1, 256, 64, 64), "f4"),
            "members 'IMAGE_EMB_S16' and 'P4_S16' differ: the one must be a copy of the other",
        ),
        ("edge_64x64", np.full((64, 64), 255, "u1"), "holds values that are not 0 or 1"),
        ("edge_64x64", np.zeros((64, 64), bool), "has dtype bool, not uint8"),
        ("edge_64x64", np.zeros((64, 32), "u1"), "has shape (64, 32), not (64, 64)"),
        ("edge_original", np.zeros((3, 3, 1), "u1"), "has shape (3, 3, 1), not (n, n)"),
        ("fg_map_32x32", np.full((32, 32), -1, "f4"), "holds values that are not finite and >= 0"),
        ("bg_map_32x32", np.full((32, 32), np.nan, "f4"), "holds values that are not finite and >= 0"),
        ("bg_map_32x32", np.full((32, 32), np.inf, "f4"), "holds values that are not finite and >= 0"),
        ("bboxes", np.zeros((2, 5), "f4"), "has shape (2, 5), not (n, 4)"),
        ("bboxes", np.full((2, 4), np.nan, "f4"), "holds values that are not finite"),
        ("image_id", np.array(b"sa_1"), "has dtype |S4, not text"),
        ("feature_flag", np.array([1]), "has shape (1,), not ()"),
        ("edge_flag", np.array(1.0), "has dtype float64, not a whole number or bool"),
        ("image_shape", np.array([50, 70]), "has shape (2,), not (3)"),
    ],
)
def test_problems_of_features(tmp_path: Path, key: str, array: np.ndarray[Any, Any] | None, problem: str) -> None:
    expected = problem if problem.startswith("member") else f"member '{key}' {problem}"
    assert problems(tmp_path, features(**{key: array})) == [expected]


def test_pickled_members(tmp_path: Path) -> None:
    pickled = npy_bytes(np.array([None, {}]), allow_pickle=True)
    members = {f"{key}.npy": npy_bytes(array) for key, array in features().items()}
    assert check_npz(write(tmp_path, zip_of(members | {"masks.npy": pickled}))).problems == ()
    assert check_npz(write(tmp_path, zip_of(members | {"other.npy": pickled, "edge_64x64.npy": pickled}))).problems == (
        "member 'edge_64x64' is pickled and is not read",
        "member 'other' is pickled and is not read",
    )
    path = write(tmp_path, zip_of({"masks.npy": pickled}))
    assert check_npz(path).problems == ("member 'masks' is pickled and is not read",)


def test_damage_is_a_problem_and_the_rest_is_still_looked_at(tmp_path: Path) -> None:
    data = bytearray(savez({"image": image(), "mask": image()[..., 0], "a": np.arange(9), "b": np.arange(9) + 1}))
    for array in (np.arange(9), np.arange(9) + 1):
        data[data.index(array.tobytes())] ^= 1
    path = write(tmp_path, bytes(data))
    assert check_npz(path).problems == (
        "member 'a': its checksum (CRC-32) does not match its data",
        "member 'b': its checksum (CRC-32) does not match its data",
    )
    too_large = check_npz(path, max_bytes=10)
    assert (too_large.problems, too_large.members) == (("its members take 704 bytes, more than the limit of 10",), 4)
    assert check_npz(write(tmp_path, bytes(data[:-1]))).problems == (
        "does not end like a ZIP file: it is no NPZ file, or it is cut short",
    )
    assert check_npz(tmp_path / "missing.npz").problems == ("does not exist",)
    assert check_npz(write(tmp_path, zip_of({"a.txt": b"text"}))).problems == ("member 'a.txt' is not an NPY array",)


def test_description(tmp_path: Path) -> None:
    scalars = {
        "flag": np.array(1, "u1"),
        "yes": np.array(True),
        "text": np.array("B_v1"),
        "half": np.array(0.5, ">f2"),
        "long double": np.array(0.25, np.longdouble),
        "longest": np.array("x" * 200),
        "too long": np.array("x" * 201),
        "nan": np.array(np.nan),
        "no text": np.array(0xFFFFFFFF, "u4").view("U1"),
        "time": np.array("2020-01-01", "M8[D]"),
        "one": np.array([1]),
    }
    members = {f"{key}.npy": npy_bytes(array) for key, array in scalars.items()}
    members |= {"masks.npy": npy_bytes(np.array([None]), allow_pickle=True), "readme": b"text"}
    path = write(tmp_path, zip_of(members))
    description = describe_npz(path)
    assert (description.path, description.size_bytes, description.kind) == (path, path.stat().st_size, "any")
    found = {member.key: member for member in description.members}
    assert {key: member.value for key, member in found.items() if member.value is not None} == {
        "flag": 1,
        "yes": True,
        "text": "B_v1",
        "half": 0.5,
        "long double": 0.25,
        "longest": "x" * 200,
    }
    assert (found["half"].dtype, found["one"].shape, found["masks"].pickled) == (">f2", (1,), True)
    assert (found["readme"].is_array, found["readme"].dtype, found["readme"].size_bytes) == (False, None, 4)
    assert {member.compression for member in found.values()} == {"stored"}


def test_description_of_compressed_arrays(tmp_path: Path) -> None:
    (member,) = describe_npz(write(tmp_path, savez_compressed({"x": np.zeros((100, 100))}))).members
    assert (member.compression, member.size_bytes, member.shape) == ("deflated", 80128, (100, 100))
    assert member.compressed_bytes < 500


def test_public_names_are_there() -> None:
    assert all(getattr(toolkit.npz, name) is not None for name in toolkit.npz.__all__)
    with pytest.raises(AttributeError, match=r"module 'toolkit\.npz' has no attribute 'nothing'"):
        toolkit.npz.nothing  # noqa: B018 - the access is the test


def test_reading_waits_for_no_opencv() -> None:
    root = Path(toolkit.npz.__file__).parents[2]
    program = "import sys, toolkit.npz; toolkit.npz.read_npz; sys.exit('cv2' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root)
