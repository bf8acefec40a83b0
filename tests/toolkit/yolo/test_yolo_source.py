"""Which images a data YAML stands for, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.yolo_datasets import write_guided_dataset, write_plain_dataset
from toolkit.core.errors import InputProblemsError, MvtkError, OptionError
from toolkit.yolo.source import YoloSource, find_source, label_path_of, require_apart


def find(data: Path) -> YoloSource:
    return find_source(data, ("train", "val"))


def test_a_folder_and_its_yaml_are_the_same_dataset(tmp_path: Path) -> None:
    root = write_guided_dataset(tmp_path / "data")
    assert find(root) == find(root / "data.yaml")
    source = find(root)
    assert source.kind == "pairs"
    assert source.names == {0: "marked disc"}
    assert [len(images) for images in source.splits.values()] == [4, 2]
    assert source.splits["val"] == tuple(str(root / f"images/val/000{number}.npz") for number in (0, 1))


def test_masks_decide_the_channels(tmp_path: Path) -> None:
    pairs = find(write_guided_dataset(tmp_path / "pairs"))
    assert [pairs.channels(attention) for attention in ("auto", "none", "channel", "mask-cbam")] == [4, 3, 4, 4]
    assert [pairs.attention("auto"), pairs.attention("none")] == ["channel", "none"]
    plain = find(write_plain_dataset(tmp_path / "plain"))
    assert (plain.kind, plain.channels("auto"), plain.attention("auto")) == ("images", 3, "none")
    with pytest.raises(OptionError, match=r"--attention channel needs masks, and .* lists plain images; make pairs"):
        plain.channels("channel")


def test_images_with_four_channels_of_their_own_are_plain_images(tmp_path: Path) -> None:
    root = write_plain_dataset(tmp_path / "data")
    (root / "data.yaml").write_text((root / "data.yaml").read_text().replace("channels: 3", "channels: 4"))
    assert find(root).channels("auto") == 4


def test_every_missing_split_is_named(tmp_path: Path) -> None:
    root = write_guided_dataset(tmp_path / "data")
    (root / "data.yaml").write_text("train: images/absent\nnames: [a]\n")
    with pytest.raises(InputProblemsError) as caught:
        find(root)
    assert [problem.replace(str(root), "ROOT") for problem in caught.value.problems] == [
        "train: ROOT/images/absent does not exist",
        "no split 'val'; it has train",
    ]


def test_pairs_and_plain_images_together_are_refused(tmp_path: Path) -> None:
    root = write_guided_dataset(tmp_path / "data")
    (root / "images/val/plain.png").write_bytes(b"")
    with pytest.raises(
        InputProblemsError, match="train has 4 NPZ files and 0 images, val has 2 NPZ files and 1 images"
    ):
        find(root)


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ("path: {root}\ntrain: images/train\nval: images/val\n", 4),
        ("train: [images/train, images/val]\nval: images/val\n", 6),
        ("train: ../images/train\nval: ../images/val\n", 4),  # as Roboflow writes it
        ("train: list.txt\nval: images/val\n", 2),
        ("train: images/train/0001.npz\nval: images/val\n", 1),
    ],
)
def test_paths_are_found_as_ultralytics_finds_them(tmp_path: Path, listed: str, expected: int) -> None:
    root = write_guided_dataset(tmp_path / "data")
    (root / "list.txt").write_text(f"./images/train/0000.npz\n\n{root}/images/train/0003.npz\n./notes.md\n")
    (root / "data.yaml").write_text(listed.format(root=root) + "names: [marked disc]\n")
    assert len(find(root).splits["train"]) == expected


def test_results_do_not_go_among_the_images(tmp_path: Path) -> None:
    root = write_guided_dataset(tmp_path / "data")
    source = find(root)
    for output in (root / "images/train", root / "images/val/run/deep"):
        with pytest.raises(OptionError, match="lies among the images in"):
            require_apart(output, source)
    require_apart(root / "run", source)


def test_names_without_gaps(tmp_path: Path) -> None:
    root = write_guided_dataset(tmp_path / "data")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: {0: a, 2: c}\n")
    assert find(root).names == {0: "a", 1: "class_1", 2: "c"}


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent", "no such file or folder"), ("data/labels", "no data YAML"), ("data/list.txt", "not a data YAML")],
)
def test_what_is_no_dataset(tmp_path: Path, name: str, message: str) -> None:
    root = write_guided_dataset(tmp_path / "data")
    (root / "list.txt").write_text("")
    with pytest.raises(MvtkError, match=message):
        find(tmp_path / name)


def test_a_download_key_is_never_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "data.yaml").write_text(f"train: absent\nval: absent\nnames: [a]\ndownload: bash touch {canary}\n")
    with pytest.raises(InputProblemsError, match="does not exist"):
        find(tmp_path)
    assert not canary.exists()


def test_the_label_of_an_image() -> None:
    sep = os.sep
    assert label_path_of(f"{sep}a{sep}images{sep}b{sep}images{sep}c{sep}d.e.npz") == (
        f"{sep}a{sep}images{sep}b{sep}labels{sep}c{sep}d.e.txt"
    )
    assert label_path_of(f"{sep}a{sep}d.png") == f"{sep}a{sep}d.txt"
