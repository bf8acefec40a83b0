from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands.main import run
from tests.datasets import Inputs, many, tree_hash, written


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    inputs = Inputs(tmp_path)
    many(inputs, 4)
    return inputs


def test_convert_verify_preview(inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, log = tmp_path / "report.json", tmp_path / "log.txt"
    assert run(inputs.arguments("--workers", "1", "--report", str(report), "--log", str(log))) == 0
    assert json.loads(report.read_text())["counts"] == {"total": 4, "done": 4, "skipped": 0, "failed": 0}
    lines = log.read_text().splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("[OK] 1/4 images/train/frame_0000.png size=32x32 bytes=")
    assert run(["dataset", "verify", str(inputs.output), "--workers", "1", "--json"]) == 0
    out, _ = capsys.readouterr()
    assert json.loads(out[out.index("{") :])["stats"]["splits"]["train"]["samples"] == 3
    sheet = tmp_path / "sheet.png"
    assert run(["dataset", "preview", str(inputs.output), "--output", str(sheet)]) == 0
    with Image.open(sheet) as image:
        assert image.size > (600, 300)
    assert run(["dataset", "preview", str(inputs.output), "--output", str(sheet)]) == 3
    assert "exists already; use --overwrite" in capsys.readouterr().err


def test_failed_items_give_exit_1_and_one_line_each(inputs: Inputs, capsys: pytest.CaptureFixture[str]) -> None:
    (inputs.masks / "frame_0000_seg.png").unlink()
    (inputs.images / "images/val/frame_0003.png").write_bytes(b"")
    assert run(inputs.arguments("--workers", "0")) == 1
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert lines[0] == "error: images/train/frame_0000.png: mask not found: frame_0000_seg.png"
    assert lines[1].startswith("error: images/val/frame_0003.png: ")
    assert len(lines) == 2
    assert "mask not found" in out


def test_verify_finds_a_problem_and_exits_1(inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(inputs.arguments("--workers", "0", "--quiet"))
    (inputs.output / "labels/val/frame_0003.txt").write_text("9 0.5 0.5 0.1 0.1\n")
    report = tmp_path / "verify.json"
    assert run(["dataset", "verify", str(inputs.output), "--workers", "0", "--report", str(report)]) == 1
    (failed,) = json.loads(report.read_text())["failed"]
    assert failed == {
        "source": "images/val/frame_0003.npz",
        "reason": "labels/val/frame_0003.txt:1: class '9' is beyond the 2 names",
    }
    assert "error: images/val/frame_0003.npz: labels/val/frame_0003.txt:1:" in capsys.readouterr().err


def test_unusable_inputs_give_exit_3_and_every_problem(inputs: Inputs, capsys: pytest.CaptureFixture[str]) -> None:
    mapping = inputs.write_mapping(["not an object"])
    arguments = inputs.arguments("--mapping-json", str(mapping), "--splits", "train2017")
    arguments[arguments.index("--mask-folder") + 1] = "nowhere"
    assert run(arguments) == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "expected an object of label image to dataset image, found a list" in lines[0]
    assert "expected images/train2017" in lines[1]
    assert "there is train/, val/" in lines[1]
    assert "nowhere: no such folder (the masks)" in lines[2]
    assert not inputs.output.exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--workers", "-1"], "--workers: Input should be greater than or equal to 0"),
        (["--shard", "2/2"], "give it as I/N with 0 <= I < N"),
        (["--max-files", "-3"], "--max-files: "),
        (["--compression", "best"], "--compression"),
        (["--splits", "a/b"], "not a folder name"),
    ],
)
def test_wrong_usage_gives_exit_2(
    inputs: Inputs, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert run(inputs.arguments(*arguments)) == 2
    assert expected in capsys.readouterr().err


def test_config_file_and_precedence(inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "job.yaml"
    config.write_text(
        f"images-dataset-root: {inputs.images}\nlabels_dataset_root: {inputs.labels}\nmask-folder: {inputs.masks}\n"
        f"output-root: {tmp_path / 'from_file'}\nsplits: [train]\nworkers: 0\n"
    )
    assert run(["dataset", "convert-mask-attention", "--config", str(config), "-q"]) == 0
    assert len(list((tmp_path / "from_file").rglob("*.npz"))) == 3
    arguments = ["dataset", "convert-mask-attention", "--config", str(config), "--splits", "val", "-q"]
    assert run([*arguments, "--output-root", str(tmp_path / "from_flag")]) == 0
    assert written(tmp_path / "from_flag")[1] == "images/val/frame_0003.npz"
    config.write_text("mask-foldr: x\nimages: y\n")
    assert run(["dataset", "convert-mask-attention", "--config", str(config)]) == 2
    err = capsys.readouterr().err
    assert "unknown key 'mask-foldr'; did you mean 'mask-folder'?" in err
    assert "'images'" in err


def test_dry_run_prints_the_plan_and_writes_nothing(inputs: Inputs, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(inputs.arguments("--dry-run")) == 0
    assert "would do" in capsys.readouterr().out
    assert not inputs.output.exists()


def test_another_run_holds_the_output(inputs: Inputs, capsys: pytest.CaptureFixture[str]) -> None:
    from toolkit.core.locks import hold_folder

    inputs.output.mkdir()
    with hold_folder(inputs.output, "dataset convert-mask-attention"):
        assert run(inputs.arguments("--workers", "0")) == 3
    err = capsys.readouterr().err
    assert f"{inputs.output} is in use by mvtk dataset convert-mask-attention (process " in err
    assert len(err.splitlines()) == 1


def test_real_coronary_angiograms(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """ARCADE: masks are 0/1 and named without a suffix; the images carry nnU-Net's channel number."""
    arcade = shared_data / "coronary/arcade_stenosis_nnunet"
    for folder in ("images/images/train", "labels/labels/train"):
        (tmp_path / folder).mkdir(parents=True)
    mapping = {}
    for mask in sorted((arcade / "labelsTr").glob("*.png")):
        (tmp_path / f"images/images/train/{mask.name}").symlink_to(arcade / f"imagesTr/{mask.stem}_0000.png")
        (tmp_path / f"labels/labels/train/task_{mask.stem}.txt").symlink_to(
            arcade / f"labels_yolo_derived/{mask.stem}.txt"
        )
        mapping[f"task_{mask.name}"] = mask.name
    (tmp_path / "labels/data.yaml").write_text("names: [stenosis]\n")
    (tmp_path / "mapping.json").write_text(json.dumps(mapping))
    output = tmp_path / "out"
    assert run([
        "dataset", "convert-mask-attention", "--images-dataset-root", str(tmp_path / "images"),
        "--labels-dataset-root", str(tmp_path / "labels"), "--mask-folder", str(arcade / "labelsTr"),
        "--mask-suffix", "", "--mapping-json", str(tmp_path / "mapping.json"), "--output-root", str(output), "-q",
    ]) == 0  # fmt: skip
    for mask in (arcade / "labelsTr").glob("*.png"):
        with np.load(output / f"images/train/{mask.stem}.npz") as npz:
            assert (npz["mask"] == np.array(Image.open(mask)) * 255).all()
            grey = np.array(Image.open(arcade / f"imagesTr/{mask.stem}_0000.png"))
            assert (npz["image"] == grey[..., None]).all()
    assert run(["dataset", "verify", str(output), "-q"]) == 0
    assert run(["dataset", "preview", str(output), "-o", str(tmp_path / "sheet.png")]) == 0
    assert "3 samples" in capsys.readouterr().err


def test_real_coco_photographs(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """COCO: JPEG, several classes, semantic masks of many values, one image without a label."""
    coco = shared_data / "coco128_subset"
    output = tmp_path / "out"
    before = tree_hash(coco)
    code = run([
        "dataset", "convert-mask-attention", "--images-dataset-root", str(coco), "--labels-dataset-root", str(coco),
        "--mask-folder", str(coco / "masks_semantic/train2017"), "--mask-suffix", "", "--splits", "train2017",
        "--names-yaml", str(coco / "data_detect.yaml"), "--output-root", str(output), "--workers", "2",
    ])  # fmt: skip
    assert code == 1
    assert "000000000508.jpg: label not found: 000000000508.txt is in no split" in capsys.readouterr().err
    for image in sorted((coco / "images/train2017").glob("*.jpg"))[:-1]:
        with np.load(output / f"images/train2017/{image.stem}.npz") as npz:
            assert (npz["image"] == np.array(Image.open(image).convert("RGB"))).all()
            assert (npz["mask"] == np.array(Image.open(coco / f"masks_semantic/train2017/{image.stem}.png"))).all()
    assert run(["dataset", "verify", str(output), "--splits", "train2017", "-q"]) == 0
    assert tree_hash(coco) == before


def test_a_report_or_log_never_replaces_another_file(inputs: Inputs, capsys: pytest.CaptureFixture[str]) -> None:
    mapping = inputs.write_mapping({f"frame_{index:04}.png": f"frame_{index:04}.png" for index in range(4)})
    mask = inputs.masks / "frame_0000_seg.png"
    before = (mapping.read_bytes(), mask.read_bytes())
    for option, path in (("--report", mapping), ("--log", mask), ("--report", mask), ("--log", mapping)):
        assert run(inputs.arguments("--mapping-json", str(mapping), "--workers", "0", option, str(path))) == 2
    assert (mapping.read_bytes(), mask.read_bytes()) == before
    assert capsys.readouterr().err.splitlines()[0] == (
        f"error: --report {mapping} exists and is no report of mvtk; name another file, or remove it"
    )
    both = str(inputs.root / "both")
    assert run(inputs.arguments("--report", both, "--log", both)) == 2
    assert not inputs.output.exists()


def test_a_report_and_a_log_may_be_written_again(inputs: Inputs, tmp_path: Path) -> None:
    arguments = inputs.arguments("--workers", "0", "-q", "--report", str(tmp_path / "r"), "--log", str(tmp_path / "l"))
    assert run(arguments) == 0
    assert run(arguments) == 0
    assert json.loads((tmp_path / "r").read_text())["counts"]["skipped"] == 4
    assert len((tmp_path / "l").read_text().splitlines()) == 8


def test_an_output_that_was_cut_short_is_not_taken_for_done(inputs: Inputs, capsys: pytest.CaptureFixture[str]) -> None:
    run(inputs.arguments("--workers", "0", "-q"))
    target = inputs.output / "images/train/frame_0000.npz"
    whole = target.read_bytes()
    for damaged in (b"", whole[:-1]):
        target.write_bytes(damaged)
        assert run(inputs.arguments("--workers", "0", "-q")) == 1
        assert f"{target} exists and is cut short or no NPZ file; use --overwrite" in capsys.readouterr().err
    assert run(inputs.arguments("--workers", "0", "-q", "--overwrite")) == 0
    assert target.read_bytes() == whole


@pytest.mark.parametrize("place", ["images_root/images/train", "masks/out", "labels_root/labels/x"])
def test_an_output_inside_an_input_is_refused(inputs: Inputs, capsys: pytest.CaptureFixture[str], place: str) -> None:
    before = tree_hash(inputs.root)
    arguments = inputs.arguments("--workers", "0")
    arguments[arguments.index("--output-root") + 1] = str(inputs.root / place)
    assert run(arguments) == 3
    assert "and inputs are never modified" in capsys.readouterr().err
    assert tree_hash(inputs.root) == before


def test_verify_says_what_is_wrong_with_the_folders_of_the_data_yaml(
    inputs: Inputs, capsys: pytest.CaptureFixture[str]
) -> None:
    run(inputs.arguments("--workers", "0", "-q"))
    (inputs.output / "data.yaml").write_text("train: images/nowhere\nchannels: 4\nnames: [a, b]\n")
    capsys.readouterr()
    assert run(["dataset", "verify", str(inputs.output), "--workers", "0", "-q"]) == 1
    assert capsys.readouterr().err == (
        "error: data.yaml: val: missing, and Ultralytics needs it; train: images/nowhere does not exist\n"
    )
