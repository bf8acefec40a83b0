from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.builders import blob_mask, gradient, write_bomb, write_image, write_oriented, write_palette, write_png16
from tests.datasets import LABEL, Inputs, many, tree_hash, written
from toolkit.core.driver import run_to_end
from toolkit.core.report import Report
from toolkit.dataset import create_mask_attention_dataset
from toolkit.dataset.mask_attention import MaskAttentionJob


def convert(inputs: Inputs, **changes: Any) -> Report:
    return run_to_end(MaskAttentionJob(inputs.options(**changes)))


def load(inputs: Inputs, stem: str = "train/a") -> tuple[np.ndarray, np.ndarray]:
    """Read an output with NumPy alone, as any user may."""
    with np.load(inputs.output / "images" / f"{stem}.npz", allow_pickle=False) as npz:
        assert list(npz) == ["image", "mask"]
        return npz["image"], npz["mask"]


def only_reason(report: Report) -> str:
    (failed,) = report.failed
    return failed["reason"]


def test_output_is_image_mask_label_and_data_yaml(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("a.png", "train")
    inputs.add("b.jpg", "val", label="")
    report = convert(inputs)
    assert report.stats == {
        "complete": True, "processed": 2, "labels_copied": 2,
        "masks_not_found": 0, "images_not_found": 0, "labels_not_found": 0, "errors": 0,
    }  # fmt: skip
    assert written(inputs.output) == [
        "data.yaml", "images/train/a.npz", "images/val/b.npz", "labels/train/a.txt", "labels/val/b.txt",
    ]  # fmt: skip
    image, mask = load(inputs)
    assert (image == gradient()).all()
    assert (mask == blob_mask()).all()
    assert (image.dtype, mask.dtype) == (np.uint8, np.uint8)
    assert (inputs.output / "labels/train/a.txt").read_bytes() == LABEL.encode()
    assert (inputs.output / "labels/val/b.txt").read_bytes() == b""
    assert yaml.safe_load((inputs.output / "data.yaml").read_text()) == {
        "train": "images/train", "val": "images/val", "channels": 4, "nc": 2, "names": {0: "stenosis", 1: "t9+"},
    }  # fmt: skip


def test_labels_are_copied_byte_for_byte_even_when_malformed(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("a.png")
    content = b"\xef\xbb\xbf0 2 nan\r\nnot a label \xff"
    (inputs.labels / "labels/train/a.txt").write_bytes(content)
    assert convert(inputs).figures.done == 1
    assert (inputs.output / "labels/train/a.txt").read_bytes() == content


@pytest.mark.parametrize("compression", ["fast", "zlib", "none"])
def test_every_compression_gives_the_same_arrays(tmp_path: Path, compression: str) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("a.png")
    convert(inputs, compression=compression)
    image, mask = load(inputs)
    assert (image == gradient()).all()
    assert (mask == blob_mask()).all()


def test_run_again_skips_what_is_done_and_changes_nothing(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    many(inputs, 6)
    convert(inputs)
    before = tree_hash(inputs.output)
    times = {path: path.stat().st_mtime_ns for path in inputs.output.rglob("*") if path.is_file()}
    report = convert(inputs)
    assert report.figures.skip_reasons == {"already converted": 6}
    assert tree_hash(inputs.output) == before
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_missing_label_is_restored_without_decoding(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("a.png")
    convert(inputs)
    before = tree_hash(inputs.output)
    (inputs.output / "labels/train/a.txt").unlink()
    (inputs.masks / "a_seg.png").write_bytes(b"damaged meanwhile")
    assert convert(inputs).figures.done == 1
    assert tree_hash(inputs.output) == before


def test_a_label_with_other_content_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("a.png")
    label = inputs.output / "labels/train/a.txt"
    label.parent.mkdir(parents=True)
    label.write_text("mine")
    assert "exists with other content; use --overwrite" in only_reason(convert(inputs))
    assert label.read_text() == "mine"
    assert written(inputs.output) == ["labels/train/a.txt"]
    assert convert(inputs, overwrite=True).figures.done == 1
    assert label.read_text() == LABEL


def test_overwrite_does_the_work_again(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("a.png")
    convert(inputs)
    inputs.add("a.png", image=255 - gradient())
    assert convert(inputs).figures.skipped == 1
    assert (load(inputs)[0] == gradient()).all()
    assert convert(inputs, overwrite=True).figures.done == 1
    assert (load(inputs)[0] == 255 - gradient()).all()


@pytest.mark.parametrize("stored", [1, 255, 7])
def test_two_valued_masks_become_0_and_255(tmp_path: Path, stored: int) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("a.png", mask=blob_mask(high=stored))
    convert(inputs)
    assert (load(inputs)[1] == blob_mask()).all()


def test_mask_values_keep(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("a.png", mask=blob_mask(high=7))
    convert(inputs, mask_values="keep")
    assert (load(inputs)[1] == blob_mask(high=7)).all()


def test_palette_rgba_and_16_bit_masks(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    for name in ("palette", "rgba", "deep"):
        inputs.add(f"{name}.png")
    inside = blob_mask() > 0
    write_palette(inputs.masks / "palette_seg.png", inside.astype(np.uint8), [(0, 0, 0), (255, 255, 255)])
    rgba = np.dstack([np.full((*inside.shape, 3), 200, np.uint8), blob_mask()])
    write_image(inputs.masks / "rgba_seg.png", rgba)
    write_png16(inputs.masks / "deep_seg.png", inside.astype(np.uint16) * 65535)
    assert convert(inputs).figures.done == 3
    for name in ("palette", "rgba", "deep"):
        assert (load(inputs, f"train/{name}")[1] == blob_mask()).all(), name


def test_grey_rgba_and_cmyk_images_become_rgb(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    grey = gradient()[..., 0]
    inputs.add("grey.png", image=grey)
    inputs.add("rgba.png", image=np.dstack([gradient(), blob_mask()]))
    inputs.add("cmyk.jpg")
    write_image(inputs.images / "images/train/cmyk.jpg", gradient(), "CMYK")
    assert convert(inputs).figures.done == 3
    assert (load(inputs, "train/grey")[0] == grey[..., None]).all()
    assert (load(inputs, "train/rgba")[0] == gradient()).all()
    assert load(inputs, "train/cmyk")[0].shape == gradient().shape


def test_keep_mode_stores_what_was_decoded(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    deep = gradient()[..., 0].astype(np.uint16) * 257
    inputs.add("a.png", mask=blob_mask(high=1))
    write_png16(inputs.images / "images/train/a.png", deep)
    convert(inputs, keep_mode=True)
    image, mask = load(inputs)
    assert image.dtype == np.uint16
    assert (image == deep).all()
    assert (mask == blob_mask(high=1)).all()
    assert yaml.safe_load((inputs.output / "data.yaml").read_text())["channels"] == 2


def test_16_bit_images_fail_unless_scaling_is_asked_for(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("a.png")
    write_png16(inputs.images / "images/train/a.png", gradient().astype(np.uint16) * 257)
    assert "use --to-8bit" in only_reason(convert(inputs))
    assert convert(inputs, to_8bit=True).figures.done == 1
    assert (load(inputs)[0] == gradient()).all()


def test_mask_of_another_size_fails_unless_resizing_is_asked_for(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("a.png", mask=blob_mask(12, 16))
    reason = only_reason(convert(inputs))
    assert "the mask is 16x12 and its image 32x24; use --resize-mask" in reason
    assert not (inputs.output / "images/train/a.npz").exists()
    convert(inputs, resize_mask=True)
    mask = load(inputs)[1]
    assert mask.shape == (24, 32)
    assert set(np.unique(mask)) == {0, 255}


def test_exif_rotation_is_ignored_with_a_warning_or_applied(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("a.png", mask=blob_mask())
    write_oriented(inputs.images / "images/train/a.png", gradient(), 6)
    report = convert(inputs)
    assert report.figures.warnings == {"EXIF orientation ignored": 1}
    assert (load(inputs)[0] == gradient()).all()
    assert "the mask is 32x24 and its image 24x32" in only_reason(convert(inputs, exif="apply", overwrite=True))
    inputs.add("b.png", mask=np.rot90(blob_mask(), -1))
    write_oriented(inputs.images / "images/train/b.png", gradient(), 6)
    convert(inputs, exif="apply")
    assert (load(inputs, "train/b")[0] == np.rot90(gradient(), -1)).all()


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-30]), "a.png"),
        (lambda path: path.write_bytes(b""), "a.png"),
        (lambda path: path.write_text("not an image"), "a.png"),
        (write_bomb, "pixels"),
    ],
)
@pytest.mark.parametrize("target", ["image", "mask"])
def test_damaged_files_fail_with_one_line_and_write_nothing(
    tmp_path: Path, damage: Any, expected: str, target: str
) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("a.png")
    path = inputs.images / "images/train/a.png" if target == "image" else inputs.masks / "a_seg.png"
    damage(path)
    report = convert(inputs)
    assert report.stats["errors"] == 1
    assert (expected if target == "image" else expected.replace("a.png", "a_seg.png")) in only_reason(report)
    assert "\n" not in only_reason(report)
    assert written(inputs.output) == []


def test_statistics_count_each_failure_under_its_reason(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    for name in ("good", "no_mask", "no_label", "damaged"):
        inputs.add(f"{name}.png", label=None if name == "no_label" else LABEL)
    (inputs.masks / "no_mask_seg.png").unlink()
    (inputs.images / "images/train/damaged.png").write_bytes(b"")
    names = ("good", "no_mask", "no_label", "damaged", "no_image")
    mapping = inputs.write_mapping({f"{name}.png": f"{name}.png" for name in names})
    statistics = create_mask_attention_dataset(
        inputs.images, inputs.labels, inputs.masks, mapping, output_root=inputs.output, workers=0
    )
    assert statistics == {
        "processed": 1, "labels_copied": 1, "masks_not_found": 1, "images_not_found": 1, "labels_not_found": 1,
        "errors": 1,
    }  # fmt: skip
    assert written(inputs.output) == ["data.yaml", "images/train/good.npz", "labels/train/good.txt"]


def test_workers_and_shards_make_the_tree_that_one_process_makes(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    many(inputs, 12)
    convert(inputs, output_root=tmp_path / "alone")
    convert(inputs, output_root=tmp_path / "parallel", workers=2)
    total = 0
    for index in range(3):
        total += convert(inputs, output_root=tmp_path / "sharded", shard=f"{index}/3").figures.done
    assert total == 12
    assert tree_hash(tmp_path / "alone") == tree_hash(tmp_path / "parallel") == tree_hash(tmp_path / "sharded")


def test_max_files_stops_after_so_many_and_the_next_run_goes_on(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    many(inputs, 5)
    report = convert(inputs, max_files=2)
    assert (report.figures.done, report.stats["complete"]) == (2, False)
    report = convert(inputs)
    assert (report.figures.done, report.figures.skipped, report.stats["complete"]) == (3, 2, True)


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    many(inputs, 3)
    report = convert(inputs, dry_run=True)
    assert report.figures.done == 3
    assert not inputs.output.exists()


def test_inputs_are_never_modified(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    many(inputs, 4)
    before = [tree_hash(folder) for folder in (inputs.images, inputs.labels, inputs.masks)]
    convert(inputs, overwrite=True)
    assert [tree_hash(folder) for folder in (inputs.images, inputs.labels, inputs.masks)] == before


@pytest.mark.parametrize("name", ["images", "labels", "masks"])
def test_output_may_not_be_an_input(tmp_path: Path, name: str) -> None:
    inputs = Inputs(tmp_path)
    with pytest.raises(ValueError, match="inputs are never modified"):
        inputs.options(output_root=getattr(inputs, name))


def test_an_edited_data_yaml_is_kept_and_ours_is_brought_up_to_date(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("a.png", "train")
    convert(inputs)
    target = inputs.output / "data.yaml"
    inputs.add("b.png", "val")
    convert(inputs)
    assert yaml.safe_load(target.read_text())["val"] == "images/val"
    edited = target.read_text().replace("stenosis", "narrowing")
    target.write_text(edited)
    inputs.add("c.png", "test")
    report = convert(inputs)
    assert target.read_text() == edited
    assert list(report.figures.warnings) == [
        "data.yaml exists with other content and was kept; --overwrite replaces it"
    ]
    convert(inputs, overwrite=True)
    assert yaml.safe_load(target.read_text())["test"] == "images/test"


def test_names_without_a_data_yaml_and_with_several(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path, names=[])
    inputs.add("a.png", label="3 0.5 0.5 0.1 0.1\n")
    convert(inputs)
    names = yaml.safe_load((inputs.output / "data.yaml").read_text())["names"]
    assert names == {0: "class_0", 1: "class_1", 2: "class_2", 3: "class_3"}
    for name in ("one.yaml", "two.yaml"):
        (inputs.labels / name).write_text(f"names: [{name[:3]}]\n")
    report = convert(inputs)
    assert "choose one with --names-yaml" in next(iter(report.figures.warnings))
    convert(inputs, names_yaml=inputs.labels / "two.yaml")
    assert yaml.safe_load((inputs.output / "data.yaml").read_text())["names"] == {0: "two"}


def test_odd_names(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    odd = ["line\nbreak", "spaces and 'quotes'", "ünïcödé", "[red]markup", "-dash", os.fsdecode(b"byte\xff")]
    for index, name in enumerate(odd):
        inputs.add(f"{name}.png", image=np.roll(gradient(), index, axis=0))
    report = convert(inputs, workers=1)
    assert report.figures.done == len(odd)
    assert {path.stem for path in (inputs.output / "images/train").iterdir()} == set(odd)


def test_left_over_temporaries_of_killed_runs_are_removed(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("a.png")
    folder = inputs.output / "images/train"
    folder.mkdir(parents=True)
    from toolkit.core.files import _machine  # the name of a temporary is a fact of this machine

    dead = folder / f".mvtk-{_machine()}-999999999-1-00000000.tmp"
    dead.write_bytes(b"half")
    foreign = folder / "notes.tmp"
    foreign.write_bytes(b"mine")
    convert(inputs)
    assert not dead.exists()
    assert foreign.exists()


def test_a_split_of_which_nothing_could_be_converted_is_not_in_the_data_yaml(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    inputs.add("a.png", "train")
    inputs.add("b.png", "test")
    (inputs.images / "images/test/b.png").write_bytes(b"")
    convert(inputs)
    assert "test" not in yaml.safe_load((inputs.output / "data.yaml").read_text())
